"""DVCLive's files: a curve a training, none of it in an output."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import ParamsError
from pipeline.training.live import LiveFiles
from pipeline.training.progress import Told


def test_without_dvclive_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dvclive", None)
    with pytest.raises(ParamsError, match=r"compute\.dvclive: DVCLive is not installed: pip install"):
        LiveFiles(tmp_path)


def test_a_curve_for_each_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dvclive")
    monkeypatch.chdir(tmp_path)
    folder = Path("data/live/mmin")
    (folder / "9-9").mkdir(parents=True)  # of an earlier training
    live = LiveFiles(folder)
    for epoch, value in ((1, 0.25), (2, 0.5), (3, 0.375)):
        live.tell(Told(1, 0, epoch, 10, "valid ua", value, max(value, 0.5) if epoch > 1 else value))
    live.tell(Told(2, 7, 1, 10, "valid ua", 0.125, 0.125))
    running = curve(folder / "1-0")  # before the end: what is there while it trains
    live.close()
    assert running == curve(folder / "1-0") == [("1", "0.25"), ("2", "0.5"), ("3", "0.375")]
    assert curve(folder / "2-7") == [("1", "0.125")]
    summary = json.loads((folder / "1-0/metrics.json").read_text())
    assert (summary["step"], summary["valid_ua"], summary["best_valid_ua"]) == (3, 0.375, 0.5)
    assert (folder / "1-0/dvc.yaml").is_file()
    assert not (tmp_path / "dvc.yaml").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["1-0", "2-7"]


def test_what_dvclive_cannot_do_ends_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("dvclive")
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(
        [sys.executable, "-m", "dvc", "init", "-q"], check=True
    )  # and no commit, which it asks for
    live = LiveFiles(Path("data/live/mmin"))
    for epoch in (1, 2):
        live.tell(Told(1, 0, epoch, 10, "valid ua", 0.5, 0.5))
    live.close()
    assert [
        r.getMessage() for r in caplog.records if "no more live curves: DVCLive says" in r.getMessage()
    ] != []


def curve(folder: Path) -> list[tuple[str, str]]:
    """Return the rows (epoch, value)."""
    with (folder / "plots/metrics/valid_ua.tsv").open(encoding="utf-8") as file:
        return [(row["step"], row["valid_ua"]) for row in csv.DictReader(file, delimiter="\t")]
