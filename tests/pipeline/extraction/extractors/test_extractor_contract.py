"""What every extractor promises, checked for every file in pipeline/extraction/extractors/."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.data.manifest import MODALITIES, Word
from pipeline.data.store import FeatureSequence, Status
from pipeline.errors import StreamMissing, SystemLibraryError
from pipeline.extraction.extractors import base
from pipeline.extraction.extractors.base import BaseExtractor, Clip, naming_system_libraries, token_times
from tests import clips
from tests.openface_program import write_program

ALL = [  # but what hands on foreign features: tests/pipeline/extraction/test_foreign.py
    (modality, name)
    for modality in MODALITIES
    for name in base.names(modality)
    if not base.find(modality, name).by_id
]
SECONDS = 1.868  # of the recording below
BORROWED = {"facet35": "facelandmarker", "denseface": "fer"}  # extractors that read another one's weights
TEXT = "Don't forget a jacket, said the old man happily."
Made = BaseExtractor[Any]


@pytest.fixture(scope="module")
def weightless(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Settings of extractors whose weights are not among the pinned assets: tiny random ones."""
    import torch
    from safetensors.torch import save_file
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    from pipeline.extraction.extractors.video._densenet import DenseNet

    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tiny = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        position = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
        Wav2Vec2Model(Wav2Vec2Config(**tiny, conv_dim=(8,) * 7, **position)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    vectors = folder / "vectors.txt"
    words = [*TEXT.lower().replace(",", "").rstrip(".").split(), "another", "text", "yes"]
    generator = np.random.default_rng(0)
    lines = [" ".join([word, *map(str, generator.normal(size=5).round(3))]) for word in dict.fromkeys(words)]
    vectors.write_text("\n".join(lines) + "\n", encoding="utf-8")
    network = DenseNet()
    network.initialise(torch.Generator().manual_seed(0))
    save_file(network.state_dict(), folder / "denseface.safetensors")
    return {
        "wav2vec2": {"model": folder},
        "word2vec": {"path": vectors},
        "denseface": {"weights": folder / "denseface.safetensors"},
        "openface": {"executable": write_program(folder / "FeatureExtraction")},
    }


@pytest.fixture(scope="module")
def make(
    assets: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
    weightless: dict[str, dict[str, Any]],
) -> Callable[[str, str], Made]:
    """Return a function that builds an extractor with its default settings and its pinned weights."""
    pinned = yaml.safe_load((Path(__file__).parents[4] / "params.yaml").read_text(encoding="utf-8"))["assets"]

    def build(modality: str, name: str) -> Made:
        owner = base.find(modality, name)
        source = BORROWED.get(name, name)
        folder = assets(source) if source in pinned else tmp_path_factory.mktemp("none")
        return owner(owner.Settings(**weightless.get(name, {})), folder)

    return build


@pytest.fixture(scope="module", params=ALL, ids=[f"{modality}-{name}" for modality, name in ALL])
def extractor(request: pytest.FixtureRequest, make: Callable[[str, str], Made]) -> Any:
    made = make(*request.param)
    yield made
    made.close()


@pytest.fixture(scope="module")
def recording(assets: Callable[[str], Path]) -> Clip:
    """A real recording of a speaking face."""
    path = assets("cremad") / "1001_DFA_HAP_XX.flv"
    return Clip("recording", video=path, audio=path, text=TEXT)


def test_a_recording_gives_features(extractor: Made, recording: Clip) -> None:
    result = extractor.extract(recording)
    result.check(len(extractor.columns), "test")
    assert result.status is Status.OK
    assert result.reason == ""
    assert (result.values.dtype, result.times.dtype) == (np.float32, np.float32)
    assert result.flags.dtype == np.uint8
    assert set(result.flags) <= {0, 1}
    assert result.flags.any()
    assert not result.values[result.flags == 0].any()
    assert len(result.times) >= 10 or extractor.frame_period_s is None
    assert (np.diff(result.times) >= 0).all()
    assert result.times[0] >= 0
    assert result.times[-1] <= SECONDS + 0.05
    assert np.ptp(result.values) > 0
    if extractor.modality == "text":
        assert len(result.tokens) == len(result.times)
        if result.token_ids is not None:  # of an encoder's vocabulary
            assert (result.token_ids.dtype, result.token_ids.shape) == (np.int64, result.times.shape)
            assert result.token_ids.min() >= 0


def test_columns_have_their_own_names(extractor: Made) -> None:
    assert len(set(extractor.columns)) == len(extractor.columns) > 0
    assert all(isinstance(name, str) and name == name.strip() != "" for name in extractor.columns)


def test_frames_are_a_period_apart(extractor: Made, recording: Clip) -> None:
    period = extractor.frame_period_s
    if extractor.modality == "text":
        assert period is None
    else:
        assert period is not None
        assert np.allclose(np.diff(extractor.extract(recording).times), period, atol=1e-4)


def test_two_runs_give_the_same_bytes(
    extractor: Made, recording: Clip, make: Callable[[str, str], Made], tmp_path: Path
) -> None:
    other = clips.write_clip(tmp_path / "other.mp4")
    first = extractor.extract(recording)
    extractor.extract_batch(
        [Clip("other", video=other, audio=other, text="Another text.")]
    )  # leaves no trace
    again = extractor.extract(recording)
    owner = type(extractor)
    fresh_one = make(owner.modality, owner.__module__.rpartition(".")[2])
    fresh = fresh_one.extract(recording)
    fresh_one.close()
    for result in (again, fresh):
        assert result.values.tobytes() == first.values.tobytes()
        assert result.times.tobytes() == first.times.tobytes()
        assert result.flags.tobytes() == first.flags.tobytes()
        assert result.tokens == first.tokens


def test_a_batch_gives_what_single_clips_give(extractor: Made, recording: Clip) -> None:
    results = extractor.extract_batch([recording, Clip("nothing"), recording])
    single = extractor.extract(recording)
    for index in (0, 2):
        result = results[index]
        assert isinstance(result, FeatureSequence)
        assert result.values.tobytes() == single.values.tobytes()
    assert isinstance(results[1], StreamMissing)


def test_nothing_given_is_missing(extractor: Made) -> None:
    with pytest.raises(StreamMissing):
        extractor.extract(Clip("nothing"))
    with pytest.raises(StreamMissing):
        extractor.extract(Clip("blank", text=" \n\t"))


def test_a_lacking_stream_is_missing(extractor: Made, tmp_path: Path) -> None:
    lacking = clips.write_clip(
        tmp_path / "lacking.mp4", picture=extractor.modality != "video", sound=extractor.modality != "audio"
    )
    with pytest.raises(StreamMissing):
        extractor.extract(Clip("lacking", video=lacking, audio=lacking))


def test_50_milliseconds_are_enough(extractor: Made, recording: Clip) -> None:
    short = Clip("short", video=recording.video, audio=recording.audio, start_s=0.8, end_s=0.85, text="Yes")
    result = extractor.extract(short)
    result.check(len(extractor.columns), "test")
    assert result.status is Status.OK
    assert 1 <= len(result.times) <= 6
    assert result.times[-1] <= 0.05


def test_silence_and_an_empty_picture(extractor: Made, tmp_path: Path) -> None:
    path = clips.write_clip(
        tmp_path / "still.mp4", seconds=1, silent=True, pixels=np.full((240, 320, 3), 90, np.uint8)
    )
    if extractor.modality == "text":
        result = extractor.extract(Clip("a", text="a"))
    else:
        result = extractor.extract(Clip("a", video=path, audio=path))
    result.check(len(extractor.columns), "test")
    if extractor.modality == "video":
        assert result.status is Status.MISSING
        assert "no face in any of 8 pictures" in result.reason
        assert len(result.times) == 0
    else:
        assert result.status is Status.OK
        assert len(result.times) >= 1


@pytest.mark.parametrize(
    ("library", "package"),
    [
        ("libGL.so.1", "libgl1"),
        ("libEGL.so.1", "libegl1"),
        ("libGLESv2.so.2", "libgles2"),
        ("libglib-2.0.so.0", "libglib2.0-0"),
        ("libgthread-2.0.so.0", "libglib2.0-0"),
    ],
)
def test_a_lacking_library_of_the_system_is_named_with_its_package(library: str, package: str) -> None:
    with pytest.raises(SystemLibraryError, match=f"apt-get install {package}$"), naming_system_libraries():
        raise ImportError(f"{library}: cannot open shared object file: No such file or directory")


def test_other_import_errors_stay_what_they_are() -> None:
    with pytest.raises(ImportError, match="no module named x"), naming_system_libraries():
        raise ImportError("no module named x")


def test_tokens_take_the_times_of_their_words() -> None:
    text = "Well, the Well is dry"
    spans = [(0, 2), (2, 4), (4, 5), (6, 9), (10, 14), (15, 17), (18, 21)]
    words = [Word("well", 0.0, 0.4), Word("the", 0.5, 0.7), Word("WELL", 1.0, 1.4), Word("dry", 2.0, 2.2)]
    assert token_times(text, spans, words).tolist() == pytest.approx([0.2, 0.2, 0.2, 0.6, 1.2, 1.2, 2.1])
    assert token_times(text, spans, []).tolist() == [0.0] * 7
    unheard = token_times("a b c", [(0, 1), (2, 3), (4, 5)], [Word("b", 1.0, 2.0), Word("zzz", 3.0, 4.0)])
    assert unheard.tolist() == [0.0, 1.5, 1.5]
