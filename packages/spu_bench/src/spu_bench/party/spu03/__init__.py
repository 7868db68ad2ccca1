"""SPU 0.3.1b0, the paper's: its party and what that needs. Python 3.8, numpy and the old wheel, nothing else."""
