"""docs/params.md says what the schemas say."""

from __future__ import annotations

from pathlib import Path

from pipeline.commands.params_list import describe

DOCUMENT = Path(__file__).parents[3] / "docs" / "params.md"


def test_the_document_is_what_the_schemas_give() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == describe(), "run: lacuna params list > docs/params.md"


def test_types_bounds_defaults_and_notes_stand_beside_the_key() -> None:
    lines = describe().splitlines()
    assert "| `size` | integer, at least 20, at most 10000 | `200` | utterances |" in lines
    assert "| `runs` | integer, at least 1 | `1` | seeds, from the root seed on |" in lines
    note = "sampled: drawn anew in every epoch of a training"
    assert f'| `draw` | one of `fixed`, `sampled` | `"fixed"` | {note} |' in lines
    assert "| `dataset` | text | none: it must be given | one of datasets |" in lines


def test_a_comment_above_a_field_is_its_note() -> None:
    row = next(line for line in describe().splitlines() if line.startswith("| `train_on`"))
    assert "full: complete samples; missing: each under all six missing conditions" in row


def test_every_extractor_model_regime_and_loader_has_a_section() -> None:
    text = describe()
    for name in ("extractors.text.bert", "extractors.audio.opensmile", "extractors.video.openface"):
        assert f"## `{name}`" in text
    for part in ("model `mmin`", "regime `m3s`", "loader `iemocap`"):
        assert f"of the {part}" in text


def test_every_key_has_its_meaning_in_words_for_users() -> None:
    rows = [line for line in describe().splitlines() if line.startswith("| `")]
    assert len(rows) > 300
    silent = [row for row in rows if row.split(" | ")[-1].strip(" |") == ""]
    assert silent == []
    assert "type: ignore" not in describe()
