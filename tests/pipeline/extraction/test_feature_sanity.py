"""Do features mean what their names say? Synthetic signals of which the answer is known.

Voices are pulse trains through three formants, clicks a millisecond long, faces are drawn: MediaPipe finds the drawn
face below as it finds a photograph, and where its eyes and mouth are is known to the pixel.
"""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from pipeline.data.column_statistics import pitch_columns, pitch_hz
from pipeline.extraction.extractors import base
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.extractors.video.facelandmarker import Extractor, FacelandmarkerSettings

RATE_HZ = 16_000
VOICES_HZ = (110, 220, 350)
SETS = get_args(base.find("audio", "opensmile").Settings.model_fields["feature_set"].annotation)
# IS09's voicing misses the low one: its F0 is 0 in every row.
UNVOICED = {("IS09_emotion", "F0_sma", 110)}
# By how many milliseconds, as the extractor's cautions say, a click's rows stand late: openSMILE puts a row of these
# sets at the middle of F0's window, which is longer than the window that the column is computed in.
LATE_MS = {"ComParE_2016": 20, "IS13_ComParE": 20, "IS11_speaker_state": 30, "IS12_speaker_trait": 30}


def write_sound(path: Path, samples: NDArray[np.float64]) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def voice(pitch_hz: float, seconds: float = 0.9) -> NDArray[np.float64]:
    """Return a pulse train with half a percent of jitter, through a throat of three formants."""
    generator = np.random.default_rng(0)
    samples = np.zeros(round(seconds * RATE_HZ))
    time_s = 0.0
    while time_s < seconds - 1 / pitch_hz:
        place, part = divmod(time_s * RATE_HZ, 1)
        samples[int(place)] += 1 - part
        samples[int(place) + 1] += part
        time_s += (1 + 0.005 * generator.standard_normal()) / pitch_hz
    samples = lfilter([1], [1, -0.95], samples)
    for formant_hz, width_hz in ((700, 100), (1220, 120), (2600, 160)):
        radius = np.exp(-np.pi * width_hz / RATE_HZ)
        turn = 2 * np.pi * formant_hz / RATE_HZ
        samples = lfilter([1], [1, -2 * radius * np.cos(turn), radius**2], samples)
    return samples / np.abs(samples).max() / 2 + 1e-3 * generator.standard_normal(len(samples))


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("voices")
    return {pitch: write_sound(folder / f"{pitch}.wav", voice(pitch)) for pitch in VOICES_HZ}


def made(which: str) -> base.BaseExtractor[Any]:
    """Return covarep, or opensmile with this set."""
    settings = {"feature_set": which, "level": "lld"} if which in SETS else {}
    owner = base.find("audio", "opensmile" if settings else which)
    return owner(owner.Settings(**settings), Path("no assets"))


@pytest.mark.parametrize("which", [*SETS, "covarep"])
def test_pitch(voices: dict[int, Path], which: str) -> None:
    extractor = made(which)
    names = pitch_columns(extractor.columns)
    assert names
    for pitch, path in voices.items():
        found = extractor.extract(Clip("a", audio=path))
        for name in names:
            hertz = pitch_hz(found, extractor.columns, name)[10:-15]  # where the windows are full
            voiced = hertz[hertz > 0]
            if (which, name, pitch) in UNVOICED:
                assert not len(voiced)
                continue
            assert len(voiced) > 0.9 * len(hertz), (name, pitch)
            away = 12 * np.abs(np.log2(np.median(voiced) / pitch))
            assert away < 0.25, (name, pitch, away)  # semitones
            octaves = 12 * np.abs(np.log2(voiced / pitch)) > 6
            assert octaves.mean() < 0.05, (name, pitch)
    extractor.close()


# COVAREP's windows are three periods of the pitch it finds: a click between two of its rows falls into neither.
@pytest.mark.parametrize(
    ("which", "click_s"),
    [*((name, click_s) for name in SETS for click_s in (0.605, 1.0)), ("covarep", 0.605)],
)
def test_when_a_click_is(tmp_path: Path, which: str, click_s: float) -> None:
    samples = 3e-4 * np.random.default_rng(0).standard_normal(round(1.4 * RATE_HZ))
    samples[round(click_s * RATE_HZ) : round((click_s + 0.001) * RATE_HZ)] += 0.8
    extractor = made(which)
    # The loudness of emobase and IS10 does not move for a click; their spectrum does.
    loud = ("pcm_RMSenergy_sma", "Loudness_sma3", "MCEP_0", "mfcc_sma[1]")
    name = next(one for one in loud if one in extractor.columns)
    found = extractor.extract(Clip("a", audio=write_sound(tmp_path / "a.wav", samples)))
    values = found.values[:, extractor.columns.index(name)].astype(np.float64)
    above = np.clip(values - np.median(values), 0, None)
    above[above < above.max() / 2] = 0
    centre_s = float((above * found.times).sum() / above.sum())
    assert 1000 * (centre_s - click_s) == pytest.approx(LATE_MS.get(which, 0), abs=6)
    settings = extractor.settings.model_dump(mode="json")
    said = [says for _, says in base.cautions_for("audio", "opensmile", settings, [name])]
    late = [says for says in said if "late" in says]
    assert [f"{LATE_MS[which]} ms late" in says for says in late] == [True] * (which in LATE_MS)
    extractor.close()


# --- faces ----------------------------------------------------------------------------

WIDTH, HEIGHT = 640, 480
SKIN, SHADE, HAIR = (224, 172, 140), (206, 152, 122), (60, 40, 30)
# Points of MediaPipe's mesh -> where they are drawn, from the middle of a face that is 190 wide and 250 high.
DRAWN = {
    468: (-40, -20), 473: (40, -20), 33: (-60, -20), 263: (60, -20),  # irises, outer corners of the eyes
    61: (-34, 68), 291: (34, 68), 0: (0, 58), 17: (0, 81),  # corners of the mouth, its top and bottom
    1: (0, 30), 152: (0, 125),  # tip of the nose, chin
}  # fmt: skip


def draw_face(x: float, y: float, scale: float = 1.0, turn: float = 0.0) -> NDArray[np.uint8]:
    """Return a picture (480, 640, 3) of a face.

    Args:
        x, y: where its middle is, in pixels.
        scale: 1 is a face of 190 x 250 pixels.
        turn: eyes, nose and mouth are moved by so many pixels, as if it looked to the side.
    """
    fine = 4  # pixels to a pixel, before it is made smaller
    picture = np.full((HEIGHT * fine, WIDTH * fine, 3), (120, 140, 160), np.uint8)

    def at(across: float, down: float) -> tuple[int, int]:
        return round((x + scale * across) * fine), round((y + scale * down) * fine)

    def oval(
        across: float, down: float, half: tuple[float, float], colour: Any, *arc: float, thick: float = 0
    ) -> None:
        axes = (round(half[0] * scale * fine), round(half[1] * scale * fine))
        width = round(thick * scale * fine) if thick else -1
        cv2.ellipse(picture, at(across, down), axes, 0, *(arc or (0, 360)), colour, width)

    oval(0, -25, (112, 135), HAIR)
    cv2.rectangle(picture, at(-45, 90), at(45, 200), (200, 150, 120), -1)
    oval(0, 240, (170, 90), (60, 70, 120))
    oval(0, 0, (95, 125), SKIN)
    for side in (-1, 1):
        oval(97 * side, 0, (12, 28), (210, 155, 125))
        eye = 40 * side + turn
        oval(eye, -22, (30, 18), SHADE)
        oval(eye, -20, (20, 9), (250, 250, 250))
        oval(eye, -20, (9, 9), (80, 60, 40))
        oval(eye, -20, (4, 4), (10, 10, 10))
        oval(eye, -20, (20, 9), (70, 45, 35), 180, 360, thick=2)
        oval(eye, -44, (26, 8), HAIR, 195, 345, thick=6)
        oval(55 * side + turn, 35, (22, 18), (232, 165, 140))
    oval(1.5 * turn, 10, (9, 32), (232, 182, 152))
    oval(1.5 * turn, 32, (18, 11), (222, 160, 130))
    for side in (-1, 1):
        oval(8 * side + 1.5 * turn, 37, (5, 3), (120, 70, 60))
    oval(turn, 68, (34, 10), (190, 80, 85), 180, 360)
    oval(turn, 68, (34, 13), (200, 95, 95), 0, 180)
    cv2.line(picture, at(turn - 34, 68), at(turn + 34, 68), (110, 40, 45), round(2 * scale * fine))
    oval(turn, 92, (18, 5), (205, 150, 120), 0, 180, thick=2)
    small = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 1.2), np.uint8)


@pytest.fixture(scope="module")
def faces(assets: Callable[[str], Path]) -> Iterator[Extractor]:
    extractor = Extractor(FacelandmarkerSettings(), assets("facelandmarker"))
    yield extractor
    extractor.close()


@pytest.mark.parametrize(("x", "y", "scale"), [(320, 240, 1.0), (200, 200, 0.8), (400, 260, 1.2)])
def test_landmarks_are_where_a_face_is_drawn(faces: Extractor, x: float, y: float, scale: float) -> None:
    (points,) = faces.find_faces(draw_face(x, y, scale))
    for index, place in DRAWN.items():
        expected = np.array([x, y]) + scale * np.array(place)
        away = float(np.hypot(*(points[index] - expected)))
        assert away < 0.03 * 250 * scale, (index, away)  # three percent of the face's height
    box = np.array([points.min(0), points.max(0)])
    assert np.abs(box[:, 0] - (x - 95 * scale, x + 95 * scale)).max() < 0.03 * 250 * scale  # temple to temple


def test_a_mirrored_picture_turns_x_yaw_and_roll_around(faces: Extractor) -> None:
    centre = (420.0, 200.0)
    tilt = cv2.getRotationMatrix2D(centre, -15, 1.0)
    face = cv2.warpAffine(
        draw_face(*centre, 0.9, turn=14), tilt, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE
    )
    here, there = (
        dict(zip(faces.columns, row.tolist(), strict=True))
        for picture in (face, face[:, ::-1])
        if (row := faces._look(np.ascontiguousarray(picture))) is not None
    )
    assert here["pose_x_cm"] > 3  # to the picture's right
    assert np.degrees(here["pose_roll"]) == pytest.approx(-15, abs=4)  # clockwise is negative
    assert abs(np.degrees(here["pose_yaw"])) > 5
    for name, tolerance in (("pose_x_cm", 0.5), ("pose_yaw", 0.06), ("pose_roll", 0.06)):
        assert there[name] == pytest.approx(-here[name], abs=tolerance), name
    for name, tolerance in (("pose_y_cm", 0.5), ("pose_z_cm", 1.0), ("pose_pitch", 0.06)):
        assert there[name] == pytest.approx(here[name], abs=tolerance), name
    # The chin, the nose's tip and the mouth's corners, left and right exchanged.
    for one, other in ((8, 8), (30, 30), (48, 54), (54, 48)):
        assert there[f"landmark_{one:02d}_x"] == pytest.approx(-here[f"landmark_{other:02d}_x"], abs=0.1)
        assert there[f"landmark_{one:02d}_y"] == pytest.approx(here[f"landmark_{other:02d}_y"], abs=0.1)
