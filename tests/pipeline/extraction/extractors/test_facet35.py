"""The Facet-like columns, by hand and against facelandmarker on a real face."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.extractors.video import facelandmarker, facet35

COLUMN = {name: index for index, name in enumerate(facet35.COLUMNS)}


def test_columns_are_those_of_mosei() -> None:
    assert len(facet35.COLUMNS) == 35 == len(set(facet35.COLUMNS))
    assert facet35.COLUMNS[:10] == (
        *("Anger", "Contempt", "Disgust", "Joy", "Fear", "Baseline"),
        *("Sadness", "Surprise", "Confusion", "Frustration"),
    )
    assert facet35.COLUMNS[10:12] == ("AU1", "AU2")
    assert facet35.COLUMNS[29:] == ("AU43", "Has_Glasses", "Is_Male", "Pitch", "Yaw", "Roll")


def test_every_stand_in_is_a_blendshape_and_is_in_the_table() -> None:
    for unit, shapes in facet35.ACTION_UNITS.items():
        assert set(shapes) <= set(facelandmarker.BLENDSHAPES)
        assert f"\n{unit:<11}" in str(facet35.__doc__)
        stem = shapes[0].removesuffix("Left")
        line = next(line for line in str(facet35.__doc__).splitlines() if line.startswith(f"{unit} "))
        assert stem in line
    np.testing.assert_allclose(facet35._units().sum(axis=0), 1)
    np.testing.assert_allclose(facet35._prototypes().sum(axis=0), 1)


def test_a_hand_worked_smile() -> None:
    values = np.zeros((2, 58), np.float32)
    for name, score in (("mouthSmileLeft", 0.8), ("mouthSmileRight", 0.6), ("cheekSquintLeft", 0.2)):
        values[0, facelandmarker.BLENDSHAPES.index(name)] = score
    values[0, 55:58] = np.radians([10, -20, 30])
    rows = facet35.derive(values, np.array([1, 0], np.uint8))
    expected = {"AU12": 0.7, "AU6": 0.1, "Joy": 0.4, "Baseline": 0.6, "Pitch": 10, "Yaw": -20, "Roll": 30}
    for name, index in COLUMN.items():
        assert rows[0, index] == pytest.approx(expected.get(name, 0.0), abs=1e-5), name
    assert not rows[1].any()
    assert rows.dtype == np.float32


def test_facelandmarkers_first_columns_are_those_that_facet35_reads(tmp_path: Path) -> None:
    """So that its rows can be compared with facelandmarker's, as below."""
    names = facelandmarker.Extractor(facelandmarker.FacelandmarkerSettings(), tmp_path).columns
    blendshapes = tuple(f"blendshape_{name}" for name in facelandmarker.BLENDSHAPES)
    angles = ("pose_pitch", "pose_yaw", "pose_roll")
    assert names[:58] == (*blendshapes, "pose_x_cm", "pose_y_cm", "pose_z_cm", *angles)
    assert names[facet35._ANGLES] == angles


def test_a_real_face_smiles_when_happy(assets: Callable[[str], Path]) -> None:
    folder = assets("facelandmarker")
    values = {}
    for emotion in ("HAP", "SAD"):
        clip = Clip(emotion, video=assets("cremad") / f"1001_DFA_{emotion}_XX.flv")
        extractor = facet35.Extractor(facet35.Facet35Settings(frame_rate_hz=4), folder)
        landmarks = facelandmarker.Extractor(facelandmarker.FacelandmarkerSettings(frame_rate_hz=4), folder)
        try:
            found, behind = extractor.extract(clip), landmarks.extract(clip)
        finally:
            extractor.close()
            landmarks.close()
        found.check(35, emotion)
        np.testing.assert_array_equal(found.times, behind.times)
        np.testing.assert_array_equal(found.values, facet35.derive(behind.values, behind.flags))
        values[emotion] = found.values[found.flags == 1].mean(axis=0)
    assert values["HAP"][COLUMN["AU12"]] > values["SAD"][COLUMN["AU12"]] + 0.2
    assert values["HAP"][COLUMN["Joy"]] > values["SAD"][COLUMN["Joy"]]


def test_no_face_is_missing(assets: Callable[[str], Path], tmp_path: Path) -> None:
    import av

    path = tmp_path / "grey.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 64
        for _ in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    extractor = facet35.Extractor(facet35.Facet35Settings(), assets("facelandmarker"))
    try:
        sequence = extractor.extract(Clip("grey", video=path))
    finally:
        extractor.close()
    assert sequence.values.shape == (0, 35)
    assert "no face" in sequence.reason
