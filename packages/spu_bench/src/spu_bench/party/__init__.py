"""One party of a session: the loop that all runtimes share, their backends, and how a party is started."""
