"""Pickles that are admitted, and pickles that are not."""

from __future__ import annotations

import collections
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import StoreError
from pipeline.extraction.importers import base, plain_pickle


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_containers(tmp_path: Path, protocol: int) -> None:
    content = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "words": np.array(["ja", "nein", "我"]),
        "objects": np.array(["x", None, 3], dtype=object),
        "empty": np.zeros((0, 4)),
        "number": np.float32(1.5),
        "flag": np.bool_(True),
        "plain": [1, 2.5, "text", b"bytes", (None, True), {"k": {1, 2}}],
    }
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    found = plain_pickle.load(path)
    assert found.keys() == content.keys()
    for name in ("a", "b", "words", "objects", "empty"):
        assert found[name].dtype == content[name].dtype
        assert found[name].tolist() == content[name].tolist()
    assert (found["number"], found["flag"], found["plain"]) == (1.5, True, content["plain"])


@pytest.mark.parametrize(("old", "new"), [("numpy._core", "numpy.core"), ("numpy.core", "numpy.core")])
def test_the_names_of_numpy_1_and_2(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "x.pkl"
    raw = pickle.dumps({"a": np.arange(3.0), "n": np.int64(7)}, 0)  # text: names can be exchanged
    path.write_bytes(raw.replace(old.encode(), new.encode()))
    assert plain_pickle.load(path)["a"].tolist() == [0.0, 1.0, 2.0]


class Attack:
    """What pickles of an attacker do: name a callable and its arguments."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "attack",
    [
        Attack(os.system, "touch {trap}"),
        Attack(eval, "open('{trap}', 'w')"),
        Attack(exec, "open('{trap}', 'w')"),
        Attack(open, "{trap}", "w"),
        Attack(os.mkdir, "{trap}"),
        Attack(getattr, "x", "upper"),
        Attack(collections.OrderedDict),
        Attack(np.save, "{trap}", 1),
        Attack(np.memmap, "{trap}", "uint8", "w+", 0, (4,)),
        Attack(np.fromfile, "{trap}"),
        Attack(pickle.loads, b"N."),
    ],
    ids=lambda attack: getattr(attack.call, "__name__", ""),
)
def test_an_attack_does_nothing_but_raise(tmp_path: Path, attack: Attack, protocol: int) -> None:
    trap, path = tmp_path / "trap", tmp_path / "x.pkl"
    arguments = [a.format(trap=trap) if isinstance(a, str) else a for a in attack.arguments]
    armed = {"train": {"id": ["a"], "text": Attack(attack.call, *arguments)}}
    path.write_bytes(pickle.dumps(armed, protocol))
    with pytest.raises(StoreError, match="refused: it names"):
        plain_pickle.load(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.pkl"]


@pytest.mark.parametrize(
    "raw",
    [
        b"cnumpy\nndarray\n(I1\nI2\ntR.",  # the class itself, called
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I99999999\ntS'b'\ntR.",
        b"cnumpy\ndtype\n(S'os.system'\ntR.",
        b"c_codecs\nencode\n(Vx\nVzlib\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O'\ntRS'x'\ntR.",
        b"cnumpy\ndtype\n(N}V_make\nNs\x86b.",  # sets an attribute of what a name stands for
        b"\x82\x01.",  # copyreg's registry
        b"Pan id\n.",  # an object elsewhere
        b"",
        b"not a pickle",
    ],
)
def test_what_is_no_plain_pickle(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(raw)
    with pytest.raises(StoreError, match=r"x\.pkl"):
        plain_pickle.load(path)
    path.write_bytes(pickle.dumps([np.float32(1)]))
    assert plain_pickle.load(path) == [1.0]  # and nothing is left of it


def test_a_pickle_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    whole = pickle.dumps({"a": np.arange(100)})
    for size in (1, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(StoreError, match=r"x\.pkl"):
            plain_pickle.load(path)


def test_too_large_and_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pkl"
    with pytest.raises(StoreError, match="no such file"):
        plain_pickle.load(path)
    path.write_bytes(pickle.dumps(b"x" * 1000))
    monkeypatch.setattr(base, "LIMIT_BYTES", 999)
    with pytest.raises(StoreError, match="at most 999 are read"):
        plain_pickle.load(path)
