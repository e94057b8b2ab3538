"""Presets: each is valid wherever it can go; they add up, share their trainings, and go without a trace."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.commands import cli
from pipeline.commands.preset import (
    Draft,
    Plan,
    load_preset,
    make_draft,
    make_plan,
    preset_names,
    remove_tables,
    render,
    write_plan,
)
from pipeline.errors import ParamsError
from pipeline.params import load_params
from pipeline.reporting.published import find_rows, read_papers
from pipeline.training.experiment import resolve

PARAMS = Path(__file__).parents[3] / "params.yaml"
CASES = [(name, dataset) for name in preset_names() for dataset in load_preset(name).protocols]
Lacuna = Callable[..., tuple[int, str]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, the working directory."""
    shutil.copy(PARAMS, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "params.yaml"


@pytest.fixture
def lacuna(project: Path, capsys: pytest.CaptureFixture[str]) -> Lacuna:
    """The command ``lacuna preset``: words -> (exit status, what it printed)."""

    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["preset", *words])
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out + printed.err

    return run


def draft(name: str, dataset: str) -> Draft:
    return make_draft(name, load_preset(name), dataset, load_params())


def plan(*cases: tuple[str, str]) -> Plan:
    raw = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    return make_plan([draft(*case) for case in cases], load_params(), raw)


def test_tables_come_before_figures_and_by_their_numbers() -> None:
    assert preset_names("m3s") == [
        f"m3s-{part}" for part in ("table2", "table3", "table4", "table5", "fig1", "fig3", "fig4")
    ]
    assert preset_names("mmin") == [
        f"mmin-{part}" for part in ("table4", "table5", "table6", "table7", "fig3")
    ]
    with pytest.raises(ParamsError, match='Did you mean "mmin"'):
        preset_names("mmim")


@pytest.mark.parametrize(("name", "dataset"), CASES)
def test_every_preset_gives_valid_params_and_rows_that_are_published(
    project: Path, name: str, dataset: str
) -> None:
    made = plan((name, dataset))
    write_plan(made)
    params, table = load_params(), load_params().report.tables[f"{name}-{dataset}"]
    wanted = load_preset(name).experiments
    assert len(table.experiments) == sum(not one.where or dataset in one.where for one in wanted.values())
    assert all(find_rows(row) for row in (*table.p_values.values(), *table.published.values()))
    assert all(params.experiments[one].dataset == dataset for one in table.experiments)
    assert any(params.experiments[one].model == "linear" for one in table.experiments)  # the floor
    raw = yaml.safe_load(project.read_text())
    for experiment in raw["experiments"].values():  # what dvc.yaml names
        assert {"dataset", "model", "regime"} <= experiment.keys()
    printed = yaml.safe_load(render(made))
    assert printed["report"]["tables"] == raw["report"]["tables"]
    assert printed["experiments"].items() <= raw["experiments"].items()
    assert "&id" not in render(made)


@pytest.mark.parametrize(("name", "dataset"), CASES)
def test_rows_stand_in_the_order_of_the_file(project: Path, name: str, dataset: str) -> None:
    made, wanted = draft(name, dataset), load_preset(name).experiments
    assert list(made.experiments) == [one for one in wanted if one in made.experiments]
    assert made.table["experiments"] == list(made.experiments)
    assert [made.experiments[one]["model"] == "linear" for one in made.experiments] == sorted(
        one["model"] == "linear" for one in made.experiments.values()
    )  # the floor stands below the paper's rows


@pytest.mark.parametrize(
    ("paper", "ending"),
    [("m3s", ""), ("mmin", ""), ("mmin", "\n# the end, without a line break"), ("mmin", "\r\n")],
)
def test_a_paper_adds_up_and_goes_without_a_trace(
    project: Path, lacuna: Lacuna, paper: str, ending: str
) -> None:
    text = project.read_text().replace("experiments:\n", "# about mine\nexperiments:  # mine\n", 1)
    text = text.replace("report:\n", "  # other: {}\n\nreport:\n").rstrip("\n")
    if ending == "\r\n":
        text = text.replace("\n", "\r\n")
    text += ending
    project.write_bytes(text.encode())
    assert lacuna("--paper", paper, "--write")[0] == 0
    after = project.read_bytes()
    params = load_params()
    assert list(params.report.tables) == [f"{name}-demo" for name in preset_names(paper)]
    assert list(params.experiments)[: len(load_params(PARAMS).experiments)] == list(
        load_params(PARAMS).experiments
    )
    rest = after.decode()
    for line in text.splitlines():  # each line of the user's, in order
        assert line in rest
        rest = rest[rest.index(line) + len(line) :]
    status, said = lacuna("--paper", paper, "--write")
    assert status == 0 and "left as they were" in said and project.read_bytes() == after
    assert lacuna("--paper", paper, "--remove")[0] == 0
    assert project.read_bytes() == text.encode()
    assert [path.name for path in project.parent.iterdir()] == ["params.yaml"]


def test_trainings_that_tables_share_are_one_experiment(project: Path, lacuna: Lacuna) -> None:
    lacuna("--paper", "mmin", "--dataset", "iemocap", "--write")
    params = load_params()
    fields = [one.model_dump_json() for one in params.experiments.values() if one.dataset == "iemocap"]
    assert len(set(fields)) == len(fields) == 19
    tables = {name: table.experiments for name, table in params.report.tables.items()}
    fifth, sixth, seventh = (set(tables[f"mmin-table{number}-iemocap"]) for number in (5, 6, 7))
    assert len(fifth & seventh) == 4 and len(fifth & sixth) == 2  # both baselines, MMIN, the floor
    assert params.report.tables["mmin-table5-iemocap"].baseline == "full-modality-iemocap"
    assert params.report.tables["mmin-table6-iemocap"].baseline == "mmin-iemocap"
    (row,) = [
        r
        for n, r in params.report.tables["mmin-table7-iemocap"].published.items()
        if n in fifth and r.model == "Baseline"
    ]
    assert row.conditions == ("avt",)


def test_table_4_of_m3s_trains_what_table_2_trains(project: Path) -> None:
    second, fourth = draft("m3s-table2", "mosi").experiments, draft("m3s-table4", "mosi").experiments
    for name in ("mmim-orig-40-60", "mmim-sampled-40-60", "mmim-m3s-40-60"):
        one, other = dict(fourth[f"{name}-at-60-80"]), dict(second[name])
        assert one.pop("evaluate_on") == "block-60-80" != other.pop("evaluate_on")
        assert one == other


def test_what_another_table_needs_stays_until_that_goes_too(project: Path, lacuna: Lacuna) -> None:
    text = project.read_bytes()
    for name in ("mmin-table5", "mmin-table7", "m3s-table2"):
        assert lacuna(name, "--write")[0] == 0
    both = set(load_params().report.tables["mmin-table5-demo"].experiments)
    seventh = set(load_params().report.tables["mmin-table7-demo"].experiments)
    status, said = lacuna("mmin-table5", "--remove")
    left = load_params()
    assert status == 0 and "mctn-vt" in said and "mmin-demo" not in said
    assert both - set(left.experiments) == both - seventh and seventh <= set(left.experiments)
    lacuna("mmin-table7", "--remove")
    assert both.isdisjoint(load_params().experiments) and "block-40-60" in load_params().masks
    lacuna("m3s-table2", "--remove", "--dataset", "demo")
    assert project.read_bytes() == text


def test_what_the_user_changed_stays(project: Path, lacuna: Lacuna) -> None:
    assert lacuna("mmin-table6", "--dataset", "iemocap", "--write")[0] == 0
    text = project.read_text()
    changed = text.replace("root: data/raw/iemocap", "root: /corpora/iemocap").replace(
        "settings: {cycle: false}", "settings: {cycle: false}\n    epochs: 7"
    )
    project.write_text(changed)
    status, said = lacuna("mmin-table6", "--remove")
    params = load_params()
    assert status == 0 and "not as a preset wrote them: experiments.mmin-nocycle" in said
    assert "mmin-table6-iemocap" not in params.report.tables and "mmin-ae" not in params.experiments
    assert params.experiments["mmin-nocycle"].epochs == 7
    assert params.datasets["iemocap"].root == Path("/corpora/iemocap")
    status, said = lacuna("mmin-table6", "--remove")
    assert status == 1 and "there is no table of mmin-table6" in said


def test_a_table_that_the_user_changed_stays_whole(project: Path, lacuna: Lacuna) -> None:
    lacuna("mmin-table4", "--write")
    text = project.read_text().replace("title: MMIN, Table 4 on demo", "title: My title")
    project.write_text(text)
    status, said = lacuna("mmin-table4", "--remove")
    assert status == 0 and "report.tables.mmin-table4-demo" in said and project.read_text() == text


def test_an_experiment_of_the_users_that_is_the_same_is_used_and_never_removed(
    project: Path, lacuna: Lacuna
) -> None:
    fields = draft("mmin-table6", "demo").experiments["mmin-ae"]
    mine = yaml.safe_dump({"mine": fields}, default_flow_style=True, width=1000).strip()[1:-1]
    text = project.read_text().replace("experiments:\n", f"experiments:\n  {mine}  # my own\n", 1)
    project.write_text(text)
    status, said = lacuna("mmin-table6", "--write")
    assert status == 0 and "used the experiments mine, which were there" in said
    assert "mine" in load_params().report.tables["mmin-table6-demo"].experiments
    lacuna("mmin-table6", "--remove")
    assert project.read_text() == text


def test_names_that_are_taken(project: Path, lacuna: Lacuna) -> None:
    assert lacuna("mmin-table6", "--write")[0] == 0  # mmin is the demo's own
    assert load_params().report.tables["mmin-table6-demo"].baseline == "mmin-demo"
    assert lacuna("mmin-table6", "--dataset", "iemocap", "--write")[0] == 0
    params = load_params()
    assert params.report.tables["mmin-table6-iemocap"].experiments[:3] == (
        "mmin-ae-iemocap", "mmin-nocycle-iemocap", "mmin-iemocap",
    )  # fmt: skip
    assert set(load_params(PARAMS).experiments) <= set(params.experiments)


def test_a_mask_of_the_same_name_but_another_is_refused(project: Path, lacuna: Lacuna) -> None:
    text = project.read_text().replace(
        "masks:\n", "masks:\n  block-40-60: {protocol: block, range: [0.4, 0.5]}\n", 1
    )
    project.write_text(text)
    status, said = lacuna("m3s-fig1", "--write")
    assert status == 1 and "masks.block-40-60" in said and "Rename yours" in said
    assert project.read_text() == text
    project.write_text(
        text.replace("[0.4, 0.5]", "[0.4, 0.6]").replace(
            "protocol: block, range: [0.4, 0.6]}", "range: [0.4, 0.6], protocol: block}", 1
        )
    )
    assert lacuna("m3s-fig1", "--write")[0] == 0


def test_protocols_of_the_paper(project: Path) -> None:
    for dataset, metric in (("iemocap", "ua"), ("msp_improv", "macro_f1")):
        made = draft("mmin-table5", dataset)
        assert made.entry is not None and made.entry["folds"] == {"scheme": "speaker-partner"}
        assert made.entry["video"] == {"extractor": "denseface"}
        assert {(e["runs"], e["select_by"]) for e in made.experiments.values()} == {(3, metric)}


def test_several_datasets_at_once_are_a_table_each(project: Path, lacuna: Lacuna) -> None:
    status, _ = lacuna("mmin-table5", "--dataset", "iemocap", "msp_improv", "--write")
    params = load_params()
    assert status == 0 and list(params.report.tables) == ["mmin-table5-iemocap", "mmin-table5-msp_improv"]
    for dataset, table in zip(("iemocap", "msp_improv"), params.report.tables.values(), strict=True):
        assert {params.experiments[name].dataset for name in table.experiments} == {dataset}
        assert {row.dataset for row in table.published.values()} == {dataset}
        assert table.baseline == f"full-modality-{dataset}"
        assert table.title == f"MMIN, Table 5 on {dataset}"
    assert {"iemocap", "msp_improv"} <= params.datasets.keys()


def test_a_paper_on_several_datasets_takes_of_each_what_it_has(project: Path, lacuna: Lacuna) -> None:
    status, said = lacuna("--paper", "m3s", "--dataset", "iemocap", "mosi", "sims", "--write")
    assert status == 0 and "left out: m3s-fig1, which has no protocol for mosi" in said
    tables = load_params().report.tables
    assert [name for name in tables if "table2" in name] == [
        f"m3s-table2-{d}" for d in ("iemocap", "mosi", "sims")
    ]
    assert "m3s-fig3-mosi" in tables and "m3s-fig3-iemocap" not in tables and len(tables) == 13
    status, said = lacuna("m3s-fig3", "--dataset", "iemocap")
    assert status == 1 and "m3s-fig3 knows no protocol" in said


def test_what_is_not_the_papers_is_said(project: Path) -> None:
    made = plan(("mmin-table5", "demo"), ("mmin-table6", "demo"))
    assert [note for note in made.notes if "the paper's is denseface" in note] == [made.notes[-1]]  # once
    assert render(made).startswith("# ")
    text = project.read_text()
    other = text.replace("opensmile: {feature_set: IS13_ComParE,", "opensmile: {feature_set: ComParE_2016,")
    project.write_text(other.replace("loader: demo\n", "loader: iemocap\n", 1))
    notes = draft("mmin-table4", "demo").notes
    assert (
        "datasets.demo.audio: feature_set of opensmile is ComParE_2016; the paper's is IS13_ComParE" in notes
    )
    assert any(note.startswith("datasets.demo.folds is {'scheme': 'session'") for note in notes)
    assert not any("labels" in note for note in notes)
    fewer = project.read_text().replace("labels: [happy, neutral, sad, angry]", "labels: [happy, sad]", 1)
    project.write_text(fewer)
    notes = draft("mmin-table4", "demo").notes
    assert "datasets.demo.labels are happy, sad; the paper's are happy, neutral, sad, angry" in notes


def test_features_are_those_that_the_report_compares_with(project: Path) -> None:
    for name, dataset in CASES:
        preset = load_preset(name)
        protocol = preset.protocols[dataset]
        if protocol.folds is None or "folds" in protocol.fields or "labels" in protocol.fields:
            continue  # the dataset's own, or the experiments'
        entry, paper = draft(name, dataset).entry, read_papers()[preset.paper][dataset]
        assert entry is not None
        assert entry["folds"]["scheme"] == paper["scheme"]
        assert entry["labels"] == paper["labels"]
        for modality, features in paper["features"].items():
            assert entry[modality]["extractor"] == features["extractor"], (name, dataset, modality)
            said = entry[modality].get("settings", {})
            assert said.items() <= features.get("settings", {}).items()
    mosi, sims = (draft("m3s-table2", d).entry or {} for d in ("mosi", "sims"))
    assert [mosi[m]["extractor"] for m in ("text", "audio", "video")] == ["bert", "covarep", "facet35"]
    assert [sims[m]["extractor"] for m in ("text", "audio", "video")] == ["bert", "librosa", "openface"]


@pytest.mark.parametrize("name", ["m3s-table2", "m3s-table3", "m3s-table4", "m3s-table5", "m3s-fig3"])
def test_self_mm_alone_stops_early(project: Path, name: str) -> None:
    write_plan(plan(*((name, d) for d in ("mosi", "sims") if d in load_preset(name).protocols)))
    every = load_params().experiments.values()
    found = {one.model: resolve(one) for one in every if one.dataset in ("mosi", "sims")}
    found.pop("linear")
    wanted = {"misa": (500, None), "mmim": (40, None), "self_mm": (100, 8)}
    assert found and all((one.epochs, one.patience) == wanted[model] for model, one in found.items())


def test_a_preset_that_does_not_fit_leaves_params_as_they_were(project: Path) -> None:
    text = project.read_text()
    made = plan(("mmin-table5", "demo"))
    made.experiments["mmin-demo"]["epochs"] = 0
    with pytest.raises(ParamsError, match="left as it was"):
        write_plan(made)
    assert project.read_text() == text
    assert [path.name for path in project.parent.iterdir()] == ["params.yaml"]


def test_two_rows_that_are_one_experiment_are_refused(project: Path) -> None:
    made = draft("mmin-table6", "demo")
    twice = {**made.experiments, "again": made.experiments["mmin"]}
    other = Draft(**{**vars(made), "experiments": twice})
    with pytest.raises(ParamsError, match="mmin and again are the same experiment"):
        make_plan([other], load_params(), yaml.safe_load(project.read_text()))


def test_names_that_are_not_there(project: Path, lacuna: Lacuna) -> None:
    with pytest.raises(ParamsError, match='Did you mean "mmin-table5"'):
        load_preset("mmin-tabel5")
    with pytest.raises(ParamsError, match="no protocol"):
        draft("mmin-table6", "cremad")
    assert remove_tables(["nowhere"]).tables == []
    for words in (
        ["--write"],
        ["mmin-table5", "--paper", "mmin"],
        ["--paper", "nobody"],
        ["m3s-table2", "--remove"],
    ):
        assert lacuna(*words)[0] == 1, words


def test_the_command_lists_and_prints_without_writing(project: Path, lacuna: Lacuna) -> None:
    status, listed = lacuna()
    assert status == 0
    assert [line.split()[0] for line in listed.splitlines()] == preset_names()
    text = project.read_text()
    status, printed = lacuna("mmin-table4")
    assert status == 0 and list(yaml.safe_load(printed)) == ["experiments", "report"]
    assert project.read_text() == text
    lacuna("mmin-table4", "--write")
    status, again = lacuna("mmin-table4")  # the same, under the same names
    assert status == 0 and yaml.safe_load(again) == yaml.safe_load(printed)


def test_m3s_on_each_dataset_has_the_papers_models(project: Path) -> None:
    models = {}
    for dataset in ("iemocap", "mosi", "sims", "demo"):
        made = draft("m3s-table2", dataset)
        own = {name: one for name, one in made.experiments.items() if one["model"] != "linear"}
        models[dataset] = {one["model"] for one in own.values()}
        assert made.masks == {
            "block-40-60": {"protocol": "block", "range": [0.4, 0.6]},
            "block-40-60-sampled": {"protocol": "block", "range": [0.4, 0.6], "draw": "sampled"},
        }
        for name, one in own.items():  # ORIG, SPL-TRN and M3S by their masks and rules
            kind = name.removesuffix("-40-60").rpartition("-")[2]
            mask = one.get("train_mask", one["train_on"])
            assert mask == ("block-40-60" if kind == "orig" else "block-40-60-sampled")
            assert one["regime"] == ("m3s" if kind == "m3s" else "standard")
        assert made.table["against"] == {
            name: name.replace("-sampled-", "-orig-").replace("-m3s-", "-orig-")
            for name in own
            if "-orig-" not in name
        }
    assert models == {
        "iemocap": {"mmin"}, "mosi": {"misa", "mmim"}, "sims": {"self_mm"},
        "demo": {"mmin", "misa", "mmim", "self_mm"},
    }  # fmt: skip
    sims = draft("m3s-table2", "sims").experiments["self-mm-m3s-40-60"]
    assert sims["learning_rates"] == {"audio": 5e-3, "video": 5e-3, "text": 5e-5}
    assert sims["regime_settings"]["inner_rates"] == {"audio": 5e-3, "video": 5e-3, "text": 5e-5}
    assert (
        sims["settings"] == {"variant": "mmsa", "text": "tokens", "label_limit": 1.0}
        and sims["task"] == "regression"
    )
    demo = draft("m3s-table2", "demo").experiments
    assert demo["self-mm-m3s-40-60"]["settings"] == {"variant": "mmsa", "label_limit": 4.0}
    assert "text" not in demo["self-mm-m3s-40-60"]["learning_rates"]
    iemocap = draft("m3s-table2", "iemocap")
    assert iemocap.entry is not None
    assert iemocap.entry["folds"] == {"scheme": "speaker-partner", "count": 1}
    assert iemocap.table["published"]["mmin-m3s-40-60"]["conditions"] == ["average"]
    rates = [demo[f"{model}-m3s-40-60"] for model in ("mmin", "mmim", "misa")]
    found = [(one["regime_settings"]["inner_rate"], one["learning_rate"], one["batch_size"]) for one in rates]
    assert found == [(2e-4, 1e-4, 256), (1e-3, 1e-3, 32), (1e-4, 1e-4, 128)]  # section 4.4


def test_the_augmented_baseline_says_that_it_is(project: Path) -> None:
    for name in ("mmin-table5", "mmin-table7"):
        one = draft(name, "iemocap").experiments["augmented"]
        assert (one["train_on"], one["settings"]) == ("augmented", {"augmented": True})


def test_every_row_of_a_paper_is_somewhere(project: Path) -> None:
    named: dict[str, Any] = {}
    for name, dataset in CASES:
        if dataset != "demo":
            for row in draft(name, dataset).table.get("published", {}).values():
                named.setdefault((row["paper"], row["table"], row["dataset"]), set()).add(row["model"])
    assert named["mmin", "5", "msp_improv"] == {
        "Full-modality baseline",
        "Augmented baseline",
        "MMIN",
        "MCTN",
    }
    assert len(named["m3s", "3", "iemocap"]) == len(named["m3s", "3", "mosi"]) == 9
