"""Two clips whose results may differ have two keys, and a part of a whole video's file is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from pipeline.errors import MediaError, StoreError, StreamMissing
from pipeline.extraction.extractors import base
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.extractors.video import openface
from pipeline.extraction.extractors.video.openface import OpenfaceSettings
from pipeline.extraction.kept_clips import keys_of, made_with, versions_of
from tests.pipeline.extraction.extractors.test_openface import write_csv
from tests.pipeline.extraction.test_foreign import VALUES, importer, npz
from tests.replicas.mosei import write_csd


def test_two_ids_on_one_clip_have_their_own_csv_files(tmp_path: Path) -> None:
    (tmp_path / "csv").mkdir()
    tables = {
        name: write_csv(tmp_path / f"csv/{name}.csv", rows=rows) for name, rows in (("a", 30), ("b", 60))
    }
    video = tmp_path / "talk.mp4"
    video.write_bytes(b"one file")
    extractor = openface.Extractor(
        OpenfaceSettings(csv_folder=tmp_path / "csv", frame_rate_hz=None), tmp_path
    )
    clips = [Clip(name, video=video) for name in tables]
    assert [len(extractor.extract(clip).values) for clip in clips] == [30, 60]
    keys = keys_of(clips, extractor, made_with(extractor, "openface"))
    assert keys[0] != keys[1]


def test_the_programs_models_are_part_of_a_key(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    executable = folder / "FeatureExtraction"
    executable.write_text("#!/bin/sh\n")
    executable.chmod(0o755)
    extractor = openface.Extractor(OpenfaceSettings(executable=executable), tmp_path)
    assert not extractor.by_id
    before = made_with(extractor, "openface")
    (folder / "AU_predictors").mkdir()
    (folder / "AU_predictors/AU_1.dat").write_bytes(b"weights")
    assert made_with(extractor, "openface") != before
    video = tmp_path / "talk.mp4"
    video.write_bytes(b"one file")
    keys = keys_of([Clip(name, video=video) for name in "ab"], extractor, before)
    assert keys[0] == keys[1]  # the program sees the file alone


@pytest.mark.parametrize(
    "change",
    [
        {"id": "other"},
        {"picture": "left"},
        {"start_s": 0.5},
        {"end_s": 2.5},
        {"audio_start_s": 0.5},
        {"video": Path("another.mp4")},
        {"text": "else"},
    ],
)
def test_all_that_an_imported_result_hangs_on_is_in_its_key(
    tmp_path: Path, change: dict[str, object]
) -> None:
    extractor = importer(npz(tmp_path / "f.npz"), "video")
    clip = Clip("a", video=tmp_path / "a.mp4", start_s=0.0, end_s=2.0)
    other = replace(clip, **change)  # type: ignore[arg-type]
    keys = keys_of([clip, other, clip], extractor, made_with(extractor, "import"))
    assert keys[0] == keys[2] != keys[1]


def test_the_libraries_that_read_imported_files_are_in_the_key() -> None:
    assert set(versions_of(base.find("text", "import"))) == {"h5py", "numpy", "pandas", "scipy"}


# --- a part of a whole video's file -------------------------------------------------------------------------


def part(start_s: float, end_s: float, folder: Path) -> Clip:
    return Clip("one", video=folder / "talk.mp4", start_s=start_s, end_s=end_s)


def test_a_part_of_a_csd_that_ends_early(tmp_path: Path) -> None:
    times = np.array([[0.0, 0.5], [0.5, 1.0], [1.0, 1.5], [1.5, 2.0]])
    path = write_csd(tmp_path / "f.csd", "COVAREP", {"talk": (times, VALUES)})
    made = importer(path)
    assert len(made.extract(part(0.5, 2.1, tmp_path)).values) == 3
    with pytest.raises(MediaError, match=r"rows end at 2\.250 s, so that 0\.65 s of 98\.40 s are there"):
        made.extract(part(1.6, 100.0, tmp_path))
    with pytest.raises(StreamMissing, match='"one" has no rows'):  # the corpus has nothing of it
        made.extract(part(1.8, 100.0, tmp_path))
    words = importer(path, "text")  # the last word may end before its segment does
    assert len(words.extract(part(1.0, 100.0, tmp_path)).values) == 2


def test_a_part_of_a_covarep_file_that_ends_early(tmp_path: Path) -> None:
    (tmp_path / "mats").mkdir()
    savemat(tmp_path / "mats/talk.mat", {"features": np.ones((190, 3))})
    made = importer(tmp_path / "mats")
    assert len(made.extract(part(1.0, 1.9, tmp_path)).values) == 90
    with pytest.raises(MediaError, match=r"of 98\.20 s are there"):
        made.extract(part(1.8, 100.0, tmp_path))


@pytest.mark.parametrize("rate", [8.0, None])
def test_a_part_of_an_openface_csv_that_ends_early(tmp_path: Path, rate: float | None) -> None:
    write_csv(tmp_path / "talk.csv", rows=57)  # 1.9 s
    extractor = openface.Extractor(OpenfaceSettings(csv_folder=tmp_path, frame_rate_hz=rate), tmp_path)
    assert len(extractor.extract(part(0.9, 2.0, tmp_path)).values) == (8 if rate else 30)
    with pytest.raises(MediaError, match=r"rows end at 1\.900 s, so that 0\.10 s of 98\.20 s are there"):
        extractor.extract(part(1.8, 100.0, tmp_path))
    imported = importer(tmp_path, "video", format="openface")
    with pytest.raises(MediaError, match=r"of 98\.20 s are there"):
        imported.extract(part(1.8, 100.0, tmp_path))


def test_covareps_columns_are_the_same_in_all_files(tmp_path: Path) -> None:
    names = ["F0", "VUV", "NAQ"]
    for name, columns in (("a", names), ("b", ["VUV", "F0", "NAQ"])):
        savemat(tmp_path / f"{name}.mat", {"features": VALUES, "names": np.array(columns, dtype=object)})
    made = importer(tmp_path)
    assert made.columns == tuple(names)
    assert len(made.extract(Clip("a")).values) == 4
    with pytest.raises(MediaError, match=r'b\.mat, names .*column 0 is "VUV", in a\.mat "F0"'):
        made.extract(Clip("b"))
    savemat(tmp_path / "a.mat", {"features": VALUES, "names": np.array(["F0", "F0", "NAQ"], dtype=object)})
    with pytest.raises(StoreError, match=r"a\.mat, names: F0 stand there more than once"):
        _ = importer(tmp_path).columns


@pytest.mark.parametrize("name", ["denseface", "facelandmarker", "facet35", "fer", "openface"])
def test_native_is_another_word_for_null(name: str) -> None:
    owner = base.find("video", name)
    native, null, slow = (owner.Settings(frame_rate_hz=rate) for rate in ("native", None, 8))
    assert native == null != slow
    assert native.model_dump(mode="json") == null.model_dump(mode="json")  # what a key and a store hold
    assert native.model_dump(mode="json")["frame_rate_hz"] is None
    assert owner(native, Path("no assets")).frame_period_s is None
    assert owner(slow, Path("no assets")).frame_period_s == 0.125
    for wrong in ("Native", "file", 0, 241):
        with pytest.raises(ValueError, match="frame_rate_hz"):
            owner.Settings(frame_rate_hz=wrong)
