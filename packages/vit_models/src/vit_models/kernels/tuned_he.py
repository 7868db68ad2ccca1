"""`tuned_he`: the tuned kernels for products by homomorphic encryption (CHEETAH), the weights private to the server.

Same calibration, same folded weights, same logits as `tuned`; what differs is which products there are. See
docs/kernels.md.
"""

from __future__ import annotations

from .tuned import kernel_set
from .tuned.homomorphic import Homomorphic, narrowed

KERNELS = kernel_set("tuned_he", {None: Homomorphic}, narrowed)
