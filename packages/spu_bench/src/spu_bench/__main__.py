"""`python -m spu_bench` is `spu-bench`."""

from spu_bench.cli import main

main()
