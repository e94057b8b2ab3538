"""What the tests of the commands share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.commands import cli
from tests import report_tree
from tests.command_line import Command
from tests.project import ROOT


@pytest.fixture
def lacuna(capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs the command in this process: exit status, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return run


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder with params.yaml; it is the working directory."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def report_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like data/ with features and masks; not to be changed."""
    folder = tmp_path_factory.mktemp("tree")
    report_tree.write_data(folder)
    return folder
