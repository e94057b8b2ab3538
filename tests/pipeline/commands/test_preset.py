"""Presets: every one is valid wherever it can go, and params.yaml keeps the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.commands import cli
from pipeline.commands.preset import (
    Blocks,
    join,
    load_preset,
    make_blocks,
    preset_names,
    render,
    write_blocks,
)
from pipeline.errors import ParamsError
from pipeline.params import load_params
from pipeline.reporting.published import find_rows, read_papers
from pipeline.train import resolve

PARAMS = Path(__file__).parents[3] / "params.yaml"
CASES = [(name, dataset) for name in preset_names() for dataset in load_preset(name).protocols]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, the working directory."""
    shutil.copy(PARAMS, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "params.yaml"


def blocks(name: str, dataset: str) -> Blocks:
    return make_blocks(load_preset(name), dataset, load_params())


@pytest.mark.parametrize(("name", "dataset"), CASES)
def test_every_preset_gives_valid_params_and_rows_that_are_published(
    project: Path, name: str, dataset: str
) -> None:
    made = blocks(name, dataset)
    write_blocks(made, replace_others=True)
    params = load_params()
    wanted = load_preset(name).experiments
    assert list(params.experiments) == [
        key for key, one in wanted.items() if not one.where or dataset in one.where
    ]
    assert all(find_rows(row) for row in params.report.p_values.values())
    assert all(one.dataset == dataset for one in params.experiments.values())
    assert all(find_rows(row) for row in params.report.published.values())
    raw = yaml.safe_load(project.read_text())
    for experiment in raw["experiments"].values():  # what dvc.yaml names
        assert {"dataset", "model", "regime", "evaluate_on"} <= experiment.keys()
    printed = yaml.safe_load(render(made))
    assert {key: raw[key] for key in ("experiments", "report")} == {
        key: printed[key] for key in ("experiments", "report")
    }
    assert "&id" not in render(made)


def test_protocols_of_the_paper(project: Path) -> None:
    for dataset, metric in (("iemocap", "ua"), ("msp_improv", "macro_f1")):
        made = blocks("mmin-table5", dataset)
        assert made.dataset[dataset]["folds"] == {"scheme": "speaker-partner"}
        assert made.dataset[dataset]["video"] == {"extractor": "denseface"}
        assert {(e["runs"], e["select_by"]) for e in made.experiments.values()} == {(3, metric)}


def test_everything_else_stays_comments_and_all(project: Path) -> None:
    before = project.read_text()
    text = before.replace("experiments:\n", "# about experiments\nexperiments:\n", 1) + "\n# the end\n"
    project.write_text(text)
    write_blocks(blocks("mmin-table6", "iemocap"), replace_others=True)
    after = project.read_text()
    old, new = yaml.safe_load(before), yaml.safe_load(after)
    assert new["datasets"].pop("iemocap")["loader"] == "iemocap"
    for key in old.keys() - {"experiments", "report"}:
        assert new[key] == old[key], key
    kept = text[: text.index("# about experiments")]
    assert [line for line in kept.splitlines() if line not in after.splitlines()] == []
    assert "# about experiments\nexperiments:\n" in after
    assert after.rstrip().endswith("# the end")
    once = after
    write_blocks(blocks("mmin-table6", "iemocap"))
    assert project.read_text() == once


def test_what_is_not_the_papers_is_said(project: Path) -> None:
    made = blocks("mmin-table5", "demo")
    assert any("facelandmarker; the paper's is denseface" in note for note in made.notes)
    assert render(made).startswith("# ")
    text = project.read_text()
    other = text.replace("opensmile: {feature_set: IS13_ComParE,", "opensmile: {feature_set: ComParE_2016,")
    project.write_text(other.replace("loader: demo\n", "loader: iemocap\n", 1))
    notes = make_blocks(load_preset("mmin-table4"), "demo", load_params()).notes
    assert (
        "datasets.demo.audio: feature_set of opensmile is ComParE_2016; the paper's is IS13_ComParE" in notes
    )
    assert any(note.startswith("datasets.demo.folds is {'scheme': 'session'") for note in notes)
    assert not any("labels" in note for note in notes)
    fewer = project.read_text().replace("labels: [happy, neutral, sad, angry]", "labels: [happy, sad]", 1)
    project.write_text(fewer)
    notes = make_blocks(load_preset("mmin-table4"), "demo", load_params()).notes
    assert "datasets.demo.labels are happy, sad; the paper's are happy, neutral, sad, angry" in notes


def test_features_are_those_that_the_report_compares_with(project: Path) -> None:
    for name, dataset in CASES:
        preset = load_preset(name)
        if preset.protocols[dataset].folds is None:
            continue
        entry, paper = blocks(name, dataset).dataset[dataset], read_papers()[preset.paper][dataset]
        assert entry["folds"]["scheme"] == paper["scheme"]
        assert entry["labels"] == paper["labels"]
        for modality, features in paper["features"].items():
            assert entry[modality]["extractor"] == features["extractor"], (name, dataset, modality)
            said = entry[modality].get("settings", {})
            assert said.items() <= features.get("settings", {}).items()
    mosi, sims = (blocks("m3s-table2", d).dataset[d] for d in ("mosi", "sims"))
    assert [mosi[m]["extractor"] for m in ("text", "audio", "video")] == ["bert", "covarep", "facet35"]
    assert [sims[m]["extractor"] for m in ("text", "audio", "video")] == ["bert", "librosa", "openface"]


@pytest.mark.parametrize("name", ["m3s-table2", "m3s-table3", "m3s-table4", "m3s-table5", "m3s-fig3"])
def test_self_mm_alone_stops_early(project: Path, name: str) -> None:
    every = [blocks(name, d) for d in ("mosi", "sims") if d in load_preset(name).protocols]
    write_blocks(join(every))
    found = {one.model: resolve(one) for one in load_params().experiments.values()}
    wanted = {"misa": (500, None), "mmim": (40, None), "self_mm": (100, 8)}
    assert found and all((one.epochs, one.patience) == wanted[model] for model, one in found.items())


def test_a_preset_that_does_not_fit_leaves_params_as_they_were(project: Path) -> None:
    text = project.read_text()
    made = blocks("mmin-table5", "demo")
    made.experiments["mmin"]["epochs"] = 0
    with pytest.raises(ParamsError, match="left as it was"):
        write_blocks(made)
    assert project.read_text() == text
    assert [path.name for path in project.parent.iterdir()] == ["params.yaml"]


def test_names_that_are_not_there(project: Path) -> None:
    with pytest.raises(ParamsError, match='Did you mean "mmin-table5"'):
        load_preset("mmin-tabel5")
    with pytest.raises(ParamsError, match="no protocol"):
        blocks("mmin-table6", "cremad")


def test_the_command(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["preset", *words])
        return int(ended.value.code or 0), capsys.readouterr().out

    status, listed = run()
    assert status == 0
    assert [line.split()[0] for line in listed.splitlines()] == preset_names()
    text = project.read_text()
    status, printed = run("mmin-table4")
    assert status == 0 and list(yaml.safe_load(printed)) == ["experiments", "report"]
    assert project.read_text() == text
    status, said = run("mmin-table4", "--write")
    assert status == 0 and "replaced the experiments augmented, mmin" in said
    assert list(load_params().experiments) == ["full-modality"]


def test_m3s_on_each_dataset_has_the_papers_models(project: Path) -> None:
    models = {}
    for dataset in ("iemocap", "mosi", "sims", "demo"):
        made = blocks("m3s-table2", dataset)
        models[dataset] = {one["model"] for one in made.experiments.values()}
        assert {one["regime"] for one in made.experiments.values()} == {"orig", "sampled", "m3s"}
        assert made.masks == {"block-40-60": {"protocol": "block", "range": [0.4, 0.6]}}
        assert made.report["against"] == {
            name: name.rpartition("-")[0] + "-orig" for name in made.experiments if not name.endswith("-orig")
        }
    assert models == {
        "iemocap": {"mmin"}, "mosi": {"misa", "mmim"}, "sims": {"self_mm"},
        "demo": {"mmin", "misa", "mmim", "self_mm"},
    }  # fmt: skip
    sims = blocks("m3s-table2", "sims").experiments["self-mm-m3s"]
    assert sims["learning_rates"] == {"audio": 5e-3, "video": 5e-3, "text": 5e-5}
    assert sims["regime_settings"]["inner_rates"] == {"audio": 5e-3, "video": 5e-3, "text": 5e-5}
    assert sims["settings"] == {"text": "tokens", "label_limit": 1.0} and sims["task"] == "regression"
    demo = blocks("m3s-table2", "demo").experiments["self-mm-m3s"]
    assert demo["settings"] == {"label_limit": 4.0} and "text" not in demo["learning_rates"]
    iemocap = blocks("m3s-table2", "iemocap")
    assert iemocap.dataset["iemocap"]["folds"] == {"scheme": "speaker-partner", "count": 1}
    assert iemocap.report["published"]["mmin-m3s"]["conditions"] == ["average"]
    rates = [blocks("m3s-table2", "demo").experiments[f"{m}-m3s"] for m in ("mmin", "mmim", "misa")]
    found = [(one["regime_settings"]["inner_rate"], one["learning_rate"], one["batch_size"]) for one in rates]
    assert found == [(2e-4, 1e-4, 256), (1e-3, 1e-3, 32), (1e-4, 1e-4, 128)]  # section 4.4


def test_table_4_trains_the_networks_of_table_2(project: Path) -> None:
    second, fourth = blocks("m3s-table2", "mosi").experiments, blocks("m3s-table4", "mosi").experiments
    for name in ("mmim-orig", "mmim-sampled", "mmim-m3s"):
        assert fourth[name].pop("evaluate_on") == "block-60-80" != second[name].pop("evaluate_on")
        assert fourth[name] == second[name]


def test_names_that_two_datasets_share_get_the_datasets(project: Path) -> None:
    both = join([blocks("mmin-table5", "iemocap"), blocks("mmin-table5", "msp_improv")])
    write_blocks(both, replace_others=True)
    params = load_params()
    assert len(params.experiments) == 18
    for name, one in params.experiments.items():
        assert name.endswith(f"-{one.dataset}")
        assert params.report.published[name].dataset == one.dataset
        if name != f"full-modality-{one.dataset}":
            assert params.report.against[name] == f"full-modality-{one.dataset}"
    assert params.report.baseline is None and len(params.report.against) == 16
    assert params.report.title == "MMIN, Table 5 on iemocap and msp_improv"
    selected = {one.dataset: one.select_by for one in params.experiments.values()}
    assert selected == {"iemocap": "ua", "msp_improv": "macro_f1"}


def test_names_that_do_not_collide_stay_and_what_points_at_them_follows(project: Path) -> None:
    both = join([blocks("m3s-table5", "demo"), blocks("m3s-table5", "mosi"), blocks("m3s-table5", "sims")])
    assert {"mmin-orig", "misa-orig-demo", "misa-orig-mosi", "self-mm-m3s-sims"} <= both.experiments.keys()
    assert both.report["against"] == {
        name: name.replace("-m3s", "-orig") for name in both.experiments if "-m3s" in name
    }
    assert set(both.report["p_values"]) == set(both.report["against"])
    assert "baseline" not in both.report
    assert join([blocks("mmin-table5", "demo")]) == blocks("mmin-table5", "demo")


def test_an_experiment_of_another_dataset_is_not_overwritten(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["preset", "mmin-table5", *words, "--write"])
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out + printed.err

    assert write("--dataset", "demo")[0] == 0
    assert write("--dataset", "iemocap", "--replace")[0] == 0
    text = project.read_text()
    status, said = write("--dataset", "msp_improv")
    assert status == 1 and "mmin (on iemocap)" in said and "--dataset iemocap msp_improv" in said
    assert project.read_text() == text
    assert write("--dataset", "iemocap")[0] == 0  # its own again
    status, said = write("--dataset", "msp_improv", "--replace")
    assert status == 0 and "replaced the experiments full-modality, augmented, mmin" in said
    assert {one.dataset for one in load_params().experiments.values()} == {"msp_improv"}


def test_several_datasets_at_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["preset", "m3s-table2", "--dataset", "iemocap", "mosi", "sims", "--write"])
    assert not ended.value.code
    params = load_params()
    where = {name: one.dataset for name, one in params.experiments.items()}
    assert len(where) == 12 and set(where.values()) == {"iemocap", "mosi", "sims"}
    assert where["misa-m3s"] == "mosi" and params.report.published["misa-m3s"].dataset == "mosi"
    assert params.report.title == "M3S, Table 2 on iemocap and mosi and sims"
    assert params.report.against["self-mm-m3s"] == "self-mm-orig" and "block-40-60" in params.masks
