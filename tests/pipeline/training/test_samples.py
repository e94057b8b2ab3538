"""From stores to batches: pooling, normalising, gathering, and what is left out."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from models.base import MODALITIES, View
from pipeline.data.masks import Masks, read_masks
from pipeline.data.store import FeatureStore
from pipeline.errors import DataError, ParamsError, StoreError
from pipeline.params import Experiment, Length
from pipeline.training.batching import DeviceSamples
from pipeline.training.experiment import resolve
from pipeline.training.masking import Hiding
from pipeline.training.samples import SampleSet, derive_seed, read_samples, samples_of
from pipeline.training.sequences import Normaliser, Recorded, pool_rows, spans
from tests import small_world

SIZE = 40
MISSING = [("video", 3), ("audio", 5), ("text", 7), ("text", 9), ("audio", 9), ("video", 9)]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    small_world.write(folder, SIZE, missing=MISSING)
    return folder


@pytest.fixture(scope="module")
def samples(data: Path) -> SampleSet:
    return read_samples("small", small_world.dataset(), data=data)


def test_what_takes_part_and_what_is_left_out(data: Path, samples: SampleSet) -> None:
    assert len(samples) == SIZE - 1 and samples.left_out == {"no modality": 1}
    fewer = read_samples("small", small_world.dataset(labels=("sad", "happy")), data=data)
    assert fewer.classes == ("sad", "happy")
    assert sum(fewer.left_out.values()) + len(fewer) == SIZE
    assert set(fewer.left_out) == {"label angry", "label neutral", "no modality"}
    assert {s.label for s in fewer.samples} == {"sad", "happy"}
    assert [fewer.classes[label] for label in fewer.labels] == [s.label for s in fewer.samples]


def test_a_status_that_is_not_ok_is_an_absent_modality(samples: SampleSet) -> None:
    ids = [sample.id for sample in samples.samples]
    for modality, index in MISSING[:3]:
        assert not samples.present[ids.index(f"s{index:03d}"), MODALITIES.index(modality)]
    assert (~samples.present).sum() == 3


def test_labels_that_nobody_has_leave_nothing(data: Path) -> None:
    with pytest.raises(DataError, match=r"no sample is left.*labels right"):
        read_samples("small", small_world.dataset(labels=("bored",)), data=data)
    with pytest.raises(DataError, match="labels is empty"):
        read_samples("small", small_world.dataset(labels=()), data=data)


def test_a_dataset_that_is_not_there(data: Path) -> None:
    with pytest.raises(DataError, match="no such manifest"):
        read_samples("large", small_world.dataset(), data=data)


def pooled(
    values: list[float], observed: list[int], lengths: list[int], fewer: list[int], factor: int | None
) -> tuple[list[float], list[bool]]:
    """Average the frames of several samples, one after the other."""
    counts = np.array(lengths)
    starts = np.cumsum(counts) - counts
    begins, ends = spans(starts, counts, np.array(fewer), factor)
    column = np.array(values, np.float32)[:, None]
    found, seen = pool_rows(Recorded(column, np.array(observed, bool), starts, counts, begins, ends))
    return found.ravel().tolist(), seen.tolist()


def test_pooling_by_hand() -> None:
    # samples of 5, 0 and 3 frames, two of which become one
    found = pooled([1, 3, 5, 7, 9, 2, 4, 6], [1, 1, 0, 0, 1, 1, 0, 1], [5, 0, 3], [3, 0, 2], 2)
    assert found == ([2, 0, 9, 2, 6], [True, False, True, True, True])


def test_resampling_by_hand() -> None:
    # 5 frames become 2: parts [0, 2.5) and [2.5, 5), whose middle frame lies in both; 2 become 3: the middle one
    # lies in [2/3, 4/3), which both frames touch
    found = pooled([1, 3, 5, 7, 9, 2, 4], [1, 1, 1, 1, 1, 1, 1], [5, 0, 2], [2, 0, 3], None)
    assert found == ([3, 7, 2, 3, 4], [True] * 5)
    halves = pooled([1, 3, 5, 7], [1, 0, 0, 1], [4], [4], None)
    assert halves == ([1, 0, 0, 7], [True, False, False, True])


def test_a_frame_rate_averages_the_store(data: Path, samples: SampleSet) -> None:
    slow = read_samples("small", small_world.dataset(), {"audio": 10}, data)
    audio, before = slow.modalities["audio"], samples.modalities["audio"]
    assert audio.pool == 10 and slow.modalities["video"].pool == 1
    assert audio.lengths.tolist() == [-(-length // 10) for length in before.lengths]
    first = before.values[before.starts[0] : before.starts[0] + 10].mean(axis=0)
    np.testing.assert_allclose(audio.values[audio.starts[0]], first, rtol=1e-6)


def test_a_frame_rate_above_the_stores_leaves_it(data: Path) -> None:
    assert read_samples("small", small_world.dataset(), {"video": 25}, data).modalities["video"].pool == 1


def test_words_have_no_frame_rate(data: Path) -> None:
    with pytest.raises(ParamsError, match="frame_rate_hz needs frames of equal length; made has none"):
        read_samples("small", small_world.dataset(), {"text": 2}, data)


def test_statistics_by_hand() -> None:
    normaliser = Normaliser.fit(np.array([[1, 5], [3, 5], [5, 5], [7, 5]], np.float32))
    assert normaliser.mean.tolist() == [4, 5]
    assert normaliser.scale.tolist() == pytest.approx([1 / 5**0.5, 0])
    values = normaliser.apply(np.array([[9, 5], [9, 6], [9, 9]], np.float32), np.array([True, True, False]))
    np.testing.assert_allclose(values, [[5**0.5, 0], [5**0.5, 0], [0, 0]], rtol=1e-6)


def test_a_column_with_only_rounding_noise_counts_as_constant() -> None:
    noise = np.array([[1000.0], [1000.0001], [1000.0]], np.float32)
    assert Normaliser.fit(noise).scale.tolist() == [0.0]
    tiny = np.array([[1e-7], [-1e-7]], np.float32)
    assert Normaliser.fit(tiny).scale[0] == pytest.approx(1e7)
    edge = np.array([[1 - 1.5e-6], [1 + 1.5e-6]])  # a deviation of 1.5 millionths of the mean still counts
    assert Normaliser.fit(edge).scale[0] == pytest.approx(1 / 1.5e-6)
    assert Normaliser.fit(1 + (edge - 1) / 2).scale[0] == 0


def test_no_frames_give_no_scale() -> None:
    normaliser = Normaliser.fit(np.zeros((0, 3), np.float32))
    assert normaliser.mean.tolist() == normaliser.scale.tolist() == [0, 0, 0]


def test_statistics_come_from_observed_frames_of_the_training_part_only(samples: SampleSet) -> None:
    train = np.array([0, 1, 2, 4])
    found = samples.fit_normalisers(train)["video"]
    video = samples.modalities["video"]
    rows = np.concatenate([np.arange(video.starts[i], video.starts[i] + video.lengths[i]) for i in train])
    rows = rows[video.observed[rows]]
    np.testing.assert_allclose(found.mean, video.values[rows].mean(axis=0), rtol=1e-4, atol=1e-5)
    assert found.scale[-1] == 0  # the column that never changes
    assert len(rows) < video.lengths[train].sum()  # a frame without a face
    assert not video.values[~video.observed].any()


def test_a_batch_holds_each_samples_own_frames(data: Path, samples: SampleSet) -> None:
    normalisers = samples.fit_normalisers(np.arange(20))
    batch = samples.prepare(normalisers, CPU).collate(torch.tensor([4, 30, 4, 11]))
    assert batch.ids == tuple(samples.samples[i].id for i in (4, 30, 4, 11))
    assert batch.rows is not None and batch.rows.tolist() == [4, 30, 4, 11]
    manifest = [f"s{index:03d}" for index in range(SIZE)]
    for modality in MODALITIES:
        with FeatureStore(data / "features" / "small" / f"{modality}.h5") as store:
            for row, name in enumerate(batch.ids):
                stored = store.read(manifest.index(name))
                length, normaliser = len(stored.times), normalisers[modality]
                wanted = (stored.values - normaliser.mean) * normaliser.scale * (stored.flags > 0)[:, None]
                assert batch.lengths[modality][row] == length
                found = batch.features[modality][row]
                np.testing.assert_allclose(found[:length], wanted, rtol=1e-5, atol=1e-6)
                assert not batch.features[modality][row, length:].any()
                assert batch.observed[modality][row, :length].tolist() == (stored.flags > 0).tolist()
                assert not batch.observed[modality][row, length:].any()
                if modality == "text":
                    assert batch.token_ids is not None and stored.token_ids is not None
                    assert batch.token_ids[row, :length].tolist() == stored.token_ids.tolist()
                    assert not batch.token_ids[row, length:].any()


def test_an_absent_modality_is_one_zero_frame(samples: SampleSet) -> None:
    row = [sample.id for sample in samples.samples].index("s007")
    batch = samples.prepare(samples.fit_normalisers(np.arange(20)), CPU).collate(torch.tensor([row, 0]))
    assert batch.present.tolist() == [[False, True, True], [True, True, True]]
    assert batch.lengths["text"][0] == 1 and not batch.features["text"][0].any()
    assert batch.token_ids is not None and batch.token_ids[0, 0] == 100 and not batch.token_ids[0, 1:].any()


def prepared(samples: SampleSet) -> DeviceSamples:
    return samples.prepare(samples.fit_normalisers(np.arange(20)), CPU)


def hiding(samples: SampleSet, masks: Masks, name: str) -> Hiding:
    return samples.named_masks(masks, [name])[name].first(CPU)


def test_views_through_collate(data: Path, samples: SampleSet) -> None:
    device, masks = prepared(samples), read_masks(data / "masks" / "small.h5")
    chosen, shown = torch.tensor([0, 1]), torch.tensor([[True, False, False], [False, True, True]])
    views = {"rest": View("complement"), "all": View("whole"), "twin": View("redrawn")}
    batch = device.collate(chosen, shown, views=views)
    assert list(batch.views) == list(views) and device.collate(chosen, shown).views == {}
    whole, rest = device.collate(chosen), batch.views["rest"]
    assert torch.equal(batch.present, shown) and torch.equal(rest.present, ~shown)
    text = batch.features["text"].shape[1]
    assert torch.equal(batch.features["text"][0], whole.features["text"][0, :text])
    assert not batch.features["text"][1].any() and not rest.features["text"][0].any()
    audio = rest.features["audio"].shape[1]
    assert torch.equal(rest.features["audio"][0], whole.features["audio"][0, :audio])
    for modality in MODALITIES:
        assert torch.equal(batch.views["all"].features[modality], whole.features[modality])
        assert torch.equal(batch.views["twin"].features[modality], batch.features[modality])
    nothing = device.collate(chosen, views={"rest": View("complement")}).views["rest"]
    assert not nothing.present.any()
    # A mask over frames: the complement loses the same frames, the whole none, and the twin has a draw of its own.
    block, frames = hiding(samples, masks, "block"), hiding(samples, masks, "frames")
    other = torch.tensor([[True, True, False], [True, True, True]])
    batch = device.collate(chosen, shown, block, views, (other, frames))
    hidden, redrawn = device.collate(chosen, None, block), device.collate(chosen, other, frames)
    for modality in MODALITIES:
        assert torch.equal(batch.views["all"].features[modality], whole.features[modality])
        assert torch.equal(batch.views["twin"].features[modality], redrawn.features[modality])
        both = batch.observed[modality].sum(), batch.views["rest"].observed[modality].sum()
        assert int(sum(both)) == int(hidden.observed[modality].sum())
    rest = batch.views["rest"]
    audio = rest.features["audio"].shape[1]
    assert torch.equal(rest.features["audio"][0], hidden.features["audio"][0, :audio])
    assert not torch.equal(rest.features["audio"][0], whole.features["audio"][0, :audio])


def test_masks_over_frames_are_applied_before_frames_are_averaged(data: Path) -> None:
    """Then the statistics of the complete training part are applied, and the frames cut."""
    masks = read_masks(data / "masks" / "small.h5")
    lengths = {"audio": Length(frames=3)}
    slow = read_samples(
        "small", small_world.dataset(), {"audio": 10}, data, lengths=lengths, hides_frames=True
    )
    normalisers = slow.fit_normalisers(np.arange(20))
    batch = slow.prepare(normalisers, CPU).collate(
        torch.arange(len(slow)), None, hiding(slow, masks, "block")
    )
    assert batch.lengths["audio"].max() == batch.features["audio"].shape[1] == 3
    checked, normaliser = 0, normalisers["audio"]
    with FeatureStore(data / "features" / "small" / "audio.h5") as store:
        for row, name in enumerate(batch.ids):
            number = store.ids.index(name)
            kept = masks.draw("block").frames["audio"][store.offsets[number] : store.offsets[number + 1]]
            values = store.read(number).values
            for window in range(min(3, -(-len(values) // 10))):
                part = slice(10 * window, 10 * window + 10)
                expected = np.zeros(values.shape[1])
                if kept[part].any():
                    expected = (values[part][kept[part]].mean(axis=0) - normaliser.mean) * normaliser.scale
                    checked += not kept[part].all()
                assert batch.observed["audio"][row, window] == kept[part].any()
                np.testing.assert_allclose(
                    batch.features["audio"][row, window], expected, rtol=1e-4, atol=1e-5
                )
    assert checked > 20


def test_masks_over_modalities_and_columns(data: Path, samples: SampleSet) -> None:
    masks, device = read_masks(data / "masks" / "small.h5"), prepared(samples)
    one = hiding(samples, masks, "one-missing")
    rows = [masks.ids.index(sample.id) for sample in samples.samples]
    assert not one.over_anything
    assert np.array_equal(one.present.numpy(), samples.present & masks.draw("one-missing").present[rows])
    columns = masks.draw("columns").columns["text"]
    batch = device.collate(torch.tensor([0, 12]), None, hiding(samples, masks, "columns"))
    for row, index in enumerate((0, 12)):
        gone = ~columns[masks.ids.index(samples.samples[index].id)]
        assert gone.any() and not batch.features["text"][row][:, gone].any()
        assert batch.features["text"][row][:, ~gone][:, :2].any()


def test_masks_reach_the_token_ids(data: Path, samples: SampleSet) -> None:
    masks, device = read_masks(data / "masks" / "small.h5"), prepared(samples)
    draw = masks.draw("block")
    batch = device.collate(torch.tensor([0, 12]), None, hiding(samples, masks, "block"))
    assert batch.token_ids is not None
    with FeatureStore(data / "features" / "small" / "text.h5") as store:
        for row, index in enumerate((0, 12)):
            number = masks.ids.index(samples.samples[index].id)
            kept = draw.frames["text"][store.offsets[number] : store.offsets[number + 1]]
            expected = [1000 + place if keep else 100 for place, keep in enumerate(kept.tolist())]
            assert batch.token_ids[row, : len(kept)].tolist() == expected
            assert not batch.token_ids[row, len(kept) :].any()
    assert device.collate(torch.tensor([0]), None, hiding(samples, masks, "columns")).token_ids is None


def test_a_mask_of_other_frames_is_refused(data: Path, samples: SampleSet, tmp_path: Path) -> None:
    masks = read_masks(data / "masks" / "small.h5")
    longer = masks.lengths.copy()
    longer[0, 2] += 1
    other = replace(masks, lengths=longer)
    with pytest.raises(StoreError, match=r'the mask "block" counts .* frames of video of the sample "s000"'):
        samples.named_masks(other, ["block"])
    samples.named_masks(other, ["one-missing"])  # counts no frames


def test_lengths_cut_and_resample(data: Path, samples: SampleSet) -> None:
    given = {"text": Length(frames=3), "audio": Length(frames=4, by="resample"), "video": Length(frames=90)}
    found = read_samples("small", small_world.dataset(), data=data, lengths=given)
    text, audio, video = (found.modalities[m] for m in MODALITIES)
    plain = samples.modalities
    assert text.lengths.tolist() == [min(3, n) for n in plain["text"].lengths]
    assert audio.lengths.tolist() == [4 if n else 0 for n in plain["audio"].lengths]
    assert video.lengths.tolist() == plain["video"].lengths.tolist()
    assert text.as_recorded[1].tolist() == plain["text"].lengths.tolist(), "masks count frames as recorded"
    long = [n - 3 for n in plain["text"].lengths if n > 3]
    share = round(sum(long) / int(plain["text"].lengths.sum()), 6)
    assert text.cut_off() == {"samples": len(long), "frames": share}
    assert audio.cut_off() == video.cut_off() == plain["text"].cut_off() == {}, "resampled is not cut"
    assert text.token_ids is not None and audio.describe()["length"] == {"frames": 4, "by": "resample"}
    first, length = plain["audio"].starts[0], int(plain["audio"].lengths[0])
    for part in range(4):  # computed by exact fractions
        rows = [
            r
            for r in range(length)
            if r < Fraction((part + 1) * length, 4) and r + 1 > Fraction(part * length, 4)
        ]
        expected = plain["audio"].values[first + np.array(rows)].mean(axis=0)
        np.testing.assert_allclose(audio.values[audio.starts[0] + part], expected, rtol=1e-5, atol=1e-6)
    batch = prepared(found).collate(torch.arange(6))
    assert [batch.features[m].shape[1] for m in MODALITIES][:2] == [3, 4]
    # Statistics are of the frames that are left: by hand for one sample of text.
    mean = found.fit_normalisers(np.array([0]))["text"].mean
    begin = int(plain["text"].starts[0])
    np.testing.assert_allclose(mean, plain["text"].values[begin : begin + 3].mean(axis=0), rtol=1e-5)


def test_frames_are_averaged_first_and_cut_then(data: Path, samples: SampleSet) -> None:
    rate, length = {"audio": 10}, {"audio": Length(frames=2)}
    audio = read_samples("small", small_world.dataset(), rate, data, lengths=length).modalities["audio"]
    averaged = [-(-n // 10) for n in samples.modalities["audio"].lengths]
    assert audio.lengths.tolist() == [min(2, n) for n in averaged] and max(averaged) > 2
    assert audio.as_recorded[1].tolist() == averaged


def test_features_of_other_samples_are_refused(tmp_path: Path) -> None:
    small_world.write(tmp_path, 20)
    (tmp_path / "features").rename(tmp_path / "old")
    small_world.write(tmp_path, 25)
    (tmp_path / "old" / "small" / "audio.h5").replace(tmp_path / "features" / "small" / "audio.h5")
    with pytest.raises(StoreError, match=r"audio\.h5.*other samples than the manifest"):
        read_samples("small", small_world.dataset(), data=tmp_path)


def test_seeds_differ_by_purpose_and_repeat() -> None:
    purposes = ((0, "order", 1), (0, "order", 2), (1, "order", 1), (0, "x"))
    seeds = {derive_seed(*purpose) for purpose in purposes}
    assert len(seeds) == 4 and all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, "order", 1) in seeds


def test_an_experiment_says_what_is_learnt_and_how_it_is_read(data: Path) -> None:
    def read(**given: object) -> SampleSet:
        asked = resolve(Experiment.model_validate({"dataset": "small", "model": "linear", **given}))
        return samples_of(asked, small_world.dataset(), data, hides_frames=False, dialogues=False)

    classes = read(frame_rate_hz={"audio": 10})
    assert classes.scores is None and classes.outputs == 4 and classes.modalities["audio"].pool == 10
    scores = read(task="regression", lengths={"text": {"frames": 3}})
    assert scores.scores is not None and scores.outputs == 1 and scores.modalities["audio"].pool == 1
    assert scores.modalities["text"].lengths.max() == 3


def test_facts_are_those_of_the_manifests_rows(tmp_path: Path) -> None:
    rows = [
        replace(sample, facts={"key": (i % 2 == 0, i % 3 == 0, False)})
        for i, sample in enumerate(small_world.samples(20))
    ]
    small_world.write(tmp_path, 20, given=rows)
    found = read_samples("small", small_world.dataset(), data=tmp_path, facts=("key",))
    assert found.facts["key"].tolist() == [list(rows[at].facts["key"]) for at in found.rows]
    assert read_samples("small", small_world.dataset(), data=tmp_path).facts == {}
    with pytest.raises(DataError, match='found no fact "other" of the samples'):
        read_samples("small", small_world.dataset(), data=tmp_path, facts=("other",))
