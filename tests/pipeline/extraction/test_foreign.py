"""Features that were computed elsewhere: every format, whole and damaged."""

from __future__ import annotations

import pickle
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from pipeline.data.store import FeatureSequence, ForeignArrays, Status
from pipeline.errors import LacunaError, MediaError, StoreError, StreamMissing
from pipeline.extraction.extractors import base
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.importers import base as importers
from pipeline.extraction.importers import covarep, openface
from tests.replicas.mosei import write_csd

VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


def importer(file: Path, modality: str = "audio", **settings: Any) -> Any:
    owner = base.find(modality, "import")
    return owner(owner.Settings(file=file, **settings), file.parent / "no assets")


def read(file: Path, name: str, modality: str = "audio", **settings: Any) -> FeatureSequence:
    made = importer(file, modality, **settings)
    try:
        result: FeatureSequence = made.extract(Clip(name))
        result.check(len(made.columns), "test")
        return result
    finally:
        made.close()


# --- npz ----------------------------------------------------------------------------------------------------


def npz(path: Path, **changes: Any) -> Path:
    arrays: dict[str, Any] = {
        "ids": np.array(["a", "b", "c"]),
        "offsets": np.array([0, 2, 2, 4]),
        "values": VALUES,
        "times": np.array([0.05, 0.15, 0.05, 0.15]),
        "flags": np.array([1, 0, 1, 1]),
        "columns": np.array(["x", "y", "z"]),
    }
    arrays.update(changes)
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_npz(tmp_path: Path) -> None:
    path = npz(tmp_path / "f.npz")
    made = importer(path)
    assert made.columns == ("x", "y", "z")
    assert made.frame_period_s == pytest.approx(0.1)
    first = read(path, "a")
    assert first.values.tolist() == [[0, 1, 2], [0, 0, 0]]  # the second frame was not observed
    assert first.flags.tolist() == [1, 0]
    assert read(path, "c").values.tolist() == [[6, 7, 8], [9, 10, 11]]
    assert read(path, "b").status is Status.MISSING


def test_npz_without_extras(tmp_path: Path) -> None:
    path = npz(tmp_path / "f.npz", times=None, flags=None, columns=None)
    made = importer(path, frame_rate_hz=10)
    assert (made.columns, made.frame_period_s) == (("audio_0", "audio_1", "audio_2"), 0.1)
    assert made.extract(Clip("c")).times.tolist() == pytest.approx([0.05, 0.15])
    assert read(path, "c").times.tolist() == [0, 0]  # nobody says


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": None}, "lacks offsets"),
        ({"offsets": np.array([0, 2, 4])}, r"offsets: found int64 \(3,\)"),
        ({"offsets": np.array([0, 3, 2, 4])}, "offsets: they must rise"),
        ({"offsets": np.array([0, 2, 2, 5])}, "offsets: they must rise from 0 to 4"),
        ({"values": np.zeros(4)}, r"values: found \(4,\)"),
        ({"times": np.zeros(3)}, r"times: found \(3,\), expected \(4,\)"),
        ({"ids": np.array(["a", "a", "c"])}, "one occurs twice"),
        ({"columns": np.array(["x"])}, r"columns: found \(1,\), expected \(3,\)"),
        ({"ids": np.array(["a", "b", None], dtype=object)}, "plain arrays"),
    ],
)
def test_a_damaged_npz_names_file_and_field(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = npz(tmp_path / "f.npz", **changes)
    with pytest.raises(StoreError, match=rf"f\.npz.*{message}"):
        _ = importer(path).columns


def test_an_npz_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.npz"
    arrays = {"ids": np.array(["a"]), "offsets": np.array([0, 100_000]), "values": np.zeros((100_000, 3))}
    np.savez_compressed(path, allow_pickle=False, **arrays)
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(importers, "LIMIT_BYTES", 20_000)
    with pytest.raises(StoreError, match=r"f\.npz, values\.npy: found 2400128 bytes, at most 20000 are read"):
        read(path, "a")


def test_nan_names_file_field_and_id_or_becomes_unobserved(tmp_path: Path) -> None:
    values = VALUES.copy()
    values[3, 1] = np.nan
    path = npz(tmp_path / "f.npz", values=values)
    with pytest.raises(MediaError, match=r'f\.npz, values, id "c": row 1, column 1 \("y"\) is nan'):
        read(path, "c")
    zeroed = read(path, "c", non_finite="zero")
    assert zeroed.flags.tolist() == [1, 0]
    assert zeroed.values.tolist() == [[6, 7, 8], [0, 0, 0]]
    assert read(path, "a").flags.tolist() == [1, 0]  # the other samples are as they were


# --- every format: cut short, too large, absent ids ---------------------------------------------------------


def csd(path: Path) -> Path:
    times = np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [3.0, 4.0]])
    return write_csd(path, "COVAREP", {"video": (times, VALUES), "other[3]": (times[:2], VALUES[:2])})


def mmin(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["a"] = VALUES
        file["b/feat"] = VALUES[:2]
        file["b/start"] = [0.0, 0.1]
    return path


def mmsa(path: Path, **changes: Any) -> Path:
    audio = np.zeros((2, 5, 3), np.float32)
    audio[0, :4] = VALUES
    fields = {"id": ["v$_$1", "v$_$2"], "audio": audio, "audio_lengths": [4, 0], **changes}
    path.write_bytes(pickle.dumps({"train": fields}))
    return path


def mat(path: Path, values: Any = VALUES) -> Path:
    folder = path.parent / "mats"
    folder.mkdir(exist_ok=True)
    savemat(folder / "a.mat", {"features": values, "names": np.array(["F0", "VUV", "NAQ"], dtype=object)})
    return folder


FORMATS = {"f.npz": npz, "f.csd": csd, "f.h5": mmin, "f.pkl": mmsa}
HELD = {"f.npz": "c", "f.csd": "other_3", "f.h5": "b", "f.pkl": "v_1"}


@pytest.mark.parametrize("name", FORMATS)
def test_a_whole_file_and_an_id_that_it_lacks(tmp_path: Path, name: str) -> None:
    path = FORMATS[name](tmp_path / name)
    assert read(path, HELD[name]).values.shape[1] == 3
    with pytest.raises(MediaError, match='has nothing under the id "nobody"'):
        read(path, "nobody")
    with pytest.raises(StreamMissing):
        read(path, "nobody", absent="missing")


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_was_cut_names_itself(tmp_path: Path, name: str) -> None:
    path = FORMATS[name](tmp_path / name)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(LacunaError, match=name.replace(".", r"\.")):
            read(path, HELD[name])


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = FORMATS[name](tmp_path / name)
    monkeypatch.setattr(importers, "LIMIT_BYTES", 100)
    with pytest.raises(StoreError, match="at most 100 are read"):
        read(path, HELD[name])


def test_a_format_that_nothing_tells(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot tell its format"):
        read(tmp_path / "f.bin", "a")
    with pytest.raises(StoreError, match="no such file"):
        read(tmp_path / "f.npz", "a")


# --- csd ----------------------------------------------------------------------------------------------------


def test_csd_by_segment_and_cut_from_the_video(tmp_path: Path) -> None:
    path = csd(tmp_path / "f.csd")
    made = importer(path)
    segment = made.extract(Clip("other_3"))
    assert segment.times.tolist() == [0.5, 1.5]
    part = made.extract(Clip("video_7", video=Path("video.mp4"), start_s=1.2, end_s=3.2))
    assert part.values.tolist() == VALUES[1:3].tolist()  # the middles 1.5 and 2.5
    assert part.times.tolist() == pytest.approx([0.3, 1.3])
    with pytest.raises(StreamMissing, match='"video_8" has no rows'):
        made.extract(Clip("video_8", video=Path("video.mp4"), start_s=9.0, end_s=9.5))
    made.close()


@pytest.mark.parametrize(
    ("field", "array", "message"),
    [
        ("features", VALUES[:3], r'id "video", features: found \(3, 3\), expected \(4, D\)'),
        ("features", np.zeros((4, 2)), r'features, id "video": found float64 \(4, 2\)'),
        ("features", np.full((4, 3), np.inf), r'features, id "video": row 0, column 0 .* is inf'),
        ("intervals", np.full((4, 2), np.nan), 'id "video", intervals: row 0'),
        ("features", np.array([[b"word"]] * 4), "found words, expected numbers"),
    ],
)
def test_a_wrong_csd_names_file_field_and_id(tmp_path: Path, field: str, array: Any, message: str) -> None:
    path = csd(tmp_path / "f.csd")
    with h5py.File(path, "a") as file:
        del file[f"COVAREP/data/video/{field}"]
        file[f"COVAREP/data/video/{field}"] = array
    with pytest.raises(LacunaError, match=rf"f\.csd.*{message}"):
        importer(path).extract(Clip("video"))


def test_a_csd_whose_array_is_claimed_huge_or_elsewhere(tmp_path: Path) -> None:
    path = csd(tmp_path / "f.csd")
    with h5py.File(path, "a") as file:
        del file["COVAREP/data/video/features"]
        file.create_dataset("COVAREP/data/video/features", (2**20, 2**20), "f4", chunks=(1, 1024))
    with pytest.raises(LacunaError, match=r"data/video/features.*at most"):
        importer(path).extract(Clip("video"))
    with h5py.File(path, "a") as file:
        del file["COVAREP/data/video/features"]
        file["COVAREP/data/video/features"] = h5py.ExternalLink("elsewhere.h5", "/x")
    with pytest.raises(LacunaError, match=r"data/video/features"):
        importer(path).extract(Clip("video"))
    with h5py.File(path, "a") as file, h5py.File(tmp_path / "other.h5", "w") as other:
        other["x/features"] = np.zeros((3, 2))
        del file["COVAREP/data/video"]
        file["COVAREP/data/video"] = h5py.ExternalLink("other.h5", "/x")
    with ForeignArrays(path) as arrays, pytest.raises(LacunaError, match=r"lies in this file"):
        arrays.read("COVAREP/data/video/features")
    with h5py.File(path, "a") as file:
        layout = h5py.VirtualLayout((3, 2), "f8")
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "x/features", (3, 2))
        file.create_virtual_dataset("virtual", layout)
    with ForeignArrays(path) as arrays, pytest.raises(LacunaError, match=r"lies in this file"):
        arrays.read("virtual")


# --- MMIN, MMSA ---------------------------------------------------------------------------------------------


def test_mmin(tmp_path: Path) -> None:
    path = mmin(tmp_path / "f.h5")
    assert read(path, "a", frame_rate_hz=2).times.tolist() == [0.25, 0.75, 1.25, 1.75]
    assert read(path, "b").values.tolist() == VALUES[:2].tolist()
    with h5py.File(path, "a") as file:
        file["c"] = np.zeros((4, 5))
        file["d"] = np.full((1, 3), np.nan)
    with pytest.raises(MediaError, match=r'f\.h5, id "c": found float64 \(4, 5\), expected numbers \(T, 3\)'):
        read(path, "c")
    with pytest.raises(MediaError, match=r'f\.h5, id "d": row 0'):
        read(path, "d")


def test_mmsa(tmp_path: Path) -> None:
    path = mmsa(tmp_path / "f.pkl")
    assert read(path, "v_1").values.tolist() == VALUES.tolist()
    assert read(path, "v_2").status is Status.MISSING
    aligned = mmsa(tmp_path / "g.pkl", audio_lengths=None)
    assert len(read(aligned, "v_1").times) == 4  # the row of zeros at the end is padding


def test_mmsa_text(tmp_path: Path) -> None:
    text = np.zeros((1, 4, 3), np.float32)
    text[0] = VALUES
    bert = np.array([[[101, 7, 102, 0], [1, 1, 1, 0], [0, 0, 0, 0]]], np.float32)
    path = mmsa(tmp_path / "f.pkl", id=["v$_$1"], text=text, text_bert=bert)
    found = read(path, "v_1", "text")
    assert found.values.tolist() == VALUES[1:2].tolist()  # the rows of [CLS] and [SEP] are no words'
    assert found.token_ids is not None
    assert found.token_ids.tolist() == [7]


def test_mmsa_text_that_was_cut_or_is_of_words_or_is_none(tmp_path: Path) -> None:
    text = np.stack([VALUES + 1, VALUES + 1])
    ids = [[101, 7, 8, 9], [101, 102, 0, 0]]  # the first was cut before its [SEP], the second has no words
    bert = np.array([[row, [int(i > 0) for i in row], [0] * 4] for row in ids], np.float32)
    path = mmsa(tmp_path / "f.pkl", text=text, text_bert=bert)
    found = read(path, "v_1", "text")
    assert found.values.tolist() == text[0, 1:].tolist()
    assert found.token_ids is not None and found.token_ids.tolist() == [7, 8, 9]
    empty = read(path, "v_2", "text")
    assert (empty.status, empty.reason) == (Status.MISSING, "no words in the imported file")
    wide = np.zeros((2, 3, 9), np.float32)  # rows of words, say GloVe's, and word pieces beside them
    wide[:, 0, :4], wide[:, 1, :4] = [101, 7, 8, 102], 1
    words = read(mmsa(tmp_path / "g.pkl", text=text, text_bert=wide), "v_1", "text")
    assert words.values.tolist() == text[0].tolist()
    assert words.token_ids is None
    beside = read(mmsa(tmp_path / "h.pkl", text=text, text_bert=wide[:, :, :6]), "v_1", "text")
    assert beside.values.tolist() == text[0, :2].tolist()
    assert beside.token_ids is not None and beside.token_ids.tolist() == [7, 8]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audio": np.zeros((3, 5, 3))}, r"train, audio: found \(3, 5, 3\), expected \(2, T, D\)"),
        ({"audio": np.zeros((2, 5))}, r"train, audio: found \(2, 5\)"),
        ({"id": ["v$_$1", "v_1"]}, "occurs twice"),
    ],
)
def test_a_wrong_mmsa_pickle_names_file_and_field(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(StoreError, match=rf"f\.pkl.*{message}"):
        read(mmsa(tmp_path / "f.pkl", **changes), "v_1")


def test_an_mmsa_length_or_number_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r'audio, id "v_1": the length 9'):
        read(mmsa(tmp_path / "f.pkl", audio_lengths=[9, 1]), "v_1")
    bad = np.full((2, 5, 3), -np.inf, np.float32)
    with pytest.raises(MediaError, match=r'f\.pkl, train, audio, id "v_1": row 0'):
        read(mmsa(tmp_path / "f.pkl", audio=bad), "v_1")


def test_a_malicious_pickle_fails_the_stage_and_does_nothing(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "trap",)

    (tmp_path / "f.pkl").write_bytes(pickle.dumps({"train": Attack()}))
    before = threading.active_count()
    with pytest.raises(StoreError, match="refused"):
        read(tmp_path / "f.pkl", "a")
    assert not (tmp_path / "trap").exists()
    assert threading.active_count() == before


# --- COVAREP ----------------------------------------------------------------------------------------------


def mat73(path: Path, values: Any = VALUES, names: tuple[str, ...] = ("F0", "VUV", "Größe")) -> Path:
    """Write a.mat as MATLAB's -v7.3 does: HDF5 behind 512 bytes, arrays transposed, a cell array of names."""
    folder = path.parent / "mats"
    folder.mkdir(exist_ok=True)
    with h5py.File(folder / "a.mat", "w", userblock_size=512) as file:
        array = file.create_dataset("features", data=np.asarray(values).T)
        array.attrs["MATLAB_class"] = np.bytes_("single")
        cell = file.create_dataset("names", (len(names), 1), h5py.ref_dtype)
        for number, name in enumerate(names):
            units = np.frombuffer(name.encode("utf-16-le"), "<u2")[:, None]
            text = file.create_dataset(f"#refs#/{chr(97 + number)}", data=units)
            text.attrs["MATLAB_class"] = np.bytes_("char")
            cell[number, 0] = text.ref
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan 01 00:00:00 2024 HDF5 schema 1.00 ."
    with (folder / "a.mat").open("r+b") as raw:
        raw.write(head.ljust(116) + bytes(8) + b"\x00\x02IM")
    return folder


MATS = {"older": mat, "newer": mat73}


@pytest.mark.parametrize(("kind", "last"), [("older", "NAQ"), ("newer", "Größe")])
def test_covarep(tmp_path: Path, kind: str, last: str) -> None:
    folder = MATS[kind](tmp_path / "x")
    made = importer(folder)
    assert made.columns == ("F0", "VUV", last)
    assert made.frame_period_s == pytest.approx(0.01)
    assert read(folder, "a").values.tolist() == VALUES.tolist()
    assert read(folder, "a").times.tolist() == pytest.approx([0.005, 0.015, 0.025, 0.035])
    part = made.extract(Clip("a_9", audio=Path("x/a.wav"), start_s=0.01, end_s=0.03))
    assert part.values.tolist() == VALUES[1:3].tolist()
    with pytest.raises(MediaError, match='has nothing under the id "nobody"'):
        read(folder, "nobody")


def test_scipy_cannot_read_the_newer_kind(tmp_path: Path) -> None:
    """What the tests write is what MATLAB's -v7.3 is to others."""
    with pytest.raises(NotImplementedError, match="HDF reader"):
        loadmat(mat73(tmp_path / "x") / "a.mat")


@pytest.mark.parametrize("kind", MATS)
def test_a_wrong_mat_names_file_field_and_id(tmp_path: Path, kind: str) -> None:
    values = VALUES.astype(float)
    folder = MATS[kind](tmp_path / "x", values)

    def put(name: str, content: Any) -> None:
        MATS[kind](tmp_path / "x", content)
        (folder / "a.mat").rename(folder / f"{name}.mat")
        MATS[kind](tmp_path / "x", VALUES)

    for bad in (-np.inf, np.nan):
        values[2, 0] = bad
        put("n", values)
        with pytest.raises(MediaError, match=rf'n\.mat, features, id "n": row 2, column 0 \("F0"\) is {bad}'):
            read(folder, "n")
    assert read(folder, "n", non_finite="zero").flags.tolist() == [1, 1, 0, 1]
    put("b", np.zeros((2, 5)))
    with pytest.raises(MediaError, match=r'b\.mat, features, id "b": found float64 \(2, 5\)'):
        read(folder, "b")
    put("d", np.zeros((2, 3, 2)))
    with pytest.raises(
        MediaError, match=r'd\.mat, features: found float64 .*2\), expected numbers .* \(id "d"\)'
    ):
        read(folder, "d")
    with pytest.raises(StoreError, match=r"a\.mat: has no other"):
        read(folder, "a", field="other")


@pytest.mark.parametrize("kind", MATS)
def test_a_mat_that_was_cut(tmp_path: Path, kind: str) -> None:
    folder = MATS[kind](tmp_path / "x")
    whole = (folder / "a.mat").read_bytes()
    for size in (0, 60, 140, len(whole) // 2, len(whole) - 20):
        (folder / "b.mat").write_bytes(whole[:size])
        with pytest.raises(MediaError, match=r'b\.mat.* \(id "b"\)'):
            read(folder, "b")


@pytest.mark.parametrize("kind", MATS)
def test_a_mat_that_is_too_large_is_not_read(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = MATS[kind](tmp_path / "x")
    shutil.copy(folder / "a.mat", folder / "b.mat")
    made = importer(folder)
    assert made.columns
    monkeypatch.setattr(covarep, "LIMIT_VALUES", 11)
    with pytest.raises(MediaError, match=r'b\.mat, "?features"?: found 12 values.* \(id "b"\)'):
        made.extract(Clip("b"))
    monkeypatch.setattr(covarep, "LIMIT_BYTES", 100)
    with pytest.raises(MediaError, match=r'b\.mat: found \d+ bytes, at most 100 are read \(id "b"\)'):
        made.extract(Clip("b"))


@pytest.mark.parametrize(
    "names",
    [
        np.zeros(3),
        np.array([h5py.Reference()] * 3, dtype=h5py.ref_dtype),  # they lead nowhere
        np.array(["F0", "VUV", "NAQ"], dtype=h5py.string_dtype()),
    ],
)
def test_a_newer_mat_whose_names_are_none(tmp_path: Path, names: Any) -> None:
    folder = mat73(tmp_path / "x")
    with h5py.File(folder / "a.mat", "a") as file:
        del file["names"]
        file["names"] = names
    with pytest.raises(StoreError, match=r'a\.mat, "names"'):
        read(folder, "a")


# --- OpenFace ---------------------------------------------------------------------------------------------


def openface_csv(path: Path, rows: int = 6, success: int = 1) -> list[str]:
    """Write ten pictures a second; column k of row n is n + k / 1000. Return the lines."""
    lines = [",".join((*openface.HEADS, *openface.COLUMNS))]
    for row in range(rows):
        numbers = (f"{row + k / 1000:.3f}" for k in range(len(openface.COLUMNS)))
        lines.append(",".join((str(row + 1), "0", f"{row / 10:.1f}", "0.98", str(success), *numbers)))
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return lines


def test_openface(tmp_path: Path) -> None:
    folder = tmp_path / "of"
    openface_csv(folder / "a.csv")
    made = importer(folder, "video")
    assert made.columns == openface.COLUMNS
    assert made.frame_period_s is None
    found = read(folder, "a", "video")
    assert found.values[:, 700].tolist() == pytest.approx([n + 0.7 for n in range(6)])
    assert found.times.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    part = made.extract(Clip("a_9", video=Path("x/a.mp4"), start_s=0.15, end_s=0.45))
    assert part.values[:, 0].tolist() == [2, 3, 4]
    assert part.times.tolist() == pytest.approx([0.05, 0.15, 0.25])
    with pytest.raises(
        MediaError, match=r'a\.csv, id "b": is of the whole picture.* left half; give .*b\.csv'
    ):
        made.extract(Clip("b", video=Path("x/a.mp4"), start_s=0.0, end_s=0.5, picture="left"))
    with pytest.raises(MediaError, match='has nothing under the id "nobody"'):
        read(folder, "nobody", "video")
    openface_csv(folder / "dark.csv", success=0)
    assert read(folder, "dark", "video").status is Status.MISSING
    with pytest.raises(StoreError, match=r"found no \*\.csv"):
        read(tmp_path, "a", "video", format="openface")


def test_an_openface_csv_with_fewer_columns(tmp_path: Path) -> None:
    """Without the 280 of the eyes' landmarks: 709 - 280 = 429 columns, and 5 about the picture."""
    path = tmp_path / "of/a.csv"
    whole = [line.split(",") for line in openface_csv(path)]
    kept = [k for k, name in enumerate(whole[0]) if not name.startswith("eye_lmk")]
    path.write_text("".join(",".join(line[k] for k in kept) + "\n" for line in whole))
    groups = "gaze+pose+landmarks2d+landmarks3d+shape+aus"
    with pytest.raises(MediaError, match=f"280 of OpenFace.*there by field: {re.escape(groups)}"):
        read(tmp_path / "of", "a", "video")
    made = importer(tmp_path / "of", "video", field=groups)
    assert len(made.columns) == 429
    assert made.columns[7:9] == ("gaze_angle_y", "pose_Tx")
    found = made.extract(Clip("a", video=Path("x/a.mp4")))
    assert found.values[2, 8] == pytest.approx(2 + 288 / 1000)  # pose_Tx was column 288 of 709
    with pytest.raises(StoreError, match='found the group "AU"'):
        _ = importer(tmp_path / "of", "video", field="AU+pose").columns


def test_a_wrong_openface_csv_names_file_column_and_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "of/a.csv"
    lines = openface_csv(path)
    nan = lines[2].replace(",1.003,", ",-nan,")
    for changed, message in (
        ([*lines[:2], nan, *lines[3:]], 'id "a", line 3, column gaze_1_x: found nan'),
        ([*lines[:2], nan.replace("-nan", "left"), *lines[3:]], 'line 3, column gaze_1_x: found "left"'),
        ([*lines[:3], lines[3][:2000]], r'id "a", line 4: found \d+ fields, expected 714. Was the file cut'),
        ([lines[0].replace("AU45_c", "AU46_c"), *lines[1:]], 'id "a": 1 of OpenFace.* AU45_c'),
        ([f"{line},1" for line in lines], r'id "a": found 715 columns.* 1'),
    ):
        path.write_text("\n".join(changed))
        with pytest.raises(MediaError, match=rf"a\.csv, .*{message}"):
            read(tmp_path / "of", "a", "video")
    path.write_text("\n".join([*lines[:2], nan, *lines[3:]]))
    assert read(tmp_path / "of", "a", "video", non_finite="zero").flags.tolist() == [1, 0, 1, 1, 1, 1]
    monkeypatch.setattr(openface, "LIMIT_BYTES", 100)
    with pytest.raises(MediaError, match=r'a\.csv: found \d+ bytes, at most 100 are read \(id "a"\)'):
        read(tmp_path / "of", "a", "video")
