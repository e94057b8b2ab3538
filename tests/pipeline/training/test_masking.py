"""Masks on batches: looked up and worked out alike, in every epoch as they should, and by nothing but their key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.base import MODALITIES, Batch
from pipeline.data.masks import Masks, draw, read_masks, rules
from pipeline.training.batching import DeviceSamples
from pipeline.training.masking import FreshDraw, Hiding, KeptDraw, NamedMask
from pipeline.training.samples import SampleSet, read_samples
from tests import small_world

CPU = torch.device("cpu")
MISSING = [("video", 3), ("audio", 5), ("text", 7)]
RATES = {"plain": {}, "averaged": {"audio": 10, "video": 4}}
DRAWN = [name for name in small_world.ALL_MASKS if name != "conditions"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    small_world.write(folder, 40, missing=MISSING)
    return folder


@pytest.fixture(scope="module")
def masks(data: Path) -> Masks:
    return read_masks(data / "masks" / "small.h5")


@pytest.fixture(scope="module")
def worlds(data: Path) -> dict[str, tuple[SampleSet, DeviceSamples]]:
    """Return the samples with frames as extracted, and averaged down."""
    found = {}
    for name, rates in RATES.items():
        samples = read_samples("small", small_world.dataset(), rates, data, hides_frames=True)
        found[name] = samples, samples.prepare(samples.fit_normalisers(np.arange(20)), CPU)
    return found


def under(samples: DeviceSamples, hiding: Hiding) -> Batch:
    """Return all samples in one batch, under a draw."""
    return samples.collate(torch.arange(len(samples.ids)), hiding.present, hiding)


def assert_same_bits(first: Batch, second: Batch) -> None:
    for modality in MODALITIES:
        assert torch.equal(first.features[modality], second.features[modality]), modality
        assert torch.equal(first.observed[modality], second.observed[modality]), modality
    assert torch.equal(first.present, second.present)
    assert (first.token_ids is None) == (second.token_ids is None)
    if first.token_ids is not None and second.token_ids is not None:
        assert torch.equal(first.token_ids, second.token_ids)


def as_sampled(mask: NamedMask) -> NamedMask:
    return replace(mask, settings=mask.settings.model_copy(update={"draw": "sampled"}))


def looked_up(masks: Masks, name: str, seed: int, epoch: int) -> Hiding:
    """Return a draw made by numpy over all frames at once; all samples of the manifest take part."""
    dims = tuple(small_world.DIMS.values())
    return KeptDraw(draw(masks.mask(name), name, seed, epoch, masks.ids, masks.lengths, dims), CPU)


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("name", DRAWN)
def test_a_draw_that_is_looked_up_and_one_that_is_worked_out_give_the_same_bits(
    name: str, rates: str, worlds: dict[str, tuple[SampleSet, DeviceSamples]], masks: Masks
) -> None:
    samples, device = worlds[rates]
    named = samples.named_masks(masks, [name])[name]
    first = under(device, named.first(CPU))
    made = rules(named.settings, name, masks.seed, 0, named.ids, named.have)
    fresh = FreshDraw(made, CPU, named.dims if named.settings.axis == "feature" else None)
    assert_same_bits(under(device, fresh), first)
    # And another draw, as training makes it.
    again = under(device, as_sampled(named).hide(CPU, 9, 3))
    assert_same_bits(again, under(device, looked_up(masks, name, 9, 3)))
    if name not in ("share-0", "share-100"):
        assert any(not torch.equal(again.features[m], first.features[m]) for m in MODALITIES)


@pytest.mark.parametrize("rates", RATES)
def test_rates_of_nothing_and_of_everything(
    rates: str, worlds: dict[str, tuple[SampleSet, DeviceSamples]], masks: Masks
) -> None:
    samples, device = worlds[rates]
    whole = device.collate(torch.arange(len(samples)))
    named = samples.named_masks(masks, ["share-0", "share-100"])
    assert_same_bits(under(device, named["share-0"].first(CPU)), whole)
    nothing = under(device, named["share-100"].first(CPU))
    for modality in MODALITIES:
        assert not nothing.features[modality].any() and not nothing.observed[modality].any()
        assert torch.equal(nothing.lengths[modality], whole.lengths[modality])
    assert torch.equal(nothing.present, whole.present)
    if whole.token_ids is not None:  # padding stays padding
        assert torch.equal(nothing.token_ids == 100, whole.token_ids > 0)
    none = torch.zeros(len(samples), 3, dtype=torch.bool)
    gone = device.collate(torch.arange(len(samples)), none, named["share-0"].first(CPU))
    for modality in MODALITIES:  # one frame of zeros for everyone
        assert gone.features[modality].shape[1] == 1 and not gone.features[modality].any()


def test_nothing_is_averaged_out_of_frames_that_are_gone(
    worlds: dict[str, tuple[SampleSet, DeviceSamples]], masks: Masks
) -> None:
    """By hand: of ten frames with the sum s, of which those with the sum g are gone, (s - g) / (10 - gone)."""
    samples, device = worlds["averaged"]
    plain = worlds["plain"][0].modalities["audio"]
    kept = masks.draw("frames").frames["audio"]
    batch = under(device, samples.named_masks(masks, ["frames"])["frames"].first(CPU))
    normaliser = samples.fit_normalisers(np.arange(20))["audio"]
    for row in (0, 11, 39):
        begin = int(plain.starts[row])
        values, stay = plain.values[begin : begin + 10], kept[begin : begin + 10]
        mean = (values.sum(axis=0) - values[~stay].sum(axis=0)) / stay.sum()
        expected = (mean - normaliser.mean) * normaliser.scale
        assert not stay.all()
        np.testing.assert_allclose(batch.features["audio"][row, 0], expected, rtol=1e-3, atol=1e-4)


def test_a_fixed_mask_is_the_draw_of_the_file_in_every_epoch_and_for_every_seed(
    worlds: dict[str, tuple[SampleSet, DeviceSamples]], masks: Masks
) -> None:
    samples, device = worlds["averaged"]
    for name in ("block", "columns", "one-missing", "mixed"):
        named = samples.named_masks(masks, [name])[name]
        wanted = under(device, KeptDraw(masks.draw(name), CPU))
        for seed, epoch, purpose in ((0, 1, ""), (0, 2, ""), (5, 1, "/inner"), (0, 0, "/validation")):
            assert_same_bits(under(device, named.hide(CPU, seed, epoch, purpose)), wanted)


@pytest.mark.parametrize("name", ["sampled", "frames", "mixed", "one-missing", "random", "one-condition"])
def test_a_sampled_mask_follows_seed_epoch_purpose_and_name(
    name: str, worlds: dict[str, tuple[SampleSet, DeviceSamples]], masks: Masks
) -> None:
    samples, device = worlds["plain"]
    named = as_sampled(samples.named_masks(masks, [name])[name])
    draws = [
        under(device, mask.hide(CPU, seed, epoch, purpose))
        for mask, seed, epoch, purpose in (
            (named, 0, 1, ""),
            (named, 0, 2, ""),
            (named, 1, 1, ""),
            (named, 0, 1, "/inner"),
            (replace(named, name="other"), 0, 1, ""),
        )
    ]
    for index, one in enumerate(draws):
        for other in draws[:index]:
            assert any(
                not torch.equal(one.observed[m].any(dim=1), other.observed[m].any(dim=1))
                or one.observed[m].shape != other.observed[m].shape
                or not torch.equal(one.observed[m], other.observed[m])
                for m in MODALITIES
            )
    assert_same_bits(under(device, named.hide(CPU, 0, 1)), draws[0])


@pytest.mark.parametrize("name", ["sampled", "frames", "mixed", "one-missing", "columns"])
def test_a_sampled_mask_of_a_sample_does_not_depend_on_the_others(
    name: str, worlds: dict[str, tuple[SampleSet, DeviceSamples]], masks: Masks, data: Path
) -> None:
    samples, device = worlds["plain"]
    fewer = read_samples("small", small_world.dataset(labels=("sad", "happy")), data=data, hides_frames=True)
    assert 10 < len(fewer) < len(samples)
    smaller = fewer.prepare(samples.fit_normalisers(np.arange(20)), CPU)
    hiding = as_sampled(samples.named_masks(masks, [name])[name]).hide(CPU, 4, 2)
    few = as_sampled(fewer.named_masks(masks, [name])[name]).hide(CPU, 4, 2)
    where = torch.tensor([device.ids.index(one) for one in smaller.ids])
    order = torch.randperm(len(where), generator=torch.Generator().manual_seed(0))
    wanted = device.collate(where[order], hiding.present[where[order]], hiding)
    assert_same_bits(smaller.collate(order, few.present[order], few), wanted)


def test_modalities_are_drawn_independently(masks: Masks) -> None:
    lengths = np.full((400, 3), 10)
    ids = [f"s{index}" for index in range(400)]
    frames = draw(masks.mask("frames"), "frames", 0, 4, ids, lengths).frames
    gone = np.stack([~frames[m] for m in MODALITIES]).astype(float)
    assert np.abs(np.corrcoef(gone) - np.eye(3)).max() < 0.06


def test_draws_of_a_family_stay_nested_when_they_are_made_anew(
    worlds: dict[str, tuple[SampleSet, DeviceSamples]], masks: Masks
) -> None:
    samples, device = worlds["plain"]
    named = samples.named_masks(masks, ["share-25", "share-50"])
    for epoch in (1, 2):
        lower, higher = (
            under(device, as_sampled(named[name]).hide(CPU, 7, epoch)) for name in ("share-25", "share-50")
        )
        for modality in MODALITIES:
            assert not (higher.observed[modality] & ~lower.observed[modality]).any()
            assert (lower.observed[modality] & ~higher.observed[modality]).any()


def test_what_a_runs_key_knows_of_a_mask(
    worlds: dict[str, tuple[SampleSet, DeviceSamples]], masks: Masks
) -> None:
    samples, _ = worlds["plain"]
    named = samples.named_masks(masks, ["conditions", "block", "sampled"])
    assert list(named) == ["block", "sampled"], "conditions enumerates"
    facts = named["block"].facts()
    assert facts["checksum"] == masks.checksums["block"]
    assert (facts["settings"]["protocol"], facts["settings"]["draw"]) == ("block", "fixed")
    assert named["sampled"].facts() != facts
    assert samples.named_masks(None, []) == {}
