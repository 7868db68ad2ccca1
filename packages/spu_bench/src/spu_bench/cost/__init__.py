"""What a Program will cost on a network, before it has run there: `predict`."""

from spu_bench.cost.predictor import predict
from spu_bench.predicted_latency import Prediction

__all__ = ["Prediction", "predict"]
