"""`tuned_he`: `tuned_fxp` for products by homomorphic encryption (CHEETAH), the weights private to the server.

Same calibration, same folded weights and same logits as `tuned_fxp`, with other products. See docs/kernels.md.
"""

from __future__ import annotations

from .tuned_fxp import kernel_set
from .tuned_fxp.homomorphic import Homomorphic, narrow_residual

KERNELS = kernel_set("tuned_he", {None: Homomorphic}, narrow_residual)
