"""Every error that Lacuna raises on purpose: one root, few kinds.

A message says what was found, what was expected, where, and the way out. The command line prints it without a
traceback (``lacuna --debug`` shows that too).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LacunaError(Exception):
    """The root: whatever a user can be expected to put right."""


class ParamsError(LacunaError):
    """params.yaml says something that the schema does not allow."""


class AssetError(LacunaError):
    """A pretrained weight or source package is absent, or not the pinned one."""


class DataError(LacunaError):
    """A dataset's tree, a manifest or a label is not as it must be."""


class MediaError(LacunaError):
    """One clip cannot be decoded. Extraction turns it into a status; it stops nothing but that clip."""


class StreamMissing(MediaError):
    """The clip decodes but lacks the asked-for stream: a *missing* modality, not a failure."""


class MomentaryError(MediaError):
    """One clip cannot be read now, for a reason that lies not in it: a full disk, no memory, a program that was
    killed. It is a failure of this run alone: nothing is kept, and the next run tries again. (So it does with a
    damaged file that asks for more memory than there is: nobody can tell the two apart.)
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
