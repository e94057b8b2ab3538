"""What a network is trained on in an epoch, and judged on: conditions, masks, streams and dialogues."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.base import MODALITIES, NO_LABEL, Batch, View
from pipeline.data.masks import CONDITIONS, read_masks
from pipeline.training.batching import DeviceSamples
from pipeline.training.masking import NamedMask
from pipeline.training.samples import SampleSet, read_samples
from pipeline.training.training_set import (
    Pairs,
    Showing,
    TrainingSet,
    random_conditions,
    showings,
    shown_pairs,
    training_pairs,
    validation_showings,
)
from tests import small_world

CPU = torch.device("cpu")
SIZE = 40
MISSING = [("video", 1), ("text", 2), ("video", 2)]  # sample 1 has no video, sample 2 only audio
World = tuple[DeviceSamples, Mapping[str, NamedMask], SampleSet]


def make_world(folder: Path, dialogues: bool = False) -> World:
    given = small_world.dialogues(SIZE) if dialogues else None
    small_world.write(folder, SIZE, missing=MISSING, given=given)
    samples = read_samples(
        "small", small_world.dataset(), {"audio": 10}, folder, hides_frames=True, dialogues=dialogues
    )
    masks = samples.named_masks(read_masks(folder / "masks" / "small.h5"), list(small_world.ALL_MASKS))
    return samples.prepare(samples.fit_normalisers(np.arange(20)), CPU), masks, samples


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return a world of dialogues."""
    return make_world(tmp_path_factory.mktemp("talk"), dialogues=True)


def training(world: World, train_on: str, train_mask: str | None = None, **how: object) -> TrainingSet:
    given = {"train": np.array([0, 1, 2]), "seed": 0, **how}
    return TrainingSet(train_on, train_mask, world[1], world[0], **given)  # type: ignore[arg-type]


def listed(pairs: Pairs) -> tuple[list[int], list[list[bool]]]:
    return pairs.indices.tolist(), pairs.patterns.tolist()


def whole(world: World, pairs: Pairs, views: Mapping[str, View] | None = None) -> Batch:
    """Return an epoch as one batch."""
    ((_, batch),) = pairs.batches(world[0], [torch.arange(len(pairs))], views)
    return batch


def same(first: Batch, second: Batch) -> bool:
    return all(torch.equal(first.features[m], second.features[m]) for m in MODALITIES)


def test_training_sets(world: World) -> None:
    assert listed(training(world, "full").epoch(1)) == ([0, 1, 2], [[True] * 3] * 3)
    indices, patterns = listed(training(world, "missing").epoch(1))
    # The six conditions; of sample 1 (no video) all but {v}, of sample 2 (audio only) those with audio.
    assert [indices.count(i) for i in range(3)] == [6, 5, 3]
    assert len({tuple(p) for p in patterns[:6]}) == 6 and all(0 < sum(p) < 3 for p in patterns)
    indices, patterns = listed(training(world, "augmented").epoch(1))
    assert [indices.count(i) for i in range(3)] == [7, 6, 4]
    assert patterns.count([True] * 3) == 3
    # One condition alone: sample 1 has no video, sample 2 only audio.
    assert listed(training(world, "v").epoch(1)) == ([0], [[False, False, True]])
    assert listed(training(world, "at").epoch(1)) == ([0, 1, 2], [[True, True, False]] * 3)
    table, patterns = training_pairs("missing", np.array([4, 7]), [""] * 8, 0, 1)
    assert table.tolist() == [4] * 6 + [7] * 6
    assert [tuple(row) for row in patterns.tolist()] == list(CONDITIONS.values())[:6] * 2


def test_random_condition_shows_each_sample_once_and_anew_every_epoch() -> None:
    train, ids = np.arange(60), [f"s{i}" for i in range(60)]
    epochs = [training_pairs("random-condition", train, ids, 0, epoch) for epoch in (1, 2, 1)]
    assert all(indices.tolist() == train.tolist() for indices, _ in epochs)
    first, second, again = (patterns for _, patterns in epochs)
    assert np.array_equal(first, again) and not np.array_equal(first, second)
    assert {tuple(p) for p in first.tolist()} == set(CONDITIONS.values()) - {(True, True, True)}
    _, part = training_pairs("random-condition", train[30:], ids, 0, 1)
    assert np.array_equal(part, first[30:])
    others = [random_conditions(train, ids, 0, 1, "/inner"), random_conditions(train, ids, 1, 1)]
    assert all(not np.array_equal(first, other) for other in others)


EVERYONE = np.arange(SIZE)


@pytest.mark.parametrize("name", ["block", "columns", "mixed", "one-missing", "random"])
def test_a_fixed_mask_is_the_draw_of_the_file_in_every_epoch_and_stream(world: World, name: str) -> None:
    samples, masks, _ = world
    kept = masks[name].first(CPU)
    wanted = samples.collate(torch.from_numpy(EVERYONE), kept.present, kept)
    for stream, seed in (("", 0), ("inner", 0), ("", 3)):
        found = training(world, name, train=EVERYONE, stream=stream, seed=seed)
        for epoch in (1, 2):
            assert same(whole(world, found.epoch(epoch)), wanted)


def test_a_sampled_mask_is_drawn_anew_each_epoch_by_each_stream_and_seed(world: World) -> None:
    first = training(world, "sampled", train=EVERYONE)
    draws = [whole(world, first.epoch(epoch)) for epoch in (1, 2)]
    draws += [
        whole(world, training(world, "sampled", train=EVERYONE, stream="inner").epoch(1)),
        whole(world, training(world, "sampled", train=EVERYONE, seed=1).epoch(1)),
    ]
    for index, one in enumerate(draws):
        assert not any(same(one, other) for other in draws[:index])
    assert same(whole(world, first.epoch(1)), draws[0])
    few = whole(world, training(world, "sampled", train=EVERYONE[10:20]).epoch(1))
    for row in range(10):
        for modality in MODALITIES:
            length = int(few.lengths[modality][row])
            wanted = draws[0].features[modality][10 + row, :length]
            assert torch.equal(few.features[modality][row, :length], wanted)


@pytest.mark.parametrize("name", ["block", "sampled"])
def test_the_draw_of_validation_stays(world: World, name: str) -> None:
    samples, masks, _ = world

    def judged(seed: int = 0) -> Batch:
        (way,) = validation_showings(name, None, masks, CPU, seed)
        ((pairs, _, _),) = shown_pairs(samples, EVERYONE, [way], dialogues=False)
        return whole(world, pairs)

    trained = training(world, name, train=EVERYONE)
    assert same(judged(), judged())
    assert same(judged(), whole(world, trained.epoch(1))) == (name == "block")
    assert same(judged(), judged(seed=1)) == (name == "block")


def test_training_validation_and_test_see_one_fixed_mask_in_the_same_way(world: World) -> None:
    """Before frames are averaged, and under the statistics of one training part."""
    samples, masks, _ = world
    trained = whole(world, training(world, "block", train=EVERYONE).epoch(1))
    (judged,) = validation_showings("block", None, masks, CPU, 0)
    tested = showings(["avt"])[0].under("block", masks["block"].first(CPU))
    assert (judged.name, tested.name) == ("avt", "block")
    for way in (judged, tested):
        ((pairs, _, _),) = shown_pairs(samples, EVERYONE, [way], dialogues=False)
        assert same(whole(world, pairs), trained)


def test_a_mask_over_what_is_trained_on(world: World) -> None:
    samples, masks, _ = world
    drawn = masks["one-missing"].first(CPU).present
    found = training(world, "missing", "one-missing", train=EVERYONE).epoch(1)
    expected = Counter()
    for index in EVERYONE.tolist():
        for name, pattern in CONDITIONS.items():
            left = torch.tensor(pattern) & drawn[index]
            if name != "avt" and (left & samples.present_cpu[index]).any():
                expected[index, tuple(left.tolist())] += 1
    counted = Counter(
        (i, tuple(p)) for i, p in zip(found.indices.tolist(), found.patterns.tolist(), strict=True)
    )
    assert counted == expected and found.hiding is None
    # Frames under one mask, columns under another: what either hides is gone.
    batch = whole(world, training(world, "block", "columns", train=EVERYONE).epoch(1))
    block, columns = (whole(world, training(world, n, train=EVERYONE).epoch(1)) for n in ("block", "columns"))
    for modality in MODALITIES:
        wanted = torch.where(columns.features[modality] == 0, 0, block.features[modality])
        assert torch.equal(batch.features[modality], wanted)
        assert torch.equal(batch.observed[modality], block.observed[modality])
    # Two masks over frames.
    both = whole(world, training(world, "block", "frames", train=EVERYONE).epoch(1))
    frames = whole(world, training(world, "frames", train=EVERYONE).epoch(1))
    observed = block.observed["text"] & frames.observed["text"]
    assert torch.equal(both.observed["text"], observed)
    assert torch.equal(both.features["text"], block.features["text"] * observed[:, :, None])


def test_pairs_without_anything_are_no_pairs(world: World) -> None:
    samples, masks, _ = world
    found = training(world, "t", "one-missing", train=EVERYONE).epoch(1)
    has = samples.present_cpu[:, 0] & masks["one-missing"].first(CPU).present[:, 0]
    assert found.indices.tolist() == np.flatnonzero(has.numpy()).tolist()
    assert 0 < len(found) < SIZE


def test_a_second_version_is_drawn_independently(world: World) -> None:
    views = {"other": View("redrawn")}
    for train_on in ("sampled", "random-condition"):
        found = training(world, train_on, train=EVERYONE, redraws=True)
        epochs = [whole(world, found.epoch(epoch), views) for epoch in (1, 2, 1)]
        for batch in epochs:
            assert not same(batch, batch.views["other"])
        assert not same(epochs[0].views["other"], epochs[1].views["other"])
        assert same(epochs[0].views["other"], epochs[2].views["other"])
        plain = training(world, train_on, train=EVERYONE).epoch(1)
        assert plain.redrawn is None and same(whole(world, plain), epochs[0])
    for train_on in ("full", "missing", "block"):  # where nothing is drawn anew, it is the same
        batch = whole(world, training(world, train_on, train=EVERYONE, redraws=True).epoch(1), views)
        assert same(batch, batch.views["other"])


def test_showings_under_several_masks_keep_their_draws_apart(world: World) -> None:
    """Each (sample, way) once, in whatever order, and each as if it were alone."""
    samples, masks, _ = world
    ways: list[Showing] = [
        *showings(["a", "avt"]),
        showings(["avt"])[0].under("block", masks["block"].first(CPU)),
        showings(["avt"])[0].under("one-missing", masks["one-missing"].first(CPU)),
        *(way.under(f"frames {way.name}", masks["frames"].first(CPU)) for way in showings(["t", "avt"])),
    ]
    judged = np.array([5, 3, 30])
    seen: dict[tuple[int, int], Tensor] = {}
    for pairs, place, way in shown_pairs(samples, judged, ways, dialogues=False):
        batch = whole(world, pairs)
        for row, key in enumerate(zip(place.tolist(), way.tolist(), strict=True)):
            assert key not in seen
            seen[key] = torch.cat([batch.features[m][row].sum(dim=0) for m in MODALITIES])
    assert len(seen) == len(judged) * len(ways)
    for (place_of, way_of), value in seen.items():
        one = ways[way_of]
        index = torch.from_numpy(judged[place_of : place_of + 1])
        alone = samples.collate(index, one.patterns.expand(SIZE, 3)[index], one.hiding)
        wanted = torch.cat([alone.features[m][0].sum(dim=0) for m in MODALITIES])
        torch.testing.assert_close(value, wanted)


def turns_of(samples: SampleSet, batch: Batch) -> list[list[str]]:
    """Return the ids of each dialogue of a batch."""
    assert batch.dialogues is not None
    found: list[list[str]] = [[] for _ in range(batch.dialogues.count)]
    for name, number in zip(batch.ids, batch.dialogues.dialogue.tolist(), strict=True):
        found[number].append(name)
    return found


def by_hand(samples: SampleSet) -> dict[str, list[str]]:
    """Return dialogue -> the ids of its turns in their order."""
    found: dict[str, list[tuple[int, str]]] = {}
    for sample in samples.samples:
        assert sample.turn is not None
        found.setdefault(sample.dialogue, []).append((sample.turn, sample.id))
    return {name: [one for _, one in sorted(turns)] for name, turns in found.items()}


def units(batches: Sequence[Batch], samples: SampleSet) -> list[list[str]]:
    return [turns for batch in batches for turns in turns_of(samples, batch)]


def test_dialogues_come_whole_and_in_the_order_of_turns(talk: World) -> None:
    device, _, samples = talk
    train = np.array(
        [i for i, s in enumerate(samples.samples) if s.session in ("Ses01", "Ses02") and s.label]
    )
    expected = sorted(v for k, v in by_hand(samples).items() if k[:5] in ("Ses01", "Ses02"))
    for train_on, times in (("full", 1), ("missing", 6), ("random-condition", 1), ("sampled", 1)):
        pairs = training(talk, train_on, train=train, dialogues=True).epoch(1)
        parts = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0)).split(2)
        batches = [batch for _, batch in pairs.batches(device, parts)]
        assert sorted(units(batches, samples)) == sorted(expected * times)
        assert all(batch.dialogues is not None and batch.dialogues.count <= 2 for batch in batches)
        for batch in batches:
            dialogues = batch.dialogues
            assert dialogues is not None and batch.labels is not None
            rows = {name: row for row, name in enumerate(s.id for s in samples.samples)}
            for row, name in enumerate(batch.ids):
                sample = samples.samples[rows[name]]
                within = by_hand(samples)[sample.dialogue]
                assert int(dialogues.turn[row]) == within.index(name)
                speakers = list(dict.fromkeys(samples.samples[rows[one]].speaker for one in within))
                assert int(dialogues.speaker[row]) == speakers.index(sample.speaker)
                assert bool(dialogues.labelled[row]) == bool(sample.label)
                label = samples.classes.index(sample.label) if sample.label else NO_LABEL
                assert int(batch.labels[row]) == label
        assert pairs.labelled() == len(train) * times


def test_a_dialogue_that_is_split_hides_the_labels_of_the_other_part_in_every_version(talk: World) -> None:
    """A dialogue of which some turns train and some test: the latter are context, without their labels."""
    device, _, samples = talk
    labelled = [i for i, s in enumerate(samples.samples) if s.dialogue == "Ses01-0" and s.label]
    train, test = np.array(labelled[:2]), labelled[2:]
    assert test
    pairs = training(talk, "full", train=train, dialogues=True, redraws=True).epoch(1)
    views = {"all": View("whole"), "rest": View("complement"), "other": View("redrawn")}
    batch = whole(talk, pairs, views)
    for one in (batch, *batch.views.values()):
        assert one.labels is not None and one.dialogues is batch.dialogues
        counted = [
            name for name, label in zip(one.ids, one.labels.tolist(), strict=True) if label != NO_LABEL
        ]
        assert sorted(counted) == sorted(samples.samples[i].id for i in train)
    scored = replace(device, scores=torch.ones(len(device.ids)))
    for one in (batch := whole((scored, talk[1], samples), pairs, views), *batch.views.values()):
        assert one.scores is not None and int(one.scores.sum()) == 2


def test_dialogues_are_judged_whole_and_only_on_what_is_asked(talk: World) -> None:
    device, masks, samples = talk
    judged = np.array([i for i, s in enumerate(samples.samples) if s.session == "Ses03" and s.label][::-1])
    ways = [*showings(["a", "avt"]), showings(["avt"])[0].under("block", masks["block"].first(CPU))]
    seen = Counter()
    for pairs, place, way in shown_pairs(device, judged, ways, dialogues=True):
        batches = [batch for _, batch in pairs.batches(device, torch.arange(len(pairs)).split(1))]
        expected = [v for k, v in by_hand(samples).items() if k.startswith("Ses03")]
        assert {tuple(one) for one in units(batches, samples)} == {tuple(one) for one in expected}
        ids = [name for batch in batches for name in batch.ids]
        for name, where, which in zip(ids, place.tolist(), way.tolist(), strict=True):
            if where >= 0:
                assert device.ids[judged[where]] == name
                seen[where, which] += 1
            else:
                assert name not in {device.ids[i] for i in judged}
    assert set(seen) == {(i, k) for i in range(len(judged)) for k in range(3)} and set(seen.values()) == {1}


def test_samples_without_a_dialogue_are_dialogues_of_one_turn(world: World) -> None:
    _, masks, made = world
    alone = tuple(replace(sample, dialogue="") for sample in made.samples)
    device = replace(made, samples=alone).prepare(made.fit_normalisers(np.arange(20)), CPU)
    found = training((device, masks, made), "full", dialogues=True).epoch(1)
    assert found.sizes is not None and found.sizes.tolist() == [1, 1, 1]
