"""The backend of SPU 0.3.1b0, the paper's version. It needs Python 3.8, numpy and the old wheel, nothing else."""
