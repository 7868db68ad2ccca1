"""MPC-friendly Vision Transformers in JAX: heterogeneous attention, plans, checkpoint import and export to MPC."""

__version__ = "0.1.0"

from .config import CONFIGS, ConvTokenizer, ViTConfig, get_config
from .describe import Description, describe
from .export import export_program
from .fusion import fuse_params
from .kernels import KernelSet, get_kernels, kernel_names
from .kernels.tuned import Calibration, calibrate
from .forward import Outputs, apply
from .model import Model
from .params import count_params, flatten, init, load_params, save_params, unflatten
from .plan import AttentionPlan, Choice, top_k
from .program import Argument, Program
from .torch_state import from_torch_state, infer_plan, load_torch_state, to_torch_state
from .variants import VARIANTS

__all__ = [
    "CONFIGS",
    "VARIANTS",
    "Argument",
    "AttentionPlan",
    "Calibration",
    "Choice",
    "ConvTokenizer",
    "Description",
    "KernelSet",
    "Model",
    "Outputs",
    "Program",
    "ViTConfig",
    "apply",
    "calibrate",
    "count_params",
    "describe",
    "export_program",
    "flatten",
    "from_torch_state",
    "fuse_params",
    "get_config",
    "get_kernels",
    "infer_plan",
    "init",
    "kernel_names",
    "load_params",
    "load_torch_state",
    "save_params",
    "to_torch_state",
    "top_k",
    "unflatten",
]
