"""The entry point: help, errors, exit status, and what it does not import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.commands import masks
from tests import report_tree
from tests.command_line import Command, run_process
from tests.project import ROOT

HEAVY = {"torch", "numpy", "pandas", "transformers", "pydantic", "yaml", "h5py", "av", "matplotlib", "scipy"}
COMMANDS = [
    (), ("doctor",), ("extract",), ("predict",), ("features",), ("features", "show"), ("features", "check"),
    ("features", "diff"), ("features", "export"), ("masks",), ("masks", "show"), ("params",),
    ("params", "check"), ("params", "list"), ("preset",), ("dataset",), ("dataset", "check"),
    ("clean",),
]  # fmt: skip


class TestHelp:
    @pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
    def test_every_help_has_an_example(self, lacuna: Command, words: tuple[str, ...]) -> None:
        status, out, err = lacuna(*words, "--help")
        assert (status, err) == (0, "")
        assert "example" in out
        assert " ".join(("lacuna", *words)) in out

    def test_it_imports_nothing_heavy(self) -> None:
        script = (
            "import contextlib, sys\n"
            "from pipeline.commands import cli\n"
            f"for words in {COMMANDS!r}:\n"
            "    with contextlib.suppress(SystemExit): cli.main([*words, '--help'])\n"
            "import pipeline.predicting\n"
            f"heavy = {HEAVY!r} & set(sys.modules)\n"
            "sys.exit(str(heavy) if heavy else 0)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("usage: lacuna") == len(COMMANDS)

    def test_version(self, lacuna: Command) -> None:
        status, out, _ = lacuna("--version")
        assert status == 0
        assert out.split()[0] == "lacuna"
        assert out.split()[1][0].isdigit()

    @pytest.mark.parametrize(
        "words",
        [(), ("frobnicate",), ("features",), ("predict", "--without", "smell"), ("masks", "show")],
        ids=" ".join,
    )
    def test_a_wrong_command_line_ends_with_2(self, lacuna: Command, words: tuple[str, ...]) -> None:
        status, out, err = lacuna(*words)
        assert (status, out) == (2, "")
        assert "usage: lacuna" in err

    def test_a_wrong_command_line_cannot_control_the_terminal(self, lacuna: Command) -> None:
        status, _, err = lacuna("doctor", "\x1b[31mred")
        assert status == 2
        assert "\x1b" not in err
        assert "\\x1b[31mred" in err


class TestErrors:
    def test_an_error_of_the_user_has_no_traceback(self, lacuna: Command, tmp_path: Path) -> None:
        status, out, err = lacuna("features", "show", str(tmp_path / "no.h5"))
        assert (status, out) == (1, "")
        assert err.startswith("error: ")
        assert "there is no such file" in err
        assert "Traceback" not in err

    def test_a_fault_has_none_either(self, lacuna: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(masks, "run_show", lambda _: 1 / 0)
        status, _, err = lacuna("masks", "show", "x")
        assert status == 1
        assert "ZeroDivisionError" in err
        assert "--debug" in err
        assert "Traceback" not in err

    def test_ctrl_c_ends_with_130(self, lacuna: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        def stop(_: object) -> int:
            raise KeyboardInterrupt

        monkeypatch.setattr(masks, "run_show", stop)
        assert lacuna("masks", "show", "x") == (130, "", "stopped\n")

    @pytest.mark.parametrize("place", ["before", "after"])
    def test_debug_shows_the_traceback(self, tmp_path: Path, place: str) -> None:
        show = ["features", "show", str(tmp_path / "no.h5")]
        done = run_process(*(["--debug", *show] if place == "before" else [*show, "--debug"]))
        assert done.returncode == 1
        assert b"Traceback" in done.stderr
        assert b"StoreError" in done.stderr

    def test_a_broken_pipe_is_quiet(self, tmp_path: Path) -> None:
        report_tree.write_data(tmp_path)
        store = tmp_path / "features/demo/audio.h5"
        reading, writing = os.pipe()
        os.close(reading)
        done = run_process("features", "show", str(store), stdout=writing, stderr=subprocess.PIPE)
        os.close(writing)
        assert (done.returncode, done.stderr) == (0, b"")

    def test_control_characters_do_not_reach_the_terminal(self, lacuna: Command) -> None:
        _, _, err = lacuna("features", "show", "\x1b[31mred.h5")
        assert "\x1b" not in err
        assert "\\x1b[31mred.h5" in err
