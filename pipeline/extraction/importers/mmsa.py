"""MMSA's pickle: {train, valid, test} -> raw_text, text (N, L, D), text_bert (N, 3, L), audio, vision, id,
lengths, labels.

Sequences are padded with zeros. Their lengths are in audio_lengths and vision_lengths (aligned files have none:
there zero rows at the end are taken for padding), and for text in the mask of text_bert. The token ids of
text_bert begin with [CLS] and end with [SEP], which are not words: they are left out, and so are their rows where
the text features have as many rows as text_bert. (The other modalities of an aligned file keep the rows at these
positions.) Where the rows of text are something else, such as words, there are no token ids. Times, flags,
tokens and statuses are read from the field ``lacuna``, if pipeline/commands/export.py wrote one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.store import FeatureSequence, Status
from pipeline.errors import MediaError, StoreError
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.importers.base import Reader as Base
from pipeline.extraction.importers.base import Request, same_id
from pipeline.extraction.importers.plain_pickle import load

FIELDS = {"text": "text", "audio": "audio", "video": "vision"}
LENGTHS = {"audio": "audio_lengths", "video": "vision_lengths"}
CLS, SEP = 101, 102  # of BERT's vocabularies; models/parts.py puts them back


class Reader(Base):
    """An MMSA pickle. Every worker holds the whole file in memory: the format cannot be read in parts."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._field = request.field or FIELDS[request.modality]
        content = load(request.file)
        if not isinstance(content, dict) or not set(content) & {"train", "valid", "test"}:
            raise StoreError(f"{request.file}: expected a dict with train, valid and test (MMSA's layout)")
        self._parts: dict[str, dict[str, Any]] = {}
        self._place: dict[str, tuple[str, int]] = {}
        for part in ("train", "valid", "test"):
            if part in content:
                self._add(part, content[part])
        sizes = {array.shape[2] for array in (p[self._field] for p in self._parts.values())}
        if len(sizes) != 1:
            raise StoreError(f"{request.file}, {self._field}: its parts have {sorted(sizes)} columns")
        self._columns = self._names(sizes.pop())

    def _add(self, part: str, fields: Any) -> None:
        where = f"{self.request.file}, {part}"
        if not isinstance(fields, dict) or "id" not in fields or self._field not in fields:
            found = sorted(fields) if isinstance(fields, dict) else type(fields).__name__
            raise StoreError(f"{where}: found {found}, expected the fields id and {self._field}")
        ids, values = [str(name) for name in fields["id"]], fields[self._field]
        if not isinstance(values, np.ndarray) or values.ndim != 3 or len(values) != len(ids):
            shape = getattr(values, "shape", type(values).__name__)
            raise StoreError(f"{where}, {self._field}: found {shape}, expected ({len(ids)}, T, D)")
        self._parts[part] = fields
        for index, name in enumerate(ids):
            if self._place.setdefault(same_id(name), (part, index)) != (part, index):
                raise StoreError(f'{where}, id: "{name}" occurs twice')

    def _names(self, dims: int) -> tuple[str, ...]:
        for fields in self._parts.values():
            own = fields.get("lacuna", {})
            names = own.get("columns", {}).get(self.request.modality) if isinstance(own, dict) else None
            if isinstance(names, list) and len(names) == dims:
                return tuple(map(str, names))
        return self.numbered(dims)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names that Lacuna's export wrote, else numbered names."""
        return self._columns

    def read(self, clip: Clip) -> FeatureSequence | None:
        """Return the sample's rows without their padding."""
        if clip.id not in self._place:
            return None
        part, index = self._place[clip.id]
        fields = self._parts[part]
        where = f'{self.request.file}, {part}, {self._field}, id "{clip.id}"'
        own = fields.get("lacuna")
        own = own.get(self.request.modality) if isinstance(own, dict) else None
        values = fields[self._field][index]
        if isinstance(own, dict):
            return self._exported(own, values, index, where)
        rows, ids = self._rows(fields, values, index, where)
        if not len(rows):
            return FeatureSequence.absent(
                len(self._columns),
                Status.MISSING,
                "no words in the imported file" if ids is not None else "all zeros in the imported file",
            )
        return self.sequence(rows, where, token_ids=ids)

    def _rows(
        self, fields: dict[str, Any], values: NDArray[Any], index: int, where: str
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Return the rows of (L, D) values without the padding, and their token ids if these are known."""
        if self.request.modality != "text" or "text_bert" not in fields:
            return values[: self._length(fields, values, index, where)], None
        bert = np.asarray(fields["text_bert"])
        if bert.ndim == 3 and bert.shape[1] == 3 and len(bert) > index:
            ids = bert[index, 0, : int((bert[index, 1] != 0).sum())]
            first = int(len(ids) > 0 and ids[0] == CLS)
            last = len(ids) - int(len(ids) > first and ids[-1] == SEP)
            if bert.shape[2] == len(values):
                return values[first:last], ids[first:last]
            if bert.shape[2] == len(values) + 2:  # rows of the words alone
                return values[: last - first], ids[first:last]
        return values[: self._length(fields, values, index, where)], None

    def _length(self, fields: dict[str, Any], values: NDArray[Any], index: int, where: str) -> int:
        filled = np.flatnonzero((values != 0).any(axis=1))
        seen = int(filled[-1]) + 1 if len(filled) else 0
        lengths = fields.get(LENGTHS.get(self.request.modality, ""))
        if lengths is None:
            return seen
        length = int(np.asarray(lengths[index]).ravel()[0])
        if not 0 <= length <= len(values):
            raise MediaError(f"{where}: the length {length} is not in 0..{len(values)}")
        return length if seen else 0

    def _exported(self, own: dict[str, Any], values: NDArray[Any], index: int, where: str) -> FeatureSequence:
        try:
            length, status = int(own["lengths"][index]), Status(int(own["status"][index]))
            reason = str(own["reasons"][index])
            tokens = own["tokens"][index] if "tokens" in own else ()
            ids = own["token_ids"][index][:length] if "token_ids" in own else None
            times, flags = own["times"][index][:length], own["flags"][index][:length]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise MediaError(f"{where}: the part that Lacuna wrote is damaged ({error})") from error
        made = self.sequence(values[:length], where, times=times, flags=flags, tokens=tokens, token_ids=ids)
        return FeatureSequence(
            made.values, made.times, made.flags, status, reason, made.tokens, made.token_ids
        )
