"""A file that declares far more than it holds ends in words, before the memory is asked for, in every reader."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.data.csd import Sequences
from pipeline.data.masks import read_masks
from pipeline.data.store import FeatureStore
from pipeline.data.wav_header import wav_length
from pipeline.errors import LacunaError, MediaError, StoreError
from pipeline.extraction.clip import Clip
from pipeline.extraction.importers import covarep, mmin, mmsa, npz, openface
from pipeline.extraction.importers.base import Request
from pipeline.extraction.importers.plain_pickle import load
from pipeline.training.kept_runs import read_tensors

HUGE = 100 * 2**30
MOST = 32 * 2**20  # that any of the readers may ask for here


@pytest.fixture(autouse=True)
def _little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
        assert peak < MOST, f"{peak} bytes"
    finally:
        tracemalloc.stop()


def hdf5(path: Path, name: str, *, kind: str = "", dtype: str = "f4", shape: tuple[int, ...] = ()) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs.update({"kind": kind, "schema": 2})
        shape = shape or (HUGE // 4 // 8, 8)
        file.create_dataset(name, shape, dtype, chunks=tuple(min(n, 64) for n in shape))
    return path


@pytest.mark.parametrize("dtype", ["f4", "S1000000"])
def test_foreign_hdf5(tmp_path: Path, dtype: str) -> None:
    shape = (HUGE // 4 // 8, 8) if dtype == "f4" else (100_000, 2)
    path = hdf5(tmp_path / "f.h5", "a", dtype=dtype, shape=shape)
    with pytest.raises(StoreError, match=r"at most \d+ are read"):
        mmin.Reader(Request(path, "audio"))
    path = hdf5(tmp_path / "f.csd", "root/data/a/features", dtype=dtype, shape=shape)
    with h5py.File(path, "r+") as file:
        file["root/data/a/intervals"] = np.zeros((2, 2))
    with Sequences(path) as sequences, pytest.raises(StoreError, match=r"at most \d+ are read"):
        sequences.read("a")


@pytest.mark.parametrize("name", ["values", "ids", "offsets", "status"])
def test_a_store_of_features_and_a_file_of_masks(tmp_path: Path, name: str) -> None:
    path = hdf5(tmp_path / "f.h5", name, kind="lacuna features")
    with pytest.raises(StoreError, match=rf"{name}: declares {HUGE} bytes, and holds 0"):
        FeatureStore(path)
    path = hdf5(tmp_path / "m.h5", f"group/{name}", kind="lacuna masks")
    with pytest.raises(StoreError, match=rf"group/{name}: declares {HUGE} bytes, and holds 0"):
        read_masks(path, [])


def header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"shape": shape, "fortran_order": False, "descr": descr})
    return out.getvalue()


def test_npz(tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("values.npy", header((HUGE // 4, 1)) + b"\0" * 64)
    with pytest.raises(StoreError, match=rf"values\.npy: its header declares {HUGE} bytes, it holds \d+"):
        npz.Reader(Request(path, "audio"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x80\x04r\xff\xff\xff\x7f.", "this pickle"),  # memo of 2 ** 31 places
        (b"\x80\x04]r\xff\xff\xff\x7f.", "keeps object 2147483647"),
        (b"\x80\x04]p2147483647\n.", "keeps object 2147483647"),
        (b"\x80\x04B" + struct.pack("<I", 2**31) + b"x.", "declares 2147483648 bytes"),
        (b"\x80\x04\x8e" + struct.pack("<Q", HUGE) + b"x.", f"declares {HUGE} bytes"),
        (b"\x80\x04\x8d" + struct.pack("<Q", HUGE) + b"x.", f"declares {HUGE} bytes"),
        (b"\x80\x05\x96" + struct.pack("<Q", HUGE) + b"x.", f"declares {HUGE} bytes"),
        (b"\x80\x04\x95" + struct.pack("<Q", HUGE) + b"N.", f"declares {HUGE} bytes"),
        (b"\x80\x04\x8b" + struct.pack("<i", 2**30) + b"x.", "declares 1073741824 bytes"),
    ],
)
def test_pickles(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "f.pkl"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=words):
        load(path)
    with pytest.raises(StoreError):
        mmsa.Reader(Request(path, "audio"))


def test_pickles_as_numpy_writes_them_are_read(tmp_path: Path) -> None:
    path = tmp_path / "f.pkl"
    for protocol in range(2, 6):
        path.write_bytes(pickle.dumps({"a": np.arange(50.0), "b": ["x"] * 300, "c": {}}, protocol=protocol))
        assert load(path)["a"].tolist() == list(range(50))


def test_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    says = {"a": {"dtype": "F32", "shape": [HUGE // 4], "data_offsets": [0, HUGE]}}
    text = json.dumps(says).encode()
    for content in (
        struct.pack("<Q", len(text)) + text + b"\0" * 8,
        struct.pack("<Q", HUGE) + text,
        struct.pack("<Q", 2**63) + text,
        struct.pack("<Q", len(text) + 8) + text,
    ):
        path.write_bytes(content)
        with pytest.raises(StoreError, match="not a whole safetensors file"):
            read_tensors(path)


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def matrix(name: bytes, kind: int, dims: tuple[int, int], content: bytes) -> bytes:
    flags = element(6, struct.pack("<II", kind, 0))
    return element(14, flags + element(5, struct.pack("<ii", *dims)) + element(1, name) + content)


def mat(path: Path, *variables: bytes, packed: bool = False) -> Path:
    path.parent.mkdir(exist_ok=True)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49)
    if packed:
        variables = tuple(struct.pack("<II", 15, len(z := zlib.compress(v))) + z for v in variables)
    path.write_bytes(head + b"".join(variables))
    return path


def nested(name: bytes, depth: int) -> bytes:
    """Return a cell within a cell within a cell; the sizes of all are written from within."""
    inner = matrix(b"", 6, (1, 1), element(9, struct.pack("<d", 1.0)))
    prefix, size = [], len(inner)
    for level in range(depth):
        head = matrix(name if level == depth - 1 else b"", 1, (1, 1), b"")[8:]
        size += len(head)
        prefix.append(struct.pack("<II", 14, size) + head)
        size += 8
    return b"".join(reversed(prefix)) + inner


NUMBERS = matrix(b"features", 6, (2, 1), element(9, struct.pack("<dd", 1.0, 2.0)))


@pytest.mark.parametrize("packed", [False, True])
def test_mat(tmp_path: Path, packed: bool) -> None:
    folder = tmp_path / "mat"
    mat(folder / "a.mat", NUMBERS, nested(b"names", 2), packed=packed)  # few are fine
    assert covarep.Reader(Request(folder, "audio")).columns == ("audio_0",)
    for depth in (20_000, 50_000):
        mat(folder / "a.mat", nested(b"names", depth), NUMBERS, packed=packed)
        with pytest.raises(StoreError, match=r"names: found \d+ bytes, at most 65536"):
            covarep.Reader(Request(folder, "audio"))
        mat(folder / "a.mat", nested(b"features", depth), packed=packed)
        with pytest.raises(StoreError, match="features: found a cell, expected numbers"):
            covarep.Reader(Request(folder, "audio"))
    declared = matrix(b"features", 6, (2**15, 2**15), element(9, b"\0" * 8))
    mat(folder / "a.mat", declared, packed=packed)
    with pytest.raises(StoreError, match=r"features: found 1073741824 values"):
        covarep.Reader(Request(folder, "audio"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"frame," * 20_000, "first line has no end within 65536 bytes"),
        (b"x" * 2**17, "first line has no end"),
    ],
)
def test_openface(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(MediaError, match=words):
        openface.read_csv(tmp_path / "a.csv", "a")


def test_openface_of_nothing_but_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openface, "LIMIT_LINES", 1000)
    (tmp_path / "a.csv").write_bytes(b"\n" * 1001)
    with pytest.raises(MediaError, match="found 1001 ends of lines, at most 1000"):
        openface.Reader(Request(tmp_path, "video")).read(Clip("a"))


def test_a_wav_header(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    fmt = struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16)
    path.write_bytes(b"RIFF\xff\xff\xff\x7fWAVEfmt " + struct.pack("<I", 2**32 - 2) + fmt)
    with pytest.raises(MediaError, match="ends before any samples"):
        wav_length(path)
    whole = b"fmt \x10\0\0\0" + fmt + b"data" + struct.pack("<I", 64_000) + b"\0" * 64_000
    path.write_bytes(b"RIFF\0\0\0\0WAVE" + whole)
    assert wav_length(path).there_s == 2.0


Make = Callable[[Path], object]


def test_text_of_brackets(tmp_path: Path) -> None:
    """JSON within a table: as deep as a field may be long."""
    from pipeline.data.manifest import COLUMNS, read_manifest
    from tests.replicas.reading import read

    deep = "[" * 100_000
    (tmp_path / "samples.csv").write_text(f"id,text,words\na,x,{deep}\nb,x,\n")
    samples, loader = read("folder", tmp_path)
    assert [s.id for s in samples] == ["b"] and "words are not JSON" in loader.skipped[0].reason
    row = ["a" if name == "id" else deep if name == "words" else "" for name in COLUMNS]
    (tmp_path / "m.csv").write_text(f"{','.join(COLUMNS)}\n{','.join(row)}\n")
    with pytest.raises(LacunaError, match="line 2, column words"):
        read_manifest(tmp_path / "m.csv")
