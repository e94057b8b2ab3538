"""``lacuna extract``: features of files, without a dataset. pipeline/extracting.py computes them."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.commands.given import add_clips, check_times, read_said
from pipeline.commands.output import on_terminal, say, say_error
from pipeline.commands.parsing import Commands
from pipeline.errors import DataError

EPILOG = """\
Columns of a csv file or a Parquet table: id, time_s (the middle of the frame), observed (0: no face, an unknown word),
token (text only), and the features by their names. A clip without features has no row there. An .h5 file is a store
as the pipeline writes it (lacuna features show), an .npz file has the store's arrays.

Settings are those of params.yaml where there is one, else the extractor's own; --set changes them for this call.
Extractors with pretrained weights find these in data/assets/: run it in the project's folder.

exit status: 0; 1 when a clip could not be read (it is named, and the others are written), or when none has features

examples:
  lacuna extract clip.mp4 --with opensmile --out clip.csv
  lacuna extract films/ --with opensmile --with facet35 --out films.parquet   films.opensmile.parquet, films.facet35...
  lacuna extract clip.mp4 --with opensmile --set feature_set=eGeMAPSv02 --set level=lld --out clip.csv
  lacuna extract clip.mp4 --with facelandmarker --set frame_rate_hz=25 --start 3 --end 8.5 --out clip.h5
  lacuna extract --text "An instant classic." --with bert --out text.npz
  lacuna extract films/ --with bert --transcript texts/ --out text.csv        texts/NAME.txt of each film NAME
"""


def add(commands: Commands) -> None:
    """Add the command ``extract``."""
    extract = commands.add("extract", "Features of media files in one line, without a dataset.", EPILOG, run)
    add_clips(extract)
    extract.add_argument(
        "--with",
        dest="extractors",
        action="append",
        required=True,
        metavar="EXTRACTOR",
        help="an extractor, as in params.yaml; may be given several times",
    )
    extract.add_argument(
        "--out", type=Path, required=True, metavar="OUT", help="ends in .csv, .parquet, .h5 or .npz"
    )
    extract.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of every extractor that has it, or EXTRACTOR.KEY=VALUE of one",
    )
    extract.add_argument("--workers", type=_workers, default="auto", metavar="N", help="default: one a core")


def run(options: argparse.Namespace) -> int:
    """Write features; return 1 when a clip failed, or none has any."""
    from pipeline.data.feature_tables import check_form
    from pipeline.extracting import extract_to, find_media, modality_of, name_clips, settings_of
    from pipeline.extraction.extractors.base import Clip
    from pipeline.params import PARAMS_FILE
    from pipeline.predicting import words_within

    check_form(options.out)
    extractors = list(dict.fromkeys(options.extractors))
    modalities = {modality_of(name) for name in extractors}
    settings = settings_of(extractors, options.settings, PARAMS_FILE)
    check_times(options.start, options.end)
    files = find_media(options.files)
    names = name_clips(files)
    _check_said(options, "text" in modalities)
    texts, words = read_said(options, files)
    words = words_within(words, options.start, options.end)
    if not files and (modalities != {"text"} or not texts[0]):
        raise DataError("found no file to extract from; name some, or give --text to a text extractor")
    every: list[Path | None] = [*files] or [None]
    clips = [
        Clip(name, file, file, options.start, options.end, text=text, words=words)
        for name, file, text in zip(names or ["text"], every, texts, strict=True)
    ]
    status = 0
    progress = len(clips) > 1 and on_terminal()
    for outcome in extract_to(clips, settings, options.out, workers=options.workers, progress=progress):
        count = len(clips) - len(outcome.missing) - len(outcome.failed)
        say(f"{outcome.path}: {outcome.rows} rows of {count} of {len(clips)} clips")
        for kind, reasons in (("missing", outcome.missing), ("failed", outcome.failed)):
            for name, reason in reasons.items():
                say_error(f"{kind}: {name}: {reason}")
        if outcome.failed or not count:
            status = 1
    return status


def _check_said(options: argparse.Namespace, wanted: bool) -> None:
    given = [name for name in ("text", "transcript", "words") if getattr(options, name) is not None]
    if given and not wanted:
        raise DataError(f"--{given[0]}: none of the extractors reads text")
    if wanted and not {"text", "transcript"} & set(given):
        raise DataError("a text extractor needs --text or --transcript")


def _workers(text: str) -> int | str:
    if text != "auto" and not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f'found "{text}", expected auto or a number from 1 on')
    return text if text == "auto" else int(text)
