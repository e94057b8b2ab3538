"""Features beside what they were made from: the right clip, the right pictures, faces where they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.manifest import Sample, Word, read_manifest, write_manifest
from pipeline.data.store import FeatureInfo, FeatureSequence, FeatureWriter, Status
from pipeline.errors import AssetError, DataError
from pipeline.extraction.extractors.base import Clip
from pipeline.features import open_features
from pipeline.looking import (
    ModalityLook,
    choose_clip,
    clip_line,
    find_clip,
    look_at,
    sample_dataset,
    statistics,
    statistics_lines,
)
from pipeline.params import Dataset, Params, load_params
from tests import clips
from tests.project import ROOT

FACES = FeatureInfo("demo", "video", "facelandmarker", {"frame_rate_hz": 8.0}, ("x", "y"), 0.125, "")


def rows(values: list[list[float]], flags: list[int] | None = None) -> FeatureSequence:
    times = (np.arange(len(values), dtype=np.float32) + np.float32(0.5)) / 8
    return FeatureSequence(
        np.array(values, np.float32), times, np.array(flags or [1] * len(values), np.uint8)
    )


def with_dataset(**changes: object) -> Params:
    params = load_params(ROOT / "params.yaml")
    demo = params.datasets["demo"].model_dump() | changes
    return params.model_copy(update={"datasets": {"demo": Dataset.model_validate(demo)}})


def test_faces_are_found_on_the_pictures_of_the_stored_rows(
    assets: Callable[[str], Path], tmp_path: Path
) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets/facelandmarker").symlink_to(assets("facelandmarker"))
    film = assets("cremad") / "1001_DFA_HAP_XX.flv"
    look = look_at(rows([[1, 2]] * 14, [1] * 13 + [0]), FACES, "a", Clip("a", film, film), tmp_path)
    # Six of the fourteen rows, 13/7 = 1.86 apart from the first on: rows 2, 4, 6, 7, 9, 11.
    assert [shot.time_s * 8 - 0.5 for shot in look.shots] == [2, 4, 6, 7, 9, 11]
    for shot in look.shots:
        assert shot.faces is not None
        (points,) = shot.faces
        height, width, _ = shot.pixels.shape
        assert points.shape == (478, 2)
        assert shot.observed
        assert (points.min(0) > 0).all()
        assert (points.max(0) < (width, height)).all()
        nose, chin, brow = points[1], points[152], points[10]
        assert brow[1] < nose[1] < chin[1]
    assert look.sound is not None
    assert len(look.sound) / look.sound_rate_hz == pytest.approx(1.9, abs=0.1)


def test_pictures_are_those_on_the_screen_at_the_rows_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.extraction.extractors.video.facelandmarker import Extractor

    monkeypatch.setattr(Extractor, "find_faces", lambda self, picture: [])
    film = clips.write_clip(tmp_path / "a.mp4", seconds=2, rate=8, sound=False)
    look = look_at(rows([[1, 2]] * 16), FACES, "a", Clip("a", film), tmp_path)
    for shot in look.shots:
        assert clips.number(shot.pixels) == round(shot.time_s * 8 - 0.5)
    assert len(look.shots) == 6
    assert look.sound is None


def test_openface_s_points_are_those_of_the_store(tmp_path: Path) -> None:
    film = clips.write_clip(tmp_path / "a.mp4", seconds=1, rate=8, sound=False)
    columns = tuple(f"{axis}_{point}" for axis in "xy" for point in range(68))  # as OpenFace orders them
    values = np.tile(np.concatenate([np.arange(68), 100 + np.arange(68)]), (8, 1)).astype(np.float32)
    info = FeatureInfo("demo", "video", "openface", {}, columns, 0.125, "")
    flags = [1, 1, 0, 1, 1, 1, 1, 1]
    look = look_at(rows(values.tolist(), flags), info, "a", Clip("a", film), tmp_path)
    for shot in look.shots:
        assert shot.faces is not None
        assert len(shot.faces) == flags[round(shot.time_s * 8 - 0.5)] == shot.observed
        for points in shot.faces:
            assert points[3].tolist() == [3, 103]


def test_an_extractor_that_looks_for_no_faces(tmp_path: Path) -> None:
    film = clips.write_clip(tmp_path / "a.mp4", seconds=1, rate=8, sound=False)
    info = FeatureInfo("demo", "video", "import", {"file": "a.pkl"}, ("x", "y"), None, "")
    assert {shot.faces for shot in look_at(rows([[1, 2]] * 8), info, "a", Clip("a", film)).shots} == {None}


def test_words_of_a_manifest_or_of_a_store_with_times() -> None:
    info = FeatureInfo("demo", "text", "probe", {}, ("x",), None, "")
    tokens = FeatureSequence(
        np.ones((2, 1), np.float32),
        np.array([0.5, 1.5], np.float32),
        np.ones(2, np.uint8),
        tokens=("so", "good"),
    )
    assert look_at(tokens, info, "a", None).words == (Word("so", 0, 1), Word("good", 1, 2))
    given = (Word("so", 0.1, 0.2),)
    assert look_at(tokens, info, "a", Clip("a", words=given)).words == given
    untimed = FeatureSequence(
        np.ones((2, 1), np.float32), np.zeros(2, np.float32), np.ones(2, np.uint8), tokens=("so", "good")
    )
    assert look_at(untimed, info, "a", None).words == ()


def test_which_clip(tmp_path: Path) -> None:
    for names in (("one",), ("one", "two")):
        with FeatureWriter(tmp_path / f"{len(names)}.h5", FACES) as writer:
            for name in names:
                writer.append(name, rows([[1, 2]]))
    with open_features(tmp_path / "1.h5") as features:
        assert choose_clip(features, None) == "one"
    with open_features(tmp_path / "2.h5") as features:
        assert choose_clip(features, "two") == "two"
        with pytest.raises(DataError, match="holds 2 clips; name one: --id one"):
            choose_clip(features, None)
        with pytest.raises(DataError, match='Did you mean "two"'):
            choose_clip(features, "tow")


def test_where_a_clip_s_media_are(tmp_path: Path) -> None:
    params = with_dataset(root=tmp_path)
    with pytest.raises(DataError, match=r"there is no such manifest.*--media FILE"):
        find_clip(FACES, "one", params, tmp_path)
    (tmp_path / "manifests").mkdir()
    sample = Sample("one", video_path="a.mp4", audio_path="a.mp4", start_s=1.0, end_s=2.0, text="x")
    write_manifest(tmp_path / "manifests/demo.csv", [sample])
    found = find_clip(FACES, "one", params, tmp_path)
    assert (found.video, found.start_s, found.end_s) == (tmp_path / "a.mp4", 1, 2)
    with pytest.raises(DataError, match='has no sample "two"'):
        find_clip(FACES, "two", params, tmp_path)


def test_a_sample_of_a_dataset(tmp_path: Path) -> None:
    samples = []
    for number in range(5):
        clips.write_clip(tmp_path / f"{number}.wav", seconds=0.6, tone_hz=100 * (number + 1))
        samples.append(Sample(str(number), audio_path=f"{number}.wav", text="so"))
    write_manifest(tmp_path / "m.csv", samples)
    params = with_dataset(root=tmp_path)
    params = params.model_copy(update={"compute": params.compute.model_copy(update={"workers": 1})})
    found = dict(sample_dataset("demo", read_manifest(tmp_path / "m.csv"), 3, params, tmp_path / "data"))
    assert isinstance(
        found["text"], AssetError
    )  # nothing is fetched here; the other modalities are looked at
    assert isinstance(found["video"], AssetError)
    audio = found["audio"]
    assert isinstance(audio, ModalityLook)
    assert audio.ids == ["0", "2", "4"]
    assert [one.status for one in audio.features] == [Status.OK] * 3
    assert [round(one.median_hz / 100) for one in audio.pitch] == [3]  # of 100, 300 and 500 Hz
    assert len(audio.columns) == 130
    assert (tmp_path / "data/cache/audio/opensmile").is_dir()


def test_lines() -> None:
    good, bad = rows([[1, 0], [1, 3]], [1, 0]), FeatureSequence.absent(2, Status.FAILED, "cut short")
    assert clip_line(good, ("F0", "y")) == "2 rows, 50% observed, to 0.19 s, F0 1 Hz in 100%"
    assert clip_line(bad, ("x", "y")) == "failed: cut short"
    lines = dict(statistics_lines(*statistics([rows([[0, 4], [0, 2], [0, 0]]), bad], ("F0", "y"))))
    assert lines == {
        "columns": "2, over 3 observed rows",
        "constant": "1: F0 (0)",
        "barely moving": "none",
        "mostly zero": "none",
        "range": "0 (y) to 4 (y)",
        "F0": "0% voiced, median 0 Hz, 0 to 0 Hz; DOUBTFUL: no row is voiced",
    }
    assert dict(statistics_lines(*statistics([bad], ("x", "y")))) == {"columns": "2, and no observed row"}
