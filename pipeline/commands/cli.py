"""The entry point of ``lacuna``: the parser put together, errors turned into messages, the exit status.

Each command is in the file of its verb: doctor.py, extract.py, predict.py, features.py, masks.py, params.py,
preset_verb.py, dataset.py, clean.py. Such a file has a function ``add(commands)``, and imports what is slow to load
inside the functions that need it, so that ``lacuna --help`` is quick.

Exit status: 0 success, 1 an error that the message explains or a check that found something wrong, 2 a wrong
command line.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.commands import (
    clean,
    compare,
    dataset,
    doctor,
    extract,
    features,
    masks,
    params,
    predict,
    preset_verb,
    runs,
)
from pipeline.commands.output import discard, finish, say_error, set_up
from pipeline.commands.parsing import Commands, Parser, Version
from pipeline.errors import LacunaError

VERBS = (
    doctor,
    extract,
    predict,
    features,
    masks,
    params,
    preset_verb,
    dataset,
    runs,
    compare,
    clean,
)  # in the order of the help
DESCRIPTION = "Multimodal emotion and sentiment recognition when modalities are missing."
EPILOG = """\
examples:
  dvc repro                              the whole pipeline, from raw media to data/report/index.html
  lacuna doctor                          what is installed and fetched, what is missing, and how to get it
  lacuna params check                    check params.yaml alone
  lacuna preset mmin-table5              the experiments of a paper's table
  lacuna dataset check iemocap           check a dataset's files before any work is done
  lacuna extract clip.mp4 --with opensmile --out clip.csv
  lacuna predict clip.mp4 --text "..."   class probabilities of one clip
  lacuna features show data/features/demo/audio.h5
  lacuna masks show data/masks/demo.h5
  lacuna runs                            the experiments, how far they are, what they reached
  lacuna compare mmin augmented          two of them with differences and p-values
  lacuna clean --dry-run                 what params.yaml no longer names
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Args:
        arguments: the words after ``lacuna``; None: those of the process.
    """
    set_up()
    options = make_parser().parse_args(arguments)
    try:
        status = options.run(options)
        finish()
    except LacunaError as error:
        if options.debug:
            raise
        say_error(f"error: {error}")
        raise SystemExit(1) from None
    except BrokenPipeError:  # `lacuna ... | head`
        discard()
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        say_error("stopped")
        raise SystemExit(130) from None
    except Exception as error:
        if options.debug:
            raise
        say_error(
            f"error: {type(error).__name__}: {error}\n"
            "This is a fault of Lacuna. Run the command with --debug to see where it happened."
        )
        raise SystemExit(1) from None
    raise SystemExit(status)


def make_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(prog="lacuna", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--debug", action="store_true", help="show an error's traceback")
    parser.add_argument("--version", action=Version, nargs=0, help="show the version and exit")
    commands = Commands(parser)
    for verb in VERBS:
        verb.add(commands)
    return parser


if __name__ == "__main__":
    main()
