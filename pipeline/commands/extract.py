"""``lacuna extract``: features of files, without a dataset. pipeline/extracting.py computes them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.output import say, say_error
from pipeline.commands.parsing import Commands
from pipeline.errors import DataError

if TYPE_CHECKING:
    from pipeline.data.manifest import Word

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
    extract.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="media files, or folders of them"
    )
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
    extract.add_argument("--text", metavar="WORDS", help="what is said in the one file, or without a file")
    extract.add_argument(
        "--transcript", type=Path, metavar="PATH", help="a text file, or a folder with NAME.txt of each file"
    )
    extract.add_argument(
        "--words", type=Path, metavar="FILE", help='JSON, [["word", start, end], ...]: times for tokens'
    )
    extract.add_argument(
        "--start", type=float, metavar="S", help="seconds of the file; default: its beginning"
    )
    extract.add_argument("--end", type=float, metavar="S", help="seconds of the file; default: its end")
    extract.add_argument("--workers", type=_workers, default="auto", metavar="N", help="default: one a core")


def run(options: argparse.Namespace) -> int:
    """Write features; return 1 when a clip failed, or none has any."""
    from pipeline.data.feature_tables import check_form
    from pipeline.extracting import extract_to, find_media, modality_of, name_clips, settings_of
    from pipeline.extraction.extractors.base import Clip
    from pipeline.params import PARAMS_FILE

    check_form(options.out)
    extractors = list(dict.fromkeys(options.extractors))
    modalities = {modality_of(name) for name in extractors}
    settings = settings_of(extractors, options.settings, PARAMS_FILE)
    check_times(options.start, options.end)
    files = find_media(options.files)
    names = name_clips(files)
    texts, words = _said(options, files, "text" in modalities)
    if not files and (modalities != {"text"} or not texts[0]):
        raise DataError("found no file to extract from; name some, or give --text to a text extractor")
    clips = [
        Clip(name, file, file, options.start, options.end, text=text, words=words)
        for name, file, text in zip(names or ["text"], files or [None], texts, strict=True)
    ]
    status = 0
    progress = len(clips) > 1 and sys.stderr.isatty()
    for outcome in extract_to(clips, settings, options.out, workers=options.workers, progress=progress):
        count = len(clips) - len(outcome.missing) - len(outcome.failed)
        say(f"{outcome.path}: {outcome.rows} rows of {count} of {len(clips)} clips")
        for kind, reasons in (("missing", outcome.missing), ("failed", outcome.failed)):
            for name, reason in reasons.items():
                say_error(f"{kind}: {name}: {reason}")
        if outcome.failed or not count:
            status = 1
    return status


def check_times(start_s: float | None, end_s: float | None) -> None:
    """Refuse a part that begins before the file, or does not end after its beginning.

    Raises:
        DataError: it does so.
    """
    begin = start_s or 0.0
    if not 0 <= begin < float("inf"):
        raise DataError(f"--start: found {begin:g} s, expected 0 or more")
    if end_s is not None and not begin < end_s < float("inf"):
        raise DataError(f"--end: found {end_s:g} s, expected more than the start at {begin:g} s")


def _workers(text: str) -> int | str:
    if text != "auto" and not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f'found "{text}", expected auto or a number from 1 on')
    return text if text == "auto" else int(text)


def _said(options: argparse.Namespace, files: list[Path], wanted: bool) -> tuple[list[str], tuple[Word, ...]]:
    """Return what is said in each file, and the words' times of the only one."""
    from pipeline.commands.predict import read_words

    count = max(1, len(files))
    given = [name for name in ("text", "transcript", "words") if getattr(options, name) is not None]
    if given and not wanted:
        raise DataError(f"--{given[0]}: none of the extractors reads text")
    if wanted and not {"text", "transcript"} & set(given):
        raise DataError("a text extractor needs --text or --transcript")
    if len({"text", "transcript"} & set(given)) > 1:
        raise DataError("found --text and --transcript; expected one of them")
    one_only = "--words" if options.words else "--text" if options.text is not None else "--transcript"
    if given and count > 1 and not (options.transcript and options.transcript.is_dir() and not options.words):
        raise DataError(f"{one_only} is of one file, found {count}; give a folder of texts to --transcript")
    words = () if options.words is None else read_words(options.words)
    if options.transcript is None:
        return [options.text or ""] * count, words
    if options.transcript.is_dir():
        paths = [options.transcript / f"{file.stem}.txt" for file in files]
        return [_read_text(path) if path.is_file() else "" for path in paths], words
    return [_read_text(options.transcript)] * count, words


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text: {error}") from error
