"""MPC-friendly Vision Transformers in JAX: heterogeneous attention, plans, checkpoint import and export to MPC.

`Model` is a config with its attention, plan and activation; `init`, `apply`, `calibrate` and `export_program` are its
methods as functions of a config. Public submodules: `vit_models.kernels` (kernel sets),
`vit_models.kernels.tuned_fxp` (the parts of a set) and `vit_models.types` (arrays and nested parameters).
"""

__version__ = "0.1.0"

from .calibration import Calibration, Range
from .checkpoint_file import load_torch_state
from .checkpoint_plan import infer_plan
from .config import CONFIGS, ConvTokenizer, ViTConfig, get_config
from .describe import Description, describe
from .errors import ModelError
from .functional import apply, calibrate, export_program, init
from .fusion import fuse_params
from .hlo import lower_to_hlo
from .kernels import AdaptedModel, KernelSet, get_kernels, kernel_names
from .model import Model, Outputs
from .params import count_params, flatten, load_params, save_params, unflatten
from .plan import AttentionPlan, Choice, top_k
from .program import Argument, Program
from .torch_state import from_torch_state, to_torch_state
from .variants import VARIANTS, Variant

__all__ = [
    "CONFIGS",
    "VARIANTS",
    "AdaptedModel",
    "Argument",
    "AttentionPlan",
    "Calibration",
    "Choice",
    "ConvTokenizer",
    "Description",
    "KernelSet",
    "Model",
    "ModelError",
    "Outputs",
    "Program",
    "Range",
    "Variant",
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
    "lower_to_hlo",
    "save_params",
    "to_torch_state",
    "top_k",
    "unflatten",
]
