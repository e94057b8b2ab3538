"""librosa's 33 columns of CH-SIMS and EMMR (section 4.2): zero-crossing rate, MFCC and CQT chroma."""

from __future__ import annotations

import warnings
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.data.store import FeatureSequence
from pipeline.extraction.extractors.base import BaseExtractor, Clip, ExtractorSettings
from pipeline.extraction.media import read_audio

WINDOW_SAMPLES = 2048  # librosa's own frame length, of zero crossings and MFCC
CHROMA_BINS = 36  # an octave of the constant-Q transform that librosa's chroma stands on
LONG_S = 300.0  # of a longer sound the tuning is estimated in blocks
PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


class LibrosaSettings(ExtractorSettings):
    """The resolution in time, and the number of coefficients.

    Attributes:
        sample_rate_hz: what the sound is resampled to.
        hop_samples: from one frame to the next; 512 at 22,050 Hz are 43 frames a second.
        mfcc: how many mel-frequency cepstral coefficients.
    """

    sample_rate_hz: int = Field(22_050, ge=8_000, le=96_000)
    hop_samples: int = Field(512, ge=64, le=8192, multiple_of=64)
    mfcc: int = Field(20, ge=1, le=128)


class Extractor(BaseExtractor[LibrosaSettings]):
    """librosa: D = 1 + mfcc + 12."""

    modality = "audio"
    Settings = LibrosaSettings
    libraries: ClassVar[tuple[str, ...]] = ("librosa", "numpy", "scipy", "soxr")

    @property
    def columns(self) -> tuple[str, ...]:
        """zero_crossing_rate, mfcc_0.., chroma_C..chroma_B."""
        mfcc = (f"mfcc_{index}" for index in range(self.settings.mfcc))
        return ("zero_crossing_rate", *mfcc, *(f"chroma_{pitch}" for pitch in PITCHES))

    @property
    def frame_period_s(self) -> float:
        """The hop."""
        return self.settings.hop_samples / self.settings.sample_rate_hz

    def prepare(self) -> None:
        """Import librosa."""
        import librosa  # noqa: F401 - a broken installation is no clip's fault

    def extract(self, clip: Clip) -> FeatureSequence:
        """Return one row for each hop, computed from the sound around its time (librosa's centred frames)."""
        import librosa

        samples = read_audio(clip, self.settings.sample_rate_hz)
        rate, hop = self.settings.sample_rate_hz, self.settings.hop_samples
        rows = 1 + len(samples) // hop
        padded = np.pad(samples, (0, max(0, WINDOW_SAMPLES - len(samples))))
        parts = (
            librosa.feature.zero_crossing_rate(padded, frame_length=WINDOW_SAMPLES, hop_length=hop),
            librosa.feature.mfcc(y=padded, sr=rate, n_mfcc=self.settings.mfcc, hop_length=hop),
            self._chroma(padded),
        )
        values = np.concatenate([part[:, :rows] for part in parts]).T
        times = np.arange(rows, dtype=np.float32) * np.float32(self.frame_period_s)
        return FeatureSequence(
            np.ascontiguousarray(values, np.float32), times.astype(np.float32), np.ones(rows, np.uint8)
        )

    def _chroma(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        import librosa

        rate, hop = self.settings.sample_rate_hz, self.settings.hop_samples
        with (
            warnings.catch_warnings()
        ):  # the low octaves of a short clip are padded, and silence has no tuning
            warnings.filterwarnings("ignore", message="n_fft=.* is too large for input signal")
            warnings.filterwarnings("ignore", message="Trying to estimate tuning from empty frequency set")
            tuning = tuning_in_blocks(samples, rate) if len(samples) > LONG_S * rate else None
            chroma: NDArray[np.float32] = librosa.feature.chroma_cqt(
                y=samples, sr=rate, hop_length=hop, tuning=tuning
            )
        return chroma


def tuning_in_blocks(samples: NDArray[np.float32], sample_rate_hz: int, block: int = 4096) -> float:
    """Return what ``librosa.estimate_tuning`` gives ``chroma_cqt``, whose memory grows by 70 MB a minute of sound.

    Args:
        samples: (N,).
        sample_rate_hz: their rate.
        block: how many frames are looked at together.

    Returns:
        Shares of a bin, of 36 in an octave, by which the sound's pitch lies beside 440 Hz.
    """
    import librosa

    hop = WINDOW_SAMPLES // 4
    padded = np.pad(samples, WINDOW_SAMPLES // 2)
    frames = 1 + len(samples) // hop
    pitches, sizes = [], []
    for start in range(0, frames, block):
        stop = min(start + block, frames)
        part = padded[start * hop : (stop - 1) * hop + WINDOW_SAMPLES]
        spectrum = np.abs(librosa.stft(part, n_fft=WINDOW_SAMPLES, center=False))
        pitch, size = librosa.piptrack(S=spectrum, sr=sample_rate_hz)
        there = pitch > 0
        pitches.append(pitch[there])
        sizes.append(size[there])
    pitch, size = np.concatenate(pitches), np.concatenate(sizes)
    loud = pitch[size >= np.median(size)] if len(size) else pitch
    return float(librosa.pitch_tuning(loud, bins_per_octave=CHROMA_BINS))
