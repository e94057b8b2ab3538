"""OpenFace by a program that answers as it does, and by csv files of its real column layout."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from pipeline.data.store import Status
from pipeline.errors import AssetError, MediaError, StreamMissing
from pipeline.extraction.engines import Job, Work, extract_all, keep_all
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.extractors.video import openface
from pipeline.extraction.extractors.video.openface import COLUMNS, OpenfaceSettings
from pipeline.extraction.importers import openface as reading
from pipeline.extraction.kept_clips import KeptResults, ResultWriter
from pipeline.extraction.media import read_frames
from tests.clips import write_clip
from tests.openface_program import write_program


def build(assets: Path, **settings: object) -> openface.Extractor:
    return openface.Extractor(OpenfaceSettings.model_validate(settings), assets)


def noise(pictures: int = 24) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (pictures, 48, 64, 3), dtype=np.uint8)


def write_csv(path: Path, rows: int = 60, rate: float = 30.0, separator: str = ", ") -> pd.DataFrame:
    """Write a csv as OpenFace 2.0 does, its names led by a space; rows 10 to 14 have no face."""
    generator = np.random.default_rng(1)
    table = pd.DataFrame(
        generator.normal(scale=100, size=(rows, len(COLUMNS))).round(3), columns=list(COLUMNS)
    )
    success = np.ones(rows, int)
    success[10:15] = 0
    for place, (name, column) in enumerate(
        {
            "frame": np.arange(1, rows + 1),
            "face_id": np.zeros(rows, int),
            "timestamp": (np.arange(rows) / rate).round(3),
            "confidence": np.where(success, 0.975, 0.0),
            "success": success,
        }.items()
    ):
        table.insert(place, name, column)
    lines = [separator.join(table.columns)]
    lines += [separator.join(map(str, row)) for row in table.astype(object).itertuples(index=False)]
    path.write_text("\n".join(lines) + "\n")
    return table


def test_the_columns_are_openfaces_709() -> None:
    assert len(set(COLUMNS)) == len(COLUMNS) == 709
    groups = {
        "gaze_": 8,
        "eye_lmk_": 280,
        "pose_": 6,
        "p_": 40,
        "AU": 35,
    }
    for start, count in groups.items():
        assert sum(name.startswith(start) for name in COLUMNS) == count, start
    assert COLUMNS[8:10] == ("eye_lmk_x_0", "eye_lmk_x_1")
    assert COLUMNS[288:295] == ("pose_Tx", "pose_Ty", "pose_Tz", "pose_Rx", "pose_Ry", "pose_Rz", "x_0")
    assert COLUMNS[-20:-17] == ("AU26_r", "AU45_r", "AU01_c")
    assert COLUMNS[-2:] == ("AU28_c", "AU45_c")


@pytest.mark.parametrize("separator", [", ", ","])
def test_a_csv_equals_pandas_reading(tmp_path: Path, separator: str) -> None:
    table = write_csv(tmp_path / "a.csv", separator=separator)
    video = write_clip(tmp_path / "a.mp4")
    sequence = build(tmp_path, csv_folder=tmp_path, frame_rate_hz=None).extract(Clip("a", video=video))
    sequence.check(709, "test")
    read = pd.read_csv(tmp_path / "a.csv", skipinitialspace=True)
    expected = read[list(COLUMNS)].to_numpy(np.float32)
    expected[table["success"] == 0] = 0
    np.testing.assert_array_equal(sequence.values, expected)
    np.testing.assert_array_equal(sequence.flags, table["success"])
    np.testing.assert_allclose(sequence.times, table["timestamp"], atol=1e-6)


def test_a_part_of_a_whole_files_csv_at_a_set_rate(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "talk.csv", rows=60, rate=30.0)
    clip = Clip("one", video=tmp_path / "talk.mp4", start_s=0.5, end_s=1.5)
    sequence = build(tmp_path, csv_folder=tmp_path, frame_rate_hz=10.0).extract(clip)
    np.testing.assert_allclose(sequence.times, np.arange(10) / 10 + 0.05, atol=1e-6)
    # 0.55 s, 0.65 s, ... are within frames 16, 19, ... counted from 0
    shown = [int((0.55 + 0.1 * index) * 30) for index in range(10)]
    np.testing.assert_array_equal(sequence.values, table[list(COLUMNS)].to_numpy(np.float32)[shown])
    every = build(tmp_path, csv_folder=tmp_path, frame_rate_hz=None).extract(clip)
    assert len(every.times) == 30
    assert every.times[0] == pytest.approx(0.0, abs=1e-6)


def test_rows_before_the_first_picture_of_a_csv_are_not_observed(tmp_path: Path) -> None:
    write_csv(tmp_path / "one.csv", rows=30, rate=30.0)
    read = pd.read_csv(tmp_path / "one.csv", skipinitialspace=True)
    read["timestamp"] += 0.5
    read["success"] = read["confidence"] = 1
    read.to_csv(tmp_path / "one.csv", index=False)
    video = write_clip(tmp_path / "one.mp4")
    sequence = build(tmp_path, csv_folder=tmp_path, frame_rate_hz=8).extract(Clip("one", video=video))
    assert sequence.flags.tolist() == [0] * 4 + [1] * 8
    assert not sequence.values[:4].any()
    # Row 4 lies at 0.5625 s, 0.0625 s after the first picture: the second of those 1/30 s apart.
    np.testing.assert_array_equal(sequence.values[4], read[list(COLUMNS)].to_numpy(np.float32)[1])


def test_a_csv_of_the_sample_itself_comes_first(tmp_path: Path) -> None:
    write_csv(tmp_path / "talk.csv")
    own = write_csv(tmp_path / "one.csv", rows=20)
    clip = Clip("one", video=tmp_path / "talk.mp4", start_s=0.5, end_s=1.5, picture="left")
    sequence = build(tmp_path, csv_folder=tmp_path, frame_rate_hz=None).extract(clip)
    np.testing.assert_array_equal(sequence.values[:10], own[list(COLUMNS)].to_numpy(np.float32)[:10])
    assert len(sequence.times) == 20
    with pytest.raises(MediaError, match="left half"):
        build(tmp_path, csv_folder=tmp_path).extract(Clip("two", video=clip.video, picture="left"))


def test_a_sample_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    write_csv(tmp_path / "secret.csv")
    with pytest.raises(MediaError, match="neither"):
        build(tmp_path, csv_folder=tmp_path / "inside").extract(Clip("../secret", video=tmp_path / "x.mp4"))


def test_the_most_certain_of_several_faces(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "a.csv", rows=8)
    second = table.copy()
    second["face_id"] = 1
    second[list(COLUMNS)] += 1
    second["confidence"] = [0.99, 0.1, 0.99, 0.1, 0.99, 0.1, 0.99, 0.1]
    both = pd.concat([table, second]).sort_values(["frame", "face_id"])
    both.to_csv(tmp_path / "a.csv", index=False)
    found = openface.read_csv(tmp_path / "a.csv", "a")
    expected = np.where(np.arange(8)[:, None] % 2 == 0, second[list(COLUMNS)], table[list(COLUMNS)])
    np.testing.assert_array_equal(found.values, expected.astype(np.float32))
    assert found.frames.tolist() == list(range(1, 9))


def change_field(path: Path, line: int, column: str, text: str) -> None:
    """Put a text into one field of a csv; ``line`` counts from 1, the header's."""
    lines = path.read_text().splitlines()
    names, fields = ([part.strip() for part in one.split(",")] for one in (lines[0], lines[line - 1]))
    fields[names.index(column)] = text
    lines[line - 1] = ", ".join(fields)
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("text", ["-nan(ind)", "nan", "-1.#IND", "inf", "", "1e300"])
def test_numbers_that_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.csv"
    write_csv(path, rows=4)
    change_field(path, 3, "eye_lmk_x_27", text)
    with pytest.raises(MediaError, match=r'a\.csv, id "x", line 3, column eye_lmk_x_27: found (nan|inf)'):
        openface.read_csv(path, "x")
    clip = Clip("a", video=tmp_path / "a.mp4")
    sequence = build(tmp_path, csv_folder=tmp_path, frame_rate_hz=None, non_finite="zero").extract(clip)
    assert sequence.flags.tolist() == [1, 0, 1, 1]
    assert not sequence.values[1].any()
    change_field(path, 3, "success", "0")  # OpenFace itself says that this row is nothing
    assert openface.read_csv(path, "x").flags.tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize("non_finite", ["refuse", "zero"])
@pytest.mark.parametrize(
    ("line", "column", "text", "message"),
    [
        (4, "AU12_r", "smile", r'line 4, column AU12_r: found "smile", expected a number'),
        (5, "success", "True", r'line 5, column success: found "True", expected a number'),
        (2, "frame", "nan", r"line 2, column frame: found nan"),
        (3, "frame", "1e30", r"line 3, column frame: found 1e\+30"),
        (3, "timestamp", "-1", r"line 3, column timestamp: found -1\.0"),
    ],
)
def test_what_is_no_number_names_file_line_column_and_id(
    tmp_path: Path, line: int, column: str, text: str, message: str, non_finite: str
) -> None:
    write_csv(tmp_path / "a.csv", rows=4)
    change_field(tmp_path / "a.csv", line, column, text)
    extractor = build(tmp_path, csv_folder=tmp_path, non_finite=non_finite)
    with pytest.raises(MediaError, match=rf'a\.csv, id "a", {message}'):
        extractor.extract(Clip("a", video=tmp_path / "a.mp4"))


def test_a_csv_that_was_cut_or_is_wider_than_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_csv(path, rows=6)
    whole = path.read_bytes()
    for share in (0.2, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(MediaError, match=r'a\.csv, id "a".*(Was the file cut|are lacking)'):
            openface.read_csv(path, "a")
    path.write_bytes(whole.splitlines()[0])
    with pytest.raises(MediaError, match="no row below its header"):
        openface.read_csv(path, "a")
    lines = whole.decode().splitlines()
    path.write_text("\n".join([*lines[:3], lines[3] + ", 1", *lines[4:]]))
    with pytest.raises(MediaError, match="line 4: found 715 fields, expected 714"):
        openface.read_csv(path, "a")


def test_a_csv_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "a.csv", rows=4)
    monkeypatch.setattr(reading, "LIMIT_BYTES", 1000)
    with pytest.raises(MediaError, match=r'a\.csv: found \d+ bytes, at most 1000 are read \(id "a"\)'):
        openface.read_csv(tmp_path / "a.csv", "a")


def test_other_columns_than_openfaces(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    table = write_csv(path, rows=4)
    extractor = build(tmp_path, csv_folder=tmp_path)
    clip = Clip("a", video=tmp_path / "a.mp4")
    table.drop(columns="AU01_r").to_csv(path, index=False)
    with pytest.raises(MediaError, match=r'a\.csv, id "a": 1 of .* such as AU01_r'):
        extractor.extract(clip)
    table.assign(mood=1).to_csv(path, index=False)
    with pytest.raises(MediaError, match=r'a\.csv, id "a": found 715 columns.* mood'):
        extractor.extract(clip)
    table.rename(columns={"face_id": "gaze_0_x"}).to_csv(path, index=False)
    with pytest.raises(MediaError, match=r"found 714 columns.*not twice, gaze_0_x"):
        extractor.extract(clip)
    for content in (b"", b"\xff\xfe\x00", b'a,"b\n1,2,3\n4,5,6,7'):
        path.write_bytes(content)
        with pytest.raises(MediaError, match=r'a\.csv, id "a"'):
            extractor.extract(clip)


def test_a_part_that_the_csv_does_not_reach(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv")
    with pytest.raises(MediaError, match=r'a\.csv, id "b": has no row from 9\.0 s'):
        build(tmp_path, csv_folder=tmp_path).extract(
            Clip("b", video=tmp_path / "a.mp4", start_s=9.0, end_s=10.0)
        )


def test_the_parts_of_one_video_read_its_csv_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "a.csv")
    read: list[str] = []
    real = openface.read_csv

    def counted(
        path: Path, sample_id: str, non_finite: Literal["refuse", "zero"] = "refuse"
    ) -> openface.Table:
        read.append(sample_id)
        return real(path, sample_id, non_finite)

    monkeypatch.setattr(openface, "read_csv", counted)
    extractor = build(tmp_path, csv_folder=tmp_path)
    for number in range(3):
        start = number * 0.5
        extractor.extract(Clip(f"a_{number}", video=tmp_path / "a.mp4", start_s=start, end_s=start + 0.4))
    assert read == ["a_0"]


def test_no_face_at_all_is_missing(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "a.csv", rows=5)
    table["success"] = 0
    table.to_csv(tmp_path / "a.csv", index=False)
    sequence = build(tmp_path, csv_folder=tmp_path, frame_rate_hz=None).extract(
        Clip("a", video=tmp_path / "a.mp4")
    )
    assert sequence.status is Status.MISSING
    assert sequence.reason == "no face in any of 5 pictures"


def test_the_program_gets_the_pictures_and_its_csv_is_read(tmp_path: Path) -> None:
    pictures = noise()
    pictures[12:] = 90  # no face in the second half
    video = write_clip(tmp_path / "a.mp4", pixels=pictures, rate=24)
    program = write_program(tmp_path / "FeatureExtraction")
    extractor = build(tmp_path, executable=program, frame_rate_hz=8)
    assert extractor.files == (program.resolve(),)
    sequence = extractor.extract(Clip("a", video=video))
    sequence.check(709, "test")
    np.testing.assert_allclose(sequence.times, np.arange(8) / 8 + 1 / 16, atol=1e-6)
    assert sequence.flags.tolist() == [1] * 4 + [0] * 4
    seen = [picture.mean() for _, picture in read_frames(Clip("a", video=video), 8)]
    np.testing.assert_allclose(sequence.values[:4, 0], seen[:4], atol=1e-3)
    np.testing.assert_allclose(sequence.values[:4, 700] - sequence.values[:4, 0], 0.7, atol=1e-2)
    assert not sequence.values[4:].any()
    again = extractor.extract(Clip("a", video=video))
    assert again.values.tobytes() == sequence.values.tobytes()


def test_every_picture_and_half_pictures(tmp_path: Path) -> None:
    pictures = noise(6)
    pictures[:, :, :32] //= 4  # the left half is darker
    video = write_clip(tmp_path / "a.mp4", pixels=pictures, rate=24, seconds=0.25)
    extractor = build(tmp_path, executable=write_program(tmp_path / "fe"), frame_rate_hz=None)
    left, right = (extractor.extract(Clip(p, video=video, picture=p)).values[:, 0] for p in ("left", "right"))
    assert len(left) == len(right) == 6
    assert (left < 60).all()
    assert (right > 100).all()


def test_the_program_is_found_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AssetError, match="not on the PATH"):
        openface.find_program()
    program = write_program(tmp_path / "FeatureExtraction")
    assert openface.find_program() == program.resolve()
    program.chmod(0o644)
    with pytest.raises(AssetError, match="is no program"):
        openface.find_program(program)


def test_a_program_that_fails_says_why(tmp_path: Path) -> None:
    clip = Clip("a", video=write_clip(tmp_path / "a.mp4", seconds=0.2))
    for source, message in (
        (
            "import sys; sys.exit('could not load the model')",
            "ended with 1; it said: could not load the model",
        ),
        ("print('hello')", "wrote no csv; it said: hello"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended with -11"),
    ):
        program = write_program(tmp_path / "fe", source)
        with pytest.raises(MediaError, match=message):
            build(tmp_path, executable=program).extract(clip)


@pytest.mark.parametrize("trouble", ["model", "killed", "slow", "full"])
def test_what_the_program_fails_at_is_tried_again_once_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    clip = Clip("a", video=write_clip(tmp_path / "a.mp4", pixels=noise(6), seconds=0.25))
    mended = tmp_path / "mended"
    program = write_program(tmp_path / "FeatureExtraction")
    lines = program.read_text().splitlines()
    mischief = {
        "model": "sys.exit('Could not load the landmark detector')",
        "killed": "os.kill(os.getpid(), 9)",
        "slow": "time.sleep(60)",
        "full": "pass",
    }[trouble]
    lines.insert(2, f"import os, sys, time\nif not os.path.exists({str(mended)!r}): {mischief}")
    program.write_text("\n".join(lines))
    settings = OpenfaceSettings(executable=program, frame_rate_hz=8, timeout_s=2 if trouble == "slow" else 60)
    extractor = openface.Extractor(settings, tmp_path)
    job = Job("video", "openface", settings.model_dump_json(), tmp_path, tmp_path / "cache", 709)
    work: Work = [(0, "0" * 64, clip)]
    if trouble == "full":
        monkeypatch.setattr(cv2, "imwrite", lambda *_: False)
    with ResultWriter(job.cache) as writer:
        ((_, failed),) = keep_all(writer, work, extract_all(job, extractor, work))
        assert failed is not None and failed.status is Status.FAILED
        kept = KeptResults(job.cache, job.dims)
        kept.refresh({"0" * 64})
        assert "0" * 64 not in kept
        mended.touch()
        monkeypatch.undo()
        ((_, again),) = keep_all(writer, work, extract_all(job, extractor, work))
    assert again is None  # it is kept
    kept.refresh({"0" * 64})
    with kept.reader() as read:
        result = read("0" * 64)
    assert result is not None and result.status is Status.OK


def test_a_program_that_hangs_is_stopped_with_its_children(tmp_path: Path) -> None:
    clip = Clip("a", video=write_clip(tmp_path / "a.mp4", seconds=0.2))
    mark = tmp_path / "child"
    source = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(mark)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    program = write_program(tmp_path / "fe", source)
    with pytest.raises(MediaError, match="took more than 3 s"):
        build(tmp_path, executable=program, timeout_s=3).extract(clip)
    child = int(mark.read_text())
    for _ in range(100):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            break
        if state == "Z":  # dead, and waiting for whoever adopted it
            break
        time.sleep(0.05)
    else:
        os.kill(child, 9)
        pytest.fail("the child of the program still runs")


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    video = write_clip(tmp_path / "a.mp4", pixels=noise(12), seconds=0.5)
    build(tmp_path, executable=write_program(tmp_path / "fe")).extract(Clip("a", video=video))
    failing = write_program(tmp_path / "no", "import sys; sys.exit(3)")
    with pytest.raises(MediaError):
        build(tmp_path, executable=failing).extract(Clip("a", video=video))
    assert list((tmp_path / "tmp").iterdir()) == []


def test_settings_and_lacking_streams(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="two sources"):
        OpenfaceSettings(executable=tmp_path, csv_folder=tmp_path)
    with pytest.raises(StreamMissing):
        build(tmp_path, csv_folder=tmp_path).extract(Clip("a"))
    with pytest.raises(AssetError, match="no folder"):
        _ = build(tmp_path, csv_folder=tmp_path / "absent").files
    write_csv(tmp_path / "b.csv")
    write_csv(tmp_path / "a.csv")
    assert [path.name for path in build(tmp_path, csv_folder=tmp_path).files] == ["a.csv", "b.csv"]
