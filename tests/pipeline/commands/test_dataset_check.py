"""``lacuna dataset check``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import looking
from pipeline.commands.cli import main
from pipeline.commands.dataset import Check, Row, _look, check
from pipeline.data.datasets import base
from pipeline.data.manifest import Sample
from pipeline.data.store import FeatureInfo, FeatureSequence
from pipeline.errors import AssetError, DataError
from pipeline.extraction.extractors.base import Clip
from pipeline.looking import ModalityLook, statistics
from pipeline.params import load_params
from tests.project import ROOT
from tests.replicas import folder, iemocap, mosi


def run(loader: str, root: Path, limit: int | None = 20, **options: Any) -> Check:
    owner = base.find(loader)
    return check(loader, owner(owner.Settings(**options), root), limit)


def test_found_against_expected(tmp_path: Path) -> None:
    result = run("mosi", mosi.build(tmp_path))
    assert result.rows[:6] == (
        Row("samples", 6, 2199),
        Row("dialogue", 4, 93),
        Row("split=train", 2, 1284),
        Row("split=valid", 1, 229),
        Row("split=test", 2, 686),
        Row("label=neutral", 1, 96),
    )
    assert result.rows[0].verdict == "-2193"
    assert not result.complete
    lines = result.text.splitlines()
    assert "samples             6      2199  -2193" in lines
    assert "missing files: 2" in lines
    assert "  Video/Segmented/lXPQBPVc5Cw_2.mp4: the video of lXPQBPVc5Cw_2" in lines
    assert (
        "  Labels/OpinionLevelSentiment.csv, line 5: found the score 7.5, expected a number in [-3, 3] [WKA5OygbEKI_2]"
        in lines
    )


def test_long_lists_are_cut_and_say_so(tmp_path: Path) -> None:
    root = iemocap.build(tmp_path)
    short, whole = run("iemocap", root, 2), run("iemocap", root, None)
    assert "  ... and 9 more (all of them: --all)" in short.text.splitlines()
    assert "more (all" not in whole.text
    assert len(whole.text) > len(short.text)


def test_a_clean_tree_without_published_counts_is_complete(tmp_path: Path) -> None:
    root = folder.build(tmp_path)
    table = root / "samples.csv"
    table.write_bytes(b"".join(table.read_bytes().splitlines(keepends=True)[:4]))
    result = run("folder", root)
    assert result.complete
    assert result.rows[0] == Row("samples", 3, None)
    assert Row("label=happy", 1, None) in result.rows


def test_an_unreadable_line_counts_where_nobody_published_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = folder.build(tmp_path)
    table = mine / "samples.csv"
    lines = table.read_bytes().splitlines(keepends=True)
    table.write_bytes(b"".join([*lines[:4], lines[7]]))  # the last is listed twice
    assert not run("folder", mine).complete
    root = iemocap.build(tmp_path)  # has unparsable transcript lines, as the owners' copy
    for video in ("Ses02F_script01_1", "Ses03M_impro03"):
        source = next(root.rglob("*.avi"))
        target = root / f"Session{video[4]}/dialog/avi/DivX/{video}.avi"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    found = run("iemocap", root)
    assert not found.complete
    owner = base.find("iemocap")
    counts = {row.count: row.found for row in found.rows if row.expected is not None}
    monkeypatch.setattr(owner, "expected", lambda _: base.Expected("the replica", counts))
    assert run("iemocap", root).complete


def test_it_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = mosi.build(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = sorted(root.rglob("*"))
    run("mosi", root)
    assert sorted(root.rglob("*")) == before
    assert list((tmp_path / "here").iterdir()) == []


def test_another_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="IEMOCAP_full_release"):
        run("iemocap", tmp_path)


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder.build(tmp_path)
    monkeypatch.chdir(tmp_path)
    extraction = "{extractor: bert}"
    (tmp_path / "params.yaml").write_text(
        f"datasets:\n  mine:\n    loader: folder\n    root: {root}\n    options: {{}}\n"
        f"    text: {extraction}\n    audio: {{extractor: opensmile}}\n    video: {{extractor: fer}}\n"
        "extractors:\n  text: {bert: {}}\n  audio: {opensmile: {}}\n  video: {fer: {}}\n",
        encoding="utf-8",
    )
    with pytest.raises(SystemExit) as ended:
        main(["dataset", "check", "mine"])
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "samples            6" in printed
    assert '  samples.csv, line 7: found the start_s "soon", expected a number [six]' in printed
    with pytest.raises(SystemExit) as ended:
        main(["dataset", "check", "mine", "--json"])
    assert json.loads(capsys.readouterr().out)["samples"] == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pictures", "x"], "give --sample too"),
        (["--sample", "2", "--json"], "leave --sample out"),
        (["--sample", "0"], "expected a number from 1 on"),
    ],
)
def test_a_sample_that_cannot_be(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["dataset", "check", "demo", *words])
    assert ended.value.code in (1, 2)
    assert message in capsys.readouterr().err


def test_a_sample_is_printed_and_drawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = {"feature_set": "IS13_ComParE", "level": "lld"}
    info = FeatureInfo("demo", "audio", "opensmile", settings, ("F0final_sma", "x"), 0.01, "")
    rows = FeatureSequence(
        np.array([[120, 1], [121, 2]], np.float32), np.array([0.1, 0.2], np.float32), np.ones(2, np.uint8)
    )
    found = [
        ("text", AssetError("data/assets/bert: not fetched")),
        ("audio", ModalityLook(info, ["../a"], [Clip("../a")], [rows], *statistics([rows], info.columns))),
    ]
    monkeypatch.setattr(looking, "sample_dataset", lambda *_: iter(found))
    _look("demo", [Sample("../a", text="x")] * 9, 1, load_params(ROOT / "params.yaml"), tmp_path / "look")
    lines = capsys.readouterr().out.splitlines()
    assert "text: data/assets/bert: not fetched" in lines
    assert "audio by opensmile: 1 of 9 samples" in lines
    assert "  ../a  2 rows, 100% observed, to 0.20 s, F0final_sma 120 Hz in 100%" in lines
    assert "  F0final_sma    100% voiced, median 120 Hz, 120 to 121 Hz, as a voice" in lines
    assert any(line.startswith("  mind           x: a click stands 20 ms late") for line in lines)
    assert (tmp_path / "look/1.audio.png").is_file()
