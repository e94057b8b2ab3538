"""openSMILE's feature sets (Eyben et al., 2010), through audEERING's Python package.

``IS13_ComParE`` with ``lld+delta`` is what MMIN (section 4.2) takes: 65 low-level descriptors and their 65
deltas at 100 frames a second.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.data.store import FeatureSequence
from pipeline.errors import MediaError, MomentaryError
from pipeline.extraction.extractors.base import BaseExtractor, Caution, Clip, ExtractorSettings
from pipeline.extraction.media import read_audio

# openSMILE's own names of its configurations -> the names of the package's enum.
SETS = {
    "ComParE_2016": "ComParE_2016",
    "eGeMAPSv01a": "eGeMAPSv01a",
    "eGeMAPSv01b": "eGeMAPSv01b",
    "eGeMAPSv02": "eGeMAPSv02",
    "GeMAPSv01a": "GeMAPSv01a",
    "GeMAPSv01b": "GeMAPSv01b",
    "emobase": "emobase",
    "IS09_emotion": "IS09",
    "IS10_paraling": "IS10",
    "IS11_speaker_state": "IS11",
    "IS12_speaker_trait": "IS12",
    "IS13_ComParE": "IS13",
}
LEVELS = {"lld": "lld", "lld+delta": "both", "functionals": "func"}
BLOCK = 2**20  # samples that are made whole numbers at once: bounds memory
SHORTEST_S = 0.5  # the longest analysis window is 60 ms, and smoothing and pitch tracking look ahead

# What the cautions are about, and what they say: pitch, and columns whose window is shorter than that of the pitch.
_PITCH = r"F0(env)?_sma.*"
_SHORT = r"(?!F0|voicing|jitter|shimmer|logHNR).*"
_OFF = "{} semitones off (median, on clear speech, against pYIN), where IS13_ComParE's and the eGeMAPS sets' is 0.2 off"
_LATE = "a click stands {} ms late, for a row's time is the middle of the long window that F0 is taken from"

# Both streams of low-level descriptors in one pass: the package's own sinks give one, so that it would
# analyse every clip twice. The joined stream ends with the shorter of the two.
_SINK = """
[componentInstances:cComponentManager]
{concat}
instance[extsink].type=cExternalSink

[extsink:cExternalSink]
reader.dmLevel = {level}
blocksize = 1
"""
_CONCAT = """instance[both].type=cVectorConcat

[both:cVectorConcat]
reader.dmLevel = lld;lld_de
writer.dmLevel = both
includeSingleElementFields = 1

[componentInstances:cComponentManager]"""


class OpensmileSettings(ExtractorSettings):
    """Which of openSMILE's sets, and which of its levels.

    Attributes:
        feature_set: the set, by openSMILE's name.
        level: low-level descriptors (lld), with their deltas beside them, or one row of functionals for each clip.
        sample_rate_hz: the rate that the sound is resampled to first.
    """

    feature_set: Literal[tuple(SETS)] = "IS13_ComParE"  # type: ignore[valid-type]
    level: Literal["lld", "lld+delta", "functionals"] = "lld+delta"
    sample_rate_hz: int = Field(16_000, ge=8_000, le=96_000)

    @model_validator(mode="after")
    def _has_level(self) -> OpensmileSettings:
        if "GeMAPS" in self.feature_set and self.level == "lld+delta":
            raise ValueError(f"the set {self.feature_set} has no deltas; take the level lld or functionals")
        return self


def _of(*sets: str, times: bool = False) -> Callable[[Mapping[str, Any]], bool]:
    """Return whether settings are of one of these sets; of ``times``: and of rows that have a time."""

    def holds(settings: Mapping[str, Any]) -> bool:
        return settings.get("feature_set") in sets and not (times and settings.get("level") == "functionals")

    return holds


class Extractor(BaseExtractor[OpensmileSettings]):
    """openSMILE: D columns with the set's own names (IS13_ComParE, lld+delta: 130), 100 frames a second."""

    modality = "audio"
    Settings = OpensmileSettings
    libraries: ClassVar[tuple[str, ...]] = ("opensmile",)
    cautions: ClassVar[tuple[Caution, ...]] = (
        Caution(_PITCH, _OFF.format("2.4"), _of("emobase")),
        Caution(_PITCH, _OFF.format("5.2") + ", and it is 0 for a voice at 110 Hz", _of("IS09_emotion")),
        Caution(_SHORT, _LATE.format(20), _of("ComParE_2016", "IS13_ComParE", times=True)),
        Caution(_SHORT, _LATE.format(30), _of("IS11_speaker_state", "IS12_speaker_trait", times=True)),
    )

    def __init__(self, settings: OpensmileSettings, assets: Path) -> None:
        super().__init__(settings, assets)
        from opensmile.core.config import config
        from opensmile.core.define import FeatureSet
        from opensmile.core.lib import __file__ as library

        root = Path(library).parent / config.CONFIG_ROOT
        level = LEVELS[settings.level]
        self._folder = tempfile.TemporaryDirectory(prefix="lacuna-opensmile-")
        sink = Path(self._folder.name) / "sink.conf.inc"
        sink.write_text(
            _SINK.format(level=level, concat=_CONCAT if level == "both" else ""), encoding="ascii"
        )
        self._config = root / (FeatureSet[SETS[settings.feature_set]].value + config.CONFIG_EXT)
        self._options = {
            "source": root / config.EXTERNAL_INPUT_CONFIG,
            "sink": sink,
            "sampleRate": settings.sample_rate_hz,
            "nBits": 16,
            "bufferModeRbConf": root / "shared/BufferModeRb.conf.inc",
            "frameModeFunctionalsConf": root / "shared/FrameModeFunctionals.conf.inc",
        }
        smile = self._start()
        try:
            count = smile.external_sink_get_num_elements("extsink")
            self._columns = tuple(smile.external_sink_get_element_name("extsink", i) for i in range(count))
        finally:
            smile.free()

    @property
    def columns(self) -> tuple[str, ...]:
        """The set's own names."""
        return self._columns

    @property
    def frame_period_s(self) -> float | None:
        """10 ms; None for functionals, which are one row a clip."""
        return None if self.settings.level == "functionals" else 0.01

    def extract(self, clip: Clip) -> FeatureSequence:
        """Return the set's frames of a clip; one shorter than half a second is extended by silence."""
        samples = read_audio(clip, self.settings.sample_rate_hz)
        length_s = len(samples) / self.settings.sample_rate_hz
        shortest = round(SHORTEST_S * self.settings.sample_rate_hz)
        if len(samples) < shortest:
            samples = np.pad(samples, (0, shortest - len(samples)))
        rows, middle_s = self._run(samples)
        if not rows:
            raise MediaError(f"openSMILE gives no frame for {length_s:.3f} s of sound")
        values = np.vstack(rows)
        if self.settings.level == "functionals":
            times = np.array([length_s / 2], np.float32)
        else:
            middles = middle_s + 0.01 * np.arange(len(values))
            kept = max(1, int(np.searchsorted(middles, length_s)))  # frames of the clip, not of the silence
            values, times = values[:kept], middles[:kept].astype(np.float32)
        if not np.isfinite(values).all():
            raise MediaError("openSMILE gives values that are no numbers")
        return FeatureSequence(values, times, np.ones(len(times), np.uint8))

    def close(self) -> None:
        """Remove the temporary file with the sink's configuration."""
        self._folder.cleanup()

    def _start(self) -> Any:
        from opensmile.core.lib import OpenSMILE

        smile = OpenSMILE()
        smile.initialize(str(self._config), self._options, loglevel=0)
        return smile

    def _run(self, samples: NDArray[np.float32]) -> tuple[list[NDArray[np.float32]], float]:
        """Return openSMILE's rows, (1, D) each, and the middle of the first one's window in seconds."""
        from opensmile.core.lib import OpenSmileException

        rows: list[NDArray[np.float32]] = []
        first_s: list[float] = []

        def receive(data: NDArray[np.float32], meta: Any) -> None:
            if not rows:
                first_s.append(meta.time + meta.lengthSec / 2)
            rows.append(data.reshape(1, -1).copy())

        smile = self._start()
        try:
            smile.external_sink_set_callback_ex("extsink", receive)
            for start in range(0, len(samples), BLOCK):  # as the package does, but for the clip
                pcm = np.clip(samples[start : start + BLOCK] * 32768, -32768, 32767).astype(np.int16)
                smile.external_audio_source_write_data("extsource", pcm.tobytes())
            smile.external_audio_source_set_eoi("extsource")
            smile.run()
        except OpenSmileException as error:
            raise MomentaryError(f"openSMILE stopped: {error}") from error  # its temporary files may be gone
        finally:
            smile.free()
        return rows, first_s[0] if first_s else 0.0
