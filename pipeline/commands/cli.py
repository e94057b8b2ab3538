"""The ``lacuna`` command. What it imports at the top is quick to load; each subcommand brings its own.

Exit status: 0 all is well, 1 an error that the user can put right (or a doctor's finding), 2 a wrong command
line.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import LacunaError

DESCRIPTION = "Multimodal emotion and sentiment recognition when modalities are missing."
EPILOG = """\
examples:
  dvc repro                              the whole way, from raw media to data/report/index.html
  lacuna doctor                          what is here, what is lacking, and what brings it
  lacuna params check                    check params.yaml alone
  lacuna preset mmin-table5              the experiments of a paper's table
  lacuna dataset check iemocap           look at a corpus before any work is done
  lacuna predict clip.mp4 --text "..."   class probabilities of one clip
  lacuna features show data/features/demo/audio.h5
  lacuna masks show data/masks/demo.h5
"""
PREDICT_EPILOG = """\
examples:
  lacuna predict data/assets/cremad/1001_DFA_HAP_XX.flv --text "Don't forget a jacket."
  lacuna predict data/assets/cremad/1002_DFA_SAD_XX.mp3        sound only: text and video are missing
  lacuna predict --text "An instant classic."                  text only
  lacuna predict clip.mp4 --without audio                      as if the sound were not there
  lacuna predict clip.mp4 --experiment augmented --json
"""
DOCTOR_EPILOG = """\
exit status: 0 when everything that params.yaml selects can run, 1 when something it needs is lacking

example:
  lacuna doctor
"""
FEATURES_EPILOG = """\
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
"""
CHECK_EPILOG = """\
Checks the checksum of the values, that all are numbers, that times do not run backwards, that names, flags,
statuses and ids are as they must be, and that the manifest is the one that the store was made from.

exit status: 0 when all is right, 1 when something is not

examples:
  lacuna features check data/features/demo/*.h5
  lacuna features check copy.h5 --manifest data/manifests/demo.csv
"""
DIFF_EPILOG = """\
Compares samples of the same id over the columns of the same name. What the stores say of themselves (settings,
versions of libraries) is shown, and is no difference.

exit status: 0 when samples and values are the same, 1 when they differ

examples:
  lacuna features diff before.h5 data/features/demo/video.h5
  lacuna features diff before.h5 data/features/demo/video.h5 --tolerance 1e-5
"""
MASKS_EPILOG = """\
example:
  lacuna masks show data/masks/demo.h5
"""
PARAMS_EPILOG = """\
examples:
  lacuna params check
  lacuna params check other/params.yaml
  lacuna params list > docs/params.md
"""
PRESET_EPILOG = """\
Without a name: the presets there are. --write adds a table or figure to params.yaml: its experiments, its masks, the
dataset when it is not there yet, and a table of the report. An experiment that is there with the same fields is used,
not added. Everything else stays as it is, comments and all. --remove takes a table out again, with the experiments and
masks that nothing else uses; what you have changed stays. --paper does either with all tables and figures of a paper.

examples:
  lacuna preset
  lacuna preset mmin-table5
  lacuna preset mmin-table5 --dataset iemocap msp_improv --write
  lacuna preset --paper m3s --dataset iemocap mosi sims --write
  lacuna preset mmin-table5 --remove
"""
EXPORT_EPILOG = """\
examples:
  lacuna features export demo demo.pkl                  an MMSA pickle of fold 1's train, valid and test
  lacuna features export demo demo.pkl --fold 3
  lacuna features export demo folder --form utterances  text.h5, audio.h5, video.h5: an array an utterance (MMIN)
"""
DATASET_EPILOG = """\
Reads the owner's tree without extracting: what was found, what the papers count, which files are not there,
which lines could not be read. data/README.md says how each tree must look.

exit status: 0 when every published count is met, no file lacks and every line could be read; else 1

examples:
  lacuna dataset check iemocap
  lacuna dataset check iemocap --all     every line of the lists
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a character shows its code
            stream.reconfigure(errors="backslashreplace")
    parser = make_parser()
    options = parser.parse_args(arguments)
    try:
        status = options.run(options)
        sys.stdout.flush()
    except LacunaError as error:
        if options.debug:
            raise
        print(f"error: {clean(str(error))}", file=sys.stderr)
        raise SystemExit(1) from None
    except BrokenPipeError:  # `lacuna ... | head`; python would complain once more on exiting
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        if options.debug:
            raise
        kind = type(error).__name__
        print(
            f"error: {kind}: {clean(str(error))}\nThis is a fault of Lacuna; --debug shows where.",
            file=sys.stderr,
        )
        raise SystemExit(1) from None
    raise SystemExit(status)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show an error's traceback"
    )
    parser = _parser(argparse.ArgumentParser, None, DESCRIPTION, EPILOG, prog="lacuna")
    parser.add_argument("--debug", action="store_true", default=False, help="show an error's traceback")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    doctor = _parser(
        commands.add_parser,
        "doctor",
        "Say what is here, what is lacking, and what brings it.",
        DOCTOR_EPILOG,
        common,
    )
    doctor.set_defaults(run=run_doctor)

    predict = _parser(
        commands.add_parser,
        "predict",
        "Class probabilities of one clip, whatever of its modalities are missing.",
        PREDICT_EPILOG,
        common,
    )
    predict.add_argument(
        "clip", nargs="?", type=Path, metavar="CLIP", help="a file with picture, sound or both"
    )
    predict.add_argument(
        "--text", default="", metavar="WORDS", help="what is said; without it, text is missing"
    )
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
        help="take this modality for missing; may be given twice",
    )
    predict.add_argument(
        "--experiment", metavar="NAME", help="whose networks; default: mmin, or else the last one"
    )
    predict.add_argument(
        "--fold", type=int, metavar="N", help="only fold N's networks; default: the mean over all"
    )
    predict.add_argument("--json", action="store_true", help="print JSON")
    predict.set_defaults(run=run_predict)

    group = _parser(commands.add_parser, "features", "Look into files of features.", FEATURES_EPILOG)
    inner = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    show = _parser(inner.add_parser, "show", "Print what a file of features holds.", SHOW_EPILOG, common)
    show.add_argument("file", type=Path, metavar="FILE", help="such as data/features/demo/video.h5")
    show.add_argument("--json", action="store_true", help="print JSON")
    show.add_argument("--columns", action="store_true", help="list every column")
    show.set_defaults(run=run_features)
    whole = _parser(
        inner.add_parser, "check", "Check that files of features are whole.", CHECK_EPILOG, common
    )
    whole.add_argument("files", type=Path, nargs="+", metavar="FILE")
    whole.add_argument("--manifest", type=Path, metavar="FILE", help="default: where the pipeline has it")
    whole.set_defaults(run=run_features_check)
    two = _parser(inner.add_parser, "diff", "Say in what two files of features differ.", DIFF_EPILOG, common)
    two.add_argument("first", type=Path, metavar="FIRST")
    two.add_argument("second", type=Path, metavar="SECOND")
    two.add_argument(
        "--tolerance", type=float, default=0.0, metavar="X", help="values this close are the same; default: 0"
    )
    two.add_argument("--json", action="store_true", help="print JSON")
    two.set_defaults(run=run_features_diff)
    export = _parser(
        inner.add_parser, "export", "Write a dataset's features for other toolkits.", EXPORT_EPILOG, common
    )
    export.add_argument("name", metavar="NAME", help="a dataset of params.yaml whose features are extracted")
    export.add_argument("target", type=Path, metavar="TARGET", help="the pickle, or a folder for HDF5 files")
    export.add_argument("--form", choices=("mmsa", "utterances"), default="mmsa")
    export.add_argument("--fold", type=int, default=1, metavar="N", help="whose parts the pickle holds")
    export.set_defaults(run=run_export)

    group = _parser(commands.add_parser, "masks", "Look into a file of missing-modality masks.", MASKS_EPILOG)
    inner = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    show = _parser(inner.add_parser, "show", "Print what a file of masks holds.", MASKS_EPILOG, common)
    show.add_argument("file", type=Path, metavar="FILE", help="such as data/masks/demo.h5")
    show.add_argument("--json", action="store_true", help="print JSON")
    show.set_defaults(run=run_masks)

    group = _parser(commands.add_parser, "params", "Look at params.yaml.", PARAMS_EPILOG)
    inner = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    check = _parser(
        inner.add_parser, "check", "Check params.yaml and list every mistake.", PARAMS_EPILOG, common
    )
    check.add_argument("file", nargs="?", type=Path, default=Path("params.yaml"), metavar="FILE")
    check.set_defaults(run=run_params)
    listing = _parser(
        inner.add_parser, "list", "Print every key, what it takes and its default.", PARAMS_EPILOG, common
    )
    listing.set_defaults(run=list_params)

    preset = _parser(
        commands.add_parser, "preset", "The experiments of a paper's table or figure.", PRESET_EPILOG, common
    )
    preset.add_argument("name", nargs="?", metavar="NAME", help="of the preset; none: list them")
    preset.add_argument("--paper", metavar="PAPER", help="all presets of a paper: mmin, m3s")
    preset.add_argument(
        "--dataset", nargs="+", metavar="DATASET", help="one or more; default: demo, to remove: every one"
    )
    action = preset.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help="add it to params.yaml")
    action.add_argument("--remove", action="store_true", help="take it out of params.yaml")
    preset.set_defaults(run=run_preset)

    group = _parser(commands.add_parser, "dataset", "Look at a dataset's own tree.", DATASET_EPILOG)
    inner = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    tree = _parser(
        inner.add_parser, "check", "Compare a tree with what the papers say.", DATASET_EPILOG, common
    )
    tree.add_argument("name", metavar="NAME", help="a dataset of params.yaml")
    tree.add_argument("--all", action="store_true", help="print the lists whole")
    tree.add_argument("--json", action="store_true", help="print JSON")
    tree.set_defaults(run=run_dataset)
    return parser


def _parser(
    make: Any, name: str | None, what: str, epilog: str, *parents: argparse.ArgumentParser, **more: Any
) -> argparse.ArgumentParser:
    if name is not None:
        more["help"] = what[0].lower() + what[1:].rstrip(".")
    parser: argparse.ArgumentParser = make(
        *([name] if name is not None else []),
        description=what,
        epilog=epilog,
        parents=parents,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **more,
    )
    return parser


class _Version(argparse.Action):
    """Print the version; it is looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import importlib.metadata

        print(f"lacuna {importlib.metadata.version('lacuna')}")
        parser.exit()


def clean(text: str) -> str:
    """Return text with control characters written out, so that a file's name cannot steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def say(text: str = "") -> None:
    """Print one line to stdout."""
    print(clean(text))


def _rows(rows: Sequence[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        say(f"{name:<{width}}  {value}")


# --- doctor -------------------------------------------------------------------------------------------------


def run_doctor(_: argparse.Namespace) -> int:
    """Print every finding; return 1 when something that is needed is lacking."""
    from pipeline.commands.doctor import examine
    from pipeline.params import load_params

    params, mistake = None, ""
    try:
        params = load_params()
    except LacunaError as error:
        mistake = str(error)
    marks = {"ok": "ok", "note": "--", "lacking": "!!"}
    part, lacking = "", 0
    for finding in examine(params):
        if finding.part != part:
            part = finding.part
            say(f"{part}")
        say(f"  {marks[finding.state]}  {finding.name}: {finding.detail}")
        if finding.remedy:
            say(f"        -> {finding.remedy}")
        lacking += finding.state == "lacking"
    say("params.yaml")
    if mistake:
        say("  !!  " + mistake.replace("\n", "\n      "))
        lacking += 1
    elif params is not None:
        say(f"  ok  {_counted(params)}")
    say()
    say(f"{lacking} thing(s) lacking" if lacking else "Everything that params.yaml asks for is here.")
    return 1 if lacking else 0


def _counted(params: Any) -> str:
    names = [f"{len(getattr(params, key))} {key}" for key in ("assets", "datasets", "masks", "experiments")]
    return f"right: {', '.join(names)}"


# --- params, dataset, export, features, masks ---------------------------------------------------------------


def run_params(options: argparse.Namespace) -> int:
    """Check a parameters' file."""
    from pipeline.params import load_params

    say(f"{options.file}: {_counted(load_params(options.file))}")
    return 0


def list_params(options: argparse.Namespace) -> int:
    """Print docs/params.md."""
    from pipeline.commands.params_list import describe

    say(describe().rstrip("\n"))
    return 0


def run_preset(options: argparse.Namespace) -> int:
    """List the presets, print some, or add them to params.yaml or take them out."""
    from pipeline.commands import preset

    for line in preset.run(options.name, options.paper, options.dataset, options.write, options.remove):
        say(line)
    return 0


def run_export(options: argparse.Namespace) -> int:
    """Write a dataset's features for other toolkits."""
    from pipeline.commands.export import export_dataset
    from pipeline.params import load_params

    for path in export_dataset(load_params(), options.name, options.target, options.form, options.fold):
        say(f"{path}: {path.stat().st_size} bytes")
    return 0


def run_dataset(options: argparse.Namespace) -> int:
    """Compare a dataset's tree with what the papers say of it."""
    from pipeline.commands.dataset_check import check
    from pipeline.params import load_params

    outcome = check(options.name, load_params().loader(options.name), None if options.all else 20)
    say(json.dumps(outcome.report, indent=2, ensure_ascii=False) if options.json else outcome.text)
    return 0 if outcome.complete else 1


def run_features(options: argparse.Namespace) -> int:
    """Print what a feature store holds."""
    import numpy as np

    from pipeline.data.store import FeatureStore, Status

    with FeatureStore(options.file) as store:
        info, lengths = store.info, store.lengths[store.status == Status.OK]
        observed = int(store.read_flags().sum())
        reasons: dict[str, list[str]] = {}
        for sample_id, status, reason in zip(store.ids, store.status, store.reasons, strict=True):
            if status != Status.OK:
                key = f"{Status(int(status)).name.lower()}: {reason or 'no reason given'}"
                reasons.setdefault(key, []).append(sample_id)
        found: dict[str, Any] = {
            "file": str(options.file),
            "dataset": info.dataset,
            "modality": info.modality,
            "extractor": info.extractor,
            "settings": dict(info.settings),
            "versions": dict(info.versions),
            "schema": info.schema,
            "frame_period_s": info.frame_period_s,
            "columns": list(info.columns),
            "samples": len(store),
            "status": {status.name.lower(): int((store.status == status).sum()) for status in Status},
            "frames": int(store.offsets[-1]),
            "frames_observed": observed,
            "frames_a_sample": [int(x) for x in np.percentile(lengths, (0, 50, 100))] if len(lengths) else [],
            "reasons": reasons,
            "manifest_sha256": info.manifest_sha256,
            "values_sha256": store.values_sha256,
        }
    if options.json:
        say(json.dumps(found, ensure_ascii=False, indent=2))
        return 0
    columns = found["columns"]
    shown = columns if options.columns or len(columns) <= 6 else [*columns[:3], "...", *columns[-2:]]
    period = info.frame_period_s
    _rows(
        [
            ("features", f"{info.modality} of {info.dataset}, schema {info.schema}"),
            ("extractor", f"{info.extractor} {json.dumps(found['settings'], ensure_ascii=False)}"),
            (
                "versions",
                ", ".join(f"{name} {v}" for name, v in sorted(info.versions.items())) or "none recorded",
            ),
            ("shape", f"{found['frames']} frames x {len(columns)} columns, float32"),
            ("columns", ", ".join(shown)),
            ("frames", f"{1 / period:.4g} a second" if period else "words, word pieces or otherwise uneven"),
            ("observed", f"{observed} of {found['frames']} frames show something"),
            (
                "a sample",
                "{} to {} frames, median {}".format(*[found["frames_a_sample"][i] for i in (0, 2, 1)])
                if len(lengths)
                else "no frames",
            ),
            (
                "samples",
                f"{found['samples']}: " + ", ".join(f"{n} {name}" for name, n in found["status"].items()),
            ),
            ("manifest", f"sha256 {info.manifest_sha256}"),
            ("values", f"sha256 {store.values_sha256}"),
        ]
    )
    for reason, ids in reasons.items():
        more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
        say(f"  {len(ids)} {reason} ({', '.join(ids[:5])}{more})")
    return 0


def run_features_check(options: argparse.Namespace) -> int:
    """Check feature stores; return 1 when something is wrong with one."""
    from pipeline.commands.inspection import check

    passed = True
    for file in options.files:
        found = check(file, options.manifest)
        say(f"{file}: {'whole' if found.passed else 'NOT RIGHT'}")
        for name, what, right in found.items:
            say(f"  {'--' if right is None else 'ok' if right else '!!'}  {name}: {what}")
        passed = passed and found.passed
    return 0 if passed else 1


def run_features_diff(options: argparse.Namespace) -> int:
    """Compare two feature stores; return 1 when they differ."""
    from dataclasses import asdict

    from pipeline.commands.inspection import diff

    found = diff(options.first, options.second, options.tolerance)
    if options.json:
        say(json.dumps({"same": found.same, **asdict(found)}, ensure_ascii=False, indent=2, default=dict))
        return 0 if found.same else 1

    def listed(names: Sequence[str]) -> str:
        return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

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


def run_masks(options: argparse.Namespace) -> int:
    """Print what a file of masks holds."""
    from pipeline.data.masks import read_masks
    from pipeline.reporting.facts import describe_mask

    masks = read_masks(options.file)
    facts = [describe_mask(masks, name) for name in masks.settings]
    if options.json:
        found = {
            "file": str(options.file),
            "dataset": masks.dataset,
            "seed": masks.seed,
            "samples": len(masks.ids),
            "masks": {
                one.name: {
                    **one.settings.model_dump(mode="json", exclude_none=True),
                    "checksum": one.checksum,
                    "modalities_gone": one.modalities_gone,
                    "frames_gone": one.frames_gone,
                }
                for one in facts
            },
        }
        say(json.dumps(found, ensure_ascii=False, indent=2))
        return 0
    say(f"masks of {masks.dataset}: {len(masks.ids)} samples, seed {masks.seed}")
    for one in facts:
        say(one.name)
        gone = [
            f"{share:.1%} of the {what} gone"
            for share, what in ((one.modalities_gone, "modalities"), (one.frames_gone, "frames"))
            if share is not None
        ]
        draw = "drawn anew at each use; here the first draw" if one.settings.draw == "sampled" else "fixed"
        if one.settings.protocol == "conditions":
            gone, draw = ["each of a, v, t, av, at, vt, avt (what is left)"], "enumerated"
        say(f"  protocol  {one.settings.protocol}{''.join(f', {k} {v}' for k, v in one.said.items())}")
        say(f"  draw      {draw}")
        say(f"  takes     {', '.join(gone)}")
        say(f"  checksum  {one.checksum}")
    return 0


# --- predict ------------------------------------------------------------------------------------------------


def run_predict(options: argparse.Namespace) -> int:
    """Print class probabilities of one clip, or its score."""
    from pipeline.data.datasets import base as loaders
    from pipeline.data.manifest import MODALITIES
    from pipeline.params import load_params
    from pipeline.training import predictor as predict

    params = load_params()
    name = options.experiment or (
        "mmin" if "mmin" in params.experiments else next(reversed(params.experiments), "")
    )
    if not name:
        raise LacunaError("params.yaml names no experiment: there is no model to predict with")
    experiment = params.experiment(name)
    if options.clip is None and not options.text.strip():
        raise LacunaError(
            'found neither a CLIP nor --text; give one of them: lacuna predict clip.mp4 --text "..."'
        )
    if options.clip is not None and not options.clip.is_file():
        raise LacunaError(f"{options.clip}: there is no such file")
    predictors = [predict.load_run(folder) for folder in _runs(name, options.fold)]
    words = () if options.words is None else _read_words(options.words)
    features, states = {}, {}
    for modality in MODALITIES:
        features[modality], states[modality] = _extract(
            params, experiment.dataset, modality, options, words, predictors[0]
        )
    available = [m for m in MODALITIES if states[m]["state"] == "available"]
    if not available:
        reasons = "; ".join(f"{m}: {states[m]['detail']}" for m in MODALITIES)
        raise LacunaError(f"no modality is left to predict from ({reasons})")
    chances = predict.predict(predictors, features)
    constructed = loaders.find(params.dataset(experiment.dataset).loader).constructed
    folds = sorted({(int(one.facts["fold"]), int(one.facts["run"])) for one in predictors})
    networks = [f"{fold}-{run}" for fold, run in folds]
    said: dict[str, object] = {"scores": chances}
    if not predictors[0].regression:
        said = {"probabilities": chances, "prediction": max(chances, key=lambda label: chances[label])}
    found = {
        "clip": None if options.clip is None else str(options.clip),
        "text": options.text or None,
        "modalities": states,
        **said,
        "experiment": name,
        "model": experiment.model,
        "dataset": experiment.dataset,
        "constructed": constructed,
        "networks": networks,
    }
    if options.json:
        say(json.dumps(found, ensure_ascii=False, indent=2))
        return 0
    _rows([(m, f"{states[m]['state']:<9}  {states[m]['detail']}") for m in MODALITIES])
    say()
    block = "█" if (sys.stdout.encoding or "").lower().startswith("utf") else "#"
    width = max(len(label) for label in chances)
    for label, chance in sorted(chances.items(), key=lambda item: -item[1]):
        if predictors[0].regression:
            limit = float(predictors[0].facts["score_limit"])
            say(f"{label:<{width}}  {chance:+.3f}  on a scale from {-limit:g} to {limit:g}")
            continue
        say(f"{label:<{width}}  {chance:5.1%}  {block * round(chance * 40)}".rstrip())
    say()
    many = (
        f"the mean over {len(folds)} networks (one a fold and run)"
        if len(folds) > 1
        else f"network {networks[0]}"
    )
    say(f"By {name} (model {experiment.model}): {many}, trained on {experiment.dataset}.")
    gone = [m for m in MODALITIES if m not in available]
    if gone:
        how = "imagined from what is there" if experiment.model == "mmin" else "zeros to the model"
        say(f"Missing: {', '.join(gone)}; {how}.")
    if constructed:
        say(f"{experiment.dataset} is a CONSTRUCTED corpus: this is a demonstration, not a measurement.")
    return 0


def _runs(experiment: str, fold: int | None) -> list[Path]:
    """Return the folders of an experiment's trained networks."""
    folder = Path("data/runs") / experiment
    found = sorted(path.parent for path in folder.glob("*-*/run.json"))
    if not found:
        raise LacunaError(f"{folder}: no trained network there. Train it: dvc repro train@{experiment}")
    chosen = [path for path in found if fold is None or path.name.split("-")[0] == str(fold)]
    if not chosen:
        folds = ", ".join(sorted({path.name.split("-")[0] for path in found}))
        raise LacunaError(f"{folder}: there is no fold {fold}; expected one of: {folds}")
    return chosen


def _read_words(path: Path) -> tuple[Any, ...]:
    """Read the words of a clip, and when each is spoken."""
    from pipeline.data.manifest import Word

    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
        words = tuple(Word(str(text), float(start), float(end)) for text, start, end in rows)
    except (OSError, ValueError, TypeError) as error:
        raise LacunaError(
            f'{path}: {error}; expected JSON, [["word", start, end], ...] in seconds'
        ) from error
    for word in words:
        if not 0 <= word.start_s <= word.end_s < math.inf:
            raise LacunaError(
                f'{path}: found "{word.text}" from {word.start_s} to {word.end_s} s; expected 0 <= start <= end'
            )
    return words


def _extract(
    params: Any,
    dataset: str,
    modality: Any,
    options: argparse.Namespace,
    words: tuple[Any, ...],
    predictor: Any,
) -> tuple[Any, dict[str, str]]:
    """Return one modality's features of the clip, or None, and what became of it."""
    from pipeline.data.store import Status
    from pipeline.errors import MediaError, StreamMissing
    from pipeline.extraction.extractors import base

    if modality in options.without:
        return None, {"state": "missing", "detail": "left out by --without"}
    if modality == "text" and not options.text.strip():
        return None, {"state": "missing", "detail": "no --text given"}
    if modality != "text" and options.clip is None:
        return None, {"state": "missing", "detail": "no clip given"}
    chosen = params.dataset(dataset).extraction(modality)
    name = chosen.extractor
    settings = params.extractor_settings(dataset, modality)
    align = {} if chosen.align == "none" else {"align": chosen.align}
    _check_same(predictor.facts, modality, name, settings.model_dump(mode="json") | align)
    extractor = base.find(modality, name)(settings, Path("data/assets") / name)
    try:
        if list(extractor.columns) != list(predictor.facts["features"][modality]["columns"]):
            raise LacunaError(
                f"{name} gives other columns than {predictor.facts['experiment']} was trained with. "
                "Run: dvc repro"
            )
        clip = base.Clip(id="given", video=options.clip, audio=options.clip, text=options.text, words=words)
        sequence = predictor.align(modality, extractor.extract(clip), words)
    except StreamMissing as error:
        return None, {"state": "missing", "detail": str(error)}
    except MediaError as error:
        return None, {"state": "failed", "detail": f"{error}; taken for missing"}
    finally:
        extractor.close()
    if sequence.status is not Status.OK:
        return None, {"state": sequence.status.name.lower(), "detail": sequence.reason}
    unit = "tokens" if modality == "text" else "frames"
    if align:
        unit = "words" if chosen.align == "words" else "rows"
    frames = f"{len(sequence.times)} {unit}"
    observed = int(sequence.flags.sum())
    part = "" if observed == len(sequence.times) else f", {observed} of them show something"
    return sequence, {"state": "available", "detail": f"{frames} by {name}{part}"}


def _check_same(facts: Any, modality: str, name: str, settings: dict[str, Any]) -> None:
    """Refuse an extractor, or settings of it, that the networks were not trained with."""
    trained = facts["features"][modality]
    if (name, settings) != (trained["extractor"], dict(trained["settings"])):
        raise LacunaError(
            f"params.yaml makes {modality} features with {name} {json.dumps(settings)}, but "
            f"{facts['experiment']} was trained with {trained['extractor']} "
            f"{json.dumps(trained['settings'])}. Run: dvc repro, or change it back"
        )


if __name__ == "__main__":
    main()
