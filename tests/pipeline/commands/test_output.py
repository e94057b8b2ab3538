"""What the commands print, whatever a name or a transcript holds."""

from __future__ import annotations

import ast
import io
import json
import sys
from pathlib import Path

import pytest

from pipeline.commands import output
from tests.project import ROOT

STRANGE = "a\x1b[31m\u00a0\u200b\U000e0001\x7f é 感 \ud800\n"


def test_control_characters_are_written_out() -> None:
    assert output.clean("a\x1b[2J\tb\r\x9b\n") == "a\\x1b[2J\\tb\\r\\x9b\n"


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    output.say_json({"text": STRANGE})
    out = capsys.readouterr().out
    assert json.loads(out) == {"text": STRANGE}
    assert all(c.isprintable() or c == "\n" for c in out)
    assert "é 感" in out


def test_json_for_a_stdout_that_has_only_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    output.say_json({"text": STRANGE})
    output.say(output.bar(2))
    output.finish()
    first, _, last = raw.getvalue().strip().rpartition(b"\n")
    assert json.loads(first) == {"text": STRANGE}
    assert last == b"##"


def test_long_lists_are_cut() -> None:
    assert output.listed("abcde") == "a, b, c, d, e"
    assert output.listed("abcdefg") == "a, b, c, d, e and 2 more"
    assert output.listed([]) == ""


def test_rows_without_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    output.say_rows([])
    output.say_rows([("a", "1"), ("long", "2")])
    assert capsys.readouterr().out == "a     1\nlong  2\n"


@pytest.mark.parametrize(
    "file", sorted((ROOT / "pipeline/commands").glob("*.py")), ids=lambda path: path.name
)
def test_no_other_file_prints(file: Path) -> None:
    """``print`` and ``sys.stdout`` are in output.py only."""
    if file.name == "output.py":
        return
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        assert not (isinstance(node, ast.Name) and node.id == "print"), f"line {node.lineno}"
        assert not (isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr")), node.lineno
