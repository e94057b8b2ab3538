"""Look at features beside what they were made from: what ``lacuna features show --picture`` draws, and the sample of
``lacuna dataset check --sample``.

pipeline/clip_picture.py draws, pipeline/data/column_statistics.py counts; this file brings together store,
manifest, media and extractor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.clip_picture import Look, Shot
from pipeline.data.column_statistics import (
    ColumnStatistics,
    PitchStatistics,
    barely_moving,
    column_statistics,
    pitch_columns,
    pitch_statistics,
)
from pipeline.data.manifest import Sample, Word, read_manifest
from pipeline.data.store import FeatureInfo, FeatureSequence, Status
from pipeline.errors import DataError, LacunaError, MediaError, nearest
from pipeline.extraction.alignment import aligned
from pipeline.extraction.dataset import clip_of, extract_clips
from pipeline.extraction.extractors import base
from pipeline.extraction.extractors.base import Clip
from pipeline.extraction.media import read_audio, read_frames
from pipeline.features import Features
from pipeline.params import MODALITIES, Modality, Params

SHOTS = 6  # pictures that are shown of a clip
SOUND_HZ = 16_000
DATA = Path("data")


def choose_clip(features: Features, name: str | None) -> str:
    """Return the id of the clip to show: the one that is named, or the only one.

    Raises:
        DataError: there is none of this id, or there are several and none is named.
    """
    if name is None and len(features) == 1:
        return features.ids[0]
    if name is None:
        raise DataError(f"{features.path}: holds {len(features)} clips; name one: --id {features.ids[0]}")
    if name not in features:
        raise DataError(f'{features.path}: found no clip "{name}".{nearest(name, features.ids)}')
    return name


def find_clip(info: FeatureInfo, name: str, params: Params, data: Path = DATA) -> Clip:
    """Return the media and words of a sample whose features a store of the pipeline holds.

    Raises:
        DataError: its manifest is not there, or does not have the sample.
        ParamsError: params.yaml has no such dataset.
    """
    manifest = data / "manifests" / f"{info.dataset}.csv"
    if not manifest.is_file():
        raise DataError(
            f"{manifest}: there is no such manifest, so that the clip's media are unknown; name its file: --media FILE"
        )
    root = params.root(info.dataset)
    for sample in read_manifest(manifest):
        if sample.id == name:
            return clip_of(sample, root)
    raise DataError(f'{manifest}: has no sample "{name}"; name its media: --media FILE')


def look_at(
    features: FeatureSequence, info: FeatureInfo, title: str, clip: Clip | None, data: Path = DATA
) -> Look:
    """Bring together what is drawn of a clip.

    Args:
        features: of the clip, as stored.
        info: of the store. Its extractor and settings find faces again, for stores keep numbers without a place.
        title: the first line.
        clip: its media and words; None: the features alone are drawn.
        data: the folder with assets/.

    Raises:
        AssetError, SystemLibraryError: the extractor that finds faces cannot work here.
        MediaError: the pictures cannot be read.
    """
    if clip is None:
        return Look(title, features, info.columns, words=_words_of(features))
    words = clip.words or _words_of(features)
    shots = _shots(features, info, clip, data) if info.modality == "video" else []
    try:
        sound = read_audio(clip, SOUND_HZ)
    except MediaError:  # a clip without sound has none to show; of one with damaged sound, the store says so
        sound = None
    return Look(title, features, info.columns, shots, sound, SOUND_HZ, words)


def _words_of(features: FeatureSequence) -> tuple[Word, ...]:
    """Return a text store's words at their rows' times, where these are known."""
    times = features.times
    if not features.tokens or len(times) < 2 or not times[-1] > 0:
        return ()
    half = float(np.diff(times).min()) / 2
    return tuple(
        Word(token, max(0.0, float(time) - half), float(time) + half)
        for token, time in zip(features.tokens, times, strict=True)
    )


def _shots(features: FeatureSequence, info: FeatureInfo, clip: Clip, data: Path) -> list[Shot]:
    if not len(features.times):
        return []
    wanted = np.linspace(0, len(features.times) - 1, SHOTS + 2).round().astype(int)[1:-1]
    rows = [int(row) for row in np.unique(wanted)]
    pictures = _pictures_at(features.times[rows], clip, info.frame_period_s)
    seen = (features.flags[rows] == 1).tolist()
    if (stored := _stored_points(features, info.columns)) is not None:
        faces = [[stored[row]] if features.flags[row] else [] for row in rows]
        return [Shot(*one) for one in zip(features.times[rows].tolist(), pictures, faces, seen, strict=True)]
    owner = base.find(info.modality, info.extractor)
    if not hasattr(owner, "find_faces"):
        return [Shot(*one, None, True) for one in zip(features.times[rows].tolist(), pictures, strict=True)]
    settings = {key: value for key, value in info.settings.items() if key != "align"}
    with closing(owner(owner.Settings(**settings), data / "assets" / info.extractor)) as instance:
        find: Callable[[NDArray[np.uint8]], list[NDArray[np.float64]]] = instance.find_faces  # type: ignore[attr-defined]
        found = [find(picture) for picture in pictures]
    return [Shot(*one) for one in zip(features.times[rows].tolist(), pictures, found, seen, strict=True)]


def _pictures_at(times_s: NDArray[np.float32], clip: Clip, period_s: float | None) -> list[NDArray[np.uint8]]:
    """Return what is on the screen at each of these times: the picture that came last before it."""
    wanted = times_s.tolist()
    found: list[NDArray[np.uint8]] = []
    shown: NDArray[np.uint8] | None = None
    for time_s, picture in read_frames(clip, period_s and 1 / period_s):
        while shown is not None and len(found) < len(wanted) and time_s > wanted[len(found)] + 1e-4:
            found.append(shown)
        shown = picture
    if shown is None:
        raise MediaError(f"{clip.video}: shows no picture")
    return found + [shown] * (len(wanted) - len(found))


def _stored_points(features: FeatureSequence, columns: Sequence[str]) -> NDArray[np.float64] | None:
    """Return OpenFace's 68 points of each row, (T, 68, 2) in pixels, if these are its columns."""
    place = {name: index for index, name in enumerate(columns)}
    names = [f"{axis}_{point}" for point in range(68) for axis in "xy"]
    if not place.keys() >= set(names):
        return None
    points = features.values[:, [place[name] for name in names]]
    return points.reshape(len(points), 68, 2).astype(np.float64)


@dataclass(frozen=True)
class ModalityLook:
    """What a few clips of one modality look like.

    Attributes:
        info: extractor, settings, columns.
        ids: of the clips.
        clips: their media, in the order of ``ids``.
        features: theirs.
        columns: over all of them.
        pitch: of the columns that claim to be the pitch.
    """

    info: FeatureInfo
    ids: Sequence[str]
    clips: Sequence[Clip]
    features: Sequence[FeatureSequence]
    columns: Sequence[ColumnStatistics]
    pitch: Sequence[PitchStatistics]

    @property
    def constant(self) -> list[str]:
        """The columns with one value in all observed rows."""
        return [one.name for one in self.columns if one.constant]


def sample_dataset(
    name: str, samples: Sequence[Sample], count: int, params: Params, data: Path = DATA
) -> Iterator[tuple[Modality, ModalityLook | LacunaError]]:
    """Extract a few samples of a dataset, spread evenly over its manifest, as its stages will.

    Results are kept in data/cache/, where the stages find them.

    Args:
        name: a dataset of params.yaml.
        samples: the rows of its manifest.
        count: how many samples; all if there are fewer.
        params: params.yaml.
        data: the folder with assets/ and cache/.

    Yields:
        Each modality with what was found, or with the error that kept its extractor from working.
    """
    places = np.unique(np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int))
    chosen = [samples[place] for place in places]
    dataset = params.dataset(name)
    clips = [clip_of(sample, params.root(name)) for sample in chosen]
    for modality in MODALITIES:
        extraction = dataset.extraction(modality)
        settings = params.extractor_settings(name, modality)
        try:
            done = extract_clips(
                clips,
                modality=modality,
                extractor=extraction.extractor,
                settings=settings,
                assets=data / "assets" / extraction.extractor,
                cache=data / "cache",
                workers=params.compute.workers,
                clip_timeout_s=params.compute.clip_timeout_s,
            )
            features = [
                aligned(result, sample.words, extraction.align)
                for sample, result in zip(chosen, done.results.in_order(), strict=True)
            ]
        except LacunaError as error:
            yield modality, error
            continue
        info = FeatureInfo(
            dataset=name,
            modality=modality,
            extractor=extraction.extractor,
            settings=settings.model_dump(mode="json"),
            columns=done.columns,
            frame_period_s=done.frame_period_s if extraction.align == "none" else None,
            manifest_sha256="",
            versions=done.versions,
        )
        ids = [sample.id for sample in chosen]
        yield modality, ModalityLook(info, ids, clips, features, *statistics(features, info.columns))


def statistics(
    clips: Sequence[FeatureSequence], columns: Sequence[str]
) -> tuple[list[ColumnStatistics], list[PitchStatistics]]:
    """Return the statistics of every column over some clips, and of those that claim to be the pitch."""
    good = [clip for clip in clips if clip.status is Status.OK]
    pitch = [pitch_statistics(good, columns, name) for name in pitch_columns(columns)]
    return column_statistics(good, columns), pitch


def clip_line(features: FeatureSequence, columns: Sequence[str]) -> str:
    """Return what there is of one clip, in a line: rows, those observed, seconds, pitch; or why there is nothing."""
    if features.status is not Status.OK:
        return f"{features.status.name.lower()}: {features.reason}"
    rows, seen = len(features.times), int(features.flags.sum())
    line = f"{rows} rows, {seen / rows:.0%} observed"
    if features.times[-1] > 0:
        line += f", to {features.times[-1]:.2f} s"
    for name in pitch_columns(columns)[:1]:
        pitch = pitch_statistics([features], columns, name)
        line += f", {name} {pitch.median_hz:.0f} Hz in {pitch.voiced:.0%}"
    return line


def statistics_lines(
    columns: Sequence[ColumnStatistics], pitch: Sequence[PitchStatistics]
) -> list[tuple[str, str]]:
    """Return what columns in numbers say to a reader: (what, the finding)."""
    rows = columns[0].rows if columns else 0
    still = [f"{one.name} (up to {one.maximum:.2g})" for one in barely_moving(columns)]
    if not rows:
        return [("columns", f"{len(columns)}, and no observed row")]
    moving = [one for one in columns if not one.constant]
    constant = [f"{one.name} ({one.minimum:g})" for one in columns if one.constant]
    mostly = [f"{one.name} ({one.zeros:.0%})" for one in moving if one.zeros > 0.5]
    lines = [
        ("columns", f"{len(columns)}, over {rows} observed rows"),
        ("constant", _some(constant)),
        ("barely moving", _some(still)),
        ("mostly zero", _some(mostly)),
    ]
    if moving:
        low, high = min(moving, key=lambda one: one.minimum), max(moving, key=lambda one: one.maximum)
        lines.append(("range", f"{low.minimum:g} ({low.name}) to {high.maximum:g} ({high.name})"))
    for one in pitch:
        what = f"{one.voiced:.0%} voiced, median {one.median_hz:.0f} Hz, {one.low_hz:.0f} to {one.high_hz:.0f} Hz"
        lines.append((one.name, what + (f"; DOUBTFUL: {one.doubts}" if one.doubts else ", as a voice")))
    return lines


def caution_lines(info: FeatureInfo) -> list[tuple[str, str]]:
    """Return what an extractor says that readers of its columns must know: ("mind", columns and a sentence)."""
    found = base.cautions_for(info.modality, info.extractor, info.settings, info.columns)
    return [("mind", base.caution_line(columns, says)) for columns, says in found]


def _some(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{len(names)}: {', '.join(names[:most])}{more}" if names else "none"
