"""params.yaml has one reading, DVC's; and no file asks for more than a file that people write."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import parse_yaml

from pipeline.errors import ParamsError
from pipeline.params import load_params
from pipeline.params_file import read_params_file
from tests.project import ROOT


def read(tmp_path: Path, text: str | bytes) -> dict[str, Any]:
    path = tmp_path / "params.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_params_file(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1e3", 1000.0),
        ("010", 10),
        ("0o17", 15),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("12:30", "12:30"),
        ("1_000", 1000),
        ("true", True),
        ("~", None),
        ("'1e-3'", "1e-3"),
    ],
)
def test_a_value_is_read_as_dvc_reads_it(tmp_path: Path, text: str, value: object) -> None:
    found = read(tmp_path, f"a: {text}\n")["a"]
    assert found == value and type(found) is type(value)
    assert found == parse_yaml(f"a: {text}\n", "params.yaml")["a"]


@pytest.mark.parametrize("text", ["1e-3", "010", "1_000", "3", "true", "null", "2024-01-01", "[1, 2]"])
def test_a_key_that_is_no_text_is_refused(tmp_path: Path, text: str) -> None:
    """DVC would make a stage of it, of another name than stands there."""
    with pytest.raises(ParamsError, match=r"experiments: found the key .* write it in quotes"):
        read(tmp_path, f"experiments:\n  ? {text}\n  : {{}}\n")
    assert list(read(tmp_path, f"experiments:\n  '{text}': {{}}\n")["experiments"]) == [text]


def test_the_experiment_that_would_never_train(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text().replace("  mmin:  ", "  1e-3:  ")
    assert "1e-3" in yaml.safe_load(text)["experiments"]  # a text in YAML 1.1, and so a name
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match=r"experiments: found the key 0\.001"):
        load_params(path)


def test_the_projects_own_files_read_the_same_in_both(tmp_path: Path) -> None:
    """Presets and papers are read by YAML 1.1, and written into a file that is read by 1.2."""
    listed = subprocess.run(
        ["git", "ls-files", "*.yaml", "*.yml"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"params.yaml", "dvc.yaml", "pipeline/reporting/papers.yml"} <= set(listed)
    for name in listed:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert yaml.safe_load(text) == parse_yaml(text, name), name


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "stand for more than 200000 values"),  # ten lines, 10 ** 10 values
        ("a: &a [*a]\n", "an alias .* within what it stands for"),
        ("a: &a {b: {c: *a}}\n", r"a\.b\.c: found an alias"),
        ("a: " + "[" * 60 + "]" * 60, "more than 50 values within each other"),
        ("a: " + "[" * 3000 + "]" * 3000, "more than 50 values within each other"),
        ("a: " + "9" * 6000, "not valid YAML"),
        ("a: 2024-13-41\n", "not valid YAML"),
        ("# " + "x" * (5 << 20), "more than 4 MiB"),
        ('a: {b: "x\\0"}\n', r"a\.b: found the character '.x00'"),
        ('a: {b: "\\uD800"}\n', "not valid YAML"),
        (b"a: \xff\n", r"not UTF-8 \(byte 4\)"),
        ("a: \x01\n", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("- a\n", "found list"),
    ],
)
def test_what_is_no_params_file(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(ParamsError, match=words):
        read(tmp_path, text)


def test_aliases_that_people_use_are_fine(tmp_path: Path) -> None:
    found = read(tmp_path, "a: &a {x: 1, y: [2]}\nb: *a\nc: {<<: *a, x: 3}\n")
    assert found == {"a": {"x": 1, "y": [2]}, "b": {"x": 1, "y": [2]}, "c": {"x": 3, "y": [2]}}


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan"])
@pytest.mark.parametrize("key", ["learning_rate", "clip_norm"])
def test_a_number_without_an_end_is_no_setting(tmp_path: Path, key: str, value: str) -> None:
    text = (ROOT / "params.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("    model: mmin\n", f"    model: mmin\n    {key}: {value}\n"))
    with pytest.raises(ParamsError, match=rf"experiments\.mmin\.{key}: found (-?inf|nan)"):
        load_params(path)
