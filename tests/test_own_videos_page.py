"""docs/your-own-videos.md: its csv is one that the loader reads, its block of params.yaml one that the check takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pipeline.params import load_params
from tests.project import ROOT

PAGE = (ROOT / "docs/your-own-videos.md").read_text(encoding="utf-8")


def block(kind: str) -> str:
    """Return the first fenced block of a kind."""
    found = re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


def test_the_page_is_a_dataset_and_experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = tmp_path / "clips"
    (clips / "ben").mkdir(parents=True)
    for name in ("anna.mp4", "ben/take1.mov", "cleo.mp4"):
        (clips / name).touch()
    (clips / "samples.csv").write_text(block("csv"), encoding="utf-8")
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    own = yaml.safe_load(block("yaml"))
    for section, values in own.items():
        raw[section] = {**raw.get(section, {}), **values}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    monkeypatch.setenv("LACUNA_MEDIA_MINE", str(clips))
    params = load_params(path)
    assert params.experiment("mine-linear").regime == "standard"  # left out on the page
    loader = params.loader("mine")
    samples = list(loader.load())
    assert (loader.skipped, loader.notes) == ([], [])
    assert [s.id for s in samples] == ["anna-01", "anna-02", "ben-01", "cleo-01"]
    assert samples[0].text == "Well, that was a surprise."
    assert samples[2].text == '"Fine", he said.'
    assert samples[2].audio_path == "ben/take1.mov"
    assert [s.split for s in samples] == ["train", "train", "valid", "test"]
    assert {s.label for s in samples} <= set(params.dataset("mine").labels)
