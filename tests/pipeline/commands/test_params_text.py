"""Edits of params.yaml: the data is as asked, the rest keeps its bytes, and removing undoes adding."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

from pipeline.commands.params_text import add_entries, remove_entries
from pipeline.errors import ParamsError

NEW: dict[str, Any] = {"x": {"model": "m", "range": [0.1, 2], "settings": {"rate": 1e-4}}, "y": {"n": 1}}
TABLE: dict[str, Any] = {
    "t1": {"title": 'A "t", b: ü', "experiments": ["x", "y"], "rows": {"x": {"table": "5"}}}
}
OTHER: dict[str, Any] = {"t2": {"title": "Z", "experiments": ["y"]}}
LINES = {
    "plain": "seed: 0\n\nexperiments:\n  a: {m: 1}   # c\n  # b: {m: 2}\n\n# of the report\nreport:\n  title: x  # t\n",
    "no line break at the end": "experiments:\n  a:\n    m: 1\nreport:\n  title: x",
    "a comment at the end": "experiments:\n  a:\n    m: 1  # one\n    # two\nreport:\n  title: x # three\n  # four",
    "crlf": "experiments:\r\n  a:\r\n    m: 1\r\n\r\nreport:\r\n  title: x # k\r\n",
    "crlf, no line break at the end": "experiments:\r\n  a: {m: 1}\r\nreport:\r\n  title: x",
    "wide, anchors, text blocks": (
        "report:\n    title: x\n    tables:\n        own: {title: t, experiments: [a]}  # mine\nexperiments:\n"
        "    a: &b\n        m: 1\n    c: *b\n    d:\n        <<: *b\n        n: |\n          text # no comment\n"
        "          more\n\n# end\n"
    ),
    "empty": "experiments: {}\nreport: {}  # nothing\n",
    "absent": "# top\nseed: 0 # s",
    "quoted": "\"experiments\":\n  \"a b\": {m: 1}\n  'q': 2\nreport:\n  title: x\n",
    "odd comments": (
        "experiments: # here\n\n  # before\n  a: # of a\n    m: 1 # 'one\n\n  # after: {m: 2}\n\n\n"
        "report: # r\n  title: '# x' # \"\n"
    ),
    "tokens": "---\nexperiments:\n  ä: {m: \"ü\", l: [1,\n    2], n: '}'}\nreport:\n  title: >-\n    x\n    y\n",
}  # fmt: skip
BRACKETS = {
    "one line": "experiments: {a: {m: 1}, b: {m: 2}}  # all\nreport: {title: x}\n",
    "lines": "experiments: {\n  a: {m: 1},  # one\n  b: {m: 2}  # two, three\n}\nreport: {\n  title: \"x\",\n}\n",
    "crlf": "experiments: {a: {m: 1}}\r\nreport: {title: '}'}",
    "odd": "report: {title: x  # }\n  }\nexperiments: {a: {m: 1}, }",
}  # fmt: skip


def added(text: str) -> str:
    """Return the text with experiments and two tables added."""
    text = add_entries(text, ("experiments",), NEW)
    text = add_entries(text, ("report", "tables"), TABLE)
    return add_entries(text, ("report", "tables"), OTHER)


def removed(text: str) -> str:
    """Return the text without them."""
    for keys, names in ((("report", "tables"), ["t1", "nowhere"]), (("experiments",), ["x", "y"]),
                        (("report", "tables"), ["t2"])):  # fmt: skip
        text, stay = remove_entries(text, keys, names)
        assert stay == []
    return text


def expected(text: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(text)
    data.setdefault("experiments", {}).update(NEW)
    data.setdefault("report", {}).setdefault("tables", {}).update({**TABLE, **OTHER})
    return data


@pytest.mark.parametrize("name", [*LINES, *BRACKETS])
def test_the_data_is_what_was_asked_for_and_the_users_lines_stay(name: str) -> None:
    text = LINES.get(name) or BRACKETS[name]
    after = added(text)
    assert yaml.safe_load(after) == expected(text)
    assert YAML(typ="safe").load(after) == expected(text)  # DVC's reader
    rest = after.replace(",", "")
    for line in text.replace(",", "").splitlines():  # in order, and whole but for the bracket of what grew
        kept = line.rpartition("}")[0] if name in BRACKETS or "{}" in line else line
        assert kept in rest, line
        rest = rest[rest.index(kept) + len(kept) :]
    if "\r\n" in text:
        assert "\n" not in after.replace("\r\n", "")


@pytest.mark.parametrize("name", LINES)
def test_removing_gives_the_same_bytes_again(name: str) -> None:
    assert removed(added(LINES[name])) == LINES[name]


@pytest.mark.parametrize("name", BRACKETS)
def test_removing_from_brackets_leaves_a_comma_at_most(name: str) -> None:
    before, after = BRACKETS[name], removed(added(BRACKETS[name]))
    assert yaml.safe_load(after) == yaml.safe_load(before)
    assert "".join(after.split()).replace(",", "") == "".join(before.split()).replace(",", "")


@pytest.mark.parametrize(
    ("old", "new", "stays"),
    [
        ("    model: m\n", "    model: other\n", ["x"]),
        ("    model: m\n", "    model: m  # why\n", ["x"]),
        ("    model: m\n", "    # why\n    model: m\n", ["x"]),
        ("rate: 0.0001}\n", "rate: 0.0001}  # why\n", ["x"]),
        ("  x:  # lacuna preset", "  x:  # mine; lacuna preset", ["x"]),
        ("  y: {n: 1}  #", "  y: {n: 1}  # mine #", ["y"]),
        ("  y: {n: 1}  # lacuna", "  y: {n: 2}  # lacuna", ["y"]),
        ("  y: {n: 1}", "  # about y\n  y: {n: 1}", []),
    ],
)
def test_what_was_changed_stays(old: str, new: str, stays: list[str]) -> None:
    text = add_entries(LINES["plain"], ("experiments",), NEW)
    assert text.count(old) == 1
    after, stay = remove_entries(text.replace(old, new), ("experiments",), ["x", "y", "a"])
    assert sorted(stay) == sorted(["a", *stays])
    assert set(yaml.safe_load(after)["experiments"]) == {"a", *stays}
    for line in new.splitlines():
        assert not stays or line in after


def test_an_entry_that_looks_alike_is_nobody_elses() -> None:
    text = "experiments:\n  y: {n: 1}\nreport:\n  title: '# lacuna preset 6f509a4c'\n"
    assert remove_entries(text, ("experiments",), ["y"]) == (text, ["y"])
    assert remove_entries(text, ("report",), ["title"]) == (text, ["title"])


def test_a_mapping_that_the_user_wrote_stays_when_it_is_empty() -> None:
    text = add_entries(LINES["plain"], ("experiments",), NEW).replace("  a: {m: 1}   # c\n", "")
    after, _ = remove_entries(text, ("experiments",), ["x", "y"])
    assert yaml.safe_load(after)["experiments"] == {}
    assert "experiments: {}\n  # b: {m: 2}\n" in after


@pytest.mark.parametrize(
    "text",
    [
        "experiments: [a, b]\n",
        "experiments: 3\n",
        "experiments:\n",
        "experiments:\n  a: |+\n    text\n\n\nreport: {}\n",
    ],
)
def test_what_cannot_be_edited_is_refused(text: str) -> None:
    with pytest.raises(ParamsError, match="by hand"):
        add_entries(text, ("experiments",), NEW)


def test_nothing_to_add_changes_nothing() -> None:
    assert add_entries(LINES["plain"], ("nowhere",), {}) == LINES["plain"]


@pytest.mark.parametrize(
    "text",
    ["experiments:\n  a: {m: 1}\n", "experiments: {a: {m: 1}}\n", "seed: 010\nexperiments:\n  on: 1e-3\n"],
)
def test_texts_that_look_like_numbers_stay_texts_in_both_versions_of_yaml(text: str) -> None:
    """1e-3 is a number in YAML 1.2 alone, 012 and 12:30 and yes are other values in 1.1 alone."""
    entries = {
        name: {"dataset": name, "rate": 1e-05} for name in ("1e-3", "0o17", "012", "12:30", "yes", "1_0")
    }
    after = add_entries(text, ("experiments",), entries)
    for read in (yaml.safe_load, YAML(typ="safe").load):
        found = read(after)["experiments"]
        assert {name: found[name] for name in entries} == entries
    removed, stay = remove_entries(after, ("experiments",), list(entries))
    assert stay == []
    for read in (yaml.safe_load, YAML(typ="safe").load):
        assert read(removed) == read(text)
