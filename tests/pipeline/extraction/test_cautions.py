"""What extractors say that readers of their columns must know: it is of columns that are there, and it is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import pytest

from pipeline.extraction.extractors import base
from pipeline.extraction.extractors.base import Caution, caution_line, cautions_for

SETS = get_args(base.find("audio", "opensmile").Settings.model_fields["feature_set"].annotation)
WITH = [
    (m, name) for m in ("text", "audio", "video") for name in base.names(m) if base.find(m, name).cautions
]
ASKED: list[tuple[str, str, dict[str, Any]]] = [
    *((modality, name, {}) for modality, name in WITH if name != "opensmile"),
    *(
        ("audio", "opensmile", {"feature_set": one, "level": level})
        for one in SETS
        for level in ("lld", "functionals")
    ),
]


def columns_of(
    modality: str, name: str, settings: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return an extractor's settings, filled up, and the columns that it really gives."""
    owner = base.find(modality, name)
    filled = owner.Settings(**settings)
    with closing(owner(filled, Path("no assets"))) as instance:
        return filled.model_dump(mode="json"), instance.columns


def said(modality: str, name: str, **settings: Any) -> dict[str, str]:
    """Return column -> all that is said of it."""
    filled, columns = columns_of(modality, name, settings)
    found: dict[str, str] = {}
    for names, says in cautions_for(modality, name, filled, columns):
        for column in names:
            found[column] = f"{found.get(column, '')} {says}"
    return found


def test_the_extractors_that_mislead_say_so() -> None:
    assert {("audio", "opensmile"), ("audio", "covarep")} <= set(WITH)
    assert {("video", "facelandmarker"), ("video", "facet35")} <= set(WITH)


@pytest.mark.parametrize(("modality", "name"), WITH)
def test_no_caution_is_of_a_column_that_is_not_there(modality: str, name: str) -> None:
    """Each caution holds for some of the settings, and each name in its pattern is then a column."""
    silent = set(range(len(base.find(modality, name).cautions)))
    for *_, settings in (one for one in ASKED if one[:2] == (modality, name)):
        filled, columns = columns_of(modality, name, settings)
        for index, caution in enumerate(base.find(modality, name).cautions):
            assert caution.says
            assert not caution.says.endswith(".")
            if caution.when(filled) and cautions_for(modality, name, filled, columns):
                matched = [column for column in columns if re.fullmatch(caution.columns, column)]
                assert matched, f"{name} {settings}: no column is called {caution.columns}"
                silent.discard(index)
    assert not silent


def test_faces() -> None:
    found = said("video", "facelandmarker")
    still = {
        f"blendshape_{name}"
        for name in (
            *("_neutral", "cheekPuff", "cheekSquintLeft", "cheekSquintRight"),
            *("jawForward", "noseSneerLeft", "noseSneerRight"),
        )
    }
    assert {column for column, says in found.items() if "barely moves" in says} == still
    blinks = {"blendshape_eyeBlinkLeft", "blendshape_eyeBlinkRight"}
    assert {column for column, says in found.items() if "blinks" in says} == blinks
    for quick in (25.0, None):
        assert not blinks & said("video", "facelandmarker", frame_rate_hz=quick).keys()
    assert "negative roll" in found["pose_roll"]
    units = said("video", "facet35")
    assert {"AU6", "AU9", "AU15", "Joy", "Disgust", "AU43", "Is_Male", "Yaw"} <= units.keys()
    assert not {"AU1", "AU12", "Anger", "Baseline"} & units.keys()


def test_sounds() -> None:
    assert "2.4 semitones" in said("audio", "opensmile", feature_set="emobase", level="lld")["F0_sma"]
    assert "5.2 semitones" in said("audio", "opensmile", feature_set="IS09_emotion", level="lld")["F0_sma"]
    assert "F0_sma_amean" in said("audio", "opensmile", feature_set="IS09_emotion", level="functionals")
    for quiet in ("eGeMAPSv02", "IS10_paraling"):
        assert not said("audio", "opensmile", feature_set=quiet, level="lld")
    late = said("audio", "opensmile", feature_set="IS13_ComParE", level="lld+delta")
    assert "20 ms late" in late["pcm_RMSenergy_sma"]
    assert "pcm_RMSenergy_sma_de" in late
    assert not {"F0final_sma", "F0final_sma_de", "jitterLocal_sma"} & late.keys()
    assert not said("audio", "opensmile", feature_set="IS13_ComParE", level="functionals")
    assert "F0" in said("audio", "covarep")


def test_one_without_cautions_and_one_that_is_gone_say_nothing() -> None:
    assert cautions_for("audio", "librosa", {}, ["F0_sma"]) == []
    assert cautions_for("audio", "of_an_older_checkout", {}, ["F0_sma"]) == []
    assert cautions_for("video", "facelandmarker", {}, ["v0"]) == []


def test_many_columns_are_named_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert caution_line(["a", "b"], "c") == "a, b: c"
    assert caution_line(["a", "b", "c", "d", "e"], "f") == "a, b, c and 2 more: f"
    owner = base.find("audio", "librosa")
    monkeypatch.setattr(owner, "cautions", (Caution("a.", "x", lambda settings: settings["rate"] == 1),))
    assert cautions_for("audio", "librosa", {"rate": 1}, ["a1", "ab", "b"]) == [(["a1", "ab"], "x")]
    assert cautions_for("audio", "librosa", {"rate": 2}, ["a1"]) == []
