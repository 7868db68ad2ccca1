"""The backend of CrypTen 0.4.1, a peer of SPU. It needs PyTorch and CrypTen, nothing else."""

import sys
import types

# CrypTen imports its reader of ONNX files, which needs the internals of an older PyTorch. Nothing here reads ONNX.
_reader = types.ModuleType("crypten.nn.onnx_converter")
_reader.__dict__.update(from_onnx=None, from_pytorch=None, from_tensorflow=None, TF_AND_TF2ONNX=False)
sys.modules[_reader.__name__] = _reader
