"""Search, budgets and distillation of MPC-friendly Vision Transformers.

The names below are what most programs need. These submodules are public too:

- `mpc_search.run_config`: settings of a run (`RunConfig`, `load_config`)
- `mpc_search.data`: data sets (`load`, `ImageSet`)
- `mpc_search.trainer`: the training loop (`TrainingJob`, `fit`)
- `mpc_search.budgets`: plans within a budget (`plan_by_share`, `plan_by_seconds`)
- `mpc_search.cost_table`: predicted seconds of attention (`CostTable`)
- `mpc_search.scoring`: accuracy in plaintext and under MPC (`score`, `private_score`)
- `mpc_search.sweep`, `mpc_search.sweep_runner`: many runs as one list, and how they are run
- `mpc_search.record`, `mpc_search.migrations`, `mpc_search.provenance`: training records
- `mpc_search.summary`: means, contrasts and correlations of a sweep's records

Every error that a user can meet is a `SearchError`.
"""

from mpc_search.checkpoint import CheckpointOrigin, load_checkpoint, save_checkpoint
from mpc_search.data import ImageSet, fashion_mnist
from mpc_search.errors import SearchError, printable
from mpc_search.plaintext import accuracy, plaintext_logits

__all__ = [
    "CheckpointOrigin",
    "ImageSet",
    "SearchError",
    "accuracy",
    "fashion_mnist",
    "load_checkpoint",
    "plaintext_logits",
    "printable",
    "save_checkpoint",
]
