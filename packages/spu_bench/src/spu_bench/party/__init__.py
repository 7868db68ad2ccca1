"""One party of a session: the loop that all runtimes share, their backends, and how a party is started.

`launch.run_party` starts a process that runs `session_loop` with the runtime's backend. What that process imports from
here runs on Python 3.8 with the standard library and numpy only, since SPU 0.3.1b0 needs Python 3.8.
"""

from __future__ import annotations

from typing import Literal, Optional

Holder = Literal["server", "client", "public"]

SERVER, CLIENT = 0, 1
ROLES = ("server", "client", "helper")
OWNERS: dict[Holder, Optional[int]] = {"public": None, "server": SERVER, "client": CLIENT}
"""Which rank holds the arrays of each holder (None: every rank)."""
