"""``lacuna predict``: class probabilities of one clip, or its score. pipeline/predicting.py computes them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.output import bar, say, say_json, say_rows
from pipeline.commands.parsing import Commands
from pipeline.errors import DataError

if TYPE_CHECKING:
    from pipeline.data.manifest import Word
    from pipeline.predicting import ModalityResult, Prediction

BAR_WIDTH = 40  # characters that stand for a probability of 1
EPILOG = """\
examples:
  lacuna predict data/assets/cremad/1001_DFA_HAP_XX.flv --text "Don't forget a jacket."
  lacuna predict data/assets/cremad/1002_DFA_SAD_XX.mp3        audio only: text and video are missing
  lacuna predict --text "An instant classic."                  text only
  lacuna predict clip.mp4 --without audio                      as if the clip had no audio
  lacuna predict clip.mp4 --experiment augmented --json

The same from Python: from pipeline.predicting import predict_clip
"""


def add(commands: Commands) -> None:
    """Add the command ``predict``."""
    predict = commands.add(
        "predict", "Class probabilities of one clip, whatever modalities are missing.", EPILOG, run
    )
    predict.add_argument(
        "clip", nargs="?", type=Path, metavar="CLIP", help="a file with video, audio or both"
    )
    predict.add_argument("--text", metavar="WORDS", help="what is said; without it, text is missing")
    predict.add_argument(
        "--words",
        type=Path,
        metavar="FILE",
        help='JSON, [["word", start, end], ...] in seconds: for networks trained with align: words',
    )
    predict.add_argument(
        "--without",
        action="append",
        default=[],
        choices=("text", "audio", "video"),
        help="treat this modality as missing; may be given twice",
    )
    predict.add_argument(
        "--experiment", metavar="NAME", help="whose networks to use; default: mmin, or else the last one"
    )
    predict.add_argument(
        "--fold", type=int, metavar="N", help="only the networks of fold N; default: the mean over all"
    )
    predict.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print class probabilities of one clip, or its score."""
    from pipeline.predicting import predict_clip

    words = () if options.words is None else read_words(options.words)
    found = predict_clip(
        options.clip,
        text=options.text,
        words=words,
        without=options.without,
        experiment=options.experiment,
        fold=options.fold,
    )
    if options.json:
        say_json(_facts(options, found))
    else:
        _print(found)
    return 0


def read_words(path: Path) -> tuple[Word, ...]:
    """Read the words of a clip with their times in seconds: JSON, ``[["word", start, end], ...]``.

    Raises:
        DataError: the file cannot be read, is not of this form, or has impossible times.
    """
    from pipeline.data.manifest import Word
    from pipeline.predicting import check_words

    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
        words = tuple(Word(str(text), float(start), float(end)) for text, start, end in rows)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f'{path}: {error}; expected JSON, [["word", start, end], ...] in seconds') from error
    check_words(words, str(path))
    return words


def _facts(options: argparse.Namespace, found: Prediction) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    outcome: dict[str, Any] = {"probabilities": found.probabilities, "prediction": found.label}
    if found.score is not None:
        outcome = {"scores": {found.target: found.score}}
    return {
        "clip": None if options.clip is None else str(options.clip),
        "text": options.text or None,
        "modalities": {
            name: {"state": one.status, "detail": _detail(one)} for name, one in found.modalities.items()
        },
        **outcome,
        "experiment": found.experiment,
        "model": found.model,
        "dataset": found.dataset,
        "constructed": found.constructed,
        "networks": list(found.networks),
    }


def _print(found: Prediction) -> None:
    say_rows([(name, f"{one.status:<9}  {_detail(one)}") for name, one in found.modalities.items()])
    say()
    if found.score is not None and found.scale is not None:
        low, high = found.scale
        sign = "+" if low < 0 else ""
        say(f"{found.target}  {found.score:{sign}.3f}  on a scale from {low:g} to {high:g}")
    width = max(map(len, found.probabilities), default=0)
    for label, chance in sorted(found.probabilities.items(), key=lambda item: -item[1]):
        say(f"{label:<{width}}  {chance:5.1%}  {bar(round(chance * BAR_WIDTH))}".rstrip())
    say()
    count = len(found.networks)
    networks = (
        f"the mean over {count} networks (one per fold and run)"
        if count > 1
        else f"network {found.networks[0]}"
    )
    say(f"By {found.experiment} (model {found.model}): {networks}, trained on {found.dataset}.")
    missing = [name for name, one in found.modalities.items() if one.status != "available"]
    if missing:
        say(f"Missing: {', '.join(missing)}; the networks got zeros in their place.")
    if found.constructed:
        say(f"{found.dataset} is a CONSTRUCTED corpus: this is a demonstration, not a measurement.")


def _detail(one: ModalityResult) -> str:
    """Return in words how many rows there are, or why there are none."""
    if one.status == "failed":
        return f"{one.reason}; treated as missing"
    if one.status == "missing":
        return one.reason
    part = "" if one.observed == one.rows else f", {one.observed} of them observed"
    return f"{one.rows} {one.unit} by {one.extractor}{part}"
