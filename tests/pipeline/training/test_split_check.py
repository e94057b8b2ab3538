"""What is said of a split before and after training: by the function, by check, prepare and train."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline import prepare
from pipeline.commands.cli import main
from pipeline.data.manifest import Sample
from pipeline.params import Compute, Experiment, Params
from pipeline.training.all_runs import train_experiment
from pipeline.training.folds import Fold
from pipeline.training.split_check import dataset_findings, fold_findings
from tests import small_world
from tests.replicas.text import write_lines


def fold(number: int, train: list[int], valid: list[int], test: list[int]) -> Fold:
    return Fold(number, "", *(np.array(part, np.int64) for part in (train, valid, test)))


def test_lacking_classes_and_uneven_folds_by_hand() -> None:
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 0, 0, 0])
    even = [fold(1, [0, 1], [2, 3], [4, 5]), fold(2, [0, 1], [4, 5], [2, 3])]
    assert fold_findings(even, labels, ("no", "yes")) == []
    given = [fold(1, [0, 2], [1, 3], [4, 5]), fold(2, [0, 1], [2, 3], [4, 6, 7, 8, 9, 0, 2])]
    assert fold_findings(given, labels, ("no", "yes")) == [
        'fold 1 of 2: no "yes" in the training part: its network cannot learn it',
        'fold 1 of 2: no "no" in the validation part: the choice of the epoch does not see it',
        'fold 2 of 2: no "yes" in the test part: UA is over the other classes there, and chance is higher',
        "uneven folds: the test part of fold 1 has 2 samples, that of fold 2 has 7; "
        "a mean over folds counts both alike",
    ]
    scores = np.array([0.5, 1, 2, 2, 1, 0.5, 1, 1, 1, 1])
    assert fold_findings([fold(1, [0, 1], [2], [4, 6])], scores, ()) == [
        "fold 1: all test samples have one score: r and CCC are 0 there"
    ]


def params(**experiments: dict[str, object]) -> Params:
    given = {name: {"dataset": "mine", "model": "linear", **one} for name, one in experiments.items()}
    section = small_world.dataset(labels=("no", "yes"), folds={"scheme": "session"})
    return Params.model_validate({"datasets": {"mine": section}, "experiments": given})


SAMPLES = [
    Sample(f"{session}{place}", text="x", label=label, session=session, score=place, speaker=session)
    for session, labels in {"A": ("no", "yes"), "B": ("no", "no"), "C": ("no", "yes", "so")}.items()
    for place, label in enumerate(labels)
]


def test_a_dataset_by_itself_and_by_its_experiments() -> None:
    lacks = 'fold 2 of 3: no "yes" in the test part: UA is over the other classes there, and chance is higher'
    assert lacks in dataset_findings(params(), "mine", SAMPLES)
    many = params(**{f"e{k}": {} for k in range(5)}, scored={"task": "regression"})
    found = dataset_findings(many, "mine", SAMPLES)
    assert f"e0, e1, e2 and 2 more: {lacks}" in found and not any("scored" in one for one in found)
    merged = params(all={"labels": {"no": "no", "rest": ["yes", "so"]}, "folds": {"scheme": "official"}})
    assert dataset_findings(merged, "mine", SAMPLES) == [
        "all: cannot be trained on: no samples to split; are the dataset's labels those of its manifest?"
    ]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of texts, one class of which the test part lacks."""
    given = yaml.safe_load(Path("params.yaml").read_text())
    mine = {
        "loader": "folder",
        "root": "mine",
        "options": {},
        "labels": ["no", "yes"],
        "folds": {"scheme": "official"},
    }
    given["datasets"] = {"mine": {**given["datasets"]["demo"], **mine}}
    given["experiments"], given["report"] = {}, {}
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(given))
    Path("mine").mkdir()
    rows = ["a,x,no,train", "b,x,yes,train", "c,x,no,valid", "d,x,yes,valid", "e,x,no,test"]
    write_lines(Path("mine/samples.csv"), ["id,text,label,split", *rows])
    return tmp_path


LACKS = 'fold 1: no "yes" in the test part: UA is over the other classes there, and chance is higher'


def test_check_says_it(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["dataset", "check", "mine"])
    assert capsys.readouterr().out.splitlines()[-2:] == ["splits to think about: 1", f"  {LACKS}"]
    with pytest.raises(SystemExit, match="0"):
        main(["dataset", "check", "mine", "--json"])
    assert json.loads(capsys.readouterr().out)["splits"] == [LACKS]


def test_prepare_says_it(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    from pipeline.params import load_params

    prepare.main(load_params(), "mine")
    assert f"mine: {LACKS}" in caplog.messages
    assert "splits" not in json.loads(Path("data/manifests/mine.json").read_text())


def test_train_says_it_and_of_networks_that_say_one_class(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who validates has no text, which is all that the network sees: it can but say one class for all."""
    small_world.write(tmp_path, 60, missing=[("text", index) for index in range(1, 60, 5)])
    section = small_world.dataset(
        labels=(*small_world.CLASSES, "bored"), folds={"scheme": "session", "count": 1}
    )
    one = Experiment(dataset="small", model="linear", epochs=1, train_on="t")
    with caplog.at_level(logging.WARNING, "lacuna"):
        folder = train_experiment("flat", one, section, 0, Compute(workers=1, device="cpu"), tmp_path)
    said = [f'fold 1: no "bored" in the {part} part: ' for part in ("training", "validation", "test")]
    findings = json.loads((folder / "summary.json").read_text())["findings"]
    assert len(findings) == 3 and all(map(str.startswith, findings, said))
    assert [f"flat: {one}" for one in findings] == [m for m in caplog.messages if "bored" in m]
    facts = json.loads((folder / "1-1/run.json").read_text())
    assert facts["one_answer"] is True
    assert "flat: fold 1, run 1: the network gives all validation samples the same answer" in caplog.messages
    full = one.model_copy(update={"train_on": "full"})
    folder = train_experiment("full", full, section, 0, Compute(workers=1, device="cpu"), tmp_path)
    assert json.loads((folder / "1-1/run.json").read_text())["one_answer"] is False
    assert not [message for message in caplog.messages if message.startswith("full: fold 1, run 1")]
