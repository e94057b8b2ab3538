"""EMMR's key modalities in the report: shares, Fisher's test and accuracies by hand, and what is read."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import report
from pipeline.errors import DataError
from pipeline.reporting.comparison import Comparison, compare
from pipeline.reporting.facts import gather
from pipeline.reporting.judgements import Judged, read_judgements
from pipeline.reporting.key_modality import fisher, key_table, key_truth_table
from pipeline.reporting.tables import Table
from tests import report_tree

HEAD = ["experiment", "fold", "run", "condition", "id", "key", "absent", "backbone", "ensemble"]


def judged(run: int, name: str, key: bool, absent: str = "text", right: str = "", on: str = "m") -> Judged:
    """``right`` names who is right: b the backbone, e the ensemble."""
    return Judged(run, on, name, key, absent, "b" in right, "e" in right)


def texts(table: Table | None) -> list[list[str]]:
    assert table is not None
    return [[f"{c.text}±{c.spread}" if c.spread else c.text for c in row] for row in table.rows]


# Two runs of four samples without text; of a and b the text is key, of c the audio.
JUDGED = [
    judged(1, "a", True, right="e"), judged(1, "b", True, right="be"),
    judged(1, "c", False), judged(1, "d", False, right="b"),
    judged(2, "a", True, right="e"), judged(2, "b", False, right="b"),
    judged(2, "c", True), judged(2, "d", False),
]  # fmt: skip
KEY = {"a": (True, False, False), "b": (True, True, False), "c": (False, True, False), "d": (False,) * 3}


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    data = tmp_path_factory.mktemp("tree") / "data"
    report_tree.write_tree(data)
    params = report_tree.params()
    return compare(params, *gather(params, data))[0].parts[0]


def with_judgements(
    comparison: Comparison, said: Sequence[Judged], *, known: bool = True, **settings: str
) -> Comparison:
    """Return the comparison of its third experiment alone, with judgements and, if known, the four samples' facts."""
    one, samples = comparison.experiments[2], comparison.dataset.samples
    assert samples is not None
    four = tuple(
        replace(sample, id=name, facts={"key": KEY[name]} if known else {})
        for sample, name in zip(samples, "abcd", strict=False)
    )
    told = replace(one, judgements=said, trained={**one.trained, "settings": settings})
    return replace(comparison, experiments=[told], dataset=replace(comparison.dataset, samples=four))


def test_shares_and_accuracies_by_hand(comparison: Comparison) -> None:
    table = key_table(with_judgements(comparison, JUDGED))
    # key in run 1: a, b; TF is right on b, the ensemble on both. In run 2: a, c; TF on none, the ensemble on a.
    # others in run 1: c, d, TF right on d; in run 2: b, d, TF right on b; the ensemble never
    wanted = [
        "mmin",
        "m",
        "text",
        "4",
        "0.500±0.000",
        "0.250±0.354",
        "0.750±0.354",
        "0.500±0.000",
        "0.000±0.000",
    ]
    assert texts(table) == [wanted]
    assert key_table(comparison) is None


def test_the_detector_beside_the_truth_by_hand(comparison: Comparison) -> None:
    (row,) = texts(key_truth_table(with_judgements(comparison, JUDGED)))
    # a and b: both in run 1, a alone in run 2; c and d: none, then c. Of most runs: a alone; 1 of 2 against 0 of 2.
    assert row[3:8] == ["2", "0.750±0.354", "2", "0.250±0.354", "p\u00a0=\u00a01.000"]
    assert row[8:12] == ["0.500±0.000", "0.750±0.354", "0.250±0.354", "0.000±0.000"]
    # TF alone is right on b and d, then b. With the detector the ensemble decides on a and b (both right; TF is
    # on d), then on a and c (a right; TF on b, right). By the truth it decides on a and b: both, and d; then a.
    assert row[12:] == ["0.375±0.177", "0.625±0.177", "0.500±0.354"]


def test_fishers_test_by_hand() -> None:
    key = [judged(1, f"k{i}", True) for i in range(4)]
    others = [judged(1, f"o{i}", False) for i in range(4)]
    assert fisher(key, others) == pytest.approx(2 / 70)  # 1 of the 70 ways to choose 4 of 8, and its mirror
    # judged three times: as two of three say, so that nothing changes; a tie is no majority
    thrice = [
        replace(j, run=r, key=j.key if r < 3 else not j.key) for j in (*key, *others) for r in (1, 2, 3)
    ]
    assert fisher(thrice[:12], thrice[12:]) == pytest.approx(2 / 70)
    tied = [replace(j, run=r, key=r == 1) for j in key for r in (1, 2)]
    assert fisher(tied, others) == 1.0
    assert fisher(key, []) is None


def test_a_row_for_each_absent_modality_and_first_one_for_all(comparison: Comparison) -> None:
    said = [*JUDGED, judged(1, "e", True, "video"), judged(1, "a", False, "audio", on="vt")]
    found = with_judgements(comparison, said)
    assert [row[1:4] for row in texts(key_table(found))] == [
        ["m", "one of the three", "5"],
        ["m", "text", "4"],
        ["m", "video", "1"],
        ["vt", "audio", "1"],
    ]
    truth = texts(key_truth_table(found))
    assert [row[3:8:2] for row in truth] == [
        ["2", "3", "p\u00a0=\u00a01.000"],
        ["2", "2", "p\u00a0=\u00a01.000"],
        ["0", "1", "–"],
        ["0", "1", "–"],
    ]


def test_where_the_truth_is_told_or_not_known(comparison: Comparison) -> None:
    (row,) = texts(key_truth_table(with_judgements(comparison, JUDGED, key="oracle")))
    assert row[7] == "told"
    unknown = with_judgements(comparison, JUDGED, known=False)
    assert key_truth_table(unknown) is None and key_table(unknown) is not None


def write(folder: Path, rows: Sequence[Sequence[str]], labels: str, head: Sequence[str] = HEAD) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "judgements.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    (folder / "predictions.csv").write_text(labels)


def test_what_is_read(tmp_path: Path) -> None:
    rows = [
        ["e", "1", "2", "m", "x", "1", "audio", "sad", "happy"],
        ["e", "1", "2", "m", "y", "1", "", "sad", "sad"],  # lacks nothing, or more than one
    ]
    write(tmp_path, rows, "id,label\nx,happy\ny,sad\n")
    assert read_judgements(tmp_path) == [Judged(2, "m", "x", True, "audio", False, True)]
    write(tmp_path, [[*rows[0][:5], "0", "text", "-0.5", "0.2"]], "id,score\nx,1.5\n")
    assert read_judgements(tmp_path) == [Judged(2, "m", "x", False, "text", False, True)]
    write(tmp_path, [], "id,label\n", HEAD[:5])
    assert read_judgements(tmp_path) == () and read_judgements(tmp_path / "none") == ()
    write(tmp_path, rows, "id,label\nother,happy\n")
    with pytest.raises(DataError, match=r"judgements\.csv, line 2: .*evaluate"):
        read_judgements(tmp_path)
    (tmp_path / "predictions.csv").unlink()
    with pytest.raises(DataError, match=r"predictions\.csv: cannot be read"):
        read_judgements(tmp_path)


def test_the_page_shows_them_and_the_tables_lie_beside(tmp_path: Path) -> None:
    data, params = tmp_path / "data", report_tree.params()
    report_tree.write_tree(data)
    rows = [["mmin", "1", "1", "vt", "demo_000", "1", "audio", "sad", "happy"]]
    report_tree.write_predictions(data, "mmin")
    write(data / "results" / "mmin", rows, (data / "results/mmin/predictions.csv").read_text())
    report.write(params, *gather(params, data), data / "report")
    page = (data / "report" / "index.html").read_text(encoding="utf-8")
    assert "<h3>Key modalities</h3>" in page and "what was judged key" in page
    written = (data / "report" / "tables" / "demo-key.csv").read_text().splitlines()
    assert written[1] == "mmin,vt,audio,1,1.000,0.000,1.000,–,–"
    assert not (
        data / "report" / "tables" / "demo-key-truth.csv"
    ).exists()  # this demo's manifest has no facts
