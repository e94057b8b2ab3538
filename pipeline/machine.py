"""What this machine offers to a stage."""

from __future__ import annotations

import os


def memory_bytes() -> int:
    """Return how much memory this machine has, or 2 ** 63 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 2**63


def usable_cores() -> int:
    """Return how many processor cores this process may use: its CPU affinity where the system knows of one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
