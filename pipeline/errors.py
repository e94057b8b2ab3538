"""Every error that Lacuna raises on purpose: one root, few kinds.

A message says what was found, what was expected, where, and the way out. The command line prints it without a
traceback (``lacuna --debug`` shows that too).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LacunaError(Exception):
    """The root of all errors that Lacuna raises on purpose: what a user can be expected to put right."""


class ParamsError(LacunaError):
    """params.yaml says something that the schema does not allow."""


class AssetError(LacunaError):
    """A pretrained weight or source package is absent, or not the pinned one."""


class DataError(LacunaError):
    """A dataset's tree, a manifest or a label does not have the expected form."""


class MediaError(LacunaError):
    """One clip cannot be decoded. Extraction gives it the status *failed* and goes on with the other clips."""


class StreamMissing(MediaError):
    """The clip has no such stream, sound or picture. Its status is *missing*, which is no failure."""


class MomentaryError(MediaError):
    """One clip cannot be read at the moment, and the clip itself may be sound: the disk is full, memory ran out, a
    program was killed. The clip has failed in this run only: the failure is not kept, and the next run tries
    again. (A damaged file that asks for more memory than the machine has ends in the same way: the two cases
    cannot be told apart.)
    """


class StoreError(LacunaError):
    """An HDF5 file of features or masks is damaged, or does not belong to what it is used with."""


class TrainingError(LacunaError):
    """A network cannot be trained on, or with, what it was given."""


class SystemLibraryError(LacunaError):
    """A library of the operating system is not installed; the message names its package."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return ``' Did you mean "x"?'`` for the allowed name closest to ``name``, or an empty string."""
    names = list(allowed)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5) or [
        n for n in names if n.startswith(name)
    ]
    return f' Did you mean "{close[0]}"?' if close else ""
