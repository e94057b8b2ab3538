"""Features of files without a dataset: which files, which settings, and the very numbers of the pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas
import pytest

from pipeline.data.manifest import Sample, write_manifest
from pipeline.data.store import FeatureStore
from pipeline.errors import DataError, ParamsError
from pipeline.extracting import extract_to, find_media, modality_of, name_clips, settings_of
from pipeline.extraction.dataset import extract
from pipeline.extraction.extractors import base
from pipeline.extraction.extractors.base import Clip
from tests import clips


def test_files_and_folders(tmp_path: Path) -> None:
    for name in ("b.WAV", "a.mp4", "deep/c.flac", "notes.txt", ".d.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_media([tmp_path / "b.WAV", tmp_path])
    assert [path.name for path in found] == ["b.WAV", "a.mp4", "c.flac"]
    assert find_media([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]  # what is named is tried
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no file that ends in"):
        find_media([tmp_path / "empty"])
    with pytest.raises(DataError, match="there is no such file or folder"):
        find_media([tmp_path / "gone.mp4"])


def test_ids_are_names_or_whole_paths_where_names_are_equal() -> None:
    paths = [Path("x/a.mp4"), Path("y/a.mp4"), Path("y/b.mp4")]
    assert name_clips(paths) == ["x/a.mp4", "y/a.mp4", "b"]


def test_extractors_by_name() -> None:
    assert [modality_of(name) for name in ("bert", "opensmile", "facet35")] == ["text", "audio", "video"]
    with pytest.raises(ParamsError, match='Did you mean "opensmile"'):
        modality_of("opensmle")
    with pytest.raises(ParamsError, match="reads features that are there already"):
        modality_of("import")


def test_settings_are_params_yaml_s_and_over_them_those_of_the_call(tmp_path: Path) -> None:
    nowhere = tmp_path / "params.yaml"
    made = settings_of(["opensmile", "librosa"], ["sample_rate_hz=8000", "librosa.mfcc=13"], nowhere)
    assert made["opensmile"].model_dump()["sample_rate_hz"] == 8000
    assert made["librosa"].model_dump() == {"sample_rate_hz": 8000, "hop_samples": 512, "mfcc": 13}
    with pytest.raises(ParamsError, match=r'no extractor has this setting.*Did you mean "mfcc"'):
        settings_of(["librosa"], ["mfc=3"], nowhere)
    with pytest.raises(ParamsError, match='"bert" is not among the extractors: librosa'):
        settings_of(["librosa"], ["bert.max_length=3"], nowhere)
    with pytest.raises(ParamsError, match=r"librosa\.mfcc: found 0"):
        settings_of(["librosa"], ["mfcc=0"], nowhere)
    with pytest.raises(ParamsError, match="the set eGeMAPSv02 has no deltas"):
        settings_of(["opensmile"], ["feature_set=eGeMAPSv02"], nowhere)
    with pytest.raises(ParamsError, match="expected key=value"):
        settings_of(["librosa"], ["mfcc"], nowhere)


def test_the_numbers_are_the_pipeline_s(tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    clips.write_clip(media / "a.mp4", seconds=1.5, tone_hz=220)
    clips.write_clip(media / "b.wav", seconds=1.0)
    samples = [
        Sample(id="a", audio_path="a.mp4", video_path="a.mp4", start_s=0.25, end_s=0.9),
        Sample(id="b", audio_path="b.wav", audio_start_s=0.25, audio_end_s=0.9),
    ]
    write_manifest(tmp_path / "demo.csv", samples)
    settings = base.find("audio", "opensmile").Settings(feature_set="eGeMAPSv02", level="lld")
    extract(
        dataset="demo",
        modality="audio",
        manifest=tmp_path / "demo.csv",
        root=media,
        extractor="opensmile",
        settings=settings,
        assets=tmp_path,
        store=tmp_path / "demo.h5",
        cache=tmp_path / "cache",
        workers=1,
        progress=False,
    )
    (tmp_path / "data").mkdir()  # so that results are kept, and the second call finds them
    files = find_media([media])
    parts = [Clip(name, file, file, 0.25, 0.9) for name, file in zip(name_clips(files), files, strict=True)]
    for name in ("one.h5", "two.csv"):
        out = tmp_path / name
        outcomes = list(extract_to(parts, {"opensmile": settings}, out, data=tmp_path / "data", workers=1))
        assert [(one.path, dict(one.missing), dict(one.failed)) for one in outcomes] == [(out, {}, {})]
    with FeatureStore(tmp_path / "demo.h5") as ours, FeatureStore(tmp_path / "one.h5") as found:
        assert found.ids == ours.ids
        assert found.info.columns == ours.info.columns
        assert found.values_sha256 == ours.values_sha256  # values, times, flags, statuses
        table = pandas.read_csv(tmp_path / "two.csv")
        values = ours.read_all()[0]
        assert table.iloc[:, 3:].to_numpy(np.float32).tobytes() == values.tobytes()
        assert table["time_s"].to_numpy(np.float32)[0] == ours.read(0).times[0]
    kept = list((tmp_path / "data/cache/audio/opensmile").iterdir())
    assert len({path.stem for path in kept}) == 1  # one worker wrote: the second call computed nothing
