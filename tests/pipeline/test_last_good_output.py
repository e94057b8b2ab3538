"""A stage that fails in the middle of its writing leaves what it wrote before, whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import evaluate, report
from pipeline.data import fetching
from pipeline.data.manifest import Sample
from pipeline.data.preparation import prepare
from pipeline.demo_corpus import construct
from pipeline.errors import AssetError, DataError
from pipeline.params import Asset, Compute, Corpus, Experiment
from pipeline.reporting import writing
from pipeline.training import all_runs
from tests import report_tree, small_world
from tests.pipeline.test_prepare import Fixed


class Stop(Exception):
    """The fault."""


def fail(*_: object, **__: object) -> Any:
    raise Stop


def tree(folder: Path) -> dict[str, bytes]:
    """Return path -> bytes of all files, hidden ones too."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_report(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report_tree.write_tree(project / "data")
    params = report_tree.params()
    report.main(params)
    before = tree(project / "data/report")
    assert "index.html" in before
    for place in ("render", "curve_rows", "result_rows"):  # before, and in the middle of writing
        with monkeypatch.context() as patch:
            patch.setattr(writing, place, fail)
            with pytest.raises(Stop):
                report.main(params)
        assert tree(project / "data/report") == before
    assert not list((project / "data").glob(".*"))


def test_evaluate(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(
        classes=("a", "b"),
        results=(SimpleNamespace(conditions=["avt"]),),
        hidden={},
        constant=(),
        judgements=(),
    )
    guessed = SimpleNamespace(to_json=lambda: b"{}", findings=lambda: [], words=lambda _: "")
    params: Any = SimpleNamespace(
        experiment=lambda name: SimpleNamespace(dataset="d"),
        dataset=lambda name: None,
        evaluation_masks=lambda one: (),
        compute=None,
    )
    monkeypatch.setattr(evaluate, "evaluate_experiment", lambda *_: found)
    monkeypatch.setattr(evaluate, "against_chance", lambda *_: guessed)
    monkeypatch.setattr(evaluate, "summarise", lambda results: ([{"fold": 1}], {"average": {}}))
    evaluate.main(params, "one")
    before = tree(project / "data/results/one")
    assert len(before) == 7
    monkeypatch.setattr(evaluate, "summarise", lambda results: ([{"fold": 2}], {"average": {"new": 1}}))
    monkeypatch.setattr(evaluate, "_judgement_rows", fail)  # of the last of seven
    with pytest.raises(Stop):
        evaluate.main(params, "one")
    assert tree(project / "data/results") == {f"one/{name}": content for name, content in before.items()}


def test_prepare(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails(Fixed):
        def load(self) -> Iterator[Sample]:
            yield Sample("new", text="new")
            raise DataError("the second row")

    out = project / "manifests"
    prepare("set", Fixed(project, [Sample("a", text="one")]), out)
    before = tree(project)
    assert sorted(before) == ["manifests/set.csv", "manifests/set.json", "manifests/set.sha256"]
    wrong = Fixed(project, [Sample("b", text="two")])
    monkeypatch.setattr(wrong, "expected", fail)  # once the manifest is written
    for loader, error in ((Fails(project, []), DataError), (Fixed(project, []), DataError), (wrong, Stop)):
        with pytest.raises(error):
            prepare("set", loader, out)
        assert tree(project) == before


def test_assets(project: Path) -> None:
    (project / "mine").mkdir()
    (project / "mine/a").write_text("one")
    fetching.fetch("it", Asset(path=project / "mine"), project / "data/assets/it")
    before = tree(project / "data")
    (project / "mine/b").symlink_to(project / "nowhere")
    with pytest.raises(AssetError, match="leads nowhere"):
        fetching.fetch("it", Asset(path=project / "mine"), project / "data/assets/it")
    assert tree(project / "data") == before


def test_corpus(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = project / "data/raw/demo"
    target.mkdir(parents=True)
    (target / "labels.csv").write_text("good")
    monkeypatch.setattr(construct, "read_sentences", lambda *_: {})
    monkeypatch.setattr(construct, "load_checked", lambda *_: "")
    monkeypatch.setattr(construct, "fresh_processes", fail)
    with pytest.raises(Stop):
        construct.build(Corpus(), project, project, target)
    assert tree(project / "data") == {"raw/demo/labels.csv": b"good"}


def test_train(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = project / "data"
    small_world.write(data, 40)
    given = {"dataset": "small", "model": "linear", "epochs": 1, "folds": {"scheme": "session", "count": 2}}
    one = Experiment.model_validate(given)
    how: tuple[Any, ...] = (small_world.dataset(), 0, Compute(workers=1, device="cpu"), data)
    all_runs.train_experiment("one", one, *how)
    before = tree(data / "runs")
    assert {"one/summary.json", "one/1-1/weights.safetensors", "one/2-1/run.json"} <= set(before)
    monkeypatch.setattr(all_runs, "summary", fail)  # the last thing that is written
    with pytest.raises(Stop):
        all_runs.train_experiment("one", one.model_copy(update={"epochs": 2}), *how)
    assert tree(data / "runs") == before
