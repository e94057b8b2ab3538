"""The numbers of UMDF's tables: their averages are those of the six conditions, and some cells are the paper's."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import pytest

from pipeline.reporting import published

FILE = Path(published.__file__).parent / "published.csv"
Row = tuple[str, str, str, str]


@pytest.fixture(scope="module")
def rows() -> dict[Row, dict[str, float]]:
    """Return (table, dataset, model, metric) -> condition -> number."""
    found: dict[Row, dict[str, float]] = defaultdict(dict)
    with FILE.open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            if line["paper"] == "umdf":
                key = (line["table"], line["dataset"], line["model"], line["metric"])
                assert line["condition"] not in found[key]
                found[key][line["condition"]] = float(line["value"])
    return dict(found)


def test_every_row_is_there_with_the_average_that_is_printed(rows: dict[Row, dict[str, float]]) -> None:
    tables = [table for table, *_ in rows]
    assert (tables.count("1"), tables.count("2"), tables.count("3")) == (2 * 7 * 2, 7 * 4, 5)
    for key, numbers in rows.items():
        assert list(numbers) == ["a", "v", "t", "av", "at", "vt", "average", "avt"], key
        mean = sum(value for name, value in numbers.items() if name not in ("average", "avt")) / 6
        rounding = 0.0006 if key[0] == "2" or key[3] == "mae" else 0.00006
        assert numbers["average"] == pytest.approx(mean, abs=rounding), key


@pytest.mark.parametrize(
    ("table", "dataset", "model", "metric", "condition", "number"),
    [
        ("1", "mosi", "Self-MM", "mae", "t", 1.008),
        ("1", "mosi", "MCTN", "f1_non0", "at", 0.7781),
        ("1", "mosi", "UMDF", "f1_non0", "av", 0.7298),
        ("1", "mosei", "CubeMLP", "mae", "avt", 0.540),
        ("1", "mosei", "GCNet", "f1_non0", "v", 0.6183),
        ("2", "iemocap", "SMIL happy", "weighted_f1", "vt", 0.818),
        ("2", "iemocap", "TransM neutral", "weighted_f1", "a", 0.499),
        ("2", "iemocap", "UMDF sad", "weighted_f1", "average", 0.761),
        ("3", "mosi", "w/o MCIM", "f1_non0", "v", 0.5902),
        ("3", "mosi", "w/o L_logits", "f1_non0", "avt", 0.8253),
    ],
)
def test_some_cells(
    rows: dict[Row, dict[str, float]],
    table: str,
    dataset: str,
    model: str,
    metric: str,
    condition: str,
    number: float,
) -> None:
    assert rows[table, dataset, model, metric][condition] == number


def test_the_ablations_whole_model_is_the_one_of_table_1(rows: dict[Row, dict[str, float]]) -> None:
    assert rows["3", "mosi", "UMDF", "f1_non0"] == rows["1", "mosi", "UMDF", "f1_non0"]
