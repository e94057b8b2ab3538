"""The speech encoder's features against a straight transformers call, with a tiny random model."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.errors import AssetError
from pipeline.extraction.extractors.audio import wav2vec2
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.media import read_audio
from tests.encoders import write_speech_encoder

RATE = wav2vec2.SAMPLE_RATE_HZ


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speech_encoder(tmp_path_factory.mktemp("wav2vec2") / "tiny")


def sound(seconds: float) -> NDArray[np.float64]:
    time = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(0).normal(scale=0.01, size=len(time))
    result: NDArray[np.float64] = 0.1 + 0.2 * np.sin(2 * np.pi * (200 + 100 * time) * time) + noise
    return result


def write_wave(path: Path, samples: NDArray[np.float64]) -> Clip:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return Clip(path.stem, audio=path)


def straight(folder: Path, samples: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return what transformers itself gives for the same 16-bit samples."""
    from transformers import AutoFeatureExtractor, AutoModel

    heard = (samples * 32767).astype("<i2") / np.float32(32768)
    prepared = AutoFeatureExtractor.from_pretrained(folder)(heard, sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(folder).eval()(prepared.input_values).last_hidden_state[0]
    result: NDArray[np.float32] = hidden.numpy()
    return result


def build(folder: Path | None, assets: Path, **settings: float) -> wav2vec2.Extractor:
    return wav2vec2.Extractor(wav2vec2.Wav2vec2Settings(model=folder, **settings), assets)


def test_it_equals_a_straight_call(model_folder: Path, tmp_path: Path) -> None:
    samples = sound(1.7)
    extractor = build(model_folder, tmp_path)
    sequence = extractor.extract(write_wave(tmp_path / "a.wav", samples))
    sequence.check(16, "test")
    assert len(extractor.columns) == 16
    np.testing.assert_allclose(sequence.values, straight(model_folder, samples), atol=1e-5)
    # kernels 10 3 3 3 3 2 2 and strides 5 2 2 2 2 2 2: a field of 400 samples every 320
    assert extractor.frame_period_s == 0.02
    np.testing.assert_allclose(sequence.times[:2], [0.0125, 0.0325], atol=1e-7)
    assert len(sequence.times) == (int(1.7 * RATE) - 400) // 320 + 1


@pytest.mark.parametrize("kind", ["Hubert", "WavLM", "Data2VecAudio", "SEW"])
def test_its_kin_equal_a_straight_call(kind: str, tmp_path: Path) -> None:
    folder = write_speech_encoder(tmp_path / "encoder", kind)
    samples = sound(0.92)
    sequence = build(folder, tmp_path).extract(write_wave(tmp_path / "a.wav", samples))
    sequence.check(16, "test")
    np.testing.assert_allclose(sequence.values, straight(folder, samples), atol=1e-5)
    assert len(sequence.times) == (int(0.92 * RATE) - 400) // 320 + 1 == 45


def test_an_encoder_with_other_frames_than_its_convolutions_is_refused(tmp_path: Path) -> None:
    folder = write_speech_encoder(tmp_path / "encoder", add_adapter=True, num_adapter_layers=1)
    with pytest.raises(AssetError, match=r"gives 23 frames for 14720 samples, where its conv_kernel .* 45"):
        build(folder, tmp_path).extract(write_wave(tmp_path / "a.wav", sound(0.92)))


def test_two_runs_give_the_same_bytes(model_folder: Path, tmp_path: Path) -> None:
    clip = write_wave(tmp_path / "a.wav", sound(0.8))
    first, second = (build(model_folder, tmp_path).extract(clip) for _ in range(2))
    assert first.values.tobytes() == second.values.tobytes()


def test_without_normalisation_if_the_folder_says_so(model_folder: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "plain"
    shutil.copytree(model_folder, folder)
    path = folder / wav2vec2.PREPROCESSOR
    path.write_text(json.dumps({**json.loads(path.read_text()), "do_normalize": False}))
    samples = sound(0.5)
    values = build(folder, tmp_path).extract(write_wave(tmp_path / "a.wav", samples)).values
    np.testing.assert_allclose(values, straight(folder, samples), atol=1e-5)
    assert np.abs(values - straight(model_folder, samples)).max() > 1e-3


def test_a_long_sound_goes_through_in_windows(model_folder: Path, tmp_path: Path) -> None:
    samples = sound(47.0)
    clip = write_wave(tmp_path / "a.wav", samples)
    whole = build(model_folder, tmp_path, window_s=60.0).extract(clip)
    extractor = build(model_folder, tmp_path, window_s=10.0)
    lengths: list[int] = []
    forward = extractor._forward
    extractor._forward = lambda part: (lengths.append(len(part)), forward(part))[1]  # type: ignore[method-assign]
    windowed = extractor.extract(clip)
    assert len(lengths) == 5
    assert max(lengths) <= 19.1 * RATE
    np.testing.assert_array_equal(windowed.times, whole.times)
    assert windowed.values.shape == whole.values.shape
    # The second window: frames 500 to 999 out of what the encoder gives for frames 400 to 1099.
    heard = read_audio(clip, RATE)
    part = forward(extractor._prepare(heard)[400 * 320 : 1099 * 320 + 400])
    np.testing.assert_array_equal(windowed.values[500:1000], part[100:600])


@pytest.mark.parametrize("samples", [1, 300, 400, 800])
def test_the_shortest_sounds_are_filled_up(model_folder: Path, tmp_path: Path, samples: int) -> None:
    sequence = build(model_folder, tmp_path).extract(write_wave(tmp_path / "a.wav", sound(0.1)[:samples]))
    sequence.check(16, "test")
    assert len(sequence.times) == max(1, (samples - 400) // 320 + 1)


def test_silence_is_finite(model_folder: Path, tmp_path: Path) -> None:
    sequence = build(model_folder, tmp_path).extract(write_wave(tmp_path / "a.wav", np.zeros(RATE)))
    sequence.check(16, "test")


def test_the_asset_folder_serves_and_is_checked(model_folder: Path, tmp_path: Path) -> None:
    from pipeline.data.fetching import fetch
    from pipeline.params import Asset

    assets = fetch("wav2vec2", Asset(path=model_folder), tmp_path / "wav2vec2")
    clip = write_wave(tmp_path / "a.wav", sound(0.5))
    extractor = build(None, assets)
    assert extractor.files == ()
    np.testing.assert_array_equal(
        extractor.extract(clip).values, build(model_folder, tmp_path).extract(clip).values
    )
    with (assets / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\x00\x00\x00\x01")
    with pytest.raises(AssetError, match="sha256"):
        build(None, assets).extract(clip)


def test_the_files_are_those_whose_bytes_count(model_folder: Path, tmp_path: Path) -> None:
    names = {path.name for path in build(model_folder, tmp_path).files}
    assert names == {"config.json", "model.safetensors", "preprocessor_config.json"}


def test_without_an_encoder_it_says_where_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"extractors\.audio\.wav2vec2\.model"):
        _ = build(None, tmp_path).columns
    with pytest.raises(AssetError, match=r"holds no config\.json"):
        _ = build(tmp_path / "nowhere", tmp_path).columns


def test_pickled_weights_are_refused(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).write_bytes((model_folder / name).read_bytes())
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(AssetError, match="safetensors"):
        build(folder, tmp_path).extract(write_wave(tmp_path / "a.wav", sound(0.2)))


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 16}))
    with pytest.raises(AssetError, match="not a speech encoder"):
        _ = build(tmp_path, tmp_path).columns
