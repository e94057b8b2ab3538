"""What the parsers of all commands share: help with examples, ``--debug`` before and after the command's name."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from pipeline.commands.output import clean, say

Run = Callable[[argparse.Namespace], int]  # a command: the parsed options -> exit status


class Parser(argparse.ArgumentParser):
    """A parser whose help keeps the line breaks of its examples."""

    def __init__(self, **options: Any) -> None:
        """Take what argparse.ArgumentParser takes."""
        super().__init__(**options, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        """Print usage and message to stderr and exit with status 2."""
        super().error(clean(message))


class Commands:
    """The commands of a parser, as ``lacuna`` has them, or of a group such as ``lacuna features``."""

    def __init__(self, parser: Parser) -> None:
        """Let the parser ask for a command."""
        self._subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(self, name: str, what: str, epilog: str, run: Run) -> Parser:
        """Add a command and return its parser.

        Args:
            name: what the user types.
            what: one sentence, for its own help and for the list of commands.
            epilog: examples, exit status.
            run: called with the parsed options.
        """
        parser = self._parser(name, what, epilog)
        parser.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show an error's traceback"
        )
        parser.set_defaults(run=run)
        return parser

    def add_group(self, name: str, what: str, epilog: str) -> Commands:
        """Add a command that has commands of its own, and return these."""
        return Commands(self._parser(name, what, epilog))

    def _parser(self, name: str, what: str, epilog: str) -> Parser:
        summary = what[0].lower() + what[1:].rstrip(".")
        made: Parser = self._subparsers.add_parser(name, help=summary, description=what, epilog=epilog)
        return made


class Version(argparse.Action):
    """Print the version and exit; it is looked up only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Do so."""
        import importlib.metadata

        say(f"lacuna {importlib.metadata.version('lacuna')}")
        parser.exit()
