"""Features of computational sequences of the CMU Multimodal SDK; pipeline/data/csd.py reads the file.

Ids are those of whole videos (``video``, the raw files) or of segments (``video[3]``, after the SDK's
alignment).
"""

from __future__ import annotations

import numpy as np

from pipeline.data.csd import Sequences
from pipeline.data.store import FeatureSequence
from pipeline.errors import MediaError, StoreError
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.importers.base import Reader as Base
from pipeline.extraction.importers.base import Request, cut, plain_file, same_id


class Reader(Base):
    """Features of a .csd file: the segment's own if the file has it, else cut out of the video's by time."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._file = Sequences(plain_file(request.file))
        self.opened = self._file.file
        self._names = {same_id(name): name for name in self._file.ids()}
        if not self._names:
            raise StoreError(f"{request.file}: holds no id")
        width = self._file.read(next(iter(self._names.values())))[1].shape[1]
        named = self._file.columns()
        self._columns = named if len(named) == width else self.numbered(width)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names in the metadata if there are as many as columns, else numbered names."""
        return self._columns

    def read(self, clip: Clip) -> FeatureSequence | None:
        """Return the rows whose middle lies in the clip; times are the middles of the intervals."""
        whole = clip.video.stem if clip.video else ""
        name = self._names.get(clip.id) or (whole if whole in self._file else None)
        if name is None:
            return None
        intervals, values = self._file.read(name)
        if values.dtype == object:
            raise MediaError(f'{self.request.file}, id "{name}", features: found words, expected numbers')
        begin = (clip.start_s or 0.0) if same_id(name) == clip.id and len(intervals) else 0.0
        # the intervals of an aligned segment may count from the start of the video or of the segment
        from_video = begin and float(intervals[0, 0]) >= begin - 0.5
        middles = intervals.mean(axis=1) - (begin if from_video else 0.0)
        order = np.argsort(middles, kind="stable")
        made = self.sequence(
            values[order], f'{self.request.file}, features, id "{name}"', times=np.maximum(middles[order], 0)
        )
        if same_id(name) == clip.id:
            return made
        return cut(
            made,
            clip,
            f'{self.request.file}, id "{name}", for "{clip.id}"',
            sparse=self.request.modality == "text",
        )
