"""EMMR's numbers in published.csv: some typed once more, what its prose says of them, and that its tables agree."""

from __future__ import annotations

import csv
from collections import Counter

import pytest

from pipeline.reporting.published import FOLDER

RATES = (0, 10, 20, 30, 40, 50)
Key = tuple[str, str, str, str, str]


@pytest.fixture(scope="module")
def numbers() -> dict[Key, tuple[float, float]]:
    """Return (table, dataset, model, metric, condition) -> mean and deviation in percent."""
    with (FOLDER / "published.csv").open(encoding="utf-8", newline="") as file:
        return {
            (row["table"], row["dataset"], row["model"], row["metric"], row["condition"]): (
                round(100 * float(row["value"]), 2),
                round(100 * float(row["deviation"]), 2),
            )
            for row in csv.DictReader(file)
            if row["paper"] == "emmr"
        }


def row(
    numbers: dict[Key, tuple[float, float]], table: str, dataset: str, model: str, metric: str
) -> dict[int, float]:
    """Return rate in percent -> mean."""
    return {
        int(key[4].rpartition("-")[2]): value
        for key, (value, _) in numbers.items()
        if key[:4] == (table, dataset, model, metric)
    }


def test_every_table_is_whole(numbers: dict[Key, tuple[float, float]]) -> None:
    assert Counter(key[0] for key in numbers) == {
        "1": 2 * 7 * 12,  # two datasets, seven models, six rates with two metrics
        "2": 3 * 2 + 6 * 12,
        "3": 6 * 6,
        "4": 3 * 12,
    }
    assert all(0 < value < 100 and 0 < deviation < 2 for value, deviation in numbers.values())


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (("1", "mosi", "AE", "macro_f1", "one-missing-at-0"), (56.42, 0.85)),
        (("1", "mosi", "CRA", "wa", "one-missing-at-50"), (68.90, 1.29)),
        (("1", "mosi", "MCTN", "macro_f1", "one-missing-at-30"), (52.17, 0.70)),
        (("1", "mosi", "TransM", "wa", "one-missing-at-0"), (80.14, 1.57)),
        (("1", "mosi", "MMIN", "wa", "one-missing-at-30"), (79.17, 1.13)),
        (("1", "mosi", "TATE", "macro_f1", "one-missing-at-40"), (54.01, 0.86)),
        (("1", "mosi", "EMMR", "wa", "one-missing-at-50"), (78.81, 1.65)),
        (("1", "iemocap", "CRA", "macro_f1", "one-missing-at-40"), (79.55, 0.66)),
        (("1", "iemocap", "TATE", "wa", "one-missing-at-20"), (84.05, 0.83)),
        (("1", "iemocap", "EMMR", "macro_f1", "one-missing-at-20"), (79.55, 0.61)),
        (("2", "mosi", "A", "wa", "one-missing-at-0"), (60.88, 1.21)),
        (("2", "mosi", "V+A", "macro_f1", "one-missing-av-50"), (38.01, 1.45)),
        (("2", "mosi", "A+T", "wa", "one-missing-at-50"), (77.43, 1.49)),
        (("2", "mosi", "w/o L_backward", "macro_f1", "one-missing-at-20"), (54.79, 0.63)),
        (("3", "mosi", "TF+MMIN", "macro_f1", "one-missing-at-40"), (56.49, 0.97)),
        (("3", "mosi", "Max", "wa", "one-missing-at-20"), (82.01, 0.80)),
        (("4", "iemocap", "4-class", "wa", "one-missing-at-10"), (58.05, 0.71)),
        (("4", "iemocap", "7-class", "macro_f1", "one-missing-at-50"), (33.82, 1.20)),
    ],
)
def test_some_numbers_of_every_table(
    numbers: dict[Key, tuple[float, float]], key: Key, expected: tuple[float, float]
) -> None:
    assert numbers[key] == expected


def test_rows_that_stand_in_two_tables_are_the_same(numbers: dict[Key, tuple[float, float]]) -> None:
    for metric in ("macro_f1", "wa"):
        ours = row(numbers, "1", "mosi", "EMMR", metric)
        assert tuple(ours) == RATES and row(numbers, "2", "mosi", "V+A+T", metric) == ours
        assert row(numbers, "3", "mosi", "EMMR", metric) == {rate: ours[rate] for rate in (0, 20, 40)}
        assert row(numbers, "4", "iemocap", "2-class", metric) == row(numbers, "1", "iemocap", "EMMR", metric)


def test_the_prose_is_right_about_the_numbers(numbers: dict[Key, tuple[float, float]]) -> None:
    """Where the paper's text names a range of differences, both ends are there."""

    def gain(first: tuple[str, ...], second: tuple[str, ...], metric: str) -> list[float]:
        a, b = row(numbers, *first, metric), row(numbers, *second, metric)  # type: ignore[call-arg]
        return sorted(round(a[rate] - b[rate], 2) for rate in b)

    ours, table3 = ("1", "mosi", "EMMR"), ("3", "mosi", "EMMR")
    over_tate = gain(ours, ("1", "mosi", "TATE"), "macro_f1")
    assert (over_tate[0], over_tate[-1]) == (8.54, 11.12)  # section 4.2
    without = gain(ours, ("2", "mosi", "w/o L_forward"), "wa")
    assert (without[0], without[-1]) == (7.60, 9.12)  # section 4.3; of macro-F1 it says 9.97 to 14.39
    assert gain(ours, ("2", "mosi", "w/o L_forward"), "macro_f1")[0] == 9.97
    average = gain(table3, ("3", "mosi", "Average"), "wa")
    assert (average[0], average[-1]) == (1.17, 1.76)
