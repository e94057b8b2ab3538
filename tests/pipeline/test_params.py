"""params.yaml: each kind of mistake stops with the key's path, what was found, what is allowed, the nearest name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.errors import ParamsError
from pipeline.params import load_params, module_names

ROOT = Path(__file__).parents[2]
Write = Callable[[dict[str, Any]], Path]


@pytest.fixture
def raw() -> dict[str, Any]:
    """The project's own params.yaml."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    return loaded


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(content: dict[str, Any]) -> Path:
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return to_file


def test_the_projects_own_file_is_right() -> None:
    params = load_params(ROOT / "params.yaml")
    assert params.dataset("demo").audio.extractor == "opensmile"
    assert set(params.experiments) >= {"full-modality", "augmented", "mmin"}


def put(content: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        content = content[parent]
    content[last] = value


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("corpus.size", "many", ["corpus.size", "'many'", "integer"]),
        ("corpus.size", 3, ["corpus.size", "3", "greater than or equal to 20"]),
        ("corpus.contradict.audio", 1.5, ["corpus.contradict.audio", "1.5", "less than or equal to 1"]),
        ("corpus.sise", 3, ["corpus.sise", "unknown key", 'Did you mean "size"?']),
        ("experimentss", {}, ["experimentss", "unknown key", 'Did you mean "experiments"?']),
        ("datasets.demo.loader", "dmo", ["datasets.demo.loader", '"dmo"', 'Did you mean "demo"?']),
        ("datasets.demo.audio.extractor", "libroza", ["datasets.demo.audio.extractor", '"librosa"']),
        ("datasets.demo.audio.settings", {"hop": 3}, ["datasets.demo.audio.settings.hop", "unknown key"]),
        ("datasets.demo.options", {"clases": 4}, ["datasets.demo.options.clases"]),
        ("datasets.demo.folds.scheme", "sesion", ["datasets.demo.folds.scheme", "'sesion'", '"session"']),
        ("extractors.video.facelandmarker.frame_rate_hz", -1, ["facelandmarker.frame_rate_hz", "-1"]),
        ("masks.block.range", [0.6, 0.4], ["masks.block", "[0.6, 0.4]", "lower end first"]),
        ("masks.random.rate", 0.9, ["masks.random", "0.9", "2/3"]),
        ("masks.random.protocol", "randm", ["masks.random.protocol", "'randm'", '"random"']),
        ("experiments.mmin.model", "mmmin", ["experiments.mmin.model", '"mmmin"', 'Did you mean "mmin"?']),
        ("experiments.mmin.dataset", "demoo", ["experiments.mmin.dataset", '"demoo"', '"demo"']),
        ("experiments.mmin.evaluate_on", "condition", ["experiments.mmin.evaluate_on", '"conditions"']),
        ("experiments.mmin.settings", {"cicle": False}, ["experiments.mmin.settings.cicle", '"cycle"']),
        ("experiments.mmin.regime", "standart", ["experiments.mmin.regime", '"standard"']),
        ("experiments.mmin.train_on", "ful", ["experiments.mmin.train_on", '"ful"', 'Did you mean "full"?']),
        ("experiments.mmin.train_mask", "blok", ["experiments.mmin.train_mask", 'Did you mean "block"?']),
        ("experiments.mmin.train_mask", "conditions", ["mmin.train_mask", '"conditions"', "expected one of"]),
        ("report.baseline", "full", ["report.baseline", '"full"', '"full-modality"']),
        ("report.tables", {"t": {"title": "T"}}, ["report.tables.t.experiments", "missing"]),
        (
            "report.tables",
            {"t": {"title": "T", "experiments": []}},
            ["report.tables.t.experiments", "at least 1"],
        ),
        (
            "report.tables",
            {"t": {"title": "T", "experiments": ["mmim"]}},
            ["report.tables.t.experiments", '"mmim"', 'Did you mean "mmin"?'],
        ),
        (
            "report.tables",
            {"t": {"title": "T", "experiments": ["mmin", "mmin"]}},
            ["report.tables.t", "found twice: mmin"],
        ),
        (
            "report.tables",
            {"t": {"title": "T", "experiments": ["mmin"], "baseline": "augmented"}},
            ["report.tables.t: baseline", '"augmented"', "experiments of this table: mmin"],
        ),
        (
            "report.tables",
            {"t": {"title": "T", "experiments": ["mmin"], "against": {"mmin": "augmented"}}},
            ["report.tables.t: against", '"augmented"'],
        ),
        ("report.tables", {"a b": {"title": "T", "experiments": ["mmin"]}}, ["report.tables.a b"]),
        ("assets.bert.package", "no-version", ["assets.bert.package", "'no-version'"]),
        ("assets.bert.path", "/x", ["assets.bert", "exactly one of package, library, path"]),
        ("seed", -1, ["seed", "-1", "greater than or equal to 0"]),
    ],
)
def test_a_mistake_is_named(
    raw: dict[str, Any], write: Write, key: str, value: Any, words: list[str]
) -> None:
    put(raw, key, value)
    with pytest.raises(ParamsError) as caught:
        load_params(write(raw))
    message = str(caught.value)
    assert str(caught.value).count("mistake(s)") == 1
    for word in words:
        assert word in message, message


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"inner_on": "mising"}, ["regime_settings.inner_on", '"mising"', 'Did you mean "missing"?']),
        ({"inner_on": "blocks"}, ["regime_settings.inner_on", '"blocks"', 'Did you mean "block"?']),
        ({"inner_mask": "blok"}, ["regime_settings.inner_mask", '"blok"', 'Did you mean "block"?']),
        ({"inner_mask": "full"}, ["regime_settings.inner_mask", '"full"', "expected one of"]),  # no mask
        ({"inner_mask": "conditions"}, ["regime_settings.inner_mask", '"conditions"']),  # draws nothing
        ({"inner_on": "full", "inner_mask": "block"}, []),
        ({"inner_on": "at"}, []),
        ({}, []),
    ],
)
def test_the_masks_of_a_regimes_streams_are_checked(
    raw: dict[str, Any], write: Write, settings: dict[str, str], words: list[str]
) -> None:
    raw["experiments"]["mmin"] |= {"regime": "m3s", "regime_settings": settings}
    if not words:
        load_params(write(raw))
        return
    with pytest.raises(ParamsError, match=r"1 mistake\(s\)") as caught:
        load_params(write(raw))
    for word in words:
        assert word in str(caught.value), caught.value


def test_a_table_has_one_dataset(raw: dict[str, Any], write: Write) -> None:
    raw["experiments"]["other"] = {**raw["experiments"]["mmin"], "dataset": "cremad"}
    put(raw, "report.tables", {"t": {"title": "T", "experiments": ["mmin", "other"]}})
    with pytest.raises(
        ParamsError, match=r"report\.tables\.t\.experiments: found experiments on demo and cremad"
    ):
        load_params(write(raw))


def test_all_mistakes_are_listed_at_once(raw: dict[str, Any], write: Write) -> None:
    put(raw, "corpus.size", 3)
    put(raw, "seed", "x")
    with pytest.raises(ParamsError, match=r"2 mistake\(s\)"):
        load_params(write(raw))


def test_a_missing_section_is_named(raw: dict[str, Any], write: Write) -> None:
    del raw["datasets"]["demo"]["audio"]
    with pytest.raises(ParamsError, match=r"datasets\.demo\.audio: missing"):
        load_params(write(raw))


def test_a_selected_extractor_needs_its_section(raw: dict[str, Any], write: Write) -> None:
    del raw["extractors"]["audio"]["opensmile"]
    with pytest.raises(ParamsError, match=r'extractors\.audio: found "opensmile"'):
        load_params(write(raw))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", "not valid YAML"),
        ("- a\n- b", "found list"),
        ("", "found NoneType"),
        ("seed: 1\nseed: 2\n", 'the key "seed" is listed twice, again in line 2'),
        ("seed: !!python/object/apply:os.system [echo]", "not valid YAML"),
    ],
)
def test_what_is_no_params_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError) as caught:
        load_params(path)
    assert words in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="cannot be read"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"decay_epochs": 100}, "found 100, expected fewer than the 100 epochs"),
        ({"decay_epochs": 10, "epochs": 10}, "found 10, expected fewer than the 10 epochs"),
        ({"decay_epochs": 60, "settings": {"variant": "code"}}, "fewer than the 60 epochs"),  # the recipe's
        ({"decay_epochs": 9, "epochs": 10}, None),
        ({"decay_epochs": 59, "settings": {"variant": "code"}}, None),
        ({"epochs": 3, "settings": {"variant": "code"}}, None),  # the recipe's 30 are made to fit
        ({"epochs": 1}, None),
    ],
)
def test_the_rate_cannot_fall_for_longer_than_training_lasts(
    raw: dict[str, Any], write: Write, given: dict[str, Any], wrong: str | None
) -> None:
    raw["experiments"]["mmin"].update(given)
    if wrong is None:
        assert load_params(write(raw)).experiments["mmin"].model_fields_set >= given.keys()
        return
    with pytest.raises(ParamsError, match=wrong) as raised:
        load_params(write(raw))
    assert "experiments.mmin.decay_epochs" in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"learning_rates": {"encoder": 1e-4}},
            ['learning_rates: there is no parameter group "encoder"', "text, audio, video, classifier"],
        ),
        ({"weight_decays": {"audoi": 0.1}}, ["weight_decays: there is no", 'Did you mean "audio"?']),
        ({"model": "mmin", "learning_rates": {"imaginatoin": 1e-4}}, ['"imaginatoin"; mmin has ']),
        (
            {"regime": "m3s", "regime_settings": {"inner_rates": {"al": 0.1}, "inner_groups": ["no"]}},
            ["regime_settings.inner_rates: ", 'inner_groups: there is no parameter group "no"'],
        ),
    ],
)
def test_parameter_groups_are_checked_before_anything_is_trained(
    raw: dict[str, Any], write: Write, changes: dict[str, Any], words: list[str]
) -> None:
    raw["experiments"]["augmented"].update(changes)
    with pytest.raises(ParamsError) as caught:
        load_params(write(raw))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("model", module_names("models"))
def test_every_model_knows_its_groups_before_it_is_trained(
    raw: dict[str, Any], write: Write, model: str
) -> None:
    """A model that could not be built without memory would not be checked."""
    raw["experiments"]["augmented"].update(model=model, learning_rates={"nobody": 1e-4})
    with pytest.raises(ParamsError, match=f'no parameter group "nobody"; {model} has '):
        load_params(write(raw))


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("published", {}, None),
        ("published", {"conditions": ["a", "average"]}, None),
        (
            "published",
            {"model": "MMIM"},
            'published.mmin: found no published row "MMIM" for iemocap in table 5',
        ),
        ("p_values", {"table": "99"}, "p_values.mmin: found no published row .* its rows: none"),
        (
            "published",
            {"conditions": ["vta"]},
            'published.mmin: found the condition "vta", but the row "MMIN"',
        ),
    ],
)
def test_published_rows_must_be_in_the_table_of_numbers(
    raw: dict[str, Any], write: Write, kind: str, changes: dict[str, Any], words: str | None
) -> None:
    row = {"paper": "mmin", "table": "5", "dataset": "iemocap", "model": "MMIN", **changes}
    raw["report"]["tables"] = {"one": {"title": "x", "experiments": ["mmin"], kind: {"mmin": row}}}
    path = write(raw)
    if words is None:
        load_params(path)
    else:
        with pytest.raises(ParamsError, match=r"report.tables.one." + words):
            load_params(path)


def test_places_of_this_machine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """media.NAME: params.yaml, then params.local.yaml, then the environment."""
    text = (ROOT / "params.yaml").read_text().replace("root: data/raw/demo", "root: data/media/my-own")
    path, local = tmp_path / "params.yaml", tmp_path / "params.local.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match='root: data/media/: found "my-own"'):
        load_params(path)
    path.write_text(text + "media: {my-own: null}\n")
    assert load_params(path).media_place("my-own") is None
    assert load_params(path).root("demo") == Path("data/media/my-own")
    with pytest.raises(ParamsError, match=r"media.my-own: no place is given.*LACUNA_MEDIA_MY_OWN"):
        load_params(path).loader("demo")
    path.write_text(text + "media: {my-own: /shared}\n")
    assert load_params(path).root("demo") == Path("/shared")
    local.write_text("media: {my-own: /local}\ncompute: {workers: 3}\n")
    assert load_params(path).root("demo") == Path("/local")
    assert (load_params(path).compute.workers, load_params(path).compute.device) == (3, "auto")
    monkeypatch.setenv("LACUNA_MEDIA_MY_OWN", str(tmp_path))
    assert load_params(path).loader("demo").root == tmp_path
    for wrong, message in (("seed: 1", "found seed, expected"), ("media: {other: /x}", "no such key in")):
        local.write_text(wrong)
        with pytest.raises(ParamsError, match=message):
            load_params(path)
    local.unlink()
    path.write_text(text + "media: {my-own: /a, my_own: /b}\n")
    with pytest.raises(ParamsError, match="LACUNA_MEDIA_MY_OWN would stand for another one"):
        load_params(path)
