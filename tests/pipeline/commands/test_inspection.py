"""`lacuna features check` and `diff`: every kind of damage is found, and every kind of difference."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.commands import cli
from pipeline.commands import inspection as features
from pipeline.commands.inspection import check, diff
from pipeline.data.manifest import Sample, manifest_checksum, write_manifest
from pipeline.data.store import FeatureInfo, FeatureSequence, FeatureWriter, Status
from pipeline.errors import DataError

COLUMNS = ("a", "b", "c")
IDS = ("s1", "s2", "s3", "s4")
Samples = dict[str, FeatureSequence]


def samples() -> Samples:
    """Four samples of 5, 0, 1 and 40 rows."""
    made = {}
    for seed, (name, length) in enumerate(zip(IDS, (5, 0, 1, 40), strict=True)):
        values = np.random.default_rng(seed).normal(size=(length, 3)).astype(np.float32)
        times = np.arange(length, dtype=np.float32) / 100
        made[name] = FeatureSequence(values, times, np.ones(length, np.uint8))
    return made | {"s2": FeatureSequence.absent(3, Status.MISSING, "no sound")}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A data folder with a manifest of the four."""
    write_manifest(tmp_path / "data/manifests/demo.csv", [Sample(id=name) for name in IDS])
    return tmp_path / "data"


def spoken() -> Samples:
    """The same four as text, with words and their ids."""
    made = samples()
    for name, one in made.items():
        if count := len(one.times):
            words = tuple(f"{name} word {index}" for index in range(count))
            made[name] = replace(one, tokens=words, token_ids=np.arange(count) + 1000)
    return made


def write(project: Path, name: str = "audio.h5", given: Samples | None = None, **about: object) -> Path:
    path = project / "features/demo" / name
    checksum = manifest_checksum(project / "manifests/demo.csv")
    info = FeatureInfo("demo", "audio", "librosa", {"hop": 512}, COLUMNS, 0.01, checksum, {"librosa": "0.11"})
    with FeatureWriter(path, replace(info, **about)) as writer:  # type: ignore[arg-type]
        for sample, sequence in (samples() if given is None else given).items():
            writer.append(sample, sequence)
    return path


def states(path: Path, manifest: Path | None = None) -> dict[str, bool | None]:
    return {name: right for name, _, right in check(path, manifest).items}


ALL_RIGHT = dict.fromkeys(
    ("names", "checksum", "finite", "times", "flags", "ids", "status", "manifest"), True
)


@pytest.mark.parametrize("rows_a_block", [1, 6, 65_536])
def test_a_whole_store(project: Path, monkeypatch: pytest.MonkeyPatch, rows_a_block: int) -> None:
    monkeypatch.setattr(features, "ROWS_A_BLOCK", rows_a_block)
    assert states(write(project)) == ALL_RIGHT


@pytest.mark.parametrize("rows_a_block", [1, 6, 65_536])
def test_a_whole_text_store(project: Path, monkeypatch: pytest.MonkeyPatch, rows_a_block: int) -> None:
    monkeypatch.setattr(features, "ROWS_A_BLOCK", rows_a_block)
    assert states(write(project, given=spoken(), modality="text")) == ALL_RIGHT


def test_an_empty_store(project: Path) -> None:
    write_manifest(project / "manifests/demo.csv", [])
    assert states(write(project, given={})) == ALL_RIGHT


def damage_value(file: h5py.File) -> None:
    file["values"][3, 1] += 1


def damage_number(file: h5py.File) -> None:
    file["values"][45, 1] = np.nan


def damage_time(file: h5py.File) -> None:
    file["times"][2] = 9.0


def damage_flag(file: h5py.File) -> None:
    file["flags"][5] = 0


def damage_hidden_flag(file: h5py.File) -> None:
    file["values"][5] = 0  # a row of zeros with either flag is as a store may have it
    file["flags"][5] = 0


def damage_reason(file: h5py.File) -> None:
    file["reasons"][1] = "no soand"


def damage_token(file: h5py.File) -> None:
    file["tokens"][2] = "s1 word 7"


def damage_token_id(file: h5py.File) -> None:
    file["token_ids"][45] += 1


def damage_status(file: h5py.File) -> None:
    file["status"][1] = 0


def damage_names(file: h5py.File) -> None:
    file.attrs["columns"] = json.dumps(["a", "b", "a"])


def damage_ids(file: h5py.File) -> None:
    file["ids"][3] = "s1"


@pytest.mark.parametrize(
    ("damage", "wrong", "message"),
    [
        (damage_value, {"checksum"}, "the file records"),
        (damage_number, {"checksum", "finite"}, "wrong in s4"),
        (damage_time, {"checksum", "times"}, "wrong in s1"),
        (damage_flag, {"checksum", "flags"}, "wrong in s3"),
        (damage_hidden_flag, {"checksum"}, "the file records"),
        (damage_reason, {"checksum"}, "the file records"),
        (damage_token, {"checksum"}, "the file records"),
        (damage_token_id, {"checksum"}, "the file records"),
        (damage_status, {"checksum", "status"}, "does not agree with rows and reason: s2"),
        (damage_names, {"names"}, "used more than once: a"),
        (damage_ids, {"checksum", "ids", "manifest"}, "used more than once: s1"),
    ],
)
def test_damage_is_found(
    project: Path, damage: Callable[[h5py.File], None], wrong: set[str], message: str
) -> None:
    path = write(project, given=spoken(), modality="text")
    with h5py.File(path, "r+") as file:
        damage(file)
    found = check(path)
    assert not found.passed
    assert {name for name, _, right in found.items if right is False} == wrong
    assert any(message in what for _, what, _ in found.items)


def test_the_manifest(project: Path, tmp_path: Path) -> None:
    path, manifest = write(project), project / "manifests/demo.csv"
    for rows, message in (
        ([*IDS, "s5"], "only in the manifest: s5"),
        (IDS[:3], "only in the store: s4"),
        (IDS[::-1], "another order"),
    ):
        write_manifest(manifest, [Sample(id=name) for name in rows])
        assert message in {name: what for name, what, _ in check(path).items}["manifest"]
        assert states(path)["manifest"] is False
    write_manifest(manifest, [Sample(id=name, text="changed") for name in IDS])
    assert "the store was made from" in check(path).items[-1][1]
    assert states(path, manifest) == ALL_RIGHT | {"manifest": False}
    manifest.unlink()
    found = check(path)
    assert found.passed  # without a manifest the check is not made
    assert found.items[-1][2] is None
    with pytest.raises(DataError, match="there is no such manifest"):
        check(path, tmp_path / "no.csv")


def test_the_same(project: Path) -> None:
    first = write(project)
    turned = dict(reversed(samples().items()))
    second = write(project, "b.h5", turned, versions={"librosa": "0.12"})
    found = diff(first, second)
    assert found.same
    assert found.about == {"versions": ({"librosa": "0.11"}, {"librosa": "0.12"})}
    assert (found.compared, found.largest) == (4, (0.0, "", ""))


def test_differences(project: Path) -> None:
    changed = samples()
    del changed["s3"]
    values = changed["s4"].values.copy()
    values[7, 2] += np.float32(0.25)
    values[9, 0] -= np.float32(0.125)
    changed["s4"] = replace(changed["s4"], values=values, times=changed["s4"].times + np.float32(0.5))
    changed["s1"] = FeatureSequence.absent(3, Status.FAILED, "cut")
    changed["s6"] = samples()["s3"]
    found = diff(write(project), write(project, "b.h5", changed, columns=("a", "x", "c")))
    assert not found.same
    assert found.only == (["s3"], ["s6"])
    assert found.columns == (["b"], ["x"])
    assert found.status == {"s1": ("ok", "failed")}
    assert found.length == {"s1": (5, 0)}
    assert found.values == {"s4": pytest.approx(0.25, abs=1e-6)}
    assert found.times == {"s4": pytest.approx(0.5, abs=1e-6)}
    assert found.largest == (pytest.approx(0.25, abs=1e-6), "s4", "c")


def test_differences_of_words(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = spoken()
    changed["s1"] = replace(changed["s1"], tokens=("another", *changed["s1"].tokens[1:]))
    changed["s3"] = replace(changed["s3"], token_ids=np.array([7]))
    changed["s4"] = replace(changed["s4"], flags=np.zeros(40, np.uint8))
    first = write(project, "a.h5", spoken(), modality="text")
    second = write(project, "b.h5", changed, modality="text")
    found = diff(first, second)
    assert (found.words, found.token_ids, found.flags) == (["s1"], ["s3"], ["s4"])
    assert not found.same
    assert diff(first, first).same
    assert run("diff", str(first), str(second)) == 1
    said = capsys.readouterr().out
    for kind, name in (("words", "s1"), ("token ids", "s3"), ("flags", "s4")):
        assert f"1 of 4 samples have other {kind}: {name}" in said


def test_what_is_close_enough(project: Path) -> None:
    near = {name: replace(one, values=one.values + np.float32(1e-4)) for name, one in samples().items()}
    first, second = write(project), write(project, "b.h5", near)
    assert not diff(first, second, 1e-5).same
    assert diff(first, second, 1e-3).same
    assert diff(first, second, 1e-3).largest[0] == pytest.approx(1e-4, rel=0.01)


def test_other_modalities_are_not_compared(project: Path) -> None:
    with pytest.raises(DataError, match=r"holds audio, .*b\.h5 video"):
        diff(write(project), write(project, "b.h5", modality="video"))


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["features", *words])
    return int(ended.value.code or 0)


def test_the_commands(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = str(write(project)), str(write(project, "b.h5"))
    assert run("check", first, second) == 0
    assert capsys.readouterr().out.count(": intact") == 2
    assert run("diff", first, second) == 0
    assert capsys.readouterr().out == "the same\n"
    with h5py.File(second, "r+") as file:
        damage_value(file)
    assert run("check", first, second) == 1
    out = capsys.readouterr().out
    assert "b.h5: DAMAGED OR OUT OF DATE" in out
    assert "  !!  checksum: found sha256" in out
    assert run("diff", first, second) == 1
    out = capsys.readouterr().out
    assert "1 of 4 samples have other values: s1" in out
    assert "largest difference of two values: 1, column b of s1" in out
    assert run("diff", first, second, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["same"], found["values"]) == (False, {"s1": pytest.approx(1.0)})
