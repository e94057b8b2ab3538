"""``lacuna dataset check``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.cli import main
from pipeline.commands.dataset import Check, Row, check
from pipeline.data.datasets import base
from pipeline.errors import DataError
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
