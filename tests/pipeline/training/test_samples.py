"""From stores to batches: pooling, normalising, gathering, and what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.base import MODALITIES
from pipeline.data.masks import Draw, read_masks
from pipeline.data.store import FeatureStore
from pipeline.errors import DataError, ParamsError, StoreError
from pipeline.training.samples import (
    Normaliser,
    SampleSet,
    derive_seed,
    pool_frames,
    read_samples,
    training_pairs,
)
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


def test_pooling_by_hand() -> None:
    values = np.array([[1], [3], [5], [7], [9], [2], [4], [6]], np.float32)
    observed = np.array([1, 1, 0, 0, 1, 1, 0, 1], bool)
    # samples of 5, 0 and 3 frames, two of which become one
    pooled, seen, starts, lengths = pool_frames(values, observed, np.array([0, 5, 5]), np.array([5, 0, 3]), 2)
    assert pooled.ravel().tolist() == [2, 0, 9, 2, 6]
    assert seen.tolist() == [True, False, True, True, True]
    assert starts.tolist() == [0, 3, 3] and lengths.tolist() == [3, 0, 2]


def test_pooling_by_one_changes_nothing() -> None:
    values, observed = np.ones((4, 2), np.float32), np.ones(4, bool)
    assert pool_frames(values, observed, np.array([0]), np.array([4]), 1)[0] is values


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


def test_a_batch_and_its_complement_share_out_what_there_is(samples: SampleSet) -> None:
    device = samples.prepare(samples.fit_normalisers(np.arange(20)), CPU)
    shown = torch.tensor([[True, False, False], [False, True, True]])
    batch = device.collate(torch.tensor([0, 1]), shown, complement=True)
    assert batch.complement is not None
    assert torch.equal(batch.present, shown) and torch.equal(batch.complement.present, ~shown)
    assert device.collate(torch.tensor([0, 1]), shown).complement is None
    whole = device.collate(torch.tensor([0, 1]))
    text = batch.features["text"].shape[1]
    assert torch.equal(batch.features["text"][0], whole.features["text"][0, :text])
    assert not batch.features["text"][1].any()


def test_masks_over_frames_are_applied_before_frames_are_averaged(data: Path) -> None:
    draw = read_masks(data / "masks" / "small.h5").draw("block")
    masked = read_samples("small", small_world.dataset(), {"audio": 10}, data, draw).modalities["audio"]
    with FeatureStore(data / "features" / "small" / "audio.h5") as store:
        kept = draw.frames["audio"][store.offsets[0] : store.offsets[1]]
        values = store.read(0).values
    for window in range(masked.lengths[0]):
        part = slice(10 * window, 10 * window + 10)
        row = masked.starts[0] + window
        assert masked.observed[row] == kept[part].any()
        expected = values[part][kept[part]].mean(axis=0) if kept[part].any() else np.zeros(values.shape[1])
        np.testing.assert_allclose(masked.values[row], expected, rtol=1e-5, atol=1e-6)


def test_masks_over_modalities_and_columns(data: Path, samples: SampleSet) -> None:
    masks = read_masks(data / "masks" / "small.h5")
    draw = masks.draw("one-missing")
    masked = read_samples("small", small_world.dataset(), data=data, draw=draw)
    assert len(masked) == len(samples)  # a sample that a mask leaves with nothing still takes part
    rows = [masks.ids.index(sample.id) for sample in masked.samples]
    assert np.array_equal(masked.present, samples.present & draw.present[rows])
    columns = masks.draw("columns").columns["text"]
    fewer = read_samples("small", small_world.dataset(), data=data, draw=masks.draw("columns"))
    batch = fewer.prepare(fewer.fit_normalisers(np.arange(20)), CPU).collate(torch.tensor([0, 12]))
    for row, index in enumerate((0, 12)):
        gone = ~columns[masks.ids.index(fewer.samples[index].id)]
        assert gone.any() and not batch.features["text"][row][:, gone].any()
        assert batch.features["text"][row][:, ~gone][:, :2].any()


def test_masks_reach_the_token_ids(data: Path) -> None:
    masks = read_masks(data / "masks" / "small.h5")
    draw = masks.draw("block")
    masked = read_samples("small", small_world.dataset(), data=data, draw=draw)
    batch = masked.prepare(masked.fit_normalisers(np.arange(20)), CPU).collate(torch.tensor([0, 12]))
    assert batch.token_ids is not None
    with FeatureStore(data / "features" / "small" / "text.h5") as store:
        for row, index in enumerate((0, 12)):
            number = masks.ids.index(masked.samples[index].id)
            kept = draw.frames["text"][store.offsets[number] : store.offsets[number + 1]]
            expected = [1000 + place if keep else 100 for place, keep in enumerate(kept.tolist())]
            assert batch.token_ids[row, : len(kept)].tolist() == expected
    fewer = read_samples("small", small_world.dataset(), data=data, draw=masks.draw("columns"))
    assert fewer.modalities["text"].token_ids is None


def test_a_mask_of_other_frames_is_refused(data: Path) -> None:
    draw = Draw(np.ones((SIZE, 3), bool), {"video": np.ones(5, bool)})
    with pytest.raises(DataError, match="but the mask has 5"):
        read_samples("small", small_world.dataset(), data=data, draw=draw)


def test_features_of_other_samples_are_refused(tmp_path: Path) -> None:
    small_world.write(tmp_path, 20)
    (tmp_path / "features").rename(tmp_path / "old")
    small_world.write(tmp_path, 25)
    (tmp_path / "old" / "small" / "audio.h5").replace(tmp_path / "features" / "small" / "audio.h5")
    with pytest.raises(StoreError, match=r"audio\.h5.*other samples than the manifest"):
        read_samples("small", small_world.dataset(), data=tmp_path)


PRESENT = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 0], [1, 1, 1]], bool)
IDS = ("a", "b", "c", "d")


def pairs(train_on: str, epoch: int = 1) -> tuple[list[int], list[list[bool]]]:
    indices, patterns = training_pairs(train_on, np.array([0, 1, 2]), PRESENT, IDS, 0, epoch)  # type: ignore[arg-type]
    return indices.tolist(), patterns.tolist()


def test_training_sets() -> None:
    assert pairs("full") == ([0, 1, 2], [[True] * 3] * 3)
    indices, patterns = pairs("missing")
    # The six conditions; of sample 1 (no video) all but {v}, of sample 2 (audio only) those with audio.
    assert [indices.count(i) for i in range(3)] == [6, 5, 3]
    assert len({tuple(p) for p in patterns[:6]}) == 6 and all(0 < sum(p) < 3 for p in patterns)
    indices, patterns = pairs("augmented")
    assert [indices.count(i) for i in range(3)] == [7, 6, 4]
    assert patterns.count([True] * 3) == 3
    # One condition alone: sample 1 has no video, sample 2 only audio.
    assert pairs("v") == ([0], [[False, False, True]])
    assert pairs("at") == ([0, 1, 2], [[True, True, False]] * 3)


def test_sampled_training_shows_each_sample_once_and_anew_every_epoch() -> None:
    train = np.arange(60)
    present, ids = np.ones((60, 3), bool), [f"s{i}" for i in range(60)]
    epochs = [training_pairs("sampled", train, present, ids, 0, epoch) for epoch in (1, 2, 1)]
    assert all(indices.tolist() == train.tolist() for indices, _ in epochs)
    assert torch.equal(epochs[0][1], epochs[2][1]) and not torch.equal(epochs[0][1], epochs[1][1])
    assert len({tuple(p) for p in epochs[0][1].tolist()}) == 6
    part = training_pairs("sampled", train[30:], present, ids, 0, 1)
    assert torch.equal(part[1], epochs[0][1][30:])


def test_seeds_differ_by_purpose_and_repeat() -> None:
    purposes = ((0, "order", 1), (0, "order", 2), (1, "order", 1), (0, "x"))
    seeds = {derive_seed(*purpose) for purpose in purposes}
    assert len(seeds) == 4 and all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, "order", 1) in seeds
