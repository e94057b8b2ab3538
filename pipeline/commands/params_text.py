"""Edits of params.yaml that leave every other byte as it is: the user's comments, order, styles and line ends.

An edit adds entries to a mapping, or removes entries that were added so. An added entry carries a comment,
``# lacuna preset`` with a checksum of the entry's text. Only an entry that has this comment, and is unchanged since, is
ever removed. Positions come from PyYAML's parser. After each edit the text is read again, as YAML 1.1 and as the 1.2
of DVC and Lacuna, and compared with what it should say; where they differ, the edit is refused.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from ruamel.yaml.error import YAMLError

from pipeline.errors import ParamsError
from pipeline.params_file import parse_params

MARK = "# lacuna preset"
WIDTH = 105


class _Dumper(yaml.SafeDumper):
    """Writes a text in quotes where YAML 1.2, too, would take it for a number: ``'1e-3'``."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?0o[0-7]+$"), list("-+0"))

_MARKED = re.compile(rf"[ \t]+{MARK}(?: ([0-9a-f]{{8}}))?[ \t]*$")

Keys = tuple[str, ...]  # that lead to a mapping, such as ("report", "tables"); none: the top level


@dataclass(frozen=True)
class Node:
    """A value in the text.

    Attributes:
        start: where its first character stands.
        end: one past its last character that belongs to the value; comments and blanks behind it do not.
        flow: whether it is written in brackets.
        entries: key -> entry, of a mapping; None of everything else.
    """

    start: int
    end: int
    flow: bool = False
    entries: Mapping[str, Entry] | None = None


@dataclass(frozen=True)
class Entry:
    """A key and its value; ``start`` is where the key begins."""

    start: int
    value: Node


def add_entries(text: str, keys: Keys, entries: Mapping[str, Any]) -> str:
    """Add entries at the end of a mapping of params.yaml.

    Args:
        text: of params.yaml.
        keys: lead to the mapping. What is not there yet is added as well.
        entries: what to add, as plain data; none of the names is there yet.

    Raises:
        ParamsError: the text is written in a way that does not allow it.
    """
    if not entries:
        return text
    after, expected = _insert(text, keys, entries), []
    for read in _READERS:
        place = content = read(text)
        for key in keys:
            place = place.setdefault(key, {})
        place.update(copy.deepcopy(dict(entries)))
        expected.append(content)
    return _checked(after, expected, keys)


def remove_entries(text: str, keys: Keys, names: Collection[str]) -> tuple[str, list[str]]:
    """Remove entries that :func:`add_entries` added and nobody changed since.

    Args:
        text: of params.yaml.
        keys: lead to the mapping. When it becomes empty it goes as well, if it was added.
        names: of the entries; a name that is not there is no error.

    Returns:
        The text without them, and the names of those that stay, because a user wrote or changed them.

    Raises:
        ParamsError: the text is written in a way that does not allow it.
    """
    node = _find(_parse(text), keys)
    there = {} if node is None else {n: one for n, one in (node.entries or {}).items() if n in names}
    flow = node is not None and node.flow
    ours = {name: one for name, one in there.items() if _mark(text, one, flow) == _checksum(_body(text, one))}
    if not ours:
        return text, list(there)
    expected = [read(text) for read in _READERS]
    for place in expected:
        for key in keys:
            place = place[key]
        for name in ours:
            del place[name]
    for entry in sorted(ours.values(), key=lambda one: -one.start):
        text = _without(text, entry, flow)
    text = _without_empty(text, keys, expected)
    return _checked(text, expected, keys), [name for name in there if name not in ours]


def _checked(text: str, expected: list[Any], keys: Keys) -> str:
    """Return the text, if each of the readers finds in it what it should."""
    where = ".".join(keys) or "the top level"
    try:
        found = [read(text) for read in _READERS]
    except (yaml.YAMLError, YAMLError, ValueError) as error:
        raise ParamsError(f"{where}: written in a way that cannot be edited ({error}). {_BY_HAND}") from error
    if found != expected:
        raise ParamsError(f"{where}: written in a way that cannot be edited. {_BY_HAND}")
    return text


_BY_HAND = "Write its entries one below the other, or edit it by hand"


_READERS: tuple[Callable[[str], Any], ...] = (yaml.safe_load, parse_params)

# --- positions ---


def _parse(text: str) -> Node:
    """Return the document with the positions of everything in it."""
    events = iter(yaml.parse(text, Loader=yaml.SafeLoader))
    while not isinstance(next(events), yaml.DocumentStartEvent):
        pass
    return _node(text, events, next(events))


def _node(text: str, events: Iterator[Any], event: Any) -> Node:
    start, end = event.start_mark.index, event.end_mark.index
    if not isinstance(event, yaml.CollectionStartEvent):
        return Node(start, max(start, len(text[:end].rstrip())))
    flow, mapping = bool(event.flow_style), isinstance(event, yaml.MappingStartEvent)
    entries: dict[str, Entry] = {}
    one: Any = next(events)
    while not isinstance(one, yaml.CollectionEndEvent):
        value = _node(text, events, one)
        if mapping:
            key, value = one, _node(text, events, next(events))
            entries[str(getattr(key, "value", key))] = Entry(key.start_mark.index, value)
        end, one = value.end, next(events)
    closing: Any = one
    return Node(start, closing.end_mark.index if flow else end, flow, entries if mapping else None)


def _find(node: Node | None, keys: Keys) -> Node | None:
    for key in keys:
        entry = None if node is None or node.entries is None else node.entries.get(key)
        node = None if entry is None else entry.value
    return node


def _line_start(text: str, at: int) -> int:
    return text.rfind("\n", 0, at) + 1


def _line_end(text: str, at: int) -> int:
    """Return where a line ends, before its line break."""
    end = text.find("\n", at)
    if end < 0:
        return len(text)
    return end - 1 if text[at:end].endswith("\r") else end


def _line_break(text: str, at: int) -> str:
    """Return the line break at the end of a line; at the end of the file, the one that the file has elsewhere."""
    for found in ("\r\n", "\n"):
        if text.startswith(found, at):
            return found
    return "\r\n" if "\r\n" in text else "\n"


# --- adding ---


def _insert(text: str, keys: Keys, entries: Mapping[str, Any]) -> str:
    root, known = _parse(text), len(keys)
    while _find(root, keys[:known]) is None:
        known -= 1
    node, new = _find(root, keys[:known]), keys[known:]
    if node is None or node.entries is None:
        raise ParamsError(f"{'.'.join(keys[:known])}: found no entries there, expected some. {_BY_HAND}")
    if not node.flow:
        return _insert_block(text, node, new, entries)
    if not new:
        return _insert_flow(text, node, [_one_line(name, value) for name, value in entries.items()])
    opened = _insert_flow(text, node, [f"{new[0]}: {{}},  {MARK}"])
    return _insert(opened, keys, entries)


def _insert_block(text: str, node: Node, new: Keys, entries: Mapping[str, Any]) -> str:
    """Insert entries as lines behind the last one, below keys that are not there yet."""
    first = next(iter((node.entries or {}).values()))
    column = first.start - _line_start(text, first.start)
    lines = []
    for key in new:
        lines.append(f"{' ' * column}{key}:  {MARK}")
        column += 2
    for name, value in entries.items():
        body = yaml.dump(
            {name: value},
            Dumper=_Dumper,
            sort_keys=False,
            default_flow_style=None,
            width=WIDTH,
            allow_unicode=True,
        ).splitlines()
        marked = [f"{body[0]}  {MARK} {_checksum(body)}", *body[1:]]
        lines += [f"{' ' * column}{line}" for line in marked]
    at = _line_end(text, node.end)
    line_break = _line_break(text, at)
    return text[:at] + "".join(line_break + line for line in lines) + text[at:]


def _one_line(name: str, value: Any) -> str:
    """Return an entry of a mapping in brackets."""
    flow = yaml.dump(
        {name: value},
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=True,
        width=10**9,
        allow_unicode=True,
    )
    body = flow.strip()[1:-1]
    return f"{body},  {MARK} {_checksum([body])}"


def _insert_flow(text: str, node: Node, entries: list[str]) -> str:
    """Insert entries, each on a line of its own, before the closing bracket."""
    closing = node.end - 1
    values = [entry.value.end for entry in (node.entries or {}).values()]
    last = values[-1] if values else node.start + 1
    comma = "," if values and "," not in re.sub(r"(^|\s)#[^\n]*", "", text[last:closing]) else ""
    begin = _line_start(text, closing)
    own_line = begin > last and not text[begin:closing].strip()
    line = _line_start(text, node.start)
    indent = " " * (len(text[line:]) - len(text[line:].lstrip(" ")) + 2)
    line_break = _line_break(text, _line_end(text, closing))
    added = "".join(f"{indent}{entry}{line_break}" for entry in entries)
    if own_line:
        return text[:last] + comma + text[last:begin] + added + text[begin:]
    return text[:last] + comma + text[last:closing] + line_break + added + indent + text[closing:]


# --- removing ---


def _checksum(body: list[str]) -> str:
    """Return the checksum of an entry's lines, without the comment and the indentation of the first."""
    return hashlib.sha256("\n".join(body).encode()).hexdigest()[:8]


def _body(text: str, entry: Entry) -> list[str]:
    """Return an entry's lines as they were when it was added: without the comment, with no indentation."""
    column = entry.start - _line_start(text, entry.start)
    lines = text[entry.start : entry.value.end].splitlines()
    if len(lines) > 1:
        lines[-1] += text[entry.value.end : _line_end(text, entry.value.end)]  # a comment there is the user's
    first = _MARKED.sub("", lines[0])
    return [first, *(line[column:] if not line[:column].strip() else line for line in lines[1:])]


def _mark(text: str, entry: Entry, flow: bool) -> str | None:
    """Return what stands in the comment that marks an added entry: a checksum, or "" of a mapping; None without."""
    begin = _line_start(text, entry.start)
    line = text[begin : _line_end(text, entry.start)]
    found = _MARKED.search(line)
    if found is None or line[: entry.start - begin].strip():
        return None
    between = line[entry.value.end - begin : found.start()].strip()  # nothing, where the value goes on below
    return (found[1] or "") if between == ("," if flow else "") else None


def _without(text: str, entry: Entry, flow: bool) -> str:
    begin, end = _line_start(text, entry.start), _line_end(text, entry.value.end)
    if flow:
        return text[:begin] + text[end + len(_line_break(text, end)) :]
    return text[: begin - len(_line_break_before(text, begin))] + text[end:]


def _line_break_before(text: str, begin: int) -> str:
    return "\r\n" if text[:begin].endswith("\r\n") else "\n" if begin else ""


def _without_empty(text: str, keys: Keys, expected: list[Any]) -> str:
    """Take a mapping that has become empty out, if it was added; write ``{}`` for it, if the user wrote it.

    Args:
        text: without the mapping's entries.
        keys: lead to the mapping.
        expected: the data, by each reader; the key of a mapping that goes is taken out of it.
    """
    parents = []
    for place in expected:
        for key in keys[:-1]:
            place = place[key]
        parents.append(place)
    if not keys or any(place[keys[-1]] for place in parents):
        return text
    parent = _find(_parse(text), keys[:-1])
    if parent is None or parent.entries is None:
        return text
    entry = parent.entries[keys[-1]]
    if entry.value.flow:
        text = text[: entry.value.start] + "{}" + text[entry.value.end :]
        entry = Entry(entry.start, Node(entry.value.start, entry.value.start + 2, flow=True))
    if _mark(text, entry, parent.flow) == "":
        for place in parents:
            del place[keys[-1]]
        return _without_empty(_without(text, entry, parent.flow), keys[:-1], expected)
    return text if entry.value.flow else text[: entry.value.start] + " {}" + text[entry.value.start :]
