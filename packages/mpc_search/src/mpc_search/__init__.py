"""Search, budgets and distillation of MPC-friendly Vision Transformers."""

from mpc_search.checkpoint import load_checkpoint, save_checkpoint
from mpc_search.data import ImageSet, fashion_mnist
from mpc_search.errors import SearchError
from mpc_search.model import Model, accuracy, predict

__all__ = [
    "ImageSet",
    "Model",
    "SearchError",
    "accuracy",
    "fashion_mnist",
    "load_checkpoint",
    "predict",
    "save_checkpoint",
]
