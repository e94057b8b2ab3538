"""The command line of ``lacuna`` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tests.project import ROOT

Command = Callable[..., tuple[int, str, str]]  # the words -> exit status, stdout, stderr


def run_process(*words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run ``lacuna`` with these words; ``options`` are those of subprocess.run."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    if "stdout" not in options:
        options["capture_output"] = True
    return subprocess.run(
        [sys.executable, "-m", "pipeline.commands.cli", *words],
        env=environment,
        timeout=120,
        check=False,
        **options,
    )
