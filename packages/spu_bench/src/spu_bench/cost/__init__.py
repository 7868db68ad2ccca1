"""The cost model: what a Program takes on a network, predicted before it has run there."""

from spu_bench.cost.machine_costs import MachineCosts
from spu_bench.cost.predict import predict
from spu_bench.cost.profile_machine import PROFILE_NETWORK, profile_machine
from spu_bench.predicted_latency import Prediction

__all__ = ["PROFILE_NETWORK", "MachineCosts", "Prediction", "predict", "profile_machine"]
