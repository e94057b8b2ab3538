"""``lacuna features show | check | diff | export``: print, check, compare and export files of features.

What show, check and diff find out is computed in inspection.py; export.py writes the files of other toolkits.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from pipeline.commands.given import check_times
from pipeline.commands.output import listed, say, say_json, say_rows
from pipeline.commands.parsing import Commands
from pipeline.errors import DataError

EPILOG = """\
examples:
  lacuna features show data/features/demo/video.h5
  lacuna features check data/features/demo/*.h5
  lacuna features diff before.h5 data/features/demo/video.h5
  lacuna features export demo demo.pkl
"""
SHOW_EPILOG = """\
examples:
  lacuna features show data/features/demo/video.h5
  lacuna features show data/features/demo/video.h5 --columns   every column's name
  lacuna features show data/features/demo/video.h5 --json
  lacuna features show data/features/demo/audio.h5 --statistics   constant columns, zeros, ranges, pitch
  lacuna features show data/features/demo/video.h5 --id demo_001 --picture look.png
                                          faces on pictures; waveform, words, pitch and loudness; all columns over time
  lacuna features show clip.h5 --picture look.png --media clip.mp4   of lacuna extract
  lacuna features show data/features/demo/video.h5 --id demo_001 --plot plot.png   the columns alone, without media
"""
CHECK_EPILOG = """\
Checks that the checksum fits the values, that values and times are finite numbers, that times do not decrease, that
column names, flags, statuses and ids are valid, and that the manifest is the one that the store was made from.

exit status: 0 when every check passed, 1 when one failed

examples:
  lacuna features check data/features/demo/*.h5
  lacuna features check copy.h5 --manifest data/manifests/demo.csv
"""
DIFF_EPILOG = """\
Compares samples of the same id over the columns of the same name. Other attributes (settings, versions of
libraries) are shown, but do not count as a difference.

exit status: 0 when samples and values are the same, 1 when they differ

examples:
  lacuna features diff before.h5 data/features/demo/video.h5
  lacuna features diff before.h5 data/features/demo/video.h5 --tolerance 1e-5
"""
EXPORT_EPILOG = """\
examples:
  lacuna features export demo demo.pkl                  an MMSA pickle of fold 1's train, valid and test
  lacuna features export demo demo.pkl --fold 3
  lacuna features export demo folder --form utterances  text.h5, audio.h5, video.h5: one array per utterance (MMIN)
  lacuna features export demo folder --form csv         text.csv, audio.csv, video.csv: a row for each frame
  lacuna features export demo folder --form parquet
"""


def add(commands: Commands) -> None:
    """Add the group ``features``."""
    group = commands.add_group("features", "Print, check, compare or export files of features.", EPILOG)
    show = group.add("show", "Print what a file of features holds.", SHOW_EPILOG, run_show)
    show.add_argument("file", type=Path, metavar="FILE", help="for example data/features/demo/video.h5")
    show.add_argument("--json", action="store_true", help="print JSON")
    show.add_argument("--columns", action="store_true", help="list every column")
    show.add_argument("--statistics", action="store_true", help="say what the columns' numbers look like")
    show.add_argument("--id", metavar="ID", help="the clip to draw; may be left out where there is one")
    drawn = show.add_mutually_exclusive_group()
    drawn.add_argument(
        "--picture", type=Path, metavar="PNG", help="draw the clip: media, and features over time"
    )
    drawn.add_argument("--plot", type=Path, metavar="PNG", help="draw its features over time alone")
    show.add_argument(
        "--media",
        type=Path,
        metavar="FILE",
        help="the clip's file; default: what its dataset's manifest says",
    )
    show.add_argument(
        "--start", type=float, metavar="S", help="of --media: where lacuna extract began, in seconds"
    )
    show.add_argument("--end", type=float, metavar="S", help="of --media: where it ended")
    check = group.add("check", "Check that files of features are intact.", CHECK_EPILOG, run_check)
    check.add_argument("files", type=Path, nargs="+", metavar="FILE")
    check.add_argument(
        "--manifest", type=Path, metavar="FILE", help="default: the file where the pipeline writes it"
    )
    diff = group.add("diff", "Compare two files of features.", DIFF_EPILOG, run_diff)
    diff.add_argument("first", type=Path, metavar="FIRST")
    diff.add_argument("second", type=Path, metavar="SECOND")
    diff.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        metavar="X",
        help="values that differ by at most X count as the same; default: 0",
    )
    diff.add_argument("--json", action="store_true", help="print JSON")
    export = group.add("export", "Write a dataset's features for other toolkits.", EXPORT_EPILOG, run_export)
    export.add_argument("name", metavar="NAME", help="a dataset of params.yaml whose features are extracted")
    export.add_argument(
        "target", type=Path, metavar="TARGET", help="the pickle, or a folder for the other forms"
    )
    export.add_argument("--form", choices=("mmsa", "utterances", "csv", "parquet"), default="mmsa")
    export.add_argument(
        "--fold", type=int, default=1, metavar="N", help="the fold whose parts the pickle holds; default: 1"
    )


def run_show(options: argparse.Namespace) -> int:
    """Print what a feature store holds, or draw one of its clips."""
    from pipeline.commands.inspection import describe
    from pipeline.extraction.extractors.base import caution_line

    if options.picture or options.plot:
        return _draw(options)
    if options.id or options.media:
        raise DataError("--id and --media are of a picture: give --picture or --plot too")
    if options.statistics:
        return _say_statistics(options.file)
    found = describe(options.file)
    if options.json:
        say_json(found)
        return 0
    columns, lengths, period = found["columns"], found["frames_a_sample"], found["frame_period_s"]
    shown = columns if options.columns or len(columns) <= 6 else [*columns[:3], "...", *columns[-2:]]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(found["versions"].items()))
    statuses = ", ".join(f"{count} {name}" for name, count in found["status"].items())
    say_rows(
        [
            ("features", f"{found['modality']} of {found['dataset']}, schema {found['schema']}"),
            ("extractor", f"{found['extractor']} {json.dumps(found['settings'], ensure_ascii=False)}"),
            ("versions", versions or "none recorded"),
            ("shape", f"{found['frames']} frames x {len(columns)} columns, float32"),
            ("columns", ", ".join(shown)),
            ("frames", f"{1 / period:.4g} a second" if period else "at no fixed rate (words, word pieces)"),
            ("observed", f"{found['frames_observed']} of {found['frames']} frames"),
            (
                "a sample",
                f"{lengths[0]} to {lengths[2]} frames, median {lengths[1]}" if lengths else "no frames",
            ),
            ("samples", f"{found['samples']}: {statuses}"),
            ("manifest", f"sha256 {found['manifest_sha256']}"),
            ("values", f"sha256 {found['values_sha256']}"),
        ]
    )
    for reason, ids in found["reasons"].items():
        say(f"  {len(ids)} {reason} ({listed(ids)})")
    for caution in found["cautions"]:
        say(f"  mind: {caution_line(**caution)}")
    return 0


def _say_statistics(path: Path) -> int:
    from pipeline.data.store import FeatureStore
    from pipeline.looking import caution_lines, statistics, statistics_lines

    with FeatureStore(path) as store:
        say_rows(
            [*statistics_lines(*statistics(list(store), store.info.columns)), *caution_lines(store.info)]
        )
    return 0


def _draw(options: argparse.Namespace) -> int:
    """Write a picture of one clip."""
    from pipeline.clip_picture import draw
    from pipeline.extraction.extractors.base import Clip
    from pipeline.features import open_features
    from pipeline.looking import choose_clip, clip_line, find_clip, look_at
    from pipeline.params import load_params

    path = options.picture or options.plot
    if path.suffix != ".png":
        raise DataError(f'{path}: found "{path.suffix}", expected a name that ends in .png')
    if options.media is not None and not options.media.is_file():
        raise DataError(f"{options.media}: there is no such file")
    check_times(options.start, options.end)
    if options.media is None and (options.start is not None or options.end is not None):
        raise DataError("--start and --end are of --media; a dataset's manifest has its own")
    with open_features(options.file) as features:
        name = choose_clip(features, options.id)
        rows, info = features[name], features.info
    clip = None
    if options.picture and options.media:
        clip = Clip(name, options.media, options.media, options.start, options.end)
    elif options.picture:
        clip = find_clip(info, name, load_params())
    title = f"{name}: {info.modality} by {info.extractor}"
    try:
        draw(look_at(rows, info, title, clip), path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error}") from error
    say(f"{path}: {name}, {clip_line(rows, info.columns)}")
    return 0


def run_check(options: argparse.Namespace) -> int:
    """Check feature stores; return 1 when a check failed."""
    from pipeline.commands.inspection import check

    passed = True
    for file in options.files:
        found = check(file, options.manifest)
        say(f"{file}: {'intact' if found.passed else 'DAMAGED OR OUT OF DATE'}")
        for name, what, right in found.items:
            say(f"  {'--' if right is None else 'ok' if right else '!!'}  {name}: {what}")
        passed = passed and found.passed
    return 0 if passed else 1


def run_diff(options: argparse.Namespace) -> int:
    """Compare two feature stores; return 1 when they differ."""
    from pipeline.commands.inspection import diff

    found = diff(options.first, options.second, options.tolerance)
    if options.json:
        say_json({"same": found.same, **asdict(found)})
        return 0 if found.same else 1
    for key, (first, second) in found.about.items():
        say(f"{key}: {json.dumps(first, default=dict)} | {json.dumps(second, default=dict)}")
    for kind, sides in (("samples", found.only), ("columns", found.columns)):
        for file, names in zip((options.first, options.second), sides, strict=True):
            if names:
                say(f"{len(names)} {kind} only in {file}: {listed(names)}")
    for name, (before, after) in list(found.status.items())[:5]:
        say(f"status of {name}: {before} | {after}")
    for kind, changed in (
        ("another status", found.status),
        ("another number of rows", found.length),
        ("other words", found.words),
        ("other token ids", found.token_ids),
        ("other flags", found.flags),
        ("other times", found.times),
        ("other values", found.values),
    ):
        if changed:
            say(f"{len(changed)} of {found.compared} samples have {kind}: {listed(list(changed))}")
    if found.largest[0]:
        largest, name, column = found.largest
        say(f"largest difference of two values: {largest:.6g}, column {column} of {name}")
    say("the same" if found.same else "they differ")
    return 0 if found.same else 1


def run_export(options: argparse.Namespace) -> int:
    """Write a dataset's features for other toolkits."""
    from pipeline.commands.export import export_dataset
    from pipeline.params import load_params

    for path in export_dataset(load_params(), options.name, options.target, options.form, options.fold):
        say(f"{path}: {path.stat().st_size} bytes")
    return 0
