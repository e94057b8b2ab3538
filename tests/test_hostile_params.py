"""What stands in params.yaml is data: no shell runs it, and DVC removes nothing for a name that leads elsewhere."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import stage
from pipeline.errors import ParamsError
from pipeline.params_file import read_params_file
from tests.project import ROOT, copy_project, try_run

SHELL = "x;touch pwned;$(touch pwned)`touch pwned`|touch pwned&touch pwned>pwned"
HOSTILE = (SHELL, f"'{SHELL}'", f'"{SHELL}"', f"x\ntouch pwned\n{SHELL}", f"-c {SHELL} #")
SECTIONS = ("assets", "datasets", "train_denseface", "experiments", "media")


def stages() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    return found


@pytest.mark.parametrize("name", list(stages()))
def test_no_command_of_dvc_yaml_holds_a_value(name: str) -> None:
    body = stages()[name].get("do", stages()[name])
    assert re.fullmatch(r"python -m pipeline\.\w+( @)?( (text|audio|video))?", body["cmd"])
    assert (" @" in body["cmd"]) == ("foreach" in stages()[name])


@pytest.mark.parametrize("name", [name for name, body in stages().items() if "foreach" in body])
def test_every_stage_with_a_name_in_its_paths_waits_for_the_check(name: str) -> None:
    """Directly, or by an output of the same name: that of another one might not be there."""
    outs = {
        next(iter(out)) if isinstance(out, dict) else out: other  # one with `persist` is a mapping
        for other, body in stages().items()
        for out in [*body.get("do", body)["outs"], *body.get("do", body).get("metrics", ())]
    }
    same_key = {other for other, body in stages().items() if body.get("foreach") == stages()[name]["foreach"]}

    def waits(one: str) -> bool:
        deps = stages()[one]["do"]["deps"]
        return "data/checked.txt" in deps or any(waits(outs[d]) for d in deps if outs.get(d) in same_key)

    assert waits(name)


def hostile(project: Path, names: tuple[str, ...]) -> None:
    """Give every section of which DVC makes stages entries of these names, and such values as well."""
    raw = read_params_file(ROOT / "params.yaml")
    raw["train_denseface"] = {"it": {"fer2013": SHELL, "ferplus": SHELL}}
    raw["media"] = {"it": SHELL}
    for section in SECTIONS:
        first = next(iter(raw[section].values()))
        raw[section] |= dict.fromkeys(names, first)
    values = {"root": SHELL, "loader": SHELL, **{m: {"extractor": SHELL} for m in ("text", "audio", "video")}}
    raw["datasets"]["values"] = {**raw["datasets"]["demo"], **values}
    raw["experiments"]["values"] = {"dataset": SHELL, "model": SHELL, "regime": SHELL}
    (project / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_shell_runs_what_a_name_says(tmp_path: Path) -> None:
    project = tmp_path / "project"
    copy_project(project, size=20, epochs=1)
    hostile(project, HOSTILE)
    for inputs in (
        "data/checked.txt",
        SHELL,
        f"pipeline/data/datasets/{SHELL}.py",
    ):  # or DVC comes to no command
        (project / inputs).touch()
    made = [
        f"{name}@{key}"
        for name, body in stages().items()
        if "foreach" in body
        for key in (*HOSTILE[: 5 if name == "assets" else 1], "values", "it")
        if key in read_params_file(project / "params.yaml").get(body["foreach"].strip("${}"), {})
    ]
    assert len(made) > 15
    # -s: each by itself, without the check that would stop before all of them
    result = try_run(project, "dvc", "repro", "--single-item", "--keep-going", *made)
    assert result.returncode != 0
    assert result.stderr.count("mistake(s)") >= 5, result.stderr  # whose inputs are there came as far as that
    assert not list(project.rglob("pwned*")) and not list(tmp_path.glob("pwned*"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("section", SECTIONS)
def test_dvc_removes_nothing_for_a_name_that_leads_elsewhere(tmp_path: Path, section: str) -> None:
    project = tmp_path / "project"
    copy_project(project, size=20, epochs=1)
    raw = read_params_file(project / "params.yaml")
    raw["train_denseface"] = {"it": {"fer2013": "a.csv", "ferplus": "b.csv"}}
    raw["media"] = {"it": "clips"}
    first = next(iter(raw[section].values()))
    if section == "experiments":
        first = {**first, "dataset": "../../mine"}  # of no dataset for whose stages it would wait
    raw[section] = {**raw[section], "../../mine": first}
    (project / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    kept = [project / name for name in ("mine/a", "mine.csv", "mine.json", "mine.safetensors", "mine.h5")]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("dear to me")
    result = try_run(project, "dvc", "repro")
    assert result.returncode != 0
    # the outputs of train and evaluate would then lie within each other, which DVC refuses by itself
    assert ("overlap" if section == "experiments" else "should match pattern") in result.stderr
    assert [path.read_text() for path in kept] == ["dear to me"] * 5
    assert (project / "data/denseface/README.md").is_file()


def train(params: object, name: str) -> None:
    """Stand for a stage's function."""


@pytest.mark.parametrize(
    ("given", "address", "expected"),
    [
        (["@"], "train@mmin", ["mmin"]),
        (["@"], "../dvc.yaml:train@mmin", ["mmin"]),
        (["@"], "train@a;b $(c)\n`d`", ["a;b $(c)\n`d`"]),
        (["mmin"], "", ["mmin"]),
        (["mmin"], "train@other", ["mmin"]),
    ],
)
def test_a_stage_gets_its_name_from_dvc(given: list[str], address: str, expected: list[str]) -> None:
    assert stage.arguments_for(train, given, {"DVC_STAGE": address}) == expected


@pytest.mark.parametrize(
    ("given", "environment", "words"),
    [
        (["@"], {}, "DVC runs none"),
        (["@"], {"DVC_STAGE": "report"}, "DVC runs none"),
        ([], {}, r"found 0 argument\(s\), expected 1: name"),
        (["@", "text"], {"DVC_STAGE": "train@mmin"}, r"found 2 argument\(s\), expected 1: name"),
    ],
)
def test_a_stage_without_its_name_says_so(given: list[str], environment: dict[str, str], words: str) -> None:
    with pytest.raises(ParamsError, match=words):
        stage.arguments_for(train, given, environment)


def test_wrong_arguments_end_in_words(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    result = try_run(tmp_path, sys.executable, "-m", "pipeline.mask", env={"PYTHONPATH": str(ROOT)})
    assert result.returncode == 1
    assert result.stderr == "error: found 0 argument(s), expected 1: dataset\n"
