"""``lacuna predict``: class probabilities of clips, or their scores. pipeline/predicting.py computes them."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.given import add_clips, check_times, read_said
from pipeline.commands.output import bar, say, say_error, say_json, say_rows
from pipeline.commands.parsing import Commands
from pipeline.errors import DataError, LacunaError

if TYPE_CHECKING:
    from pipeline.predicting import ClipPredictor, ModalityResult, Prediction

BAR_WIDTH = 40  # characters that stand for a probability of 1
EPILOG = """\
Of one clip, a page of what was found. Of several, of folders, and with --every, a line for each; --out writes a csv or
JSON file of them. Networks and extractors are loaded once, and nothing is sent anywhere.

exit status: 0; 1 when a file, or a file in all of its parts, gives no prediction (it is named; the others are written)

examples:
  lacuna predict data/assets/cremad/1001_DFA_HAP_XX.flv --text "Don't forget a jacket."
  lacuna predict data/assets/cremad/1002_DFA_SAD_XX.mp3        audio only: text and video are missing
  lacuna predict --text "An instant classic."                  text only
  lacuna predict clip.mp4 --without audio                      as if the clip had no audio
  lacuna predict clip.mp4 --experiment augmented --json
  lacuna predict films/ --transcript texts/ --out films.csv    texts/NAME.txt of each film NAME
  lacuna predict talk.mp4 --every 1s --out talk.csv            over time, second by second
  lacuna predict talk.mp4 --every 1s --window 3s --start 60 --end 120 --words words.json

The same from Python: from pipeline.predicting import predict_clip, ClipPredictor
"""


def add(commands: Commands) -> None:
    """Add the command ``predict``."""
    predict = commands.add(
        "predict", "Class probabilities of clips, whatever modalities are missing.", EPILOG, run
    )
    add_clips(predict)
    predict.add_argument(
        "--every", type=_seconds, metavar="S", help="predict over time: a part each S seconds"
    )
    predict.add_argument(
        "--window", type=_seconds, metavar="S", help="seconds a part lasts; default: --every"
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
    predict.add_argument("--out", type=Path, metavar="OUT", help="write a file that ends in .csv or .json")


@dataclass(frozen=True)
class Row:
    """A prediction of one of several clips or parts.

    Attributes:
        file: the media file.
        text: what is said, as given.
        start_s, end_s: the part, in seconds of the file; None: its beginning, its end.
        found: the prediction, or why there is none.
    """

    file: Path | None
    text: str
    start_s: float | None
    end_s: float | None
    found: Prediction | LacunaError


def run(options: argparse.Namespace) -> int:
    """Print class probabilities of clips, or their scores; return 1 when a file has none."""
    from pipeline.predicting import ClipPredictor, predict_clip

    check_times(options.start, options.end)
    _check(options)
    files = _files(options.files)
    texts, words = read_said(options, files)
    chosen = {"experiment": options.experiment, "fold": options.fold}
    if len(files) < 2 and options.every is None and options.out is None:
        file = files[0] if files else None
        part = {"start_s": options.start, "end_s": options.end}
        found = predict_clip(file, text=texts[0], words=words, **part, without=options.without, **chosen)
        if options.json:
            say_json(_facts(Row(file, texts[0], options.start, options.end, found), found))
        else:
            _print(found)
        return 0
    if not files and not texts[0]:
        raise DataError("found neither a media file nor a text to predict from")
    rows = []
    with ClipPredictor(**chosen) as predictor:
        for file, text in zip(files or (None,), texts, strict=True):
            for row in _predicted(predictor, file, text, words, options):
                rows.append(row)
                if not options.json:
                    say(_line(row))
    if options.json:
        say_json([_entry(row) for row in rows])
    if options.out is not None:
        _write(options.out, rows)
        say_error(f"{options.out}: {len(rows)} rows")
    good = {row.file for row in rows if not isinstance(row.found, LacunaError)}
    return 0 if good == {row.file for row in rows} else 1


def _check(options: argparse.Namespace) -> None:
    if options.out is not None and options.out.suffix not in (".csv", ".json"):
        raise DataError(
            f'{options.out}: found "{options.out.suffix}", expected a name that ends in .csv or .json'
        )
    if options.every is None:
        if options.window is not None:
            raise DataError("--window is the length of the parts that --every makes; give --every too")
    elif not options.files:
        raise DataError("--every needs a media file")
    elif options.text is not None or options.transcript is not None:
        raise DataError("--every: a text without times belongs to no part; give --words")


def _files(given: list[Path]) -> list[Path]:
    if not given:
        return []
    from pipeline.extracting import find_media

    return find_media(given)


def _seconds(text: str) -> float:
    try:
        value = float(text.removesuffix("s"))
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f'found "{text}", expected seconds, as 0.5 or 2s')
    return value


def _predicted(
    predictor: ClipPredictor, file: Path | None, text: str, words: Any, options: argparse.Namespace
) -> Iterator[Row]:
    part = {"start_s": options.start, "end_s": options.end}
    given = {"words": words, **part, "without": options.without}
    try:
        if options.every is None or file is None:
            yield Row(file, text, options.start, options.end, predictor.predict(file, text=text, **given))
            return
        over_time = predictor.predict_over_time(file, every_s=options.every, window_s=options.window, **given)
        for start_s, end_s, found in over_time:
            yield Row(file, "", start_s, end_s, found)
    except DataError as error:  # of this file alone
        yield Row(file, text, options.start, options.end, error)


def _line(row: Row) -> str:
    place = "text" if row.file is None else str(row.file)
    if row.start_s is not None or row.end_s is not None:
        place += f"  {row.start_s or 0:g}-{'' if row.end_s is None else f'{row.end_s:g}'} s"
    found = row.found
    if isinstance(found, LacunaError):
        return f"{place}  none: {found}"
    value = f"{found.label} {found.probabilities[found.label]:.1%}" if found.label else f"{found.score:+.3f}"
    absent = [name for name, one in found.modalities.items() if one.status != "available"]
    return f"{place}  {value}" + (f"  without {', '.join(absent)}" if absent else "")


def _entry(row: Row) -> dict[str, Any]:
    """Return what JSON says of one of several."""
    if isinstance(row.found, LacunaError):
        clip = None if row.file is None else str(row.file)
        return {"clip": clip, "start_s": row.start_s, "end_s": row.end_s, "error": str(row.found)}
    return _facts(row, row.found)


def _write(path: Path, rows: list[Row]) -> None:
    """Write a csv or JSON file of several predictions.

    Raises:
        DataError: it cannot be written.
    """
    from pipeline.data.files import whole_or_nothing

    content = io.StringIO(newline="")
    if path.suffix == ".json":
        json.dump([_entry(row) for row in rows], content, ensure_ascii=False, indent=2, default=dict)
    else:
        _write_csv(content, rows)
    try:
        with whole_or_nothing(path) as beside:
            beside.write_text(content.getvalue(), encoding="utf-8", newline="")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error}") from error


def _write_csv(file: io.StringIO, rows: list[Row]) -> None:
    from pipeline.data.shown import for_spreadsheet

    good = [row.found for row in rows if not isinstance(row.found, LacunaError)]
    values = list((good[0].probabilities or {good[0].target: 0.0}) if good else {})
    states = ["text", "audio", "video"]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["file", "start_s", "end_s", "prediction", *map(for_spreadsheet, values), *states, "error"]
    )
    for row in rows:
        place = ["" if row.file is None else for_spreadsheet(str(row.file)), row.start_s, row.end_s]
        if isinstance(row.found, LacunaError):
            blank = [""] * (1 + len(values) + len(states))
            writer.writerow([*place, *blank, for_spreadsheet(str(row.found))])
            continue
        numbers = row.found.probabilities.values() or (row.found.score,)
        said = for_spreadsheet(row.found.label or "")
        writer.writerow([*place, said, *numbers, *(row.found.modalities[name].status for name in states), ""])


def _facts(row: Row, found: Prediction) -> dict[str, Any]:
    """Return what ``--json`` prints of a clip."""
    part = {} if row.start_s is None and row.end_s is None else {"start_s": row.start_s, "end_s": row.end_s}
    outcome: dict[str, Any] = {"probabilities": found.probabilities, "prediction": found.label}
    if found.score is not None:
        outcome = {"scores": {found.target: found.score}}
    return {
        "clip": None if row.file is None else str(row.file),
        **part,
        "text": row.text or None,
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
