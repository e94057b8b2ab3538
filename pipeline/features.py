"""Read features from Python: by clip, as numpy arrays or as a pandas frame.

::

    from pipeline.features import open_features

    with open_features("demo", "audio") as audio:  # data/features/demo/audio.h5; or open_features("clip.h5")
        audio.ids, audio.columns, audio.info.extractor
        clip = audio["demo_001"]  # clip.values (T, D), .times in s, .flags, .status, .reason, .tokens
        table = audio.frame("demo_001")  # id, time_s, observed, (token,) and a column a feature
        table = audio.frame()  # all clips, one below the other

Importing this file is quick: h5py and pandas load with the first file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.data.manifest import MODALITIES
from pipeline.errors import DataError, ParamsError, nearest

if TYPE_CHECKING:
    from pipeline.data.store import FeatureInfo, FeatureSequence

DATA = Path("data")


def open_features(source: Path | str, modality: str | None = None, *, data: Path = DATA) -> Features:
    """Open the features of one modality.

    Args:
        source: the name of a dataset of params.yaml whose features are extracted, with a modality; or an .h5 file of
            the pipeline or of ``lacuna extract``, without one.
        modality: text, audio or video.
        data: the folder with features/.

    Raises:
        ParamsError: there is no such modality.
        StoreError: the file is not there, is damaged, or is no store of features.
    """
    if modality is None:
        path = Path(source)
        if path.suffix != ".h5":
            raise ParamsError(
                f'found "{source}" alone; expected a file that ends in .h5, or a dataset and its modality: '
                f'open_features("{source}", "audio")'
            )
        return Features(path)
    if modality not in MODALITIES:
        raise ParamsError(
            f'found the modality "{modality}"; expected one of {", ".join(MODALITIES)}.{nearest(modality, MODALITIES)}'
        )
    return Features(data / "features" / source / f"{modality}.h5")


class Features:
    """A file of features, opened for reading. Use it in a ``with`` statement, or call :meth:`close`.

    Attributes:
        path: the file.
        ids: N ids, in the manifest's order.
        info: dataset, modality, extractor, settings, columns, seconds from frame to frame, libraries.
    """

    def __init__(self, path: Path) -> None:
        """Open the file; :func:`open_features` finds it by name."""
        from pipeline.data.store import FeatureStore

        self._store = FeatureStore(path)
        self.path = path
        self.ids: tuple[str, ...] = self._store.ids
        self.info: FeatureInfo = self._store.info
        self._place = {name: index for index, name in enumerate(self.ids)}

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the D columns."""
        return self.info.columns

    def __getitem__(self, name: str) -> FeatureSequence:
        """Return the features of a clip: values (T, D) float32, times (T,) s, flags (T,), status, reason, tokens.

        Raises:
            DataError: the file has no clip of this id.
            StoreError: its values cannot be read, or are not all finite.
        """
        if name not in self._place:
            raise DataError(
                f'{self.path}: found no clip "{name}" among its {len(self.ids)}.{nearest(name, self.ids)}'
            )
        return self._store.read(self._place[name])

    def __contains__(self, name: object) -> bool:
        return name in self._place

    def __len__(self) -> int:
        return len(self.ids)

    def frame(self, *names: str) -> Any:
        """Return a pandas DataFrame: id, time_s, observed, (token,) and the features, a row for each frame.

        Args:
            names: ids of clips; none: all clips. A clip without features (``self[name].status``) has no row.

        Raises:
            DataError: the file has no clip of an id, or a feature is called like one of the other columns.
            StoreError: values cannot be read, or are not all finite.
        """
        from pipeline.data.feature_tables import frame

        return frame(((name, self[name]) for name in names or self.ids), self.info)

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def __enter__(self) -> Features:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()
