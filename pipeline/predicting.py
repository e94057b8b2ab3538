"""Predict the emotion, or the sentiment score, of one clip with the trained networks of an experiment.

From Python::

    from pipeline.predicting import predict_clip

    found = predict_clip("clip.mp4", text="Don't forget a jacket.", without=["audio"])
    found.label, found.probabilities, found.modalities["video"].reason

and :class:`ClipPredictor` for many clips, and for one over time. ``lacuna predict`` (pipeline/commands/predict.py) does
the same. Importing this file is quick: torch and the extractors load with the first predictor.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from pipeline.data.manifest import MODALITIES, Word
from pipeline.errors import DataError, MediaError, ParamsError, StoreError, StreamMissing, nearest

if TYPE_CHECKING:
    from pipeline.data.store import FeatureSequence
    from pipeline.extraction.extractors.base import BaseExtractor, Clip, ExtractorSettings
    from pipeline.params import Params

DATA = Path("data")
PARAMS_FILE = Path("params.yaml")
MOST_PARTS = 100_000  # of a file that is predicted over time


@dataclass(frozen=True)
class ModalityResult:
    """What became of one modality of a clip.

    Attributes:
        status: available: the networks used it; missing: the clip has none, or it was left out; failed: it could
            not be read. The networks treat a failed modality as a missing one.
        reason: why it is not available; else empty.
        extractor: the extractor that made the features, by its name in params.yaml.
        rows: how many rows of features the networks got; 0 if it is not available.
        observed: how many of them carry something (a face was found, the word is known).
        unit: what a row is: "tokens", "frames", "words" or "rows" (after resampling).
    """

    status: Literal["available", "missing", "failed"]
    reason: str
    extractor: str
    rows: int = 0
    observed: int = 0
    unit: str = "frames"


@dataclass(frozen=True)
class Prediction:
    """What the networks predict for one clip.

    Attributes:
        probabilities: class -> probability, the mean over the networks; the sum is 1. Empty for a regression.
        score: the score, the mean over the networks; None for a classification.
        scale: the ends of the score's scale; None for a classification.
        target: which score it is (``target`` of the experiment); empty for a classification.
        modalities: text, audio, video -> what became of it.
        experiment: the experiment whose networks were used.
        model: its model, by the name in params.yaml.
        dataset: the dataset that they were trained on.
        constructed: whether that dataset is constructed; then the prediction is only a demonstration.
        networks: "<fold>-<run>" of each network, in order of fold and run.
    """

    probabilities: Mapping[str, float]
    score: float | None
    scale: tuple[float, float] | None
    target: str
    modalities: Mapping[str, ModalityResult]
    experiment: str
    model: str
    dataset: str
    constructed: bool
    networks: tuple[str, ...]

    @property
    def label(self) -> str | None:
        """The most probable class; None for a regression."""
        return max(self.probabilities, key=lambda name: self.probabilities[name], default=None)


def predict_clip(
    media: Path | str | None = None,
    *,
    text: str | None = None,
    words: Sequence[Word] = (),
    start_s: float | None = None,
    end_s: float | None = None,
    without: Collection[str] = (),
    experiment: str | None = None,
    fold: int | None = None,
    data: Path = DATA,
    params: Path = PARAMS_FILE,
) -> Prediction:
    """Predict one clip with the trained networks of an experiment.

    It loads the networks and the extractors each time; use :class:`ClipPredictor` for many clips.

    Args:
        media: a file with video, audio or both; None: both are missing.
        text: what is said; None or blank: text is missing.
        words: the words with their times in seconds of the file; needed only if the networks were trained with
            ``align: words``, where a modality without them is missing.
        start_s, end_s: the part of the file, in seconds; None: its beginning, its end. ``text`` is said in it.
        without: modalities to leave out: text, audio, video.
        experiment: an experiment of params.yaml. None: ``mmin`` if there is one, else the last one.
        fold: use only this fold's networks, counted from 1. None: those of all folds.
        data: the folder with runs/ and assets/.
        params: params.yaml. Paths in it are relative to the working directory.

    Raises:
        ParamsError: params.yaml is not valid, or the experiment or a modality in ``without`` does not exist.
        DataError: there is neither media nor text, the file does not exist, the words' times are impossible, or no
            modality is left.
        StoreError: there is no trained network, or one is damaged or does not fit its extractor.
        AssetError: an extractor's weights are not there.
    """
    _check_given(media, text, words, without)  # before anything slow is loaded
    with ClipPredictor(experiment, fold=fold, data=data, params=params) as predictor:
        return predictor.predict(media, text=text, words=words, start_s=start_s, end_s=end_s, without=without)


class ClipPredictor:
    """The networks of one experiment and their extractors, kept in memory for many clips.

    Use it in a ``with`` statement, or call :meth:`close`. An extractor is loaded by the first clip that needs it.
    Which extractors and settings are used is recorded with the networks (run.json), whatever params.yaml selects
    now.
    """

    def __init__(
        self,
        experiment: str | None = None,
        *,
        fold: int | None = None,
        data: Path = DATA,
        params: Path = PARAMS_FILE,
    ) -> None:
        """Load the networks; arguments and errors are those of :func:`predict_clip`."""
        from pipeline.data.datasets import base as loaders
        from pipeline.params import load_params
        from pipeline.training.predictor import load_run

        checked = load_params(params)
        self.experiment = experiment or default_experiment(checked)
        checked.experiment(self.experiment)
        self._networks = [load_run(folder) for folder in run_folders(self.experiment, fold, data)]
        self._features: dict[str, dict[str, Any]] = self._networks[0].facts["features"]
        for network in self._networks[1:]:
            for modality in MODALITIES:
                if _maker(network.facts["features"][modality]) != _maker(self._features[modality]):
                    raise StoreError(
                        f"{data / 'runs' / self.experiment}: the networks were trained on different {modality} "
                        f"features. Train them again: dvc repro -f train@{self.experiment}"
                    )
        self.dataset = str(self._networks[0].facts["dataset"])
        self.constructed = loaders.find(checked.dataset(self.dataset).loader).constructed
        self._assets = data / "assets"
        self._extractors: dict[str, BaseExtractor[ExtractorSettings]] = {}

    def predict(
        self,
        media: Path | str | None = None,
        *,
        text: str | None = None,
        words: Sequence[Word] = (),
        start_s: float | None = None,
        end_s: float | None = None,
        without: Collection[str] = (),
    ) -> Prediction:
        """Predict one clip; arguments and errors are those of :func:`predict_clip`."""
        from pipeline.extraction.extractors.base import Clip
        from pipeline.training.predictor import predict

        path, said, left_out = _check_given(media, text, words, without)
        spoken = words_within(words, start_s, end_s)
        clip = Clip("given", path, path, start_s, end_s, text=said, words=spoken)
        features: dict[str, FeatureSequence | None] = {}
        results: dict[str, ModalityResult] = {}
        for modality in MODALITIES:
            if modality in left_out:
                features[modality], results[modality] = None, self._absent(modality, "left out as asked")
            else:
                features[modality], results[modality] = self._extract(modality, clip)
        if not any(one.status == "available" for one in results.values()):
            reasons = "; ".join(f"{name}: {one.reason}" for name, one in results.items())
            raise DataError(f"no modality is left to predict from ({reasons})")
        found = predict(self._networks, features)
        facts = self._networks[0].facts
        regression = self._networks[0].regression
        scale = self._networks[0].scale if regression else None
        keys = sorted((int(one.facts["fold"]), int(one.facts["run"])) for one in self._networks)
        return Prediction(
            probabilities={} if regression else found,
            score=next(iter(found.values())) if regression else None,
            scale=None if scale is None else (scale.low, scale.high),
            target=next(iter(found)) if regression else "",
            modalities=results,
            experiment=self.experiment,
            model=str(facts["model"]),
            dataset=self.dataset,
            constructed=self.constructed,
            networks=tuple(f"{fold}-{run}" for fold, run in keys),
        )

    def predict_over_time(
        self,
        media: Path | str,
        *,
        every_s: float,
        window_s: float | None = None,
        words: Sequence[Word] = (),
        start_s: float | None = None,
        end_s: float | None = None,
        without: Collection[str] = (),
    ) -> Iterator[tuple[float, float, Prediction | DataError]]:
        """Predict one part of a file after another, each as a clip of its own.

        Args:
            media: a file with video, audio or both.
            every_s: seconds from the start of one part to the next.
            window_s: seconds that a part lasts; None: ``every_s``. The last one ends with the file.
            words: the words with their times in seconds of the file. A part's text is those whose middle lies in it;
                without them text is missing.
            start_s, end_s: where the first part starts and the last one ends, in seconds.
            without: modalities to leave out.

        Yields:
            The part's start and end in seconds, and its prediction, or why there is none (nothing was seen or heard).

        Raises:
            DataError: the file does not exist, has no length, or a time is impossible.
        """
        path, _, _ = _check_given(media, None, words, without)
        for start, end in parts_of(path or Path(media), every_s, window_s, start_s, end_s):
            said = " ".join(word.text for word in words_within(words, start, end))
            try:
                found: Prediction | DataError = self.predict(
                    path, text=said, words=words, start_s=start, end_s=end, without=without
                )
            except DataError as error:
                found = error
            yield start, end, found

    def close(self) -> None:
        """Release what the extractors hold."""
        for extractor in self._extractors.values():
            extractor.close()
        self._extractors.clear()

    def __enter__(self) -> ClipPredictor:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release what the extractors hold."""
        self.close()

    def _absent(
        self, modality: str, reason: str, status: Literal["missing", "failed"] = "missing"
    ) -> ModalityResult:
        return ModalityResult(status, reason, str(self._features[modality]["extractor"]))

    def _extract(self, modality: str, clip: Clip) -> tuple[FeatureSequence | None, ModalityResult]:
        """Return one modality's features as the networks take them, or None, and what became of it."""
        from pipeline.data.store import Status

        if modality == "text" and not clip.text:
            return None, self._absent(modality, "no text given")
        if modality != "text" and clip.audio is None:
            return None, self._absent(modality, "no media file given")
        extractor = self._extractor(modality)
        if extractor.by_id:
            return None, self._absent(
                modality, "the networks were trained on imported features, which a new clip does not have"
            )
        try:
            sequence = self._networks[0].align(modality, extractor.extract(clip), clip.words)
        except StreamMissing as error:
            return None, self._absent(modality, str(error))
        except MediaError as error:
            return None, self._absent(modality, str(error), "failed")
        if sequence.status is not Status.OK:
            status: Literal["missing", "failed"] = (
                "missing" if sequence.status is Status.MISSING else "failed"
            )
            return None, self._absent(modality, sequence.reason, status)
        align = self._features[modality]["settings"].get("align", "none")
        unit = {"none": "tokens" if modality == "text" else "frames", "words": "words"}.get(align, "rows")
        name = str(self._features[modality]["extractor"])
        rows, observed = len(sequence.times), int(sequence.flags.sum())
        return sequence, ModalityResult("available", "", name, rows, observed, unit)

    def _extractor(self, modality: str) -> BaseExtractor[ExtractorSettings]:
        """Return the extractor that made the networks' features, with its settings."""
        from pydantic import ValidationError

        from pipeline.extraction.extractors import base

        if modality in self._extractors:
            return self._extractors[modality]
        recorded = self._features[modality]
        name, again = str(recorded["extractor"]), f"Run: dvc repro train@{self.experiment}"
        owner = base.find(modality, name)
        settings = {key: value for key, value in recorded["settings"].items() if key != "align"}
        try:
            extractor = owner(owner.Settings(**settings), self._assets / name)
        except ValidationError as error:
            raise StoreError(
                f"{self.experiment} was trained on {modality} features of {name} with the settings "
                f"{json.dumps(settings)}, which {name} does not take ({error.error_count()} mistake(s)). {again}"
            ) from error
        self._extractors[modality] = extractor
        if not extractor.by_id and list(extractor.columns) != list(recorded["columns"]):
            raise StoreError(
                f"{name} gives {len(extractor.columns)} columns of other names than the "
                f"{len(recorded['columns'])} that {self.experiment} was trained with. {again}"
            )
        return extractor


def default_experiment(params: Params) -> str:
    """Return the experiment that predicts when none is named: ``mmin`` if there is one, else the last one.

    Raises:
        ParamsError: params.yaml has no experiment.
    """
    if not params.experiments:
        raise ParamsError("params.yaml has no experiment, so there is no network to predict with")
    return "mmin" if "mmin" in params.experiments else next(reversed(params.experiments))


def run_folders(experiment: str, fold: int | None = None, data: Path = DATA) -> list[Path]:
    """Return the folders of an experiment's trained networks, in order of fold and run.

    Raises:
        StoreError: there is none, or none of this fold.
    """
    folder = data / "runs" / experiment
    named = {path.parent: path.parent.name.split("-") for path in folder.glob("*-*/run.json")}
    found = {path: parts for path, parts in named.items() if len(parts) == 2 and all(map(str.isdigit, parts))}
    if not found:
        raise StoreError(f"{folder}: there is no trained network. Train it: dvc repro train@{experiment}")
    folders = sorted(found, key=lambda path: [int(part) for part in found[path]])
    chosen = [path for path in folders if fold is None or found[path][0] == str(fold)]
    if not chosen:
        folds = ", ".join(dict.fromkeys(found[path][0] for path in folders))
        raise StoreError(f"{folder}: there is no fold {fold}; expected one of: {folds}")
    return chosen


def _check_given(
    media: Path | str | None, text: str | None, words: Sequence[Word], without: Collection[str]
) -> tuple[Path | None, str, set[str]]:
    """Return the media file, the text ("" if it is blank) and the modalities to leave out, checked."""
    left_out = {without} if isinstance(without, str) else set(without)
    for name in sorted(left_out - set(MODALITIES)):
        raise ParamsError(
            f'without: found "{name}", expected some of {", ".join(MODALITIES)}.{nearest(name, MODALITIES)}'
        )
    path = None if media is None else Path(media)
    said = text if text is not None and text.strip() else ""
    if path is None and not said:
        raise DataError(
            "found neither a media file nor a text to predict from; give at least one of them: "
            'lacuna predict CLIP --text "...", or from Python predict_clip(media, text="...")'
        )
    if path is not None and not path.is_file():
        raise DataError(f"{path}: there is no such file")
    check_words(words, "words")
    return path, said, left_out


def check_words(words: Sequence[Word], place: str) -> None:
    """Refuse words whose times are impossible.

    Args:
        words: the words of one clip.
        place: where they come from, for the message.

    Raises:
        DataError: a word begins before 0, ends before it begins, or has a time that is not finite.
    """
    for word in words:
        if not 0 <= word.start_s <= word.end_s < math.inf:
            raise DataError(
                f'{place}: found "{word.text}" from {word.start_s} to {word.end_s} s; expected 0 <= start <= end'
            )


def words_within(words: Sequence[Word], start_s: float | None, end_s: float | None) -> tuple[Word, ...]:
    """Return the words of a part of a file, with their times from the part's start.

    Args:
        words: with times in seconds of the file.
        start_s, end_s: of the part; None: of the file. A word belongs to it if its middle does.
    """
    start, end = start_s or 0.0, math.inf if end_s is None else end_s
    return tuple(
        Word(word.text, max(0.0, word.start_s - start), min(word.end_s, end) - start)
        for word in words
        if start <= (word.start_s + word.end_s) / 2 < end
    )


def parts_of(
    media: Path, every_s: float, window_s: float | None, start_s: float | None, end_s: float | None
) -> list[tuple[float, float]]:
    """Return the start and end of each part of a file, in seconds; arguments as :meth:`predict_over_time` has them.

    What is left at the end and lasts no longer than a hundredth of a part is none.

    Raises:
        DataError: a time is impossible, or neither the file nor ``end_s`` says where it ends.
    """
    length = every_s if window_s is None else window_s
    for name, value in (("every_s", every_s), ("window_s", length)):
        if not 0 < value < math.inf:
            raise DataError(f"{name}: found {value:g} s, expected more than 0")
    begin = start_s or 0.0
    end = min(_length_s(media), math.inf if end_s is None else end_s)
    if end == math.inf:
        raise DataError(f"{media}: does not say how long it is; give the end of the part")
    if not 0 <= begin < end:
        raise DataError(f"{media}: found a part from {begin:g} to {end:g} s, expected 0 <= start < end")
    count = math.floor((end - begin) / every_s - 0.01) + 1
    if count > MOST_PARTS:
        raise DataError(
            f"{media}: {end - begin:g} s are {count} parts of {every_s:g} s, at most {MOST_PARTS} are made"
        )
    starts = [round(begin + index * every_s, 6) for index in range(max(1, count))]
    return [(start, min(round(start + length, 6), end)) for start in starts]


def _length_s(media: Path) -> float:
    """Return how long a file says that it is; infinity where it does not."""
    import av

    try:
        with av.open(str(media)) as container:
            return math.inf if container.duration is None else container.duration / 1e6
    except (OSError, ValueError, av.FFmpegError) as error:
        raise DataError(f"{media}: cannot be opened as media: {error}") from error


def _maker(recorded: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what decides whether two networks take the same features."""
    return recorded["extractor"], recorded["settings"], recorded["columns"]
