"""Networks as values, the shapers that realise them, and the probe that proves them."""

from spu_bench.network.model import LAN, LOOPBACK, PRESETS, WAN, Network

__all__ = ["LAN", "LOOPBACK", "PRESETS", "WAN", "Network"]
