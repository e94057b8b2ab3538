"""MMIN's HDF5: one file for each modality, in it one array (T, D) for each utterance id (in the aligned edition a
group with an array ``feat``).
"""

from __future__ import annotations

from pipeline.data.store import FeatureSequence, ForeignArrays
from pipeline.errors import StoreError
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.importers.base import Reader as Base
from pipeline.extraction.importers.base import Request, plain_file


class Reader(Base):
    """One such file, read id by id."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._file = self.opened = ForeignArrays(plain_file(request.file))
        names = self._file.names()
        if not names:
            raise StoreError(f"{request.file}: holds no utterance")
        first = self._file.read(self._place(names[0]))
        if first.ndim not in (1, 2):
            raise StoreError(f'{request.file}, id "{names[0]}": found {first.shape}, expected (T, D)')
        self._columns = self.numbered(first.shape[-1])

    def _place(self, name: str) -> str:
        return f"{name}/{self.request.field or 'feat'}" if self._file.is_group(name) else name

    @property
    def columns(self) -> tuple[str, ...]:
        """Numbered names: the format has none."""
        return self._columns

    def read(self, clip: Clip) -> FeatureSequence | None:
        """Return the utterance's rows."""
        if "/" in clip.id or clip.id not in self._file:
            return None
        return self.sequence(self._file.read(self._place(clip.id)), f'{self.request.file}, id "{clip.id}"')
