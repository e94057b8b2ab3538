"""What holds of every model, whatever it computes: models/base.py says it, here it is asked.

A new file in models/ is asked the same, at its default settings and at each of its variants, on batches as the loop
makes them: with the views and the dialogues that the model wants (tests/batches.py). What a model does under each
regime, and in a whole training, is tested in tests/pipeline/training/test_every_model_and_regime.py.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from importlib import import_module
from typing import Any, get_args

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from models.base import (
    HIDDEN_TRUTH,
    MODALITIES,
    MODEL_A_CONDITION,
    Batch,
    ModelSettings,
    Network,
    Output,
    View,
)
from pipeline.params import TRAINING_SETS, Experiment, module_names
from pipeline.training.experiment import chain, pretraining, resolve
from pipeline.training.kept_runs import build as build_experiment
from pipeline.training.regimes.standard import Regime, StandardSettings
from tests.batches import (
    DIMS,
    PATTERNS,
    as_dialogues,
    build,
    hide,
    in_dialogues,
    lengthen,
    make_batch,
    one_of,
    ready,
    reorder,
    reorder_dialogues,
    run_epoch,
    shown,
)

MODELS = module_names("models")


def owner(model: str) -> type[Network]:
    found: type[Network] = import_module(f"models.{model}").Model
    return found


def variants(model: str) -> list[dict[str, Any]]:
    """Return the settings of a model's variants; the default is the first."""
    field = owner(model).Settings.model_fields.get("variant")
    if field is None:
        return [{}]
    return [{}, *({"variant": one} for one in get_args(field.annotation) if one != field.default)]


CASES = [
    pytest.param(model, settings, id="-".join([model, *settings.values()]))
    for model in MODELS
    for settings in variants(model)
]
over_models = pytest.mark.parametrize(("model", "settings"), CASES)
over_outputs = pytest.mark.parametrize("outputs", [1, 4])
Settings = dict[str, Any]


def make(model: str, settings: Settings, outputs: int = 4) -> Network:
    return ready(build(model, outputs, **settings), outputs)


def given(network: Network, batch: Batch) -> Batch:
    """Return a batch as the loop gives it to this network in validation: without views."""
    return in_dialogues(batch) if network.dialogues else batch


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


@over_models
def test_settings_that_there_are_not_are_refused(model: str, settings: Settings) -> None:
    schema = owner(model).Settings
    assert issubclass(schema, ModelSettings)
    with pytest.raises(ValidationError, match="nonsense"):
        schema.model_validate({**settings, "nonsense": 1})
    made = schema.model_validate(settings)
    assert schema.model_validate(made.model_dump(mode="json")) == made, "what is recorded is read back"
    for name in schema.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(made, name, None)


@over_models
def test_the_recipe_is_of_an_experiments_fields(model: str, settings: Settings) -> None:
    recipe = owner(model).recipe(owner(model).Settings.model_validate(settings))
    assert set(recipe) <= set(Experiment.model_fields) - {"dataset", "model", "settings", "task"}
    checked = Experiment.model_validate({"dataset": "d", "model": model, "settings": settings, **recipe})
    for name, value in recipe.items():
        assert getattr(checked, name) == value
    assert checked.train_on in TRAINING_SETS, "a recipe cannot know which masks there are"


@over_outputs
@over_models
def test_every_trainable_parameter_is_in_just_one_group(model: str, settings: Settings, outputs: int) -> None:
    network = make(model, settings, outputs)
    groups = network.parameter_groups()
    counted = Counter(id(parameter) for group in groups.values() for parameter in group)
    wanted = {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
    assert set(counted) == wanted and set(counted.values()) <= {1} and all(groups.values())
    trained = [set(names or groups) for names in network.phases.values()]
    assert set(groups) <= set().union(*trained), "each group is trained in some phase"


@over_outputs
@over_models
def test_gradients_reach_every_parameter_and_leave_the_weights(
    model: str, settings: Settings, outputs: int
) -> None:
    network, regime = make(model, settings, outputs), Regime(StandardSettings())
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    reached: set[str] = set()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for epoch in (1, 2, 3):  # Self-MM's unimodal tasks begin with the third; each epoch, other modalities
            for pattern in ([True] * 3, [True, True, False], [False, True, True], [True, False, True]):
                batch = shown(network, make_batch(12, outputs, seed=epoch), pattern)
                reached |= run_epoch(network, regime, [batch], epoch)[0]
    assert reached == {name for name, p in network.named_parameters() if p.requires_grad}
    for name, p in network.named_parameters():
        assert torch.equal(p, before[name]), f"{name} was changed"


@over_outputs
@over_models
def test_every_missing_pattern_gives_numbers(model: str, settings: Settings, outputs: int) -> None:
    network = make(model, settings, outputs).eval()
    batch = make_batch(6, outputs)
    for pattern in PATTERNS:
        output = network(given(network, hide(batch, pattern)))
        assert output.prediction.shape == (6, outputs)
        assert torch.isfinite(output.prediction).all()
    nothing = in_turns(network, hide(batch, [False, False, False]))
    answers = network(nothing).prediction
    assert torch.isfinite(answers).all()
    torch.testing.assert_close(answers, answers[:1].expand(6, -1))


def in_turns(network: Network, batch: Batch) -> Batch:
    """Return the batch with each sample a dialogue by itself, where the network wants dialogues."""
    return in_dialogues(batch, [1] * len(batch)) if network.dialogues else batch


@over_outputs
@over_models
def test_every_missing_pattern_trains(model: str, settings: Settings, outputs: int) -> None:
    """Nothing but zeros, too: a fold may hold a sample of which a mask leaves no frame."""
    network, regime = make(model, settings, outputs), Regime(StandardSettings())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for pattern in (*PATTERNS, [False, False, False]):
            batch = shown(network, make_batch(6, outputs), pattern)
            assert torch.isfinite(torch.tensor(run_epoch(network, regime, [batch], 1)[1])), pattern
            assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@over_outputs
@over_models
def test_what_is_missing_tells_nothing(model: str, settings: Settings, outputs: int) -> None:
    network = make(model, settings, outputs).eval()
    first, second = make_batch(5, outputs, seed=0), make_batch(5, outputs, seed=1)
    mixed = replace(
        first,
        features={**first.features, "audio": second.features["audio"]},
        lengths={**first.lengths, "audio": second.lengths["audio"]},
        observed={**first.observed, "audio": second.observed["audio"]},
    )
    without_audio = [True, False, True]
    found, wanted = (network(given(network, hide(one, without_audio))).prediction for one in (mixed, first))
    torch.testing.assert_close(found, wanted)


@over_outputs
@over_models
def test_padding_changes_nothing(model: str, settings: Settings, outputs: int) -> None:
    """Of any version of the samples, nor behind the last turn of a dialogue."""
    network = make(model, settings, outputs).eval()
    for pattern in ([True, True, True], [True, False, True]):
        batch = shown(network, make_batch(6, outputs), pattern)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            plain = network(batch)
            longer = lengthen(batch, 4)
            if longer.dialogues is not None:
                longer = as_dialogues(longer, replace(longer.dialogues, longest=longer.dialogues.longest + 2))
            torch.manual_seed(0)
            padded = network(longer)
        torch.testing.assert_close(padded.prediction, plain.prediction, rtol=1e-4, atol=1e-5)
        assert padded.losses.keys() == plain.losses.keys()
        for name, loss in plain.losses.items():
            torch.testing.assert_close(padded.losses[name], loss, rtol=1e-4, atol=1e-5)


@over_outputs
@over_models
def test_the_order_of_a_batch_changes_nothing_but_the_order(
    model: str, settings: Settings, outputs: int
) -> None:
    network = make(model, settings, outputs).eval()
    batch = given(network, make_batch(6, outputs))
    if network.dialogues:
        assert batch.dialogues is not None
        other, order = reorder_dialogues(batch, [2, 0, 1][: batch.dialogues.count])
    else:
        order = torch.tensor([3, 0, 4, 1, 5, 2])
        other = reorder(batch, order)
    plain, turned = network(batch), network(other)
    torch.testing.assert_close(turned.prediction, plain.prediction[order])
    for name, loss in plain.losses.items():
        torch.testing.assert_close(turned.losses[name], loss)


@over_outputs
@over_models
def test_one_by_one_is_as_together(model: str, settings: Settings, outputs: int) -> None:
    network = make(model, settings, outputs).eval()
    batch = given(network, hide(make_batch(6, outputs), [True, True, False]))
    together = network(batch).prediction
    torch.testing.assert_close(network(batch).prediction, together)  # nothing is drawn
    if network.dialogues:
        assert batch.dialogues is not None
        alone = [reorder_dialogues(batch, [number]) for number in range(batch.dialogues.count)]
    else:
        alone = [(one_of(batch, row), torch.tensor([row])) for row in range(6)]
    for one, rows in alone:
        torch.testing.assert_close(network(one).prediction, together[rows], rtol=1e-4, atol=1e-5)


@over_outputs
@over_models
def test_a_prediction_needs_no_label_and_nothing_hidden(model: str, settings: Settings, outputs: int) -> None:
    """A view of what the batch hides tells the prediction nothing; a second draw may (UMDF reads both)."""
    network = make(model, settings, outputs).eval()
    views = network.views(network.settings)
    batch = shown(network, make_batch(6, outputs), [True, False, True])
    drawn = {name: view for name, view in batch.views.items() if not views[name].shows_hidden}

    def predicted(given: Batch) -> Output:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            output: Output = network(given)
        return output

    whole = predicted(batch)
    bare = predicted(replace(batch, views=drawn, labels=None, scores=None))
    torch.testing.assert_close(whole.prediction, bare.prediction)
    alone = predicted(replace(batch, views={}, labels=None, scores=None))
    assert bare.losses == alone.losses == {} and torch.isfinite(alone.prediction).all()
    assert predicted(replace(batch, views={})).losses.keys() <= whole.losses.keys()


@over_models
def test_the_views_that_are_asked_for_are_used(model: str, settings: Settings) -> None:
    network = make(model, settings)
    views = network.views(network.settings)
    assert all(isinstance(view, View) for view in views.values())
    batch = shown(network, make_batch(8, 4), [True, False, True])
    other = shown(network, make_batch(8, 4, seed=5), [True, False, True])

    def losses(batch: Batch) -> dict[str, float]:
        found: dict[str, float] = {}
        network.load_state_dict(start)  # of a state over batches, too
        network.train()
        with torch.random.fork_rng(), torch.no_grad():
            for epoch in (1, 2, 3):
                network.epoch_start(epoch)
                for phase in network.phases:
                    network.phase_start(phase)
                    torch.manual_seed(0)
                    found |= {f"{epoch} {phase} {n}": float(v) for n, v in network(batch).losses.items()}
        return found

    start = {name: value.clone() for name, value in network.state_dict().items()}
    plain = losses(batch)
    assert losses(batch) == plain
    for name in views:
        swapped = replace(batch, views={**batch.views, name: replace(other.views[name], labels=batch.labels)})
        assert losses(swapped) != plain, f"nothing is made of the view {name}"


@over_outputs
@over_models
def test_a_last_batch_of_one_sample_trains(model: str, settings: Settings, outputs: int) -> None:
    network, regime = make(model, settings, outputs), Regime(StandardSettings())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for epoch in (1, 2):
            big, one = make_batch(6, outputs), make_batch(1, outputs, seed=1, first_row=6)
            for batch in (big, one):
                loss = run_epoch(network, regime, [shown(network, batch, [True, False, True])], epoch)[1]
                assert torch.isfinite(torch.tensor(loss))
                assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@over_outputs
@over_models
def test_a_saved_state_is_all_that_there_is(model: str, settings: Settings, outputs: int) -> None:
    """A network that is built anew and takes over the state says the same, and goes on the same."""
    network, regime = make(model, settings, outputs), Regime(StandardSettings())
    batch = shown(network, make_batch(8, outputs), [True, False, True])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        optimizer = torch.optim.Adam(network.parameters(), 1e-4)
        for epoch in (1, 2):
            run_epoch(network, regime, [batch], epoch, dict.fromkeys(network.phases, optimizer))
    with torch.random.fork_rng():
        torch.manual_seed(9)  # other weights, and no look at the training part
        other = owner(model)(network.settings, DIMS, outputs)
    other.samples_known(24, 3.0)
    assert {n: v.shape for n, v in other.state_dict().items()} == {
        n: v.shape for n, v in network.state_dict().items()
    }
    other.load_state_dict(network.state_dict())
    found = []
    for one in (network, other):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            loss = run_epoch(one, regime, [batch], 3)[1]
        gradients = {n: p.grad for n, p in one.named_parameters() if p.grad is not None}
        found.append((loss, gradients, one.eval()(given(one, make_batch(5, outputs))).prediction))
    (loss, gradients, answers), (loss_2, gradients_2, answers_2) = found
    assert loss == loss_2 and torch.equal(answers, answers_2) and gradients.keys() == gradients_2.keys()
    assert all(torch.equal(value, gradients_2[name]) for name, value in gradients.items())


@pytest.mark.filterwarnings("ignore:TF32 acceleration:UserWarning")  # of the switch below
@over_outputs
@over_models
def test_bfloat16_gives_numbers(model: str, settings: Settings, outputs: int) -> None:
    network, regime = make(model, settings, outputs), Regime(StandardSettings())
    batch = shown(network, make_batch(6, outputs), [True, False, True])
    # oneDNN has no LSTM in bfloat16 on most processors; PyTorch's own kernels have.
    without = torch.backends.mkldnn.flags(enabled=False)
    with torch.random.fork_rng(), without, torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(0)
        for epoch in (1, 2, 3):
            loss = run_epoch(network, regime, [batch], epoch)[1]
            assert torch.isfinite(torch.tensor(loss))
        answers = network.eval()(given(network, make_batch(6, outputs))).prediction
    assert torch.isfinite(answers).all()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@over_models
def test_the_networks_that_it_starts_from_come_to_an_end_and_fit(model: str, settings: Settings) -> None:
    experiment = resolve(Experiment(dataset="d", model=model, settings=settings))
    whole = chain(experiment)
    assert pretraining(whole[-1]) is None and all(one.dataset == "d" for one in whole)
    network: Network | None = None
    for number, one in enumerate(reversed(whole)):
        with torch.random.fork_rng():
            torch.manual_seed(number)
            built = build_experiment(one, DIMS, 4)
        before = {name: value.clone() for name, value in built.state_dict().items()}
        if network is not None:
            built.load_pretrained(network)
            after = built.state_dict()
            assert any(not torch.equal(after[name], value) for name, value in before.items())
        network = built
    assert network is not None
    ready(network, 4)
    assert torch.isfinite(network.eval()(given(network, make_batch(5, 4))).prediction).all()


@over_models
def test_a_model_that_reads_dialogues_counts_no_context(model: str, settings: Settings) -> None:
    network = make(model, settings).eval()
    if not network.dialogues:
        return
    batch = make_batch(6, 4)
    assert batch.labels is not None
    one = in_dialogues(batch, [3, 3], context=[1, 5])
    other = in_dialogues(replace(batch, labels=(batch.labels + 1) % 4), [3, 3], context=[1, 5])
    changed = replace(batch, labels=torch.where(torch.arange(6) == 1, (batch.labels + 1) % 4, batch.labels))
    plain = network(one).losses
    assert network(in_dialogues(changed, [3, 3], context=[1, 5])).losses == plain
    assert network(other).losses != plain


def test_modalities_are_in_their_order() -> None:
    assert MODALITIES == ("text", "audio", "video")


NEEDS = {
    "ae": {HIDDEN_TRUTH}, "cra": {HIDDEN_TRUTH}, "mmin": {HIDDEN_TRUTH}, "emmr": {HIDDEN_TRUTH}, "tate": {HIDDEN_TRUTH},
    "transm": {HIDDEN_TRUTH}, "smil": {HIDDEN_TRUTH}, "gcnet": {HIDDEN_TRUTH},
    "mctn": {HIDDEN_TRUTH, MODEL_A_CONDITION},
    "baseline": set(), "linear": set(), "cubemlp": set(), "umdf": set(), "misa": set(), "mmim": set(), "self_mm": set(),
}  # fmt: skip


@pytest.mark.parametrize("model", module_names("models"))
def test_a_method_says_what_it_needs(model: str) -> None:
    owner = import_module(f"models.{model}").Model
    assert set(owner.needs(owner.Settings())) == NEEDS[model]


def test_a_method_that_is_shown_less_needs_less() -> None:
    smil = import_module("models.smil").Model
    for given, needed in (
        ({"pretrained": False}, (HIDDEN_TRUTH,)),
        ({"feature_weight": 0, "joint_weight": 0}, (HIDDEN_TRUTH,)),  # its centres are of complete samples
        ({"pretrained": False, "feature_weight": 0, "joint_weight": 0}, ()),
    ):
        assert smil.needs(smil.Settings(**given)) == needed
