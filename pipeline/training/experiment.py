"""One experiment: what params.yaml asks for, filled in by the model, and the record of what was trained.

:func:`resolve` fills in the model's recipe. :func:`record` writes down the whole of it, every default included, and
:func:`recorded` reads it back: evaluation, prediction and the report go by that record, never by params.yaml, which
may have changed since.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from models.base import Network, Pretraining
from models.parts import TextSettings, check_vocabulary, read_vocabulary
from pipeline.data.masks import Masks
from pipeline.errors import ParamsError, StoreError
from pipeline.params import TRAINING_SETS, Experiment
from pipeline.training.regimes.base import BaseRegime
from pipeline.training.samples import SampleSet

# What a network that another one starts from takes over of that one's experiment.
INHERITED = (
    "task",
    "target",
    "labels",
    "folds",
    "lengths",
    "frame_rate_hz",
    "epochs",
    "batch_size",
    "patience",
    "select_by",
    "precision",
    "compile",
)
LONGEST_CHAIN = 5


def model_of(experiment: Experiment) -> type[Network]:
    """Return the class of an experiment's model."""
    found: type[Network] = import_module(f"models.{experiment.model}").Model
    return found


def settings_of(experiment: Experiment) -> Any:
    """Return the checked settings of an experiment's model."""
    return model_of(experiment).Settings.model_validate(experiment.settings)


def regime_of(experiment: Experiment) -> BaseRegime:
    """Return an experiment's regime."""
    owner = import_module(f"pipeline.training.regimes.{experiment.regime}").Regime
    regime: BaseRegime = owner(owner.Settings.model_validate(experiment.regime_settings))
    return regime


def resolve(experiment: Experiment) -> Experiment:
    """Fill in what the experiment leaves open and the model's settings want (``Network.recipe``).

    Where the experiment has other ``epochs`` than the recipe, the recipe's ``decay_epochs`` become the same share of
    them: MMIN's code lowers the rate in the last 30 of 60 epochs, and so in the last 5 of 10.
    """
    wanted = model_of(experiment).recipe(settings_of(experiment))
    update = {name: value for name, value in wanted.items() if name not in experiment.model_fields_set}
    if "decay_epochs" in update and "epochs" not in update:  # the recipe's share of the experiment's epochs
        usual = wanted.get("epochs", Experiment.model_fields["epochs"].default)
        update["decay_epochs"] = wanted["decay_epochs"] * experiment.epochs // usual
    return experiment.model_copy(update=update)


def pretraining(experiment: Experiment) -> Experiment | None:
    """Return how the network is trained that the experiment's model starts from; None when it starts from
    nothing.

    It takes over what the experiment says of :data:`INHERITED`, but not what is there by the recipe of the
    model itself: the other network has a recipe of its own. It is trained on complete samples, unless the model
    asks for something else.

    Args:
        experiment: resolved.
    """
    settings = settings_of(experiment)
    wanted: Pretraining | None = model_of(experiment).pretraining(settings)
    if wanted is None:
        return None
    own = model_of(experiment).recipe(settings)
    inherited = {field: getattr(experiment, field) for field in INHERITED}
    inherited = {f: value for f, value in inherited.items() if f not in own or own[f] != value}
    given = {
        "dataset": experiment.dataset,
        "model": wanted.model,
        "settings": dict(wanted.settings),
        "train_on": "full",
        **inherited,
        **wanted.fields,
    }
    return resolve(Experiment.model_validate(given))


def chain(experiment: Experiment) -> list[Experiment]:
    """Return the experiment, the one whose network it starts from, and so on.

    Raises:
        ParamsError: the chain does not end: a model that starts from its own kind must ask for other settings.
    """
    found = [experiment]
    while (before := pretraining(found[-1])) is not None:
        found.append(before)
        if len(found) > LONGEST_CHAIN:
            names = " <- ".join(one.model for one in found)
            raise ParamsError(
                f"the networks that {experiment.model} starts from do not come to an end: {names}"
            )
    return found


def record(experiment: Experiment) -> dict[str, Any]:
    """Return the whole of a resolved experiment, every default filled in, with the chain it starts from.

    The key "pretraining" holds the record of the network that it starts from, or None.
    """
    found: dict[str, Any] | None = None
    for one in reversed(chain(experiment)):
        said = one.model_dump(mode="json")
        said["settings"] = settings_of(one).model_dump(mode="json")
        said["regime_settings"] = regime_of(one).settings.model_dump(mode="json")
        said["pretraining"] = found
        found = said
    return found or {}


def recorded(facts: Mapping[str, Any], where: Path) -> Experiment:
    """Return the experiment that was trained.

    Args:
        facts: of run.json.
        where: that file, for the error.

    Raises:
        StoreError: the record is not of this version.
    """
    try:
        said = dict(facts["trained"])
        said.pop("pretraining")
        if said["labels"]:  # their order is that of the classes; a JSON object has none
            said["labels"] = {name: said["labels"][name] for name in facts["classes"]}
        return Experiment.model_validate(said)
    except (KeyError, TypeError, ValidationError) as error:
        raise StoreError(
            f"{where}: the record of the experiment cannot be read ({error}). Run: dvc repro -f -s train"
        ) from error


def masks_in(experiment: Experiment) -> tuple[str, ...]:
    """Return the masks that training an experiment, resolved, uses: its own and its regime's streams', each once."""
    streams = regime_of(experiment).streams
    named = [experiment.train_on, experiment.train_mask]
    named += [name for stream in streams for name in (stream.train_on, stream.train_mask)]
    return tuple(dict.fromkeys(name for name in named if name is not None and name not in TRAINING_SETS))


def facts_in(experiment: Experiment) -> tuple[str, ...]:
    """Return what an experiment's models, the one that it starts from among them, must be told of each sample."""
    asked = (name for one in chain(experiment) for name in model_of(one).facts(settings_of(one)))
    return tuple(dict.fromkeys(asked))


def hides_frames(masks: Masks | None, names: tuple[str, ...]) -> bool:
    """Return whether one of these masks takes frames, not only whole modalities.

    Raises:
        StoreError: the file has no mask of a name.
    """
    over = ("frames", "block", "mixture")
    return masks is not None and any(masks.mask(name).protocol in over for name in names)


def check_token_ids(name: str, experiment: Experiment, samples: SampleSet, assets: Path) -> None:
    """Check that the encoder inside the model, if there is one, can read the token ids of the text features.

    Args:
        name: the experiment's.
        experiment: as params.yaml has it.
        samples: of its dataset.
        assets: data/assets: where the text extractor's own files are.

    Raises:
        ParamsError: there are no ids, the encoder's vocabulary is not the extractor's, or too small.
    """
    settings = settings_of(experiment)
    if not isinstance(settings, TextSettings) or settings.text != "tokens":
        return
    key = f"experiments.{name}.settings.encoder"
    text = samples.modalities["text"]
    if text.token_ids is None:
        raise ParamsError(
            f"experiments.{name}.settings.text: found tokens, but the text features ({text.info.extractor}) hold "
            "no ids of an encoder's vocabulary. Set the text extractor to bert, or text: features"
        )
    encoder = settings.encoder
    if not (encoder / "config.json").is_file():
        return  # the model says what it needs
    try:
        known = check_vocabulary(encoder)
    except (OSError, ValueError, KeyError) as error:
        raise ParamsError(f"{key}: {error}") from error
    largest = int(text.token_ids.max(initial=0))
    if largest >= known:
        raise ParamsError(
            f"{key}: found ids up to {largest} in the features, but {encoder} knows only {known}"
        )
    if text.info.extractor == "bert":
        made_by = Path(text.info.settings.get("model") or assets / "bert")
        theirs, ours = read_vocabulary(made_by), read_vocabulary(encoder)
        if theirs is not None and ours is not None and theirs != ours:
            raise ParamsError(
                f"{key}: found {encoder}, but the ids were made with {made_by}, whose vocabulary is another. "
                "Name the same encoder, or one of the same vocabulary"
            )
