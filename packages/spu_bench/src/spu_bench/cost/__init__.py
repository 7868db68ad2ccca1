"""What a Program will cost on a network, before it has run there: `predict`."""

from spu_bench.cost.model import Prediction
from spu_bench.cost.predictor import predict

__all__ = ["Prediction", "predict"]
