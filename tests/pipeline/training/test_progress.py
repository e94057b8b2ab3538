"""The line that says how far a training is, on a terminal and without one."""

from __future__ import annotations

import io

import pytest

from pipeline.training.progress import Progress, Told, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def told(epoch: int, fold: int = 1, finished: bool = False) -> Told:
    return Told(fold, 0, epoch, 10, "UA", 0.5, 0.6125, finished)


def test_one_line_on_a_terminal() -> None:
    out, clock = Terminal(), Clock()
    progress = Progress("mmin", 5, out, clock)
    clock.now += 10
    progress.tell(told(5))  # a tenth of all: half of one of five
    assert out.getvalue() == (
        "\r\x1b[Kmmin: 0 of 5 runs done; fold 1, seed 0: epoch 5 of 10, UA 0.500, best 0.613; at most 90 s left"
    ).replace("90 s", "2 min")
    progress.tell(told(6))  # too soon
    assert out.getvalue().count("\r") == 1
    progress.tell(told(7, finished=True))  # an end is always shown
    assert "1 of 5 runs done" in out.getvalue()
    progress.close()
    assert out.getvalue().count("\n") == 1 and out.getvalue().endswith("\n")


def test_plain_lines_without_one() -> None:
    out, clock = io.StringIO(), Clock()
    progress = Progress("mmin", 2, out, clock)
    for _ in range(70):
        clock.now += 1
        progress.tell(told(1))
    progress.close()
    assert len(out.getvalue().splitlines()) == 3  # at 1, 31 and 61 seconds
    assert "\r" not in out.getvalue() and "\x1b" not in out.getvalue()


def test_the_time_left_counts_what_stopped_early_as_done() -> None:
    clock = Clock()
    progress = Progress("mmin", 2, io.StringIO(), clock)
    assert progress.left_s() is None
    clock.now += 6
    progress.tell(told(2, finished=True))
    progress.tell(told(5, fold=2))
    assert progress.left_s() == pytest.approx(6 * 0.25 / 0.75)


def test_durations_in_words() -> None:
    assert [duration(s) for s in (40.4, 89, 90, 180, 7500)] == [
        "40 s",
        "89 s",
        "2 min",
        "3 min",
        "2 h 05 min",
    ]
