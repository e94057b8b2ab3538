"""Which samples train, validate and test: the schemes of ``datasets.<name>.folds``.

* ``official``: the owner's own split; one fold. Samples without a split are left out.
* ``session``: one fold a session: fold k tests session k, validates on the next one (after the last comes
  the first), trains on the rest; ``count`` runs only the first so many folds.
* ``speaker``: ``count`` folds (5) of whole speakers, dealt in the order of their names: fold k tests the k-th part,
  validates on the next (RAVDESS, CREMA-D and other corpora without an official split).
* ``speaker-partner``: one fold a speaker: the speaker tests, the partner of the same session validates, the
  other sessions train (MMIN section 4.5: 10 folds on IEMOCAP, 12 on MSP-IMPROV). With ``count: 1`` it is
  M3S's split of IEMOCAP: 4446 samples train, 557 validate and 528 test, each of these six times.
* ``random``: samples drawn by chance, as EMMR does it on MOSI: neighbours of one video stand on both sides,
  so that its numbers are too good; each fold's description says how many videos do. ``count`` folds (1),
  ``shares``, ``seed``.
* ``video-disjoint``: the same, but whole dialogues (videos) are drawn: what ``random`` should have been.
* ``none``: the dataset is not for training.

Not built: the split of IEMOCAP into 2717, 798 and 938 turns (UMDF, four tasks of one class against the rest).
Its counts alone do not say which turns; who has the list gives it as a ``folder`` with a split column.

Every fold is checked: no dialogue and no speaker stands in training and in validation or test. Validation and
test share their dialogues under ``speaker-partner``, which is the paper's protocol; under ``official`` the
owner decided on the speakers, and the two schemes by chance do not look at them, so that there a speaker on
two sides is counted in the fold's description, not refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.manifest import Sample
from pipeline.errors import DataError
from pipeline.params import Folds

Indices = NDArray[np.int64]
SPEAKER_FOLDS = 5


@dataclass(frozen=True)
class Fold:
    """One split of the samples.

    Attributes:
        number: from 1.
        description: who tests, validates and trains, in words.
        train, valid, test: (n,) int64 indices into the samples, rising.
    """

    number: int
    description: str
    train: Indices
    valid: Indices
    test: Indices


def make_folds(
    samples: Sequence[Sample], folds: Folds, labelled: NDArray[np.bool_] | None = None
) -> list[Fold]:
    """Split the samples.

    Args:
        samples: those that take part, in the manifest's order.
        folds: the scheme.
        labelled: (N,) bool, the samples that are split; others are context, and in no part. None: all.

    Raises:
        DataError: the samples lack what the scheme needs, a part is empty, or one speaker or dialogue stands
            on two sides.
    """
    if labelled is not None and not labelled.all():
        where = np.flatnonzero(labelled)
        made = make_folds([samples[int(i)] for i in where], folds)
        return [
            Fold(fold.number, fold.description, where[fold.train], where[fold.valid], where[fold.test])
            for fold in made
        ]
    if not samples:
        raise DataError("no samples to split; are the dataset's labels those of its manifest?")
    if folds.scheme == "official":
        made = _official(samples)
    elif folds.scheme == "session":
        made = _by_session(samples)
    elif folds.scheme == "speaker":
        made = _by_speaker(samples, folds.count or SPEAKER_FOLDS)
    elif folds.scheme == "speaker-partner":
        made = _by_partner(samples)
    elif folds.scheme == "random":
        made = [_random(samples, folds, number) for number in range(1, (folds.count or 1) + 1)]
    elif folds.scheme == "video-disjoint":
        made = [_disjoint(samples, folds, number) for number in range(1, (folds.count or 1) + 1)]
    else:
        raise DataError('folds.scheme is "none": this dataset is not split, so no experiment can train on it')
    if folds.count is not None and folds.count > len(made):
        raise DataError(
            f"folds.count is {folds.count}, but the scheme {folds.scheme} gives {len(made)} folds here"
        )
    made = made[: folds.count]
    for fold in made:
        check_fold(samples, fold, folds.scheme)
    return made


def check_fold(samples: Sequence[Sample], fold: Fold, scheme: str) -> None:
    """Check that nothing of the test side is trained on.

    Raises:
        DataError: a part is empty, or a speaker or dialogue stands on two sides; the message names it.
    """
    parts = {"train": fold.train, "valid": fold.valid, "test": fold.test}
    for part, indices in parts.items():
        if not len(indices):
            verb = "validate" if part == "valid" else part
            unsplit = sum(not sample.split for sample in samples)
            raise DataError(
                f"fold {fold.number} ({fold.description}): no sample to {verb} on"
                + (
                    f"; {unsplit} of {len(samples)} samples have no split. Give the loader the owner's (options: "
                    "split_file, where it has one), or take another scheme"
                    if scheme == "official" and unsplit
                    else ""
                )
            )
    sides = [("train", "valid"), ("train", "test"), ("valid", "test")]
    for field in ("dialogue", "speaker"):
        if scheme == "random" or (scheme == "video-disjoint" and field == "speaker"):
            continue  # counted in the fold's description
        for one, other in sides:
            if field == "dialogue" and scheme == "speaker-partner" and one == "valid":
                continue  # the partner of the same dialogues validates
            if field == "speaker" and scheme == "official":
                continue
            both = _names(samples, parts[one], field) & _names(samples, parts[other], field)
            if both:
                raise DataError(
                    f'fold {fold.number} ({fold.description}): the {field} "{min(both)}" stands in {one} and '
                    f"in {other} ({len(both)} such). Correct the manifest, or take another scheme"
                )


def _names(samples: Sequence[Sample], indices: Indices, field: str) -> set[str]:
    return {str(getattr(samples[i], field)) for i in indices} - {""}


def _where(values: Sequence[str], wanted: set[str]) -> Indices:
    return np.flatnonzero([value in wanted for value in values])


def _need(samples: Sequence[Sample], field: str, scheme: str) -> list[str]:
    values = [str(getattr(sample, field)) for sample in samples]
    for sample, value in zip(samples, values, strict=True):
        if not value:
            raise DataError(
                f'folds.scheme {scheme} needs the column {field}; the sample "{sample.id}" has none'
            )
    return values


def _official(samples: Sequence[Sample]) -> list[Fold]:
    splits = [sample.split for sample in samples]
    train, valid, test = (_where(splits, {part}) for part in ("train", "valid", "test"))
    shared = _names(samples, train, "speaker") & _names(samples, test, "speaker")
    words = "the owner's split" + (f"; {len(shared)} speakers both train and test" if shared else "")
    return [Fold(1, words, train, valid, test)]


def _by_session(samples: Sequence[Sample]) -> list[Fold]:
    values = _need(samples, "session", "session")
    sessions = sorted(set(values))
    if len(sessions) < 3:
        raise DataError(f"folds.scheme session needs at least 3 sessions, found {len(sessions)}: {sessions}")
    made = []
    for index, tested in enumerate(sessions):
        held = sessions[(index + 1) % len(sessions)]
        others = [name for name in sessions if name not in (tested, held)]
        words = f"test {tested}; validate {held}; train {', '.join(others)}"
        parts = (_where(values, set(others)), _where(values, {held}), _where(values, {tested}))
        made.append(Fold(index + 1, words, *parts))
    return made


def _by_speaker(samples: Sequence[Sample], count: int) -> list[Fold]:
    values = _need(samples, "speaker", "speaker")
    speakers = sorted(set(values))
    if count < 3 or len(speakers) < count:
        raise DataError(
            f"folds.scheme speaker needs a count of at least 3 and as many speakers; "
            f"found count {count} and {len(speakers)} speakers"
        )
    dealt = [set(speakers[part::count]) for part in range(count)]
    made = []
    for index, tested in enumerate(dealt):
        held = dealt[(index + 1) % count]
        words = (
            f"test {', '.join(sorted(tested))}; validate {', '.join(sorted(held))}; train the other speakers"
        )
        parts = (_where(values, set(speakers) - tested - held), _where(values, held), _where(values, tested))
        made.append(Fold(index + 1, words, *parts))
    return made


def _by_partner(samples: Sequence[Sample]) -> list[Fold]:
    sessions, speakers = (
        _need(samples, "session", "speaker-partner"),
        _need(samples, "speaker", "speaker-partner"),
    )
    made: list[Fold] = []
    for session in sorted(set(sessions)):
        pair = sorted({name for name, where in zip(speakers, sessions, strict=True) if where == session})
        if len(pair) != 2:
            raise DataError(f"folds.scheme speaker-partner needs 2 speakers a session; {session} has {pair}")
        train = np.flatnonzero([name != session for name in sessions])
        for tested, partner in (pair, pair[::-1]):
            words = f"test {tested}; validate {partner}; train all sessions but {session}"
            made.append(
                Fold(len(made) + 1, words, train, _where(speakers, {partner}), _where(speakers, {tested}))
            )
    return made


def _random(samples: Sequence[Sample], folds: Folds, number: int) -> Fold:
    """Draw samples; EMMR splits MOSI so (its reference code without a seed)."""
    drawn = sorted(range(len(samples)), key=lambda i: _lot(folds.seed, number, samples[i].id))
    valid, test = (round(share * len(samples)) for share in folds.shares[1:])
    train = len(samples) - valid - test
    words = f"samples drawn by chance, seed {folds.seed}"
    return _described(
        samples, number, words, drawn[:train], drawn[train : train + valid], drawn[train + valid :]
    )


def _disjoint(samples: Sequence[Sample], folds: Folds, number: int) -> Fold:
    """Draw dialogues; each goes where most samples are lacking yet."""
    dialogues = _need(samples, "dialogue", "video-disjoint")
    members: dict[str, list[int]] = {}
    for index, name in enumerate(dialogues):
        members.setdefault(name, []).append(index)
    parts: tuple[list[int], ...] = ([], [], [])
    for name in sorted(members, key=lambda name: _lot(folds.seed, number, name)):
        lacking = [share * len(samples) - len(part) for share, part in zip(folds.shares, parts, strict=True)]
        parts[int(np.argmax(lacking))].extend(members[name])
    return _described(samples, number, f"whole videos drawn by chance, seed {folds.seed}", *parts)


def _lot(seed: int, number: int, name: str) -> bytes:
    """Return what decides the order: it depends on nothing but seed, fold and name, so other samples
    change nothing.
    """
    return hashlib.sha256(f"folds/{seed}/{number}/{name}".encode()).digest()


def _described(
    samples: Sequence[Sample], number: int, words: str, train: list[int], valid: list[int], test: list[int]
) -> Fold:
    """Make the fold, and say in its description what stands on both sides."""
    for field, plural in (("dialogue", "videos"), ("speaker", "speakers")):
        tested = _names(samples, np.array(test, np.int64), field)
        if both := tested & _names(samples, np.array(train, np.int64), field):
            kind = "LEAK: " if field == "dialogue" else ""
            words += f"; {kind}{len(both)} of {len(tested)} test {plural} train too"
    return Fold(number, words, *(np.array(sorted(part), np.int64) for part in (train, valid, test)))
