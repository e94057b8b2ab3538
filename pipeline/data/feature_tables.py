"""Features in the files that other programs read: csv, Parquet, npz, beside the store's own HDF5.

A csv file or a Parquet table has a row for each frame, word or word piece, and these columns::

    id        of the clip
    time_s    seconds from the clip's beginning (the middle of the frame; store.py, ``times``)
    observed  1: something was there; 0: nothing (no face, an unknown word), and the row's features are zeros
    token     the word or word piece; text only
    ...       the features, by their own names, float32

A clip without features has no row there. An npz file has the store's arrays by their names (store.py), and
``columns``: ``extractor: import`` reads it back. Numbers of a csv file are written so that they are read back as the
same float32.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.files import whole_or_nothing
from pipeline.data.store import FeatureInfo, FeatureSequence, FeatureWriter
from pipeline.errors import DataError, StoreError, nearest

FORMS = (".csv", ".parquet", ".h5", ".npz")
INDEX = ("id", "time_s", "observed", "token")  # the columns that are no features

Append = Callable[[str, FeatureSequence], None]  # adds a clip


def check_form(path: Path) -> None:
    """Refuse a file whose name does not end in one of :data:`FORMS`.

    Raises:
        DataError: it does not.
    """
    if path.suffix not in FORMS:
        raise DataError(
            f'{path}: found "{path.suffix or path.name}", expected a name that ends in one of {", ".join(FORMS)}.'
            f"{nearest(path.suffix, FORMS)}"
        )


@contextmanager
def writing(path: Path, info: FeatureInfo) -> Iterator[Append]:
    """Write features of clips, one after another; the file appears at ``path`` when the block ends without an error.

    Args:
        path: its ending says which form (:data:`FORMS`).
        info: modality and names of columns; HDF5 keeps all of it, Parquet as JSON in its metadata.

    Yields:
        A function that takes a clip's id and its features.

    Raises:
        DataError: the ending is another, or a feature has the name of one of :data:`INDEX`.
        StoreError: the disk is full, or the file cannot be written.
    """
    check_form(path)
    if path.suffix == ".h5":
        with FeatureWriter(path, info) as writer:
            yield writer.append
        return
    try:
        with whole_or_nothing(path) as beside:
            if path.suffix == ".npz":
                with _npz(beside, info) as append:
                    yield append
            else:
                with _table(beside, path, info) as append:
                    yield append
    except OSError as error:
        raise StoreError(f"{path}: writing failed: {error}. Is the disk full?") from error


def frame(clips: Iterator[tuple[str, FeatureSequence]], info: FeatureInfo) -> Any:
    """Return a pandas DataFrame with the columns of a csv file, a row for each row of the clips."""
    import pandas

    _check_names(info, "a table")
    parts = [pandas.DataFrame(_columns(name, rows, info), copy=False) for name, rows in clips]
    if not parts:
        nothing = FeatureSequence(
            np.zeros((0, len(info.columns)), np.float32), np.zeros(0, np.float32), np.zeros(0, np.uint8)
        )
        parts = [pandas.DataFrame(_columns("", nothing, info))]
    return pandas.concat(parts, ignore_index=True)


def _columns(name: str, rows: FeatureSequence, info: FeatureInfo) -> dict[str, Any]:
    length = len(rows.times)
    index: dict[str, Any] = {
        "id": np.full(length, name, dtype=object),
        "time_s": rows.times,
        "observed": rows.flags,
    }
    if info.modality == "text":
        index["token"] = np.array(rows.tokens or ("",) * length, dtype=object)
    return index | dict(zip(info.columns, np.ascontiguousarray(rows.values.T), strict=True))


def _check_names(info: FeatureInfo, what: str) -> None:
    if taken := sorted(set(INDEX) & set(info.columns)):
        raise DataError(
            f"{what}: a feature is called {taken[0]}, as a column of every table is; take .h5 or .npz"
        )


@contextmanager
def _table(beside: Path, path: Path, info: FeatureInfo) -> Iterator[Append]:
    """Write csv or Parquet, so that no more than one clip is in memory."""
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    _check_names(info, str(path))
    fields = [("id", pyarrow.string()), ("time_s", pyarrow.float32()), ("observed", pyarrow.uint8())]
    if info.modality == "text":
        fields.append(("token", pyarrow.string()))
    schema = pyarrow.schema([*fields, *((name, pyarrow.float32()) for name in info.columns)])
    if path.suffix == ".parquet":
        facts = json.dumps({**vars(info), "settings": dict(info.settings), "versions": dict(info.versions)})
        schema = schema.with_metadata({"lacuna": facts})
        opened = pyarrow.parquet.ParquetWriter(str(beside), schema)
    else:
        opened = pyarrow.csv.CSVWriter(str(beside), schema)
    with opened as writer:

        def append(name: str, rows: FeatureSequence) -> None:
            rows.check(len(info.columns), f'{path}, "{name}"')
            if len(rows.times):
                writer.write_table(
                    pyarrow.Table.from_arrays(
                        [
                            pyarrow.array(values, type=field.type)
                            for values, field in zip(_columns(name, rows, info).values(), schema, strict=True)
                        ],
                        schema=schema,
                    )
                )

        yield append


@contextmanager
def _npz(beside: Path, info: FeatureInfo) -> Iterator[Append]:
    """Write an npz file; its arrays are in memory until then."""
    clips: list[tuple[str, FeatureSequence]] = []

    def append(name: str, rows: FeatureSequence) -> None:
        rows.check(len(info.columns), f'"{name}"')
        clips.append((name, rows))

    yield append
    dims = len(info.columns)
    every = [rows for _, rows in clips] or [
        FeatureSequence(np.zeros((0, dims), np.float32), np.zeros(0, np.float32), np.zeros(0, np.uint8))
    ]
    arrays: dict[str, Any] = {
        "ids": np.array([name for name, _ in clips], dtype=np.str_),
        "offsets": np.cumsum([0, *(len(rows.times) for _, rows in clips)], dtype=np.int64),
        "values": np.concatenate([rows.values for rows in every]),
        "times": np.concatenate([rows.times for rows in every]),
        "flags": np.concatenate([rows.flags for rows in every]),
        "status": np.array([int(rows.status) for _, rows in clips], np.uint8),
        "reasons": np.array([rows.reason for _, rows in clips], dtype=np.str_),
        "columns": np.array(info.columns, dtype=np.str_),
    }
    if info.modality == "text":
        words = [rows.tokens or ("",) * len(rows.times) for rows in every]
        arrays["tokens"] = np.array([word for each in words for word in each], dtype=np.str_)
        ids = [np.full(len(rows.times), -1) if rows.token_ids is None else rows.token_ids for rows in every]
        arrays["token_ids"] = np.concatenate(ids).astype(np.int64)
    with beside.open("wb") as file:  # an open file: numpy adds ".npz" to a name that ends otherwise
        np.savez(file, allow_pickle=False, **arrays)
