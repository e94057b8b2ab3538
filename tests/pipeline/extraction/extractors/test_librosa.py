"""librosa's features against straight calls of librosa."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import librosa as package
import numpy as np
import pytest

from pipeline.extraction.extractors.audio import librosa
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.media import read_audio
from tests import clips


@pytest.mark.parametrize(("rate", "hop", "mfcc"), [(22_050, 512, 20), (16_000, 256, 13)])
def test_values_are_librosas_own(assets: Callable[[str], Path], rate: int, hop: int, mfcc: int) -> None:
    clip = Clip("a", audio=assets("cremad") / "1002_DFA_HAP_XX.mp3")
    extractor = librosa.Extractor(
        librosa.LibrosaSettings(sample_rate_hz=rate, hop_samples=hop, mfcc=mfcc), Path("none")
    )
    result = extractor.extract(clip)
    samples = read_audio(clip, rate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        straight = np.concatenate(
            [
                package.feature.zero_crossing_rate(samples, hop_length=hop),
                package.feature.mfcc(y=samples, sr=rate, n_mfcc=mfcc, hop_length=hop),
                package.feature.chroma_cqt(y=samples, sr=rate, hop_length=hop),
            ]
        ).T
    assert len(extractor.columns) == mfcc + 13
    assert np.array_equal(result.values, straight.astype(np.float32))
    assert np.allclose(result.times, np.arange(len(straight)) * hop / rate)


def test_a_wav_gives_what_librosa_makes_of_the_file(tmp_path: Path) -> None:
    """librosa's own reader instead of ours, for a file that needs no resampling."""
    path = clips.write_clip(tmp_path / "a.wav", seconds=1, sound_rate=16_000)
    extractor = librosa.Extractor(librosa.LibrosaSettings(sample_rate_hz=16_000), Path("none"))
    result = extractor.extract(Clip("a", audio=path))
    samples, rate = package.load(path, sr=None)
    assert rate == 16_000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        straight = np.concatenate(
            [
                package.feature.zero_crossing_rate(samples),
                package.feature.mfcc(y=samples, sr=rate),
                package.feature.chroma_cqt(y=samples, sr=rate),
            ]
        ).T
    assert np.array_equal(result.values, straight.astype(np.float32))


def test_a_tone_is_in_its_pitch_class(tmp_path: Path) -> None:
    extractor = librosa.Extractor(librosa.LibrosaSettings(), Path("none"))
    clip = Clip("a", audio=clips.write_clip(tmp_path / "a.wav", seconds=1, tone_hz=440.0))
    result = extractor.extract(clip)
    chroma = result.values[5:-5, [extractor.columns.index(f"chroma_{p}") for p in librosa.PITCHES]]
    assert set(chroma.argmax(axis=1)) == {librosa.PITCHES.index("A")}
    crossings = result.values[5:-5, extractor.columns.index("zero_crossing_rate")]
    assert np.allclose(crossings, 2 * 440 / 22_050, atol=1e-3)


@pytest.mark.parametrize("hz", [440.0, 446.0, 0.0])
def test_the_tuning_in_blocks_is_librosas(hz: float) -> None:
    time_s = np.arange(3 * 22_050) / 22_050
    noise = np.random.default_rng(0).normal(0, 0.001, len(time_s)) if hz else 0.0
    samples = (0.3 * np.sin(2 * np.pi * hz * time_s) + noise).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # silence has no tuning
        expected = package.estimate_tuning(y=samples, sr=22_050, bins_per_octave=librosa.CHROMA_BINS)
        for block in (7, 10_000):
            assert librosa.tuning_in_blocks(samples, 22_050, block) == expected


def test_a_long_sound_has_the_same_chroma(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = clips.write_clip(tmp_path / "a.wav", seconds=3, tone_hz=446.0)
    extractor = librosa.Extractor(librosa.LibrosaSettings(), Path("none"))
    short = extractor.extract(Clip("a", audio=path)).values
    monkeypatch.setattr(librosa, "LONG_S", 1.0)
    assert np.array_equal(extractor.extract(Clip("a", audio=path)).values, short)
