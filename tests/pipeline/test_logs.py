"""What stages and their workers log cannot control a terminal."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.logs import clean
from tests.project import ROOT

LOGS = r"""
import logging
from pipeline.logs import log_to_stderr
log_to_stderr()
log_to_stderr()
log = logging.getLogger("lacuna")
log.info("%s: two\nlines", "clip\x1b]0;owned\x07\x9b2J\rx")
log.warning("\u202egpj.exe \ud800 ok")
try:
    raise ValueError("\x1b[2J")
except ValueError:
    log.exception("failed")
"""


def test_a_log_line_shows_control_sequences_as_text() -> None:
    done = subprocess.run([sys.executable, "-c", LOGS], capture_output=True, check=True, cwd=ROOT)
    lines = done.stderr.decode().splitlines()
    assert lines[:3] == [
        "clip\\x1b]0;owned\\x07\\x9b2J\\rx: two",
        "lines",
        "\\u202egpj.exe \\ud800 ok",
    ]
    assert lines[-1] == "ValueError: \\x1b[2J"
    assert done.stdout == b""


def test_words_of_other_languages_stay() -> None:
    assert clean("grün 感情 🙂 naïve\n") == "grün 感情 🙂 naïve\n"


@pytest.mark.parametrize(
    "file",
    [p for p in sorted((ROOT / "pipeline").rglob("*.py")) if p.name not in ("logs.py", "output.py")],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_nobody_logs_or_prints_by_another_way(file: Path) -> None:
    if (
        file.name == "_face_landmarks.py"
    ):  # passes on what a library of C wrote before it failed, which names no clip
        return
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("print", "logging.basicConfig", "logging.StreamHandler"), file
            assert not called.startswith(("sys.stdout.write", "sys.stderr.write")), file
