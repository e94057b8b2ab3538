"""The report: its numbers are those that went in, its words follow them, and no input breaks the page."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import h5py
import pytest

from pipeline import report
from pipeline.data.masks import CONDITIONS, MISSING_CONDITIONS
from pipeline.errors import DataError, StoreError
from pipeline.extraction.extractors.base import Caution, find
from pipeline.params import Params
from pipeline.reporting.comparison import compare, single_modalities, verdicts
from pipeline.reporting.facts import gather
from pipeline.training.chance import Chance, Reached
from tests import report_tree
from tests.report_tree import FOLDS, score

VOID = {"meta", "link", "br", "hr", "img", "input", "rect", "circle", "path", "use"}


class Page(HTMLParser):
    """What a page says, and whether its elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words += data

    @property
    def plain(self) -> str:
        """The words with one space between them."""
        return re.sub(r"\s+", " ", self.words)


def make(data: Path, params: Params) -> str:
    report.write(params, *gather(params, data), data / "report")
    return (data / "report" / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole tree with its report; read it only."""
    folder = tmp_path_factory.mktemp("tree") / "data"
    report_tree.write_tree(folder)
    make(folder, report_tree.params())
    return folder


@pytest.fixture(scope="module")
def text(data: Path) -> str:
    return (data / "report" / "index.html").read_text(encoding="utf-8")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


class TestNumbers:
    def test_results_equal_what_went_in(self, data: Path) -> None:
        found = {
            (row["experiment"], row["condition"], row["metric"]): row
            for row in rows(data / "report/tables/results.csv")
        }
        assert len(found) == 3 * 8 * 4
        for experiment in report_tree.GAIN:
            for condition in report_tree.LEVEL:
                folds = [score(experiment, fold, condition) for fold in range(1, FOLDS + 1)]
                row = found[experiment, condition, "ua"]
                assert float(row["mean"]) == pytest.approx(mean(folds))
                spread = (sum((x - mean(folds)) ** 2 for x in folds) / (FOLDS - 1)) ** 0.5
                assert float(row["deviation"]) == pytest.approx(spread)
                assert row["count"] == str(FOLDS)
                assert float(found[experiment, condition, "wa"]["mean"]) == pytest.approx(mean(folds) + 0.01)

    def test_average_is_of_the_six_and_is_not_read_from_the_file(self, data: Path) -> None:
        for row in rows(data / "report/tables/results.csv"):
            if (row["condition"], row["metric"]) == ("average", "ua"):
                every = [
                    score(row["experiment"], f, c) for f in range(1, FOLDS + 1) for c in MISSING_CONDITIONS
                ]
                assert float(row["mean"]) == pytest.approx(mean(every))  # folds.csv says 0

    def test_the_same_numbers_stand_on_the_page_and_in_each_table(self, data: Path, text: str) -> None:
        expected = f"{mean([score('mmin', fold, 'av') for fold in range(1, FOLDS + 1)]):.3f}"
        assert expected in Page(text).words
        for suffix in ("csv", "md", "tex"):
            assert expected in (data / f"report/tables/demo-conditions.{suffix}").read_text(encoding="utf-8")

    def test_stars_mark_what_is_significantly_better_on_average_and_full_alone(self, data: Path) -> None:
        for row in rows(data / "report/tables/demo-conditions.csv"):
            assert "*" not in "".join(row[c] for c in ("{a}", "{v}", "{t}", "{a,v}", "{a,t}", "{v,t}"))
            expected = {"full-modality": "", "augmented": "*", "mmin": "*▲"}[row["experiment"]]
            assert "".join(re.findall(r"[*▲]", row["average"])) == expected

    def test_counts_of_modalities(self, data: Path) -> None:
        found = {row["modality"]: row for row in rows(data / "report/tables/demo-modalities.csv")}
        assert [(found[m]["ok"], found[m]["missing"], found[m]["failed"]) for m in found] == [
            ("39", "1", "0"), ("40", "0", "0"), ("37", "2", "1"),
        ]  # fmt: skip
        assert found["audio"]["frames/s"] == "100"
        assert found["video"]["frames"] == "186"
        assert found["video"]["observed"] == f"{(186 - 37) / 186:.1%}"  # one frame of each clip shows no face

    def test_every_reason_is_listed_with_its_samples(self, data: Path, text: str) -> None:
        found = [
            (r["modality"], r["status"], r["reason"], r["ids"])
            for r in rows(data / "report/tables/demo-skipped.csv")
        ]
        assert found == [
            ("text", "missing", "empty transcript", "demo_005"),
            ("video", "missing", "no face in any frame", "demo_003, demo_004"),
            ("video", "failed", "cannot decode: moov atom not found", "demo_009"),
        ]
        for *_, reason, ids in found:
            assert reason in text
            assert ids in text

    def test_masks_say_what_they_really_take(self, data: Path) -> None:
        found = {row["mask"]: row for row in rows(data / "report/tables/demo-masks.csv")}
        assert found["one-missing"]["frames gone"] == "–"
        assert 0 < float(found["one-missing"]["modalities gone"].rstrip("%")) < 34
        assert 39 < float(found["block-sampled"]["frames gone"].rstrip("%")) < 61
        assert len(found["conditions"]["checksum"]) == 12

    def test_confusion_counts(self, data: Path) -> None:
        found = rows(data / "report/tables/demo-confusion.csv")
        assert len(found) == 3 * 7 * 4
        row = next(
            r for r in found if (r["experiment"], r["condition"], r["label"]) == ("mmin", "avt", "sad")
        )
        assert int(row["sad"]) == round(60 * score("mmin", 1, "avt"))

    def test_curves_for_plots_are_means_over_what_still_trains(self, data: Path) -> None:
        found = [r for r in rows(data / "report/tables/learning-curves.csv") if r["experiment"] == "mmin"]
        assert len(found) == 12
        assert float(found[0]["train_loss"]) == pytest.approx(1.4 * 0.85 + 0.02 * 3)  # folds 1 to 5
        assert float(found[11]["train_loss"]) == pytest.approx(1.4 * 0.85**12 + 0.02 * 3)  # folds 2 and 4

    def test_figures_of_their_own_say_whose_lines_are_whose(self, data: Path) -> None:
        text = (data / "report/figures/demo-ua-by-condition.svg").read_text(encoding="utf-8")
        assert all(f">{name}</text>" in text for name in report_tree.GAIN)

    def test_every_test_stands_in_the_table_with_whom_it_is_against(self, data: Path) -> None:
        found = rows(data / "report/tables/demo-tests.csv")
        assert {(row["experiment"], row["against"]) for row in found} == {
            ("augmented", "full-modality"), ("mmin", "full-modality"), ("mmin", "augmented"),
        }  # fmt: skip
        assert len(found) == 3 * 2 * 4  # the average and the full condition, four metrics


class TestWords:
    def test_the_verdict_is_computed(self, data: Path) -> None:
        params = report_tree.params()
        comparison = compare(params, *gather(params, data))[0].parts[0]
        first, second = verdicts(comparison)
        assert (first.name, first.outcome) == ("mmin", "better")
        assert first.sentence == "mmin beats full-modality when modalities are missing."
        assert "better in 5 of 5 folds" in first.detail
        assert "Against augmented" in first.detail
        assert (second.name, second.outcome) == ("augmented", "better")
        assert single_modalities(comparison).startswith("Each single modality is above chance.")

    @pytest.mark.parametrize(
        ("reached", "outcome", "words"),
        [
            (
                lambda _, fold, c: score("full-modality", fold, c) - 0.05 - 0.01 * (fold % 2),
                "not better",
                "does not beat",
            ),
            (
                lambda _, fold, c: score("full-modality", fold, c) + (0.09, -0.05)[fold % 2],
                "ahead",
                "not significantly",
            ),
            (lambda _, fold, c: score("full-modality", fold, c), "not better", "does not beat"),
        ],
        ids=["worse", "ahead", "equal"],
    )
    def test_and_says_so_when_it_is_not_better(
        self, tmp_path: Path, reached: Callable[[str, int, str], float], outcome: str, words: str
    ) -> None:
        report_tree.write_data(tmp_path)
        report_tree.write_results(tmp_path, "full-modality")
        report_tree.write_results(tmp_path, "mmin", reached)
        params = report_tree.params()
        comparison = compare(params, *gather(params, tmp_path))[0].parts[0]
        verdict = verdicts(comparison)[0]
        assert verdict.outcome == outcome
        assert words in verdict.sentence
        assert words in Page(make(tmp_path, params)).plain

    def test_a_modality_below_chance_is_named(self, tmp_path: Path) -> None:
        report_tree.write_data(tmp_path)
        report_tree.write_results(
            tmp_path, "mmin", lambda name, fold, c: 0.2 if c == "v" else score(name, fold, c)
        )
        params = report_tree.params()
        comparison = compare(params, *gather(params, tmp_path))[0].parts[0]
        words = single_modalities(comparison)
        assert words.startswith("Not above chance: video.")
        assert "video UA 0.200 (chance: 0.250; p = 0.900), mmin" in words
        page = Page(make(tmp_path, params)).plain
        assert "mmin is not above chance under v (permutation test, p ≥ 0.05)." in page

    def test_a_better_fold_mean_of_one_label_for_all_is_no_tick(self, tmp_path: Path) -> None:
        """0.347 is above 0.333, but 0.296 of all folds together is not, and every clip got one label."""
        report_tree.write_data(tmp_path)
        report_tree.write_run(tmp_path, "mmin", "mmin")
        report_tree.write_results(tmp_path, "mmin", lambda name, fold, c: 0.347)
        one = Reached(0.347, 0.296, 0.71, 5)
        told = Chance("ua", 0.333, 0.333, 5, dict.fromkeys(CONDITIONS, one), {})
        (tmp_path / "results/mmin/chance.json").write_text(told.to_json())
        summary = tmp_path / "runs/mmin/summary.json"
        lacking = "there is no sad in the test part of fold 2"
        summary.write_text(json.dumps({**json.loads(summary.read_text()), "findings": [lacking]}))
        text = make(tmp_path, report_tree.params())
        plain = Page(text).plain
        assert "Not above chance: audio and video and text." in plain
        assert "Each single modality is above chance" not in plain
        assert "mmin: every test sample of a fold gets the same class under a (5 of 5 networks)" in plain
        assert lacking in plain

    def test_the_demo_is_called_constructed_wherever_it_is_shown(self, data: Path, text: str) -> None:
        page = Page(text)
        assert "CONSTRUCTED CORPUS." in page.words
        captions = re.findall(r"<caption><span>(.*?)</span>", text)
        about_data = [c for c in captions if c.startswith(("Results", "Features", "What", "Missing", "Each"))]
        assert len(about_data) == 7
        assert all("constructed" in caption for caption in about_data)
        assert "CREMA-D, ODbL 1.0" in page.words
        for path in (data / "report/tables").glob("demo-*.md"):
            assert "constructed" in path.read_text(encoding="utf-8").splitlines()[0]

    def test_a_real_dataset_is_not(self, tmp_path: Path) -> None:
        report_tree.write_data(tmp_path, "cremad")
        dataset = {
            **report_tree.params().model_dump(exclude_unset=True)["datasets"]["demo"],
            "loader": "cremad",
        }
        params = report_tree.params(datasets={"cremad": dataset}, experiments={}, report={"title": "T"})
        assert "constructed" not in make(tmp_path, params).split("</style>")[1].lower()


class TestPage:
    def test_it_is_well_formed_and_described(self, text: str) -> None:
        page = Page(text)
        names = [tag for tag, _ in page.tags]
        assert names.count("h1") == 1
        headings = [int(name[1]) for name in names if re.fullmatch(r"h\d", name)]
        assert all(after - before <= 1 for before, after in pairwise(headings))
        assert names.count("table") == names.count("caption")
        assert ("html", {"lang": "en"}) in page.tags
        assert any(attributes.get("name") == "viewport" for tag, attributes in page.tags if tag == "meta")
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        for tag, attributes in page.tags:
            if tag == "svg":
                hidden = attributes.get("aria-hidden") == "true"
                assert hidden or all(i in ids for i in str(attributes["aria-labelledby"]).split())

    def test_it_asks_for_nothing_outside_itself(self, text: str) -> None:
        page = Page(text)
        assert not re.search(r"https?:|//[a-z]", text)
        assert "@import" not in text
        scripts = [attributes for tag, attributes in page.tags if tag == "script"]
        assert [one for one in scripts if one.get("type") != "application/json"] == [
            {}
        ]  # one, within the page
        for _, attributes in page.tags:
            for name in ("src", "href", "xlink:href", "action", "data"):
                value = attributes.get(name)
                assert value is None or value.startswith("#") or value == "data:,"
        assert "innerHTML" not in text and "eval(" not in text
        for reference in re.findall(r"url\(([^)]*)\)", text):
            assert reference.startswith("#")

    def test_every_link_leads_somewhere(self, text: str) -> None:
        page = Page(text)
        ids = {attributes.get("id") for _, attributes in page.tags}
        assert all(a["href"] and a["href"][1:] in ids for tag, a in page.tags if tag == "a")

    def test_equal_inputs_give_equal_bytes(self, data: Path, tmp_path: Path) -> None:
        params = report_tree.params()

        def digests(folder: Path) -> dict[str, str]:
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            return {
                p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
            }

        facts = gather(params, data)
        report.write(params, *facts, tmp_path / "one")
        report.write(params, *facts, tmp_path / "two")
        assert digests(tmp_path / "one") == digests(tmp_path / "two") == digests(data / "report")
        assert len(digests(tmp_path / "one")) > 20

    def test_what_an_earlier_report_left_is_gone(self, data: Path, tmp_path: Path) -> None:
        stale = tmp_path / "report" / "tables" / "gone.csv"
        stale.parent.mkdir(parents=True)
        stale.touch()
        report.write(report_tree.params(), *gather(report_tree.params(), data), stale.parents[1])
        assert not stale.exists()


def test_what_was_cut_and_left_out_is_said(tmp_path: Path) -> None:
    report_tree.write_data(tmp_path)
    report_tree.write_run(tmp_path, "mmin", "mmin")
    report_tree.write_results(tmp_path, "mmin")
    report.write(report_tree.params(), *gather(report_tree.params(), tmp_path), tmp_path / "report")
    page = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert "Left out: 2 samples, no label." in page
    assert (
        "Cut: text of 7 samples was longer than lengths.text takes: 1.2 % of its frames were cut off." in page
    )


HOSTILE = "<script>alert(1)</script>\"'&{{ 7*7 }}"


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    classes = [HOSTILE, "b", "c", "d"]
    report_tree.write_data(tmp_path)
    report_tree.write_run(tmp_path, "mmin", "mmin")
    report_tree.write_results(tmp_path, "mmin")
    said = json.loads((tmp_path / "manifests/demo.json").read_text())
    said["attribution"] = HOSTILE
    said["skipped"] = [{"file": HOSTILE, "reason": HOSTILE, "line": 1, "entry": ""}]
    (tmp_path / "manifests/demo.json").write_text(json.dumps(said))
    summary = json.loads((tmp_path / "runs/mmin/summary.json").read_text())
    summary |= {"classes": classes, "left_out": {HOSTILE: 1}}
    (tmp_path / "runs/mmin/summary.json").write_text(json.dumps(summary))
    run = tmp_path / "runs/mmin/1-1/run.json"
    run.write_text(json.dumps(json.loads(run.read_text()) | {"description": HOSTILE}))
    with h5py.File(tmp_path / "features/demo/video.h5", "r+") as file:
        file["reasons"][3] = HOSTILE
        file.attrs["extractor"] = HOSTILE
        file.attrs["versions"] = json.dumps({HOSTILE: HOSTILE})
        file.attrs["settings"] = json.dumps({HOSTILE: HOSTILE})
        file.attrs["columns"] = json.dumps([HOSTILE, "b", "c", "d", "e"])
    params = report_tree.params(report={"title": HOSTILE, "baseline": None})
    text = make(tmp_path, params)
    assert "<script>alert" not in text
    page = Page(text)
    assert page.words.count("alert(1)") >= 8
    assert page.words.count("{{ 7*7 }}") == page.words.count("alert(1)")


class TestPartialInput:
    def test_nothing_at_all(self, tmp_path: Path) -> None:
        page = Page(make(tmp_path, report_tree.params())).plain
        assert "not prepared yet" in page
        assert "mmin: not trained yet, so it has no results yet" in page

    def test_a_dataset_without_experiments(self, tmp_path: Path) -> None:
        report_tree.write_data(tmp_path)
        params = report_tree.params(experiments={}, report={"title": "T", "baseline": "full-modality"})
        page = Page(make(tmp_path, params)).plain
        assert "names no experiment yet" in page
        assert "no face in any frame" in page

    def test_an_experiment_that_is_trained_but_not_evaluated(self, tmp_path: Path) -> None:
        report_tree.write_tree(tmp_path)
        for path in (tmp_path / "results/mmin").iterdir():
            path.unlink()
        page = Page(make(tmp_path, report_tree.params())).plain
        assert "mmin: trained, so it has no results yet" in page
        assert "augmented beats full-modality" in page

    def test_without_its_baseline_nothing_is_tested(self, tmp_path: Path) -> None:
        report_tree.write_data(tmp_path)
        report_tree.write_results(tmp_path, "mmin")
        page = Page(make(tmp_path, report_tree.params())).plain
        assert "beats" not in page
        assert not (tmp_path / "report/tables/demo-tests.csv").exists()

    def test_one_fold_has_neither_deviation_nor_test(self, tmp_path: Path) -> None:
        report_tree.write_data(tmp_path)
        for name in ("full-modality", "mmin"):
            report_tree.write_results(tmp_path, name, folds=1)
        page = Page(make(tmp_path, report_tree.params())).plain
        assert "no t-test: a single pair" in page
        table = (tmp_path / "report/tables/demo-conditions.csv").read_text(encoding="utf-8")
        assert "±" not in table
        assert "*" not in table

    def test_modalities_that_are_not_extracted_yet(self, tmp_path: Path) -> None:
        report_tree.write_data(tmp_path)
        (tmp_path / "features/demo/audio.h5").unlink()
        (tmp_path / "masks/demo.h5").unlink()
        assert "not extracted yet" in Page(make(tmp_path, report_tree.params())).plain

    def test_a_condition_of_another_protocol(self, tmp_path: Path) -> None:
        report_tree.write_data(tmp_path)
        for name, ua in (("full-modality", "0.5"), ("mmin", "0.6")):
            folder = tmp_path / "results" / name
            folder.mkdir(parents=True)
            lines = ["experiment,fold,run,condition,samples,wa,ua,macro_f1,weighted_f1"]
            lines += [f"{name},{fold},1,random,8,{ua},{ua}{fold},{ua},{ua}" for fold in (1, 2, 3)]
            (folder / "folds.csv").write_text("\n".join(lines) + "\n")
        page = Page(make(tmp_path, report_tree.params())).plain
        assert "under random" in page

    def test_what_params_do_not_name_any_more_is_left_out(self, tmp_path: Path) -> None:
        report_tree.write_tree(tmp_path)
        params = report_tree.params()
        fewer = params.model_copy(update={"experiments": {"mmin": params.experiments["mmin"]}})
        assert "augmented" not in Page(make(tmp_path, fewer)).plain


def test_many_samples_of_one_reason_are_counted_and_all_named_in_the_table(tmp_path: Path) -> None:
    report_tree.write_data(tmp_path, samples=60)
    with h5py.File(tmp_path / "features/demo/audio.h5", "r+") as file:
        file["status"][:50] = 1
        file["reasons"][:50] = "no audio file"
    text = make(tmp_path, report_tree.params())
    assert "demo_019, ..." in text
    assert "demo_049" not in text
    assert "demo_049" in (tmp_path / "report/tables/demo-skipped.csv").read_text()


def test_what_extractors_say_of_their_columns_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_tree.write_data(tmp_path)
    barely = Caution("v[0-3]", "barely <moves>", lambda settings: settings["level"] == "lld")
    never = Caution("v4", "is never said", lambda settings: settings["level"] == "functionals")
    monkeypatch.setattr(find("video", "facelandmarker"), "cautions", (barely, never))
    page = Page(make(tmp_path, report_tree.params())).plain
    assert "Mind video by facelandmarker, v0, v1, v2 and 1 more: barely <moves>." in page
    assert "never said" not in page


class TestWhatWasTrained:
    def test_the_page_shows_what_was_trained_not_what_params_say(self, tmp_path: Path) -> None:
        report_tree.write_data(tmp_path)
        settings = {"variant": "code", "blocks": 5}
        before = report_tree.trained("start", "baseline", epochs=61)
        changes = {"settings": settings, "train_mask": "block-sampled", "pretraining": before}
        report_tree.write_run(tmp_path, "mmin", "mmin", changes=changes)
        report_tree.write_results(tmp_path, "mmin")
        params = report_tree.params()
        assert (params.experiments["mmin"].epochs, params.experiments["mmin"].beta1) == (100, 0.9)
        page = Page(make(tmp_path, params))
        (about,) = [part for part in page.words.split("folds and settings") if '"variant": "code"' in part]
        shown, before = about.split("Before that, the network that it starts from:")
        for said in (
            '"epochs": 60',
            '"beta1": 0.5',
            '"blocks": 5',
            '"train_mask": "block-sampled"',
            "Trained with:",
        ):
            assert said in shown
        assert '"epochs": 61' in before and '"pretraining"' not in before
        assert "missing under block-sampled" in page.plain  # in the table of experiments

    def test_of_what_is_not_trained_it_shows_what_was_asked_for(self, tmp_path: Path) -> None:
        raw = report_tree.params().model_dump(exclude_unset=True)
        raw["experiments"]["mmin"] |= {"settings": {"variant": "code"}}
        page = Page(make(tmp_path, Params.model_validate(raw))).words
        about = next(part for part in page.split("folds and settings") if '"variant": "code"' in part)
        assert "Not trained yet. It is asked for with:" in about
        assert '"variant": "code"' in about and "the network that it starts from" not in about

    def test_what_an_earlier_version_trained_is_refused(self, tmp_path: Path) -> None:
        report_tree.write_tree(tmp_path)
        path = tmp_path / "runs/mmin/summary.json"
        said = json.loads(path.read_text())
        del said["trained"]
        path.write_text(json.dumps(said))
        with pytest.raises(DataError, match="dvc repro train@mmin"):
            gather(report_tree.params(), tmp_path)

    def test_curves_under_a_mask_say_so(self, tmp_path: Path) -> None:
        report_tree.write_tree(tmp_path)
        for name in ("augmented", "mmin"):
            report_tree.write_run(tmp_path, name, "mmin", changes={"train_on": "block-sampled"})
        table = {"title": "T", "experiments": ["mmin", "augmented"], "against": {"augmented": "mmin"}}
        page = Page(make(tmp_path, report_tree.params(report={"tables": {"one": table}}))).plain
        assert "Validation under the masks of training: block-sampled." in page
        assert (tmp_path / "report/figures/one-mmin-and-others-curves.svg").is_file()


class TestTables:
    def test_a_section_for_each_table_in_its_own_order(self, data: Path, tmp_path: Path) -> None:
        tables = {
            "first": {
                "title": "Table <5>",
                "experiments": ["mmin", "full-modality"],
                "baseline": "full-modality",
            },
            "second": {"title": "Table 6", "experiments": ["full-modality", "mmin"]},
        }
        params = report_tree.params(report={"title": "T", "tables": tables, "baseline": "augmented"})
        report.write(params, *gather(params, data), tmp_path)
        text = (tmp_path / "index.html").read_text(encoding="utf-8")
        page = Page(text)
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        headings = re.findall(r"<h2[^>]*>(.*?)</h2>", text)
        headings = [heading.partition("<a")[0] for heading in headings]
        assert headings[1:4] == [
            "Results on demo (constructed)", "Table &lt;5&gt; (constructed)", "Table 6 (constructed)",
        ]  # fmt: skip
        order = [
            row["experiment"]
            for row in rows(tmp_path / "tables/first-conditions.csv")
            if row["metric"] == "UA"
        ]
        assert order == ["mmin", "full-modality"]
        assert "mmin beats full-modality when modalities are missing" in page.plain
        assert not (tmp_path / "tables/second-tests.csv").exists()  # it has no baseline
        assert [row["experiment"] for row in rows(tmp_path / "tables/demo-conditions.csv")] == [
            "augmented"
        ] * 4
        every = [tuple(row.values())[:4] for row in rows(tmp_path / "tables/results.csv")]
        assert len(every) == len(set(every)) == 3 * 8 * 4

    def test_whom_the_test_part_chose_is_red_wherever_numbers_stand(self, tmp_path: Path) -> None:
        report_tree.write_tree(tmp_path)
        for name, selection in (("augmented", "validation"), ("mmin", "test-paper")):
            changes = {"train_on": "missing", "selection": selection}
            report_tree.write_run(tmp_path, name, "mctn", changes=changes)
        text = make(tmp_path, report_tree.params())
        assert "The test part itself chose the epochs of mmin" in Page(text).plain
        red = ' <strong class="flag">chosen by test</strong>'
        assert re.search(r"\.flag \{ color: var\(--bad\)", text)
        for table in re.findall(r"<tbody>.*?</tbody>", text, re.DOTALL):
            for row in re.findall(r"<t[hd][^>]*>(?:<svg.*?</svg>)?mmin(.{0,60})", table):
                assert row.startswith(red), row
        assert text.count(red) > 8
        assert f"mmin{red}</summary>" in text  # its confusion matrices
        beside = [row for row in rows(tmp_path / "report/tables/demo-selection.csv") if row["metric"] == "UA"]
        folds = range(1, FOLDS + 1)
        gain = mean([score("mmin", fold, "a") - score("augmented", fold, "a") for fold in folds])
        assert beside[0]["experiment"] == "mmin (chosen by test)" and beside[0]["beside"] == "augmented"
        assert beside[0]["condition"] == "audio only" and float(beside[0]["gain"]) == pytest.approx(
            gain, abs=5e-4
        )
        for name in ("results", "conditions"):
            found = {
                (row["experiment"], row["selection"]) for row in rows(tmp_path / f"report/tables/{name}.csv")
            }
            assert found >= {("mmin", "test-paper"), ("augmented", "validation")}

    def test_what_methods_need_is_on_the_page(self, tmp_path: Path) -> None:
        report_tree.write_tree(tmp_path)
        assert "needs the hidden truth" not in make(tmp_path, report_tree.params())
        for name, needs in (("mmin", ["the hidden truth"]), ("augmented", [])):
            path = tmp_path / f"runs/{name}/summary.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"needs": needs}))
        assert '<th scope="col">needs the hidden truth</th>' in make(tmp_path, report_tree.params())
        found = {row["experiment"]: row for row in rows(tmp_path / "report/tables/demo-needs.csv")}
        told = {name: row["needs the hidden truth"] for name, row in found.items()}
        assert told == {"mmin": "yes", "augmented": "–", "full-modality": "not recorded"}

    def test_two_tasks_in_one_table_are_two_parts(self, tmp_path: Path) -> None:
        report_tree.write_tree(tmp_path)
        report_tree.write_run(tmp_path, "mmin", "mmin", changes={"task": "regression", "select_by": "mae"})
        table = {"title": "T", "experiments": ["full-modality", "augmented", "mmin"]}
        text = make(tmp_path, report_tree.params(report={"tables": {"one": table}}))
        assert re.findall(r'<h3 id="part-([^"]*)">(.*?)</h3>', text) == [
            ("one", "Classes"),
            ("one-scores", "Scores"),
        ]
        assert text.count("<h2") == 4  # the overview, the table, the data, how it was made
        assert (tmp_path / "report/tables/one-scores-conditions.csv").is_file()


class TestDamage:
    @pytest.mark.parametrize("file", ["manifests/demo.json", "runs/mmin/summary.json"])
    @pytest.mark.parametrize("content", ["{", "[1]"])
    def test_a_damaged_json_is_named(self, tmp_path: Path, file: str, content: str) -> None:
        report_tree.write_tree(tmp_path)
        (tmp_path / file).write_text(content)
        with pytest.raises(DataError, match=Path(file).name):
            gather(report_tree.params(), tmp_path)

    def test_a_csv_cut_short_is_named_with_its_line(self, tmp_path: Path) -> None:
        report_tree.write_tree(tmp_path)
        path = tmp_path / "results/mmin/folds.csv"
        path.write_text("\n".join(path.read_text().splitlines()[:3])[:-20])
        with pytest.raises(DataError, match=r"folds\.csv, line 3"):
            gather(report_tree.params(), tmp_path)

    def test_a_store_cut_short_is_named(self, tmp_path: Path) -> None:
        report_tree.write_data(tmp_path)
        path = tmp_path / "features/demo/video.h5"
        path.write_bytes(path.read_bytes()[:3000])
        with pytest.raises(StoreError, match=r"video\.h5"):
            gather(report_tree.params(), tmp_path)

    def test_a_store_of_other_samples_is_refused(self, tmp_path: Path) -> None:
        report_tree.write_data(tmp_path)
        report_tree.write_data(tmp_path / "other", samples=12)
        (tmp_path / "other/features/demo/video.h5").replace(tmp_path / "features/demo/video.h5")
        with pytest.raises(StoreError, match="other samples"):
            gather(report_tree.params(), tmp_path)
