"""Masks: what each protocol takes away, that a draw depends on nothing else, and the file."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import chisquare

from pipeline.data.masks import (
    CONDITIONS,
    MISSING_CONDITIONS,
    Draw,
    checksum,
    draw,
    frames_kept,
    hash_words,
    random_bits,
    read_masks,
    threshold,
    uniforms,
    write_masks,
)
from pipeline.errors import ParamsError, StoreError
from pipeline.mask import main
from pipeline.params import Experiment, Mask, Params
from tests import small_world

N = 20_000
IDS = [f"sample-{index}" for index in range(N)]
WHOLE = np.ones((N, 3), np.int64)


def taken(mask: Mask, lengths: np.ndarray = WHOLE, **how: object) -> Draw:
    return draw(mask, "m", 0, 0, IDS[: len(lengths)], lengths, **how)  # type: ignore[arg-type]


def test_the_conditions_are_those_of_table_1_of_mmin_in_its_order() -> None:
    assert list(CONDITIONS) == ["a", "v", "t", "av", "at", "vt", "avt"]
    assert MISSING_CONDITIONS == ("a", "v", "t", "av", "at", "vt")
    # text, audio, video
    assert CONDITIONS["a"] == (False, True, False)
    assert CONDITIONS["vt"] == (True, False, True)
    assert CONDITIONS["avt"] == (True, True, True)
    assert len(set(CONDITIONS.values())) == 7


def test_splitmix64_gives_its_published_numbers() -> None:
    # The first outputs of SplitMix64 from state 1234567 (the generator's reference values).
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    numbers = uniforms(np.array([1234567], np.int64), np.arange(3))
    assert numbers.tolist() == [(value >> 11) * 2.0**-53 for value in expected]


def test_uniform_numbers_fill_their_range_and_streams_do_not_follow_each_other() -> None:
    streams = np.stack([uniforms(hash_words(0, "p", 0, IDS, stream), 0) for stream in range(3)])
    assert streams.min() >= 0 and streams.max() < 1
    for numbers in streams:
        assert chisquare(np.histogram(numbers, 20, (0, 1))[0]).pvalue > 1e-4
    assert np.abs(np.corrcoef(streams) - np.eye(3)).max() < 0.03


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_one_missing_takes_exactly_one_from_its_share(rate: float) -> None:
    present = taken(Mask(protocol="one-missing", rate=rate)).present
    gone = 3 - present.sum(axis=1)
    assert set(gone) <= {0, 1}
    assert gone.mean() == pytest.approx(rate, abs=0.012)
    if rate:
        which = (~present).sum(axis=0)
        assert chisquare(which).pvalue > 1e-4


def test_one_missing_follows_its_weights() -> None:
    present = taken(Mask(protocol="one-missing", rate=1.0, weights=(2, 1, 0))).present
    assert (~present).mean(axis=0) == pytest.approx([2 / 3, 1 / 3, 0], abs=0.012)


def test_one_missing_leaves_a_sample_its_last_modality() -> None:
    lengths = np.array([[5, 0, 0], [5, 5, 0]] * 200)
    present = taken(Mask(protocol="one-missing", rate=1.0), lengths).present
    assert present[::2].tolist() == [[True, False, False]] * 200
    assert (present[1::2].sum(axis=1) == 1).all()


def test_one_missing_takes_nothing_whose_weight_is_0() -> None:
    mask = Mask(protocol="one-missing", rate=1.0, weights=(1.0, 0.0, 0.0))
    lengths = np.array([[0, 5, 5], [5, 5, 5]])  # the first has only modalities that never go
    assert taken(mask, lengths).present.tolist() == [[False, True, True], [False, True, True]]


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.5, 2 / 3])
def test_random_keeps_one_and_meets_its_rate(rate: float) -> None:
    present = taken(Mask(protocol="random", rate=rate)).present
    assert present.any(axis=1).all()
    assert 1 - present.mean() == pytest.approx(rate, abs=0.006)
    assert np.ptp(present.mean(axis=0)) < 0.015  # no modality is preferred


def test_random_at_its_limit_keeps_exactly_one() -> None:
    present = taken(Mask(protocol="random", rate=2 / 3)).present
    assert (present.sum(axis=1) == 1).all()
    assert chisquare(present.sum(axis=0)).pvalue > 1e-4


def test_random_keeps_one_of_those_a_sample_has() -> None:
    lengths = np.array([[0, 4, 0], [0, 4, 4]] * 300)
    present = taken(Mask(protocol="random", rate=0.6), lengths).present
    assert (present & (lengths == 0)).sum() == 0
    assert present.any(axis=1).all()


def ragged(flat: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    return np.split(flat, np.cumsum(lengths)[:-1])


def test_block_takes_floor_of_its_share_in_one_piece() -> None:
    lengths = np.random.default_rng(0).integers(0, 60, (500, 3))
    result = taken(Mask(protocol="block", range=(0.4, 0.4)), lengths)
    for column, modality in enumerate(("text", "audio", "video")):
        for kept, length in zip(
            ragged(result.frames[modality], lengths[:, column]), lengths[:, column], strict=True
        ):
            gone = np.flatnonzero(~kept)
            assert len(gone) == int(length * 2 // 5)
            assert not len(gone) or gone[-1] - gone[0] + 1 == len(gone)


def test_block_shares_fill_their_range() -> None:
    lengths = np.full((4000, 3), 100)
    frames = taken(Mask(protocol="block", range=(0.4, 0.6)), lengths).frames["audio"].reshape(4000, 100)
    gone = (~frames).sum(axis=1)
    assert gone.min() == 40 and gone.max() == 59  # floor of a share below 0.6
    assert chisquare(np.bincount(gone)[40:60]).pvalue > 1e-4


def test_a_block_has_the_range_of_its_modality_or_else_the_common_one() -> None:
    mask = Mask(protocol="block", range=(0.2, 0.2), ranges={"audio": (0.5, 0.5), "video": (1.0, 1.0)})
    frames = taken(mask, np.full((7, 3), 10)).frames
    gone = {modality: (~kept).reshape(7, 10).sum(axis=1).tolist() for modality, kept in frames.items()}
    assert gone == {"text": [2] * 7, "audio": [5] * 7, "video": [10] * 7}
    # what audio loses by its own range, it loses by the same one in common: the random numbers are those
    common = taken(Mask(protocol="block", range=(0.5, 0.5)), np.full((7, 3), 10)).frames["audio"]
    np.testing.assert_array_equal(frames["audio"], common)


def test_block_starts_are_uniform_up_to_the_last_one() -> None:
    lengths = np.full((N, 3), 10)
    frames = taken(Mask(protocol="block", range=(0.3, 0.3)), lengths).frames["video"].reshape(N, 10)
    starts = np.bincount(np.argmin(frames, axis=1), minlength=8)
    assert len(starts) == 8 and (~frames).sum(axis=1).tolist() == [3] * N  # starts 0..7 for k = 3 of T = 10
    assert chisquare(starts).pvalue > 1e-4


def test_a_share_that_floating_point_makes_smaller_is_still_the_share() -> None:
    assert int(100 * 0.29) == 28  # the trap
    frames = taken(Mask(protocol="block", range=(0.29, 0.29)), np.full((3, 3), 100)).frames["text"]
    assert (~frames).sum() == 3 * 29


@pytest.mark.parametrize("length", [0, 1, 2, 50])
@pytest.mark.parametrize(
    ("protocol", "low", "left"),
    [("block", 0.0, 1), ("block", 1.0, 0), ("frames", 0.0, 1), ("frames", 1.0, 0)],
)
def test_shares_of_nothing_and_of_everything(protocol: str, low: float, left: int, length: int) -> None:
    given = {"range": (low, low)} if protocol == "block" else {"rate": low}
    result = taken(Mask.model_validate({"protocol": protocol, **given}), np.full((4, 3), length))
    for kept in result.frames.values():
        assert kept.tolist() == [bool(left)] * (4 * length)


def test_frames_go_one_by_one_at_their_rate() -> None:
    lengths = np.full((400, 3), 100)
    frames = taken(Mask(protocol="frames", rate=0.3), lengths).frames["audio"].reshape(400, 100)
    assert (~frames).mean() == pytest.approx(0.3, abs=0.01)
    neighbours = np.corrcoef(frames[:, :-1].ravel(), frames[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 0.02


def test_frames_with_a_range_go_at_a_rate_of_each_sample_and_modality() -> None:
    lengths = np.full((3000, 3), 200)
    result = taken(Mask(protocol="frames", range=(0.2, 0.6)), lengths)
    shares = np.stack([(~kept.reshape(3000, 200)).mean(axis=1) for kept in result.frames.values()])
    # Uniform in [0.2, 0.6], with the chance of 200 frames around it: mean 0.4,
    # variance 0.4^2 / 12 + E[r (1 - r)] / 200.
    spread = 0.4**2 / 12 + (0.4 - (0.4**2 / 12 + 0.4**2)) / 200
    assert shares.mean(axis=1) == pytest.approx([0.4] * 3, abs=0.01)
    assert shares.var(axis=1) == pytest.approx([spread] * 3, rel=0.06)
    assert np.abs(np.corrcoef(shares) - np.eye(3)).max() < 0.06  # each modality has a rate of its own
    alike = taken(Mask(protocol="frames", range=(0.3, 0.3)), lengths[:9])
    assert checksum(alike.arrays()) == checksum(
        taken(Mask(protocol="frames", rate=0.3), lengths[:9]).arrays()
    )


def test_a_random_condition_is_one_of_the_six_each_as_likely() -> None:
    present = taken(Mask(protocol="random-condition")).present
    counts = {name: int((present == CONDITIONS[name]).all(axis=1).sum()) for name in CONDITIONS}
    assert counts.pop("avt") == 0 and sum(counts.values()) == N
    assert chisquare(list(counts.values())).pvalue > 1e-4
    two = taken(Mask(protocol="random-condition", conditions=("v", "at"))).present
    assert {tuple(row) for row in two.tolist()} == {CONDITIONS["v"], CONDITIONS["at"]}
    assert (two == CONDITIONS["v"]).all(axis=1).mean() == pytest.approx(0.5, abs=0.012)


def test_a_sample_with_nothing_of_its_condition_keeps_all_it_has() -> None:
    lengths = np.array([[0, 4, 4], [5, 0, 5]] * 100)  # no text; no audio
    present = taken(Mask(protocol="random-condition", conditions=("t", "a")), lengths).present
    # Of the first kind, {t} leaves nothing, so that audio and video stay; {a} leaves audio.
    assert {tuple(row) for row in present[::2].tolist()} == {(False, True, True), (False, True, False)}
    assert {tuple(row) for row in present[1::2].tolist()} == {(True, False, False), (True, False, True)}


def test_a_mixture_puts_each_sample_under_one_of_its_protocols() -> None:
    lengths = np.full((6000, 3), 5)
    mask = Mask.model_validate(
        {
            "protocol": "mixture",
            "of": [
                {"protocol": "block", "range": [1, 1]},
                {"protocol": "frames", "rate": 0},
                {"protocol": "one-missing", "rate": 1},
            ],
        }
    )
    result = taken(mask, lengths)
    frames = np.stack([result.frames[m].reshape(6000, 5) for m in ("text", "audio", "video")], axis=1)
    emptied = ~frames.any(axis=(1, 2))  # the block took everything, of every modality
    lost = ~result.present.all(axis=1)
    assert not (emptied & lost).any() and frames[~emptied].all()
    assert ((~result.present[lost]).sum(axis=1) == 1).all()
    counts = [int(emptied.sum()), int((~emptied & ~lost).sum()), int(lost.sum())]
    assert sum(counts) == 6000 and chisquare(counts).pvalue > 1e-4
    assert set(result.arrays()) == {"text", "audio", "video", "present"}


def test_a_family_is_named_by_its_rates_in_per_cent() -> None:
    family = Mask(protocol="one-missing", rates=(0, 0.1, 0.125, 2 / 3, 1))
    members = family.members("one")
    assert list(members) == ["one-0", "one-10", "one-12_5", "one-66_67", "one-100"]
    assert [mask.rate for mask in members.values()] == [0, 0.1, 0.125, 2 / 3, 1]
    assert {(mask.family, mask.rates) for mask in members.values()} == {("one", ())}
    single = Mask(protocol="one-missing", rate=0.1)
    assert single.members("one") == {"one": single}
    params = Params(
        datasets={"small": small_world.dataset()},
        masks={"one": family, "conditions": Mask(protocol="conditions")},
    )
    assert list(params.all_masks) == [*members, "conditions"]
    chosen = Experiment(dataset="small", model="linear", evaluate_on=["conditions", "one", "one-10"])
    assert params.evaluation_masks(chosen) == ("conditions", *members)
    with pytest.raises(ValidationError, match="makes a mask one-10, and so does"):
        Params(datasets={}, masks={"one": family, "one-10": single})


@pytest.mark.parametrize("protocol", ["one-missing", "frames"])
def test_what_a_lower_rate_of_a_family_takes_the_higher_takes_too(protocol: str) -> None:
    members = Mask(protocol=protocol, rates=(0.2, 0.5, 0.8)).members("m")  # type: ignore[arg-type]
    lengths = np.full((400, 3), 10)
    drawn = [draw(mask, name, 0, 0, IDS[:400], lengths).arrays() for name, mask in members.items()]
    for lower, higher in pairwise(drawn):
        for part in lower:
            assert not (higher[part] & ~lower[part]).any()
            assert (lower[part] & ~higher[part]).any()
    other = draw(members["m-50"].model_copy(update={"family": None}), "m-50", 0, 0, IDS[:400], lengths)
    assert checksum(other.arrays()) != checksum(drawn[1]), (
        "without the family it has random numbers of its own"
    )


def test_numpy_and_torch_work_out_the_same() -> None:
    starts = hash_words(3, "p", 1, IDS[:500], 2)
    assert np.array_equal(
        random_bits(torch.from_numpy(starts)[:, None], torch.arange(7)).numpy(),
        random_bits(starts[:, None], np.arange(7)),
    )
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 60, 500)
    share, place = rng.random(500), rng.random(500)
    share[:20], share[20:40], place[:10] = 0.0, 1.0, 0.0
    limits = threshold(rng.random(500))
    limits[40:50] = threshold(np.zeros(10))
    position = np.arange(60)[None]
    cases = [((share, place), None), (None, (starts, limits)), ((share, place), (starts, limits))]
    for block, drop in cases:
        columns = [None if pair is None else (pair[0][:, None], pair[1][:, None]) for pair in (block, drop)]
        found = frames_kept(*columns, lengths[:, None], position)
        placed = [
            None if pair is None else (torch.from_numpy(pair[0]), torch.from_numpy(pair[1]))
            for pair in columns
        ]
        again = frames_kept(*placed, torch.from_numpy(lengths)[:, None], torch.from_numpy(position))
        assert np.array_equal(again.numpy(), found) and found.any() and not found.all()


@pytest.mark.parametrize("rate", [0.0, 2.0**-53, 0.1, 0.3, 0.999999, 1.0])
def test_a_threshold_lets_go_what_is_below_the_rate(rate: float) -> None:
    (limit,) = threshold([rate])
    assert limit == math.ceil(Fraction(rate) * 2**53)
    assert (limit - 1) * 2.0**-53 < rate <= limit * 2.0**-53


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"protocol": "frames"}, "needs a rate, or rates"),
        ({"protocol": "frames", "rate": 0.1, "rates": [0.2]}, "needs a rate, or rates"),
        (
            {"protocol": "frames", "rate": 0.1, "range": [0, 1]},
            "rate means nothing to the protocol frames with a range",
        ),
        ({"protocol": "block", "range": [0, 1], "rates": [0.1]}, "rate means nothing to the protocol block"),
        ({"protocol": "block"}, "range is needed by the protocol block"),
        ({"protocol": "random", "rates": [0.1, 0.7]}, "found rate 0.7"),
        ({"protocol": "random", "rates": [0.1, 0.1]}, "expected different ones"),
        ({"protocol": "random", "rate": 0.1, "conditions": ["a"]}, "conditions means nothing"),
        ({"protocol": "mixture", "of": [{"protocol": "frames", "rate": 0}]}, "two protocols or more"),
        ({"protocol": "mixture", "of": [{"protocol": "conditions"}] * 2}, "of: found conditions"),
        ({"protocol": "conditions", "draw": "sampled"}, "nothing to draw"),
    ],
)  # fmt: skip
def test_masks_that_say_nothing_sensible(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Mask.model_validate(given)


def test_block_over_columns() -> None:
    result = taken(
        Mask(protocol="block", range=(0.5, 0.5), axis="feature"), np.full((50, 3), 9), dims=(8, 3, 1)
    )
    assert {name: kept.shape for name, kept in result.columns.items()} == {
        "text": (50, 8),
        "audio": (50, 3),
        "video": (50, 1),
    }
    assert (~result.columns["text"]).sum(axis=1).tolist() == [4] * 50
    assert (~result.columns["audio"]).sum(axis=1).tolist() == [1] * 50
    assert result.columns["video"].all()
    assert not result.frames


ANY = [name for name in small_world.MASKS if name != "conditions"]
MEMBERS = [name for name in small_world.ALL_MASKS if name not in small_world.MASKS]


@pytest.mark.parametrize("name", ANY + MEMBERS)
def test_a_draw_does_not_depend_on_who_else_is_drawn_nor_in_which_order(name: str) -> None:
    mask, dims = small_world.ALL_MASKS[name], (8, 5, 3)
    lengths = np.random.default_rng(1).integers(0, 12, (40, 3))
    ids = IDS[:40]
    together = draw(mask, name, 3, 2, ids, lengths, dims)
    order = np.random.default_rng(2).permutation(40)[:25]
    apart = draw(mask, name, 3, 2, [ids[i] for i in order], lengths[order], dims)
    assert np.array_equal(apart.present, together.present[order])
    for modality in together.columns:
        assert np.array_equal(apart.columns[modality], together.columns[modality][order])
    for column, modality in enumerate(together.frames):
        whole = ragged(together.frames[modality], lengths[:, column])
        mine = ragged(apart.frames[modality], lengths[order, column])
        for position, index in enumerate(order):
            assert np.array_equal(mine[position], whole[index])


@pytest.mark.parametrize("name", ANY)
def test_seed_name_and_epoch_each_change_the_draw(name: str) -> None:
    mask, ids, lengths = small_world.MASKS[name], IDS[:50], np.full((50, 3), 20)

    def once(seed: int, purpose: str, epoch: int) -> str:
        return checksum(draw(mask, purpose, seed, epoch, ids, lengths, (20, 20, 20)).arrays())

    sums = {once(0, "a", 0), once(1, "a", 0), once(0, "b", 0), once(0, "a", 1)}
    assert len(sums) == 4
    assert once(0, "a", 0) in sums


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"protocol": "one-missing", "rate": 0.5}, {"present": "011111101111111101111101"}),
        ({"protocol": "random", "rate": 0.5}, {"present": "010010110001001111011001"}),
        ({"protocol": "random-condition"}, {"present": "100011010110101010110010"}),
        (
            {"protocol": "frames", "rate": 0.5},
            {"audio": "000000100", "text": "000111", "video": "001001010000"},
        ),
        (
            {"protocol": "frames", "range": (0.1, 0.9)},
            {"audio": "000111100", "text": "001100", "video": "000011110011"},
        ),
        (
            {"protocol": "block", "range": (0.2, 0.8)},
            {"audio": "111011001", "text": "111110", "video": "101111011111"},
        ),
        (
            {"protocol": "block", "range": (0.2, 0.8), "axis": "feature"},
            {"audio": "101111011100011", "text": "011111101100", "video": "110111110011011111"},
        ),
        (
            {
                "protocol": "mixture",
                "of": [{"protocol": "random", "rate": 0.5}, {"protocol": "frames", "rate": 0.5}],
            },
            {
                "audio": "111001111000000111100111",
                "present": "010111100111111011111100",
                "text": "1111111010110111",
                "video": "11111111111110111000111100101111",
            },
        ),
    ],
)
def test_a_seed_is_one_draw_for_ever(given: dict[str, object], expected: dict[str, str]) -> None:
    """Not worked by hand: what this version draws, so that a later one takes the same away by the same params.yaml."""
    count = 3 if "frames" in given.values() or "block" in given.values() else 8
    ids, lengths = [f"sample-{index}" for index in range(count)], np.full((count, 3), [2, 3, 4])
    found = draw(Mask.model_validate(given), "m", 1, 2, ids, lengths, (4, 5, 6))
    bits = {name: "".join(map(str, kept.astype(int).ravel())) for name, kept in found.arrays().items()}
    assert bits == expected


def test_conditions_have_nothing_to_draw() -> None:
    with pytest.raises(ParamsError, match="nothing to draw"):
        taken(Mask(protocol="conditions"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    small_world.write(tmp_path, 30, missing=[("video", 3), ("audio", 3), ("text", 8)])
    return tmp_path


def test_the_file_gives_back_what_was_drawn(data: Path) -> None:
    masks = read_masks(data / "masks" / "small.h5", [f"s{index:03d}" for index in range(30)])
    assert masks.dataset == "small" and masks.seed == 0
    assert dict(masks.settings) == small_world.ALL_MASKS
    assert masks.lengths[3].tolist()[1:] == [0, 0]
    for name in ANY + MEMBERS:
        kept, mask = masks.draw(name), masks.mask(name)
        again = draw(mask, name, 0, 0, masks.ids, masks.lengths, tuple(small_world.DIMS.values()))
        assert checksum(kept.arrays()) == checksum(again.arrays()) == masks.checksums[name]
        assert not kept.present[3, 1:].any() and not kept.present[8, 0]
    with h5py.File(
        data / "masks" / "small.h5"
    ) as file:  # a fixed draw is kept, of a sampled one the checksum
        assert set(file["block"]) == {"text", "audio", "video"} and set(file["sampled"]) == set()
        assert set(file["mixed"]) == {"text", "audio", "video", "present"}


def test_equal_draws_are_equal_bytes(data: Path, tmp_path: Path) -> None:
    first = (data / "masks" / "small.h5").read_bytes()
    small_world.write(tmp_path / "again", 30, missing=[("video", 3), ("audio", 3), ("text", 8)])
    assert (tmp_path / "again" / "masks" / "small.h5").read_bytes() == first


def test_the_stage_writes_the_same(data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = (data / "masks" / "small.h5").read_bytes()
    (tmp_path / "data").symlink_to(data)
    monkeypatch.chdir(tmp_path)
    main(
        Params(
            datasets={"small": small_world.dataset()}, masks={**small_world.MASKS, **small_world.FAMILIES}
        ),
        "small",
    )
    assert (data / "masks" / "small.h5").read_bytes() == first


def test_masks_of_other_samples_are_refused(data: Path) -> None:
    with pytest.raises(StoreError, match=r"not in the manifest: \['s029'\].*without a mask: \['x'\]"):
        read_masks(data / "masks" / "small.h5", [*(f"s{index:03d}" for index in range(29)), "x"])


def test_an_unknown_mask_is_named_with_its_neighbour(data: Path) -> None:
    masks = read_masks(data / "masks" / "small.h5")
    with pytest.raises(StoreError, match=r'no mask "blok".*Did you mean "block"'):
        masks.draw("blok")


def test_a_changed_mask_is_refused(data: Path) -> None:
    path = data / "masks" / "small.h5"
    with h5py.File(path, "r+") as file:
        file["block/audio"][5] = not file["block/audio"][5]
    with pytest.raises(StoreError, match='mask "block": its draw has the checksum'):
        read_masks(path)


def test_changed_settings_of_a_sampled_mask_are_refused(data: Path) -> None:
    path = data / "masks" / "small.h5"
    with h5py.File(path, "r+") as file:
        text = file["sampled"].attrs["settings"]
        file["sampled"].attrs["settings"] = text.replace("0.4", "0.3")
    with pytest.raises(StoreError, match='mask "sampled"'):
        read_masks(path)


@pytest.mark.parametrize("gone", ["ids", "lengths", "random/present", "conditions/present"])
def test_a_file_that_lacks_a_part_is_refused(data: Path, gone: str) -> None:
    path = data / "masks" / "small.h5"
    with h5py.File(path, "r+") as file:
        del file[gone]
    with pytest.raises(StoreError, match="damaged"):
        read_masks(path)


def test_a_file_cut_short_is_refused(data: Path) -> None:
    path = data / "masks" / "small.h5"
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(StoreError, match=r"not a whole HDF5 file|damaged"):
        read_masks(path)


def test_no_samples_make_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.h5"
    write_masks(path, "none", small_world.MASKS, 0, [], np.zeros((0, 3), np.int64), (4, 3, 2), "0" * 64)
    assert read_masks(path, []).draw("block").frames["text"].shape == (0,)
