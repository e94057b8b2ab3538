"""Which samples train, validate and test: the schemes of ``datasets.<name>.folds``.

``official``        the owner's own split; one fold. Samples without a split are left out.
``session``         one fold a session: fold k tests session k, validates on the next one (after the last
comes the
                    first), trains on the rest; ``count`` runs only the first so many folds.
``speaker-partner`` one fold a speaker: the speaker tests, the partner of the same session validates, the
other
                    sessions train (MMIN section 4.5: 10 folds on IEMOCAP, 12 on MSP-IMPROV).
``none``            the dataset is not for training.

Every fold is checked: no dialogue and no speaker stands in training and in validation or test. Validation and
test share their dialogues under ``speaker-partner``, which is the paper's protocol; under ``official`` the
owner decided on the speakers, so that a speaker on two sides is counted in the fold's description, not
refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.manifest import Sample
from pipeline.params import Folds

Indices = NDArray[np.int64]


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


def make_folds(samples: Sequence[Sample], folds: Folds) -> list[Fold]:
    """Split the samples.

    Args:
        samples: those that take part, in the manifest's order.
        folds: the scheme.

    Raises:
        DataError: the samples lack what the scheme needs, a part is empty, or one speaker or dialogue stands
            on two sides.
    """
    if not samples:
        raise DataError("no samples to split; are the dataset's labels those of its manifest?")
    if folds.scheme == "official":
        made = _official(samples)
    elif folds.scheme == "session":
        made = _by_session(samples)
    elif folds.scheme == "speaker-partner":
        made = _by_partner(samples)
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
            raise DataError(f"fold {fold.number} ({fold.description}): nothing to {part} on")
    sides = [("train", "valid"), ("train", "test"), ("valid", "test")]
    for field in ("dialogue", "speaker"):
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
