"""Faces: straight MediaPipe calls, what the columns mean, and frames without a face."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import AssetError
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.extractors.video import _face_landmarks, facelandmarker, fer
from pipeline.extraction.extractors.video.facelandmarker import (
    BLENDSHAPES,
    IBUG_68,
    Extractor,
    FacelandmarkerSettings,
)
from pipeline.extraction.media import read_frames
from tests import clips

LANDMARKS = slice(62, 198)


@pytest.fixture(scope="module")
def extractor(assets: Callable[[str], Path]) -> Iterator[Extractor]:
    made = Extractor(FacelandmarkerSettings(), assets("facelandmarker"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def happy(assets: Callable[[str], Path]) -> Path:
    return assets("cremad") / "1001_DFA_HAP_XX.flv"


@pytest.fixture(scope="module")
def face(happy: Path) -> NDArray[np.uint8]:
    return list(read_frames(Clip("a", video=happy), 8))[7][1]


def look(extractor: Extractor, picture: NDArray[np.uint8]) -> dict[str, float]:
    row = extractor._look(np.ascontiguousarray(picture))
    assert row is not None
    return dict(zip(extractor.columns, row.tolist(), strict=True))


def landmarks(row: dict[str, float]) -> NDArray[np.float64]:
    return np.array(list(row.values())[LANDMARKS]).reshape(68, 2)


def test_values_equal_a_straight_call(
    extractor: Extractor, assets: Callable[[str], Path], face: NDArray[np.uint8]
) -> None:
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    weights = assets("facelandmarker") / _face_landmarks.WEIGHTS
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(weights)),
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
    )
    with vision.FaceLandmarker.create_from_options(options) as straight:
        result: Any = straight.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=face))
    row = look(extractor, face)
    shapes = result.face_blendshapes[0]
    assert tuple(shape.category_name for shape in shapes) == BLENDSHAPES
    assert [row[f"blendshape_{s.category_name}"] for s in shapes] == pytest.approx([s.score for s in shapes])
    matrix = result.facial_transformation_matrixes[0]
    assert [row[f"pose_{axis}_cm"] for axis in "xyz"] == pytest.approx(matrix[:3, 3].tolist())
    pitch, yaw, roll = (row[f"pose_{name}"] for name in ("pitch", "yaw", "roll"))
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    assert np.allclose(about_z @ about_y @ about_x, matrix[:3, :3], atol=1e-3)


def test_emotions_differ_as_faces_do(extractor: Extractor, assets: Callable[[str], Path]) -> None:
    means = {}
    for name in ("HAP", "NEU", "DIS"):
        result = extractor.extract(Clip(name, video=assets("cremad") / f"1001_DFA_{name}_XX.flv"))
        assert result.flags.all()
        means[name] = dict(zip(extractor.columns, result.values.mean(axis=0), strict=True))
    assert means["HAP"]["blendshape_mouthSmileLeft"] > 3 * means["NEU"]["blendshape_mouthSmileLeft"]
    assert means["DIS"]["blendshape_browDownLeft"] > 5 * means["HAP"]["blendshape_browDownLeft"]


def test_landmarks_lie_where_ibug_has_them(extractor: Extractor, face: NDArray[np.uint8]) -> None:
    points = landmarks(look(extractor, face))
    assert len(set(IBUG_68)) == 68
    x, y = points.T
    assert (np.diff(x[6:11]) > 0).all()  # the chin from the picture's left to its right
    assert y[8] == y.max()
    assert (np.diff(x[17:27]) > 0).all()  # brows
    assert (np.diff(y[27:31]) > 0).all()  # down the nose's bridge
    assert (np.diff(x[31:36]) > 0).all()  # under the nose
    assert x[36] < x[39] < x[42] < x[45]  # the eyes' corners
    assert (y[[37, 38, 43, 44]] < y[[41, 40, 47, 46]]).all()  # upper lids over lower ones
    assert x[48] == x[48:].min()
    assert x[54] == x[48:].max()
    assert y[51] < y[62] <= y[66] < y[57]  # lips from top to bottom
    mirrored = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    assert np.abs(x[:36] + x[mirrored] - 2 * x[27:31].mean()).max() < 0.25  # a face is nearly symmetric
    assert np.abs(points.mean(axis=0)).max() < 1e-5
    assert np.sqrt((points**2).sum(axis=1).mean()) == pytest.approx(1, abs=1e-5)
    assert y[36] == pytest.approx(y[45], abs=1e-5)


def test_landmarks_do_not_depend_on_where_the_face_is(extractor: Extractor, face: NDArray[np.uint8]) -> None:
    here = look(extractor, face)
    height, width = face.shape[:2]
    moved = cv2.warpAffine(face, np.array([[0.8, 0, 90], [0, 0.8, 10]], np.float32), (width, height))
    there = look(extractor, moved)
    centre = (width / 2, height / 2)
    rolled = look(extractor, cv2.warpAffine(face, cv2.getRotationMatrix2D(centre, 15, 1), (width, height)))
    assert np.abs(landmarks(here) - landmarks(there)).max() < 0.06
    assert np.abs(landmarks(here) - landmarks(rolled)).max() < 0.08
    assert there["pose_x_cm"] > here["pose_x_cm"] + 3  # moved to the right
    assert there["pose_z_cm"] < here["pose_z_cm"] - 5  # smaller is further away
    assert rolled["pose_roll"] - here["pose_roll"] == pytest.approx(np.radians(15), abs=0.06)


def test_of_two_faces_the_biggest_the_nearest_or_their_mean(
    assets: Callable[[str], Path], face: NDArray[np.uint8]
) -> None:
    large = face[:, 120:360]
    small = cv2.resize(large, (192, 288))
    small = np.pad(small, ((0, 72), (0, 0), (0, 0)), mode="edge")
    both, lone = np.hstack([large, small]), np.hstack([np.full_like(large, face[0, 0]), small])
    rows = {}
    for choice in ("biggest", "nearest", "all"):
        made = Extractor(FacelandmarkerSettings(face=choice), assets("facelandmarker"))  # type: ignore[arg-type]
        rows[choice] = [look(made, picture) for picture in (lone, both)]
        made._chooser.start()
        rows[choice].append(look(made, both))
        made.close()
    column = "pose_x_cm"  # the head's place: left or right of the middle
    assert rows["biggest"][0][column] > 0 > rows["biggest"][1][column]
    assert rows["nearest"][1][column] > 0 > rows["nearest"][2][column]  # it stays, until another clip begins
    expected = (rows["biggest"][1][column] + rows["nearest"][1][column]) / 2
    assert rows["all"][1][column] == pytest.approx(expected, abs=1e-4)


def test_gaze_is_measured_in_eye_widths() -> None:
    eyes = np.array([[10, 20], [30, 20], [25, 18], [50, 20], [70, 20], [60, 20]], float)
    assert facelandmarker._gaze(eyes).tolist() == pytest.approx([0.25, -0.1, 0.0, 0.0])
    angle = np.radians(30)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    assert facelandmarker._gaze(3 * eyes @ turn + 7).tolist() == pytest.approx([0.25, -0.1, 0.0, 0.0])


def test_frames_without_a_face_are_zeros(
    extractor: Extractor, face: NDArray[np.uint8], tmp_path: Path
) -> None:
    empty = np.full_like(face, 100)
    pictures = np.stack([empty, face, face, empty, face, empty, empty, face])
    path = clips.write_clip(tmp_path / "a.mp4", seconds=1, rate=8, pixels=pictures, sound=False)
    result = extractor.extract(Clip("a", video=path))
    assert result.flags.tolist() == [0, 1, 1, 0, 1, 0, 0, 1]
    assert not result.values[result.flags == 0].any()
    assert result.values[result.flags == 1].any(axis=1).all()
    assert result.times.tolist() == pytest.approx([(index + 0.5) / 8 for index in range(8)])


def test_rows_before_the_first_picture_are_not_observed(
    extractor: Extractor, assets: Callable[[str], Path], face: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = clips.write_clip(tmp_path / "a.mp4", seconds=1.5, rate=8, pixels=face, picture_from_s=0.5)
    networks = extractor, fer.Extractor(fer.FerSettings(), assets("fer"))
    for one in networks:
        result = one.extract(Clip("a", video=path, audio=path))
        assert result.flags.tolist() == [0] * 4 + [1] * 8
        assert not result.values[:4].any()
        assert result.times.tolist() == pytest.approx([(index + 0.5) / 8 for index in range(12)])
    networks[1].close()


def test_the_rate_is_a_setting(assets: Callable[[str], Path], happy: Path) -> None:
    for rate, count in ((4.0, 8), (None, 56)):
        made = Extractor(FacelandmarkerSettings(frame_rate_hz=rate), assets("facelandmarker"))
        assert len(made.extract(Clip("a", video=happy)).times) == count
        assert made.frame_period_s == (None if rate is None else 1 / rate)
        made.close()


def test_notes_are_kept_from_the_screen_but_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    with _face_landmarks._quiet():
        os.write(2, b"W0000 00:00:1.2 7 graph.cc:1] a note\n")
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n")
        os.write(2, b"E0000 00:00:1.2 7 graph.cc:1] something is wrong\n")
    assert capfd.readouterr().err == "E0000 00:00:1.2 7 graph.cc:1] something is wrong\n"
    with pytest.raises(RuntimeError), _face_landmarks._quiet():
        os.write(2, b"W0000 the cause\n")
        raise RuntimeError
    assert "the cause" in capfd.readouterr().err


def test_other_weights_are_refused(
    assets: Callable[[str], Path], face: NDArray[np.uint8], tmp_path: Path
) -> None:
    for file in assets("facelandmarker").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with (tmp_path / _face_landmarks.WEIGHTS).open("r+b") as file:
        file.seek(100_000)
        file.write(b"\x01\x02\x03\x04")
    with pytest.raises(AssetError, match="refused: its sha256"):
        Extractor(FacelandmarkerSettings(), tmp_path)._look(face)
