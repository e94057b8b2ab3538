"""A clip's picture: drawn from made features, and looked at by its colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline import clip_picture
from pipeline.clip_picture import Look, Shot, draw, row_edges
from pipeline.data.manifest import Word
from pipeline.data.store import FeatureSequence, Status


def features(flags: list[int], dims: int = 3, **given: Any) -> FeatureSequence:
    rows = len(flags)
    values = np.random.default_rng(0).uniform(1, 300, (rows, dims)).astype(np.float32)
    values[np.array(flags) == 0] = 0
    times = (np.arange(rows, dtype=np.float32) + np.float32(0.5)) / 10
    return FeatureSequence(values, given.pop("times", times), np.array(flags, np.uint8), **given)


def seen(look: Look, path: Path) -> dict[str, int]:
    """Draw, and return how many pixels have each of the colours that mean something."""
    draw(look, path)
    pixels: NDArray[Any] = (matplotlib.image.imread(path)[..., :3] * 255).round().astype(int)
    colours = {
        "nothing": clip_picture._NOTHING,
        "pitch": clip_picture._PITCH,
        "loud": clip_picture._LOUD,
        "face": clip_picture._FACE,
        "sound": clip_picture._SOUND,
    }
    wanted = {
        name: [int(code[place : place + 2], 16) for place in (1, 3, 5)] for name, code in colours.items()
    }
    return {name: int((pixels == colour).all(-1).sum()) for name, colour in wanted.items()}


def test_rows_with_nothing_observed_are_red_in_proportion(tmp_path: Path) -> None:
    whole = seen(Look("a", features([1] * 8), "xyz"), tmp_path / "a.png")
    assert whole == dict.fromkeys(whole, 0)
    one, four = (
        seen(Look("a", features([1] * (8 - hidden) + [0] * hidden), "xyz"), tmp_path / "b.png")["nothing"]
        for hidden in (1, 4)
    )
    assert four / one == pytest.approx(4, rel=0.05)


def test_pitch_loudness_sound_words_and_faces(tmp_path: Path) -> None:
    face = np.array([(10.0, 10.0), (30.0, 12.0), (20.0, 30.0), (15.0, 25.0), (12.0, 20.0)])
    black = np.zeros((48, 64, 3), np.uint8)
    look = Look(
        "$x_1$ \u202e\nand a name that goes on " + "and on " * 40,
        features([1] * 9 + [0]),
        ("F0final_sma", "pcm_RMSenergy_sma", "x"),
        [Shot(0.05, black, [face], True), Shot(0.45, black, [], False)],
        np.sin(np.arange(16_000) / 20).astype(np.float32),
        16_000,
        [Word("$so$", 0.1, 0.2), Word("我", 0.2, 0.3), Word("x" * 200, 0.3, 0.4)],
    )
    found = seen(look, tmp_path / "a.png")
    assert min(found.values()) > 5, found
    height, width, _ = matplotlib.image.imread(tmp_path / "a.png").shape
    assert 1000 < width < 1500
    assert 600 < height < 1200
    assert seen(Look("a", features([1] * 9), ("F0final_sma", "y", "x")), tmp_path / "b.png")["pitch"] > 20


def test_what_a_title_says_where_store_and_picture_disagree() -> None:
    titles: list[str] = []

    class Axes:
        def set_title(self, text: str, **_: Any) -> None:
            titles.append(text)

        def __getattr__(self, name: str) -> Any:
            return lambda *_, **__: None

    face, picture = np.zeros((5, 2)), np.zeros((4, 4, 3), np.uint8)
    for faces, observed in (([face], True), ([], False), ([face], False), ([], True), (None, True)):
        clip_picture._draw_shot(Axes(), Shot(0.5, picture, faces, observed))
    assert titles == [
        "0.50 s",
        "0.50 s: no face",
        "0.50 s: found now, not in the store",
        "0.50 s: not found now, in the store",
        "0.50 s",
    ]


def test_clips_without_rows_without_times_and_with_one_row(tmp_path: Path) -> None:
    nothing = FeatureSequence.absent(3, Status.MISSING, "no face in any of 8 pictures")
    draw(Look("a", nothing, "xyz"), tmp_path / "a.png")
    words = features([1, 0, 1], times=np.zeros(3, np.float32), tokens=("$a", "", "我"))
    assert seen(Look("a", words, "xyz"), tmp_path / "b.png")["nothing"] > 1000
    draw(Look("a", features([1]), "xyz"), tmp_path / "c.png")
    draw(Look("a", features([1, 1], dims=900), [f"c{n}" for n in range(900)]), tmp_path / "d.png")
    assert len(list(tmp_path.iterdir())) == 4


def test_where_rows_begin_and_end() -> None:
    assert row_edges(np.array([0.5, 1.5, 3.5], np.float32), 9).tolist() == [0, 1, 2.5, 4.5]
    assert row_edges(np.array([0.1, 1.1], np.float32), 9).tolist() == pytest.approx(
        [0, 0.6, 1.6]
    )  # not below 0
    assert row_edges(np.array([1.0], np.float32), 2.5).tolist() == [0, 2.5]
