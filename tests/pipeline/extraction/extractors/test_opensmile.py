"""openSMILE's features against the package's own interface."""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import opensmile as package
import pytest
from pydantic import ValidationError

from pipeline.extraction.extractors.audio import opensmile
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.media import read_audio
from tests import clips

LLD, DELTA = package.FeatureLevel.LowLevelDescriptors, package.FeatureLevel.LowLevelDescriptors_Deltas


@pytest.fixture
def recording(assets: Callable[[str], Path]) -> Clip:
    return Clip("a", audio=assets("cremad") / "1002_DFA_HAP_XX.mp3")


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Callable[..., opensmile.Extractor]]:
    made: list[opensmile.Extractor] = []

    def make(**settings: object) -> opensmile.Extractor:
        made.append(opensmile.Extractor(opensmile.OpensmileSettings(**settings), tmp_path))
        return made[-1]

    yield make
    for extractor in made:
        extractor.close()


@pytest.mark.parametrize("name", ["IS13_ComParE", "IS09_emotion", "emobase"])
def test_descriptors_and_deltas_equal_the_packages_two_passes(
    recording: Clip, build: Callable[..., opensmile.Extractor], name: str
) -> None:
    found = build(feature_set=name)
    result = found.extract(recording)
    samples = read_audio(recording, 16_000)
    feature_set = package.FeatureSet[opensmile.SETS[name]]
    values, deltas = (
        package.Smile(feature_set, level).process_signal(samples, 16_000) for level in (LLD, DELTA)
    )
    rows = min(len(values), len(deltas))
    assert len(values) != len(deltas)  # the package's streams differ in length: cut to the shorter
    assert len(result.values) == rows
    assert found.columns == (*values.columns, *deltas.columns)
    assert np.array_equal(result.values[:, : values.shape[1]], values.to_numpy()[:rows])
    assert np.array_equal(result.values[:, values.shape[1] :], deltas.to_numpy()[:rows])


def test_the_default_is_130_columns_at_100_frames_a_second(
    recording: Clip, build: Callable[..., opensmile.Extractor]
) -> None:
    found = build()
    result = found.extract(recording)
    assert len(found.columns) == 130
    assert found.columns[0] == "F0final_sma"
    assert found.columns[65] == "F0final_sma_de"
    # windows of 60 ms: the first one's middle is at 30 ms
    assert np.allclose(result.times, 0.03 + 0.01 * np.arange(len(result.times)), atol=1e-5)


def test_functionals_are_one_row(recording: Clip, build: Callable[..., opensmile.Extractor]) -> None:
    found = build(feature_set="eGeMAPSv02", level="functionals")
    result = found.extract(recording)
    straight = package.Smile(package.FeatureSet.eGeMAPSv02, package.FeatureLevel.Functionals)
    samples = read_audio(recording, 16_000)
    assert found.columns == tuple(straight.feature_names)
    assert np.array_equal(result.values, straight.process_signal(samples, 16_000).to_numpy())
    assert found.frame_period_s is None
    assert result.times.tolist() == pytest.approx([len(samples) / 32_000])


def test_every_set_and_level_gives_numbers(tmp_path: Path, build: Callable[..., opensmile.Extractor]) -> None:
    clip = Clip("a", audio=clips.write_clip(tmp_path / "a.wav", seconds=0.06))
    dims = {}
    for name in opensmile.SETS:
        for level in opensmile.LEVELS:
            if "GeMAPS" in name and level == "lld+delta":
                continue
            found = build(feature_set=name, level=level)
            result = found.extract(clip)
            result.check(len(found.columns), f"{name} {level}")
            dims[name, level] = len(found.columns)
    assert dims["eGeMAPSv02", "functionals"] == 88
    assert dims["IS09_emotion", "functionals"] == 384
    assert dims["ComParE_2016", "functionals"] == 6373


@pytest.mark.filterwarnings("ignore:Feature set .* is deprecated")
@pytest.mark.parametrize("name", opensmile.SETS)
def test_a_wav_gives_what_the_package_makes_of_the_file(
    tmp_path: Path, build: Callable[..., opensmile.Extractor], name: str
) -> None:
    """Neither our decoding nor our way into openSMILE changes a bit of a file that needs no resampling."""
    generator = np.random.default_rng(2)
    path = tmp_path / "a.wav"
    glide = 0.4 * np.sin(2 * np.pi * (120 + 40 * np.linspace(0, 1, 16_000)) * np.arange(16_000) / 16_000)
    noisy = glide * (1 + 0.3 * generator.normal(size=16_000)) + 0.01 * generator.normal(size=16_000)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((np.clip(noisy, -1, 1) * 32767).astype("<i2").tobytes())
    feature_set = package.FeatureSet[opensmile.SETS[name]]
    straight = {}
    for level in (LLD, DELTA, package.FeatureLevel.Functionals):
        if level is not DELTA or "GeMAPS" not in name:
            straight[level] = package.Smile(feature_set, level).process_file(path)
    for level, expected in (
        ("lld", [LLD]),
        ("lld+delta", [LLD, DELTA]),
        ("functionals", [package.FeatureLevel.Functionals]),
    ):
        if not set(expected) <= set(straight):
            continue
        found = build(feature_set=name, level=level)
        result = found.extract(Clip("a", audio=path))
        rows = min(len(straight[part]) for part in expected)
        assert len(result.values) == rows
        assert found.columns == tuple(column for part in expected for column in straight[part].columns)
        values = np.hstack([straight[part].to_numpy()[:rows] for part in expected])
        assert np.array_equal(result.values, values), level


def test_full_scale_does_not_wrap_around(
    build: Callable[..., opensmile.Extractor], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = build(feature_set="IS09_emotion", level="lld")
    tone = 1.5 * np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000)
    values = []
    for samples in (tone, np.clip(tone, -1.0, 1.0), np.clip(tone, -1.0, 32767 / 32768)):
        monkeypatch.setattr(
            opensmile, "read_audio", lambda clip, rate, samples=samples: samples.astype(np.float32)
        )
        values.append(found.extract(Clip("a")).values)
    assert np.array_equal(values[0], values[2])
    assert np.array_equal(values[1], values[2])


def test_sets_without_deltas_are_refused() -> None:
    with pytest.raises(ValidationError, match="eGeMAPSv02 has no deltas; take the level lld or functionals"):
        opensmile.OpensmileSettings(feature_set="eGeMAPSv02", level="lld+delta")
    with pytest.raises(ValidationError, match="IS13_ComParE"):
        opensmile.OpensmileSettings(feature_set="IS14")
