"""What this machine offers to a stage."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Return how many processor cores this process may use: its CPU affinity where the system knows of one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
