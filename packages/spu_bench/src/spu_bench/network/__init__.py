"""The network between parties: its values, the shapers that set it up, and the probe that checks it."""

from spu_bench.network.presets import LAN, LOOPBACK, NETWORKS, WAN, Network

__all__ = ["LAN", "LOOPBACK", "NETWORKS", "WAN", "Network"]
