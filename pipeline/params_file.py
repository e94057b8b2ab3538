"""params.yaml as DVC reads it: YAML 1.2, by the same library with the same settings.

DVC makes stages of the file's keys and compares its values; Lacuna checks and uses them. Two readers would see two
files: ``1e-3`` is a number in YAML 1.2 and a text in 1.1, ``010`` is 10 or 8, ``yes`` a text or true, ``12:30`` a
text or 750.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from pipeline.errors import ParamsError

MOST_BYTES = 4 << 20
MOST_VALUES = 200_000  # once aliases are written out; a few lines of them can stand for billions
DEEPEST = 50
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def read_params_file(path: Path) -> dict[str, Any]:
    """Return the sections of params.yaml, unchecked but for their form.

    Raises:
        ParamsError: the file is absent, too long or not UTF-8, is not YAML, holds a key twice, a key that is no text,
            an alias within itself, or more than ``MOST_VALUES`` values.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ParamsError(
            f"{path}: cannot be read ({error.strerror}). Run Lacuna in the project's folder"
        ) from error
    if len(content) > MOST_BYTES:
        raise ParamsError(f"{path}: found more than {MOST_BYTES >> 20} MiB, expected a file written by hand")
    try:
        raw = parse_params(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path}: not UTF-8 (byte {error.start + 1}); save it as UTF-8") from error
    except DuplicateKeyError as error:
        line = f", again in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        key = str(error.problem).removeprefix("found duplicate key ").split(" with value ")[0]
        raise ParamsError(f"{path}: not valid YAML: the key {key} is listed twice{line}") from error
    except (YAMLError, ValueError) as error:  # ValueError: a number of thousands of digits, a 13th month
        raise ParamsError(f"{path}: not valid YAML: {error}") from error
    except RecursionError:
        raise ParamsError(f"{path}: found more than {DEEPEST} values within each other") from None
    if not isinstance(raw, dict):
        raise ParamsError(
            f"{path}: found {type(raw).__name__}, expected sections such as datasets and experiments"
        )
    if _count(path, raw, "", [], {}) > MOST_VALUES:
        raise ParamsError(
            f"{path}: its aliases (*name) stand for more than {MOST_VALUES} values, expected a file for people"
        )
    return raw


def parse_params(text: str) -> Any:
    """Return what a text says as YAML 1.2.

    Raises:
        YAMLError: of ruamel.yaml; it is not valid.
        ValueError: a number of thousands of digits, a 13th month.
    """
    return YAML(typ="safe").load(text)


def _count(path: Path, node: Any, where: str, within: list[int], known: dict[int, int]) -> int:
    """Return how many values a node holds, each alias counted anew, and check keys on the way."""
    if isinstance(node, str) and (found := _NO_TEXT.search(node)):
        raise ParamsError(
            f"{path}: {where[:80]}: found the character {found[0]!a}, which no name or path can hold"
        )
    if not isinstance(node, dict | list):
        return 1
    if id(node) in known:
        return known[id(node)]
    if id(node) in within:
        raise ParamsError(f"{path}: {where}: found an alias (*name) within what it stands for")
    if len(within) >= DEEPEST:
        raise ParamsError(f"{path}: {where[:80]}: found more than {DEEPEST} values within each other")
    within.append(id(node))
    total = 1
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        place = f"{where}.{key}" if where else str(key)
        if isinstance(node, dict) and not isinstance(key, str):
            raise ParamsError(
                f"{path}: {where or 'the file'}: found the key {key!r}, which YAML 1.2 (and DVC) reads as "
                f"{type(key).__name__}; expected a text: write it in quotes"
            )
        total += _count(path, value, place, within, known)
    within.pop()
    known[id(node)] = total
    return total
