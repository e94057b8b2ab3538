"""COVAREP's 74 voice-quality columns at 100 frames a second, computed in Python.

Degottex et al., "COVAREP - A collaborative voice analysis repository for speech technologies", ICASSP 2014.
Columns, order and frame rate are those of its feature extraction script, which many published corpora were
processed with. Written anew from the papers named below, with COVAREP's settings. No value was compared with
MATLAB's own: "same" means the same definition with the same settings, checked on synthetic voices whose
pitch, voicing, glottal pulse and tilt are known; small departures are named.

======= ============ ======== ===============================================================================
column  name         is       what, and where it departs
======= ============ ======== ===============================================================================
0       F0           same     Hz, on a grid of 1 Hz from 50 to 500, or from f0_min_hz to f0_max_hz:
                              summation of residual harmonics (Drugman & Alwan, Interspeech 2011), two
                              passes. Frames lie on the output's own times with silence around the clip;
                              COVAREP interpolates, and has 0 for the first and last 50 ms
1       VUV          same     1 voiced, 0 not: that measure over 0.07, or over 0.085 when its deviation is
                              over 0.05
2       NAQ          same     normalised amplitude quotient (Alku et al., JASA 2002) of the glottal flow by
                              pulse-synchronous IAIF (Alku 1992); the high-pass runs once over the whole
                              sound
3       QOQ          same     quasi-open quotient at half of the pulse's height (Hacki 1989) of the same flow
4       H1H2         same     dB, first over second harmonic of the flow's derivative: the highest value
                              within a quarter of F0 around each, where COVAREP takes the nearest peak
5       PSP          same     parabolic spectral parameter (Alku et al. 1997) of one pulse, 2048 points
6       MDQ          same     maxima dispersion quotient (Kane & Gobl 2013) of the residual, wavelet scales
                              2^2 - 2^6
7       peakSlope    same     slope of log10 maxima of wavelet bands 125 Hz - 8 kHz in 40 ms (Kane & Gobl
                              2011)
8       Rd           same     LF shape by mean squared phase (Degottex et al., ICASSP 2011): a grid of 0.05
                              and a parabola, where COVAREP uses Brent's search
9       Rd_conf      same     1 - sqrt(error) / pi of that fit
10      creak        STAND-IN COVAREP runs a trained network (Drugman, Kane & Gobl 2014) whose weights are
                              not used here. In its place 0 to 1: voiced, a pitch below about 80 Hz, and a
                              residual of lone strong peaks. Creak whose pitch lies under 50 Hz is not seen
11-35   MCEP_0 - 24  same     mel-warped cepstrum of the true envelope (Imai; Roebel & Rodet, DAFx 2005),
                              1024 points and at most 40 rounds; COVAREP has 4096, 200, a speed-up and a
                              smoothed edge. The level in MCEP_0 is that of a window whose sum is 1
36-60   HMPDM_0 - 24 STAND-IN mean phase distortion (HMPD; Degottex 2014) by log-harmonic band, kept on
                              harmonics, where COVAREP goes to a scale in hertz and back. Band 0 is the
                              constant part, always 0; a band above half the sample rate is 0, where COVAREP
                              draws random phases
61-73   HMPDD_0 - 12 STAND-IN mel-warped cepstrum of the deviation of phase distortion: taken on harmonics
                              and then spread over hertz, where COVAREP does it the other way round
======= ============ ======== ===============================================================================

As in COVAREP, values between two glottal pulses are interpolated, also across unvoiced stretches, and are 0
before the first and after the last; F0 and Rd are given in unvoiced frames too, where they mean little; a
voice without any jitter, which only a synthetic one is, may be tracked at a multiple of its pitch. A frame of digital
silence is all zeros. COVAREP was made for 16 kHz: everything is resampled to that.
"""

from __future__ import annotations

from functools import cache
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipeline.data.store import FeatureSequence
from pipeline.errors import StreamMissing
from pipeline.extraction.extractors.base import BaseExtractor, Caution, Clip, ExtractorSettings
from pipeline.extraction.media import read_audio

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

SAMPLE_RATE_HZ = 16000
HOP = 160  # 10 ms
FIRST = 80  # the first frame lies at 5 ms
LOWEST_HZ, HIGHEST_HZ = 50, 500
CEILING_HZ = 1000  # the highest that f0_max_hz may be
LONGEST = SAMPLE_RATE_HZ // LOWEST_HZ  # samples in a period
MCEP_ORDER, PDM_BANDS, PDD_ORDER = 24, 25, 12
BLOCK = 500  # frames handled at once: bounds memory
REACH = 50  # frames to either side that a frame's statistics of phase depend on, and more
COLUMNS = (
    *("F0", "VUV", "NAQ", "QOQ", "H1H2", "PSP", "MDQ", "peakSlope", "Rd", "Rd_conf", "creak"),
    *(f"MCEP_{n}" for n in range(MCEP_ORDER + 1)),
    *(f"HMPDM_{n}" for n in range(PDM_BANDS)),
    *(f"HMPDD_{n}" for n in range(PDD_ORDER + 1)),
)


class CovarepSettings(ExtractorSettings):
    """How the sound is prepared.

    Attributes:
        polarity: 1: as it is; -1: upside down; null: COVAREP's way, which finds it out for each clip.
        f0_min_hz, f0_max_hz: where pitch is looked for; the defaults are COVAREP's. A voice over f0_max_hz is
            tracked too low, at a half or another fraction of its pitch: for screams take 800 or more.
    """

    polarity: Literal[-1, 1] | None = None
    f0_min_hz: int = Field(LOWEST_HZ, ge=LOWEST_HZ, le=400)
    f0_max_hz: int = Field(HIGHEST_HZ, ge=100, le=CEILING_HZ)

    @model_validator(mode="after")
    def _octave(self) -> CovarepSettings:
        if self.f0_max_hz < 2 * self.f0_min_hz:
            raise ValueError(
                f"found pitch from {self.f0_min_hz} to {self.f0_max_hz} Hz, expected an octave at least: "
                f"f0_max_hz: {2 * self.f0_min_hz}"
            )
        return self


class Extractor(BaseExtractor[CovarepSettings]):
    """COVAREP's 74 columns."""

    modality = "audio"
    Settings = CovarepSettings
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "scipy")
    cautions: ClassVar[tuple[Caution, ...]] = (
        Caution("F0", "where VUV is 0 there is no voice, and F0 means little"),
        Caution(
            "F0",
            "a pitch over f0_max_hz is tracked too low, at a half or another fraction; for screams take 800 or more",
            lambda settings: settings.get("f0_max_hz", HIGHEST_HZ) < 800,
        ),
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the 74 columns, COVAREP's own."""
        return COLUMNS

    @property
    def frame_period_s(self) -> float:
        """0.01 s."""
        return HOP / SAMPLE_RATE_HZ

    def prepare(self) -> None:
        """Import scipy."""
        import scipy.signal  # noqa: F401 - a broken installation is no clip's fault

    def extract(self, clip: Clip) -> FeatureSequence:
        """Return (T, 74) with T = one frame for every whole 10 ms, at 5, 15, ... ms."""
        signal = read_audio(clip, SAMPLE_RATE_HZ)
        if len(signal) <= FIRST:
            raise StreamMissing(f"the sound is shorter than one frame ({len(signal)} samples at 16 kHz)")
        settings = self.settings
        range_hz = settings.f0_min_hz, settings.f0_max_hz
        values = analyse(signal.astype(np.float64), settings.polarity, range_hz).astype(np.float32)
        times = ((FIRST + HOP * np.arange(len(values))) / SAMPLE_RATE_HZ).astype(np.float32)
        return FeatureSequence(values, times, np.ones(len(values), np.uint8))


def analyse(
    signal: Floats, polarity: int | None = None, range_hz: tuple[int, int] = (LOWEST_HZ, HIGHEST_HZ)
) -> Floats:
    """Return the 74 columns of a sound.

    Args:
        signal: (N,) at 16 kHz, N over 80.
        polarity: 1 or -1; None: found by :func:`find_polarity`.
        range_hz: where pitch is looked for: lowest, highest.

    Returns:
        (T, 74) float64, finite; frame t lies at sample 80 + 160 t.
    """
    centres = np.arange(FIRST, len(signal), HOP)
    values = np.zeros((len(centres), len(COLUMNS)))
    silent = ~_windows(signal, centres, HOP).any(axis=1)
    signal = signal - signal.mean()
    if np.abs(signal).max() < 1e-7:
        return values
    residual = lp_residual(signal, signal, SAMPLE_RATE_HZ // 1000 + 2)
    sign = polarity or find_polarity(signal, residual)
    signal, residual = sign * signal, sign * residual

    pitch_hz, strength = track_pitch(signal, centres, range_hz)
    threshold = 0.085 if strength.std() > 0.05 else 0.07
    voiced = strength > threshold
    values[:, 0], values[:, 1] = pitch_hz, voiced
    if voiced.any():
        pulses = find_pulses(signal, residual, float(np.median(pitch_hz[voiced])))
        frame = np.clip((pulses - FIRST + HOP // 2) // HOP, 0, len(centres) - 1)
        pulses = pulses[voiced[frame]]
        if len(pulses) > 1:
            near = np.rint(SAMPLE_RATE_HZ / np.maximum(pitch_hz, LOWEST_HZ)).astype(np.int64)
            frame = np.clip((pulses - FIRST + HOP // 2) // HOP, 0, len(centres) - 1)
            gaps = np.diff(pulses, prepend=2 * pulses[0] - pulses[1])
            # The gap across a pause is no period: the tracked pitch stands in there.
            periods = np.where((gaps >= SAMPLE_RATE_HZ // range_hz[1]) & (gaps <= LONGEST), gaps, near[frame])
            flow, derivative = glottal_flow(signal, pulses, periods)
            measured = np.column_stack(
                [*pulse_shape(flow, derivative, pulses, periods), dispersion(residual, pulses, periods)]
            )
            for column, measure in zip(range(2, 7), measured.T, strict=True):
                good = np.isfinite(measure)
                if good.any():
                    values[:, column] = np.interp(centres, pulses[good], measure[good], left=0, right=0)
    values[:, 7] = peak_slope(signal, len(centres))
    values[:, 10] = creak(residual, centres, pitch_hz, voiced)

    phases, harmonics = [], []
    f0 = np.where(pitch_hz > 0, pitch_hz, 100.0)
    for start in range(0, len(centres), BLOCK):
        part = slice(start, start + BLOCK)
        spectrum = harmonic_spectrum(signal, centres[part], f0[part])
        values[part, 11:36] = warped_cepstrum(true_envelope(spectrum[:, ::2], f0[part]), MCEP_ORDER)
        distortion, count = phase_distortion(spectrum, f0[part])
        values[part, 8:10] = fit_lf(distortion, f0[part])
        phases.append(distortion)
        harmonics.append(count)
    distortion, count = np.concatenate(phases), np.concatenate(harmonics)
    for start in range(0, len(centres), BLOCK):
        part = slice(start, min(start + BLOCK, len(centres)))
        around = slice(max(0, start - REACH), start + BLOCK + REACH)
        inner = slice(start - around.start, part.stop - around.start)
        mean, deviation = (each[inner] for each in phase_statistics(distortion[around], count[around]))
        values[part, 36:61] = mean
        on_hertz = _at_hertz(np.log(np.maximum(deviation, 1e-3)), f0[part], count[part])
        values[part, 61:] = warped_cepstrum(on_hertz, PDD_ORDER)

    values[silent] = 0.0
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


# --- linear prediction ----------------------------------------------------------------


def _windows(signal: Floats, centres: Whole, length: int) -> Floats:
    """Return (len(centres), length): the samples around each centre, zeros beyond the ends."""
    half = length // 2
    padded = np.pad(signal, (half, length))
    view = np.lib.stride_tricks.sliding_window_view(padded, length)
    windows: Floats = view[np.clip(centres, 0, len(view) - 1)]
    return windows


def levinson(correlation: Floats) -> Floats:
    """Return (N, p + 1) prediction error filters, led by 1, of autocorrelations (Levinson-Durbin)."""
    count, size = correlation.shape
    filters = np.zeros((count, size))
    filters[:, 0] = 1.0
    error = correlation[:, 0] * (1 + 1e-9) + 1e-20
    for order in range(1, size):
        ahead = (filters[:, :order] * correlation[:, order:0:-1]).sum(axis=1)
        reflection = -ahead / error
        filters[:, 1 : order + 1] += reflection[:, None] * filters[:, order - 1 :: -1][:, :order]
        error = error * np.maximum(1 - reflection**2, 1e-9)
    return filters


def predict(frames: Floats, order: int) -> Floats:
    """Return (N, order + 1): the prediction error filter of each row, by autocorrelation."""
    from scipy import fft

    size = fft.next_fast_len(frames.shape[1] + order, real=True)
    power = np.abs(fft.rfft(frames, size)) ** 2
    return levinson(fft.irfft(power, size)[:, : order + 1])


def fir(filters: Floats, frames: Floats) -> Floats:
    """Return each row filtered by its own filter, cut to its length."""
    filtered = frames * filters[:, :1]
    for lag in range(1, filters.shape[1]):
        filtered[:, lag:] += filters[:, lag : lag + 1] * frames[:, :-lag]
    return filtered


def lp_residual(signal: Floats, modelled: Floats, order: int) -> Floats:
    """Return what linear prediction leaves of a signal: 25 ms Hann frames every 5 ms, energy kept, added up.

    Args:
        signal: (N,) what is filtered.
        modelled: (N,) what the filters are estimated on, mostly the same.
        order: of the prediction.
    """
    length, shift = 400, 80
    window = np.hanning(length + 2)[1:-1]
    starts = np.arange(0, len(signal) + length, shift)
    pieces = np.zeros((len(starts) + length // shift, shift))
    padded = [
        np.pad(s, (length, 2 * length)) for s in ((signal,) if modelled is signal else (signal, modelled))
    ]
    views = [np.lib.stride_tricks.sliding_window_view(p, length)[::shift] for p in padded]
    for first in range(0, len(starts), 4 * BLOCK):
        part = slice(first, min(first + 4 * BLOCK, len(starts)))
        frames = views[0][part] * window
        error = fir(predict(views[-1][part] * window, order), frames)
        energy = (error**2).sum(axis=1)
        gain = np.sqrt((frames**2).sum(axis=1) / np.where(energy > 0, energy, 1.0))
        error *= gain[:, None]
        for piece in range(length // shift):
            pieces[part.start + piece : part.stop + piece] += error[:, piece * shift : (piece + 1) * shift]
    residual: Floats = pieces.reshape(-1)[length : length + len(signal)]
    return residual


def find_polarity(signal: Floats, residual: Floats) -> int:
    """Return 1 or -1: which way up the sound is, by the skewness of two residuals (RESKEW, Drugman 2013)."""
    from scipy import signal as dsp
    from scipy.stats import skew

    order, edge = dsp.ellipord(480, 500, 3, 60, fs=SAMPLE_RATE_HZ)
    sos = dsp.ellip(order, 3, 60, edge, "highpass", output="sos", fs=SAMPLE_RATE_HZ)
    high = dsp.sosfiltfilt(sos, signal, padlen=min(len(signal) - 1, 3 * (2 * len(sos) + 1)))
    other = lp_residual(signal, high, SAMPLE_RATE_HZ // 1000 + 2)
    return -1 if skew(residual) < skew(other) else 1


# --- pitch and pulses -----------------------------------------------------------------


def track_pitch(
    signal: Floats, centres: Whole, range_hz: tuple[int, int] = (LOWEST_HZ, HIGHEST_HZ)
) -> tuple[Floats, Floats]:
    """Return F0 in Hz and the summation of residual harmonics (SRH) of each frame; 0 and 0 in silence.

    Args:
        signal: (N,) at 16 kHz.
        centres: (T,) the frames' samples.
        range_hz: the lowest and the highest F0, both tried.
    """
    from scipy import fft

    length = 1598
    lowest, highest = range_hz
    residual = lp_residual(signal, signal, 12)
    window = np.blackman(length)
    candidates = np.arange(lowest, highest + 1)
    score = np.zeros((len(centres), len(candidates)), np.float32)
    heard = np.zeros(len(centres), bool)
    for start in range(0, len(centres), BLOCK // 5):
        part = slice(start, start + BLOCK // 5)
        frames = _windows(residual, centres[part], length) * window
        frames -= frames.mean(axis=1, keepdims=True)
        level = np.sqrt((frames**2).sum(axis=1))
        heard[part] = level > 1e-12
        frames /= np.where(heard[part], level, 1.0)[:, None]
        # Parseval: half of the transform of a row of norm 1 has the norm sqrt(size / 2).
        spectrum = np.abs(fft.rfft(frames.astype(np.float32), SAMPLE_RATE_HZ)) / np.sqrt(SAMPLE_RATE_HZ / 2)
        for harmonic in range(1, 6):
            score[part] += spectrum[:, harmonic * lowest : harmonic * highest + 1 : harmonic]
            if harmonic < 5:
                between = np.floor((harmonic + 0.5) * candidates + 0.5).astype(np.int64)
                score[part] -= spectrum[:, between]
    best = np.argmax(score, axis=1)
    strength = score[np.arange(len(score)), best]
    if strength.max() > 0.1:  # a second pass, within an octave of the speaker's own pitch
        middle = float(np.median(candidates[best][strength > 0.1]))
        low = max(lowest, round(0.5 * middle)) - lowest
        high = min(highest, round(2 * middle)) - lowest
        best = low + np.argmax(score[:, low : high + 1], axis=1)
        strength = score[np.arange(len(score)), best]
    return np.where(heard, candidates[best], 0.0), np.where(heard, strength, 0.0).astype(np.float64)


def find_pulses(signal: Floats, residual: Floats, pitch_hz: float) -> Whole:
    """Return the samples where the glottis closes, rising (SEDREAMS, Drugman et al., TASLP 2012)."""
    from scipy import signal as dsp

    half = round(1.7 * SAMPLE_RATE_HZ / pitch_hz / 2)
    window = np.blackman(2 * half + 1)
    smooth = dsp.oaconvolve(np.pad(signal, half), window / len(window), "valid")
    order, edge = dsp.ellipord(50, 30, 3, 60, fs=SAMPLE_RATE_HZ)
    sos = dsp.ellip(order, 3, 60, edge, "highpass", output="sos", fs=SAMPLE_RATE_HZ)
    smooth = dsp.sosfiltfilt(sos, smooth, padlen=min(len(smooth) - 1, 3 * (2 * len(sos) + 1)))
    troughs, crests = dsp.find_peaks(-smooth)[0], dsp.find_peaks(smooth)[0]
    following = np.searchsorted(crests, troughs)
    troughs, following = troughs[following < len(crests)], following[following < len(crests)]
    if not len(troughs):
        return np.zeros(0, np.int64)
    rises = crests[following] - troughs
    strong = np.flatnonzero(residual > 0.4 * np.abs(residual).max())
    after = np.clip(np.searchsorted(troughs, strong), 1, len(troughs) - 1) if len(troughs) > 1 else 0 * strong
    before = np.maximum(after - 1, 0)
    nearest = np.where(strong - troughs[before] <= troughs[after] - strong, before, after)
    ratio = float(np.median((strong - troughs[nearest]) / rises[nearest])) if len(strong) else 0.0
    begin = troughs + np.rint((ratio - 0.35) * rises).astype(np.int64)
    end = troughs + np.rint((ratio + 0.35) * rises).astype(np.int64)
    fits = (end > 0) & (begin < len(residual))
    begin, end = np.clip(begin[fits], 0, None), np.clip(end[fits], 0, len(residual) - 1)
    if not len(begin):
        return np.zeros(0, np.int64)
    reach = np.arange(int((end - begin).max()) + 1)
    index = begin[:, None] + reach
    found = np.where(index <= end[:, None], residual[np.minimum(index, len(residual) - 1)], -np.inf)
    pulses: Whole = np.unique(begin + found.argmax(axis=1))
    return pulses


# --- the glottal flow -----------------------------------------------------------------


@cache
def _high_pass() -> Floats:
    from scipy import signal as dsp

    taps: Floats = dsp.firls(301, [0, 40, 70, SAMPLE_RATE_HZ / 2], [0, 0, 1, 1], fs=SAMPLE_RATE_HZ)
    return taps


def glottal_flow(signal: Floats, pulses: Whole, periods: Whole) -> tuple[Floats, Floats]:
    """Return the glottal flow and its derivative, (N,) each, by iterative adaptive inverse filtering.

    Alku 1992. Each pulse is analysed in a Hann window of two periods around it, and the pieces are added.
    """
    from scipy import signal as dsp

    flow, derivative = np.zeros(len(signal)), np.zeros(len(signal))
    high = dsp.oaconvolve(np.pad(signal, 150), _high_pass(), "valid")
    reach = int(periods.max())
    padded = np.pad(high, (reach, 2 * reach + 1))
    for start in range(0, len(pulses), BLOCK):
        at, period = pulses[start : start + BLOCK], periods[start : start + BLOCK]
        offset = np.arange(2 * int(period.max()) + 1)
        length = 2 * period + 1
        inside = offset < length[:, None]
        index = (at - period)[:, None] + offset
        window = np.where(inside, 0.5 - 0.5 * np.cos(2 * np.pi * (offset + 1) / (length[:, None] + 1)), 0.0)
        frames = padded[np.minimum(index + reach, len(padded) - 1)] * window
        vocal, glottal = 2 * (SAMPLE_RATE_HZ // 2000) + 4, 2 * (SAMPLE_RATE_HZ // 4000)
        tilt = predict(frames * window, 1)
        tract = predict(fir(tilt, frames) * window, vocal)
        source = predict(_integrate(fir(tract, frames)) * window, glottal)
        tract = predict(_integrate(fir(source, frames)) * window, vocal)
        change = fir(tract, frames)
        keep = inside & (index >= 0) & (index < len(signal))
        for total, piece in ((derivative, change), (flow, _integrate(change))):
            total += np.bincount(index[keep], piece[keep], len(signal))
    return flow, derivative


def _integrate(frames: Floats) -> Floats:
    from scipy import signal as dsp

    integrated: Floats = dsp.lfilter([1.0], [1.0, -0.99], frames, axis=1)
    return integrated


def pulse_shape(flow: Floats, derivative: Floats, pulses: Whole, periods: Whole) -> tuple[Floats, ...]:
    """Return NAQ, QOQ, H1H2 (dB) and PSP of each pulse, (P,) each; NaN where one cannot be measured."""
    from scipy import fft

    parts = []
    for start in range(0, len(pulses), BLOCK):
        at, period = pulses[start : start + BLOCK], periods[start : start + BLOCK]
        begin = at - period
        offset = np.arange(int(period.max()) + 9)
        index = np.clip(begin[:, None] + offset, 0, len(flow) - 1)
        inside = offset <= period[:, None]
        pulse = flow[index]
        # The flow drifts: what lies under the line from one closure to the next is not the pulse.
        first, last = flow[np.clip(begin, 0, None)][:, None], flow[at][:, None]
        level = np.where(inside, pulse - (first + (last - first) * offset / period[:, None]), -np.inf)
        height, top = level.max(axis=1), level.argmax(axis=1)
        steepest = np.where(offset <= period[:, None] + 8, np.abs(derivative[index]), 0.0).max(axis=1)
        low = (level <= 0.5 * height[:, None]) & inside
        opens = np.where(low & (offset < top[:, None]), offset, 0).max(axis=1)
        closes = np.where(low & (offset > top[:, None]), offset, period[:, None]).min(axis=1)
        usable = (begin >= 0) & (height > 0) & (steepest > 0)
        naq = np.where(usable, height / np.where(steepest > 0, steepest, 1.0) / period, np.nan)
        qoq = np.where(usable, (closes - opens) / period, np.nan)

        half = np.floor(1.5 * period + 0.5).astype(np.int64)
        offset = np.arange(-int(half.max()), int(half.max()) + 1)
        index = at[:, None] + offset
        window = np.where(
            np.abs(offset) <= half[:, None], 0.54 + 0.46 * np.cos(np.pi * offset / half[:, None]), 0
        )
        frame = (
            np.where((index >= 0) & (index < len(flow)), derivative[np.clip(index, 0, len(flow) - 1)], 0)
            * window
        )
        size = 4096
        spectrum = np.abs(fft.rfft(frame, size))
        f0 = size / period  # in bins
        bins = np.arange(int(2.25 * f0.max()) + 2)
        near = spectrum[:, : len(bins)]
        peaks = [
            np.where(np.abs(bins - k * f0[:, None]) <= f0[:, None] / 4, near, 0).max(axis=1) for k in (1, 2)
        ]
        h1h2 = np.where(
            usable, 20 * np.log10(np.maximum(peaks[0], 1e-12) / np.maximum(peaks[1], 1e-12)), np.nan
        )

        lowest = np.where(inside, pulse, np.inf).min(axis=1, keepdims=True)
        span = np.where(inside, pulse, -np.inf).max(axis=1, keepdims=True) - lowest
        scaled = np.where(inside, (pulse - lowest) / np.where(span > 0, span, 1.0), 0.0)
        ratio = _parabola(scaled) / _flat_parabola()[np.clip(period, 1, LONGEST)]
        parts.append((naq, qoq, h1h2, np.where(usable & (span[:, 0] > 0), ratio, np.nan)))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def _parabola(pulses: Floats) -> Floats:
    """Return the curvature of the parabola a k^2 + b on the first bins of each row's spectrum in dB.

    Bins are taken in, from three on, until the normalised error reaches 0.01 (Alku et al. 1997, eq. 4 and 5).
    """
    from scipy import fft

    most = 256
    level = 20 * np.log10(np.maximum(np.abs(fft.rfft(pulses, 2048)[:, :most]), 1e-12))
    square = np.arange(most, dtype=np.float64) ** 2
    count = np.arange(1, most + 1)
    sum2, sum4 = np.cumsum(square), np.cumsum(square**2)
    total, power, cross = (np.cumsum(term, axis=1) for term in (level, level**2, level * square))
    divisor = count * sum4 - sum2**2
    divisor[:1] = 1.0
    curve = (count * cross - total * sum2) / divisor
    base = (total - curve * sum2) / count
    error = (
        power
        - 2 * curve * cross
        - 2 * base * total
        + curve**2 * sum4
        + 2 * curve * base * sum2
        + count * base**2
    )
    over = error >= 0.01 * power
    over[:, :2] = False
    stop = np.where(over.any(axis=1), over.argmax(axis=1), most - 1)
    chosen: Floats = curve[np.arange(len(curve)), stop]
    return chosen


@cache
def _flat_parabola() -> Floats:
    """The curvature of a constant flow over one period, the steepest fall that there is, for every period."""
    periods = np.arange(1, LONGEST + 1)
    flat = np.where(np.arange(LONGEST) < periods[:, None], 1.0 / periods[:, None], 0.0)
    return np.concatenate([[np.nan], _parabola(flat)])


# --- wavelets -------------------------------------------------------------------------


def _wavelet(scale: int) -> Floats:
    """The cosine-modulated Gaussian pulse of d'Alessandro & Sturmel 2011, its middle at 1, at 16 kHz."""
    offset = np.arange(-6 * scale, 6 * scale + 1)
    pulse: Floats = np.cos(np.pi * offset / scale) * np.exp(-(offset**2) / (2.0 * scale**2))
    return pulse


def _band(signal: Floats, scale: int) -> Floats:
    from scipy import signal as dsp

    wavelet = _wavelet(scale)
    half = len(wavelet) // 2
    band: Floats = dsp.oaconvolve(np.pad(signal, half), wavelet, "valid")
    return band


def dispersion(residual: Floats, pulses: Whole, periods: Whole) -> Floats:
    """Return the maxima dispersion quotient of each pulse, (P,); NaN within a period of the ends."""
    reach = np.floor(0.2 * periods + 0.5).astype(np.int64)
    offset = np.arange(-int(reach.max()), int(reach.max()) + 1)
    inside = np.abs(offset) <= reach[:, None]
    index = np.clip(pulses[:, None] + offset, 0, len(residual) - 1)
    distances = []
    for exponent in range(2, 7):
        found = np.where(inside, _band(residual, 2**exponent)[index], -np.inf)
        distances.append(np.abs(offset[found.argmax(axis=1)]))
    usable = (pulses >= periods) & (pulses + periods < len(residual))
    return np.where(usable, np.mean(distances, axis=0) / periods, np.nan)


def peak_slope(signal: Floats, frames: int) -> Floats:
    """Return the slope over octaves, low to high, of log10 of their maxima in 40 ms; 0 if one is silent."""
    maxima = np.zeros((7, frames))
    blocks = 2 * frames + 8
    for row, exponent in enumerate(range(6, -1, -1)):
        band = np.abs(_band(signal, 2**exponent))
        padded = np.zeros(blocks * FIRST)
        length = min(len(band), (blocks - 4) * FIRST)
        padded[3 * FIRST : 3 * FIRST + length] = band[:length]
        small = padded.reshape(blocks, FIRST).max(axis=1)
        maxima[row] = np.lib.stride_tricks.sliding_window_view(small, 8)[::2][:frames].max(axis=1)
    position = np.arange(7) - 3.0
    slope: Floats = position @ np.log10(np.maximum(maxima, 1e-300)) / (position @ position)
    return np.where((maxima > 1e-12).all(axis=0), slope, 0.0)


def creak(residual: Floats, centres: Whole, pitch_hz: Floats, voiced: NDArray[np.bool_]) -> Floats:
    """Return 0 to 1: the stand-in for creaky voice that the table at the top describes, (T,)."""
    score = np.zeros(len(centres))
    slow = 1 / (1 + np.exp((pitch_hz - 80.0) / 5.0))
    for start in range(0, len(centres), BLOCK):
        part = slice(start, start + BLOCK)
        frame = _windows(residual, centres[part], 960)
        level = np.sqrt((frame**2).mean(axis=1))
        crest = np.abs(frame).max(axis=1) / np.where(level > 0, level, 1.0)
        score[part] = slow[part] * np.clip((crest - 4.0) / 4.0, 0.0, 1.0)
    return np.where(voiced, score, 0.0)


# --- the harmonic spectrum ------------------------------------------------------------

SPECTRUM = 2048  # points of the transform that harmonics are read from
ENVELOPE = 1024  # points of the transform of envelopes
MOST = SAMPLE_RATE_HZ // 2 // LOWEST_HZ  # harmonics below half the sample rate


def harmonic_spectrum(signal: Floats, centres: Whole, f0: Floats) -> NDArray[np.complex128]:
    """Return (T, 1025): the spectrum of three Blackman-weighted periods, its phases the centre's."""
    from scipy import fft

    half = np.floor(1.5 * SAMPLE_RATE_HZ / f0 + 0.5)[:, None]
    offset = np.arange(-ENVELOPE // 2, ENVELOPE // 2)
    turn = np.pi * offset / half
    window = np.where(np.abs(offset) <= half, 0.42 + 0.5 * np.cos(turn) + 0.08 * np.cos(2 * turn), 0.0)
    window /= window.sum(axis=1, keepdims=True)
    frames = _windows(signal, centres, ENVELOPE) * window
    rotated = np.zeros((len(centres), SPECTRUM))
    rotated[:, : ENVELOPE // 2] = frames[:, ENVELOPE // 2 :]
    rotated[:, -ENVELOPE // 2 :] = frames[:, : ENVELOPE // 2]
    spectrum: NDArray[np.complex128] = fft.rfft(rotated)
    return spectrum


def true_envelope(spectrum: NDArray[np.complex128], f0: Floats) -> Floats:
    """Return (T, 513) the log amplitude of the true envelope of cepstral order fs / (2 F0).

    The spectrum is raised to its own cepstral smoothing until no peak stands out by more than 2 dB (Imai;
    Roebel & Rodet 2005).
    """
    from scipy import fft

    limit = np.log(10 ** (2 / 20))
    measured = np.log(np.abs(spectrum) + 1e-9).astype(np.float32)
    envelope = measured.copy()
    order = np.minimum(np.rint(0.5 * SAMPLE_RATE_HZ / f0), ENVELOPE // 2 - 1)
    lifter = (np.arange(ENVELOPE // 2 + 1) <= order[:, None]).astype(np.float32)
    open_rows = np.arange(len(measured))
    raised = measured
    for _ in range(40):
        # A real and even sequence: its transform is real, and rfft of it is the cosine transform.
        cepstrum = fft.irfft(raised, ENVELOPE)[:, : ENVELOPE // 2 + 1] * lifter[open_rows]
        smooth = _cosines(cepstrum)
        envelope[open_rows] = smooth
        left = (measured[open_rows] - smooth).max(axis=1) > limit
        if not left.any():
            break
        raised = np.maximum(raised[left], smooth[left])
        open_rows = open_rows[left]
    return envelope.astype(np.float64)


def _cosines(cepstrum: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (T, 513): the real spectrum of an even sequence given by its first half."""
    from scipy import fft

    whole = np.concatenate([cepstrum, cepstrum[:, -2:0:-1]], axis=1)
    return fft.rfft(whole).real


def _mel(frequency_hz: Floats) -> Floats:
    return np.log1p(frequency_hz / 700.0)


@cache
def _warp() -> tuple[Whole, Floats, Floats]:
    """Return lower bin and share of the next for each point of the mel axis, and the cepstrum's cosines."""
    top = SAMPLE_RATE_HZ / 2
    points = np.arange(ENVELOPE // 2 + 1)
    hertz = 700.0 * np.expm1(points / (ENVELOPE // 2) * float(_mel(np.array(top))))
    position = hertz / top * (ENVELOPE // 2)
    lower = np.minimum(position.astype(np.int64), ENVELOPE // 2 - 1)
    weights = np.full(len(points), 2.0)
    weights[[0, -1]] = 1.0
    quefrency = np.arange(max(MCEP_ORDER, PDD_ORDER) + 1)
    cosines = np.cos(np.pi * np.outer(points, quefrency) / (ENVELOPE // 2)) * weights[:, None] / ENVELOPE
    cosines[:, 1:] *= 2.0  # the energy of the dropped negative half
    return lower, position - lower, cosines


def warped_cepstrum(log_amplitude: Floats, order: int) -> Floats:
    """Return (T, order + 1): the cepstrum of (T, 513) log amplitudes on the mel axis, both halves in one."""
    lower, share, cosines = _warp()
    warped = log_amplitude[:, lower] * (1 - share) + log_amplitude[:, lower + 1] * share
    cepstrum: Floats = warped @ cosines[:, : order + 1]
    return cepstrum


def _at_hertz(by_harmonic: Floats, f0: Floats, count: Whole) -> Floats:
    """Return (T, 513): values of harmonics 1, 2, ... (T, K) joined by lines, held beyond first and last."""
    frequency = np.arange(ENVELOPE // 2 + 1) * (SAMPLE_RATE_HZ / ENVELOPE)
    position = np.clip(frequency / f0[:, None], 1.0, np.maximum(count, 1)[:, None]) - 1.0
    lower = np.minimum(position.astype(np.int64), by_harmonic.shape[1] - 2)
    share = position - lower
    rows = np.arange(len(f0))[:, None]
    joined: Floats = by_harmonic[rows, lower] * (1 - share) + by_harmonic[rows, lower + 1] * share
    return joined


def _minimum_phase(log_amplitude: Floats) -> Floats:
    """Return (T, 513): the phase of the minimum-phase filter with these (T, 513) log amplitudes."""
    from scipy import fft

    cepstrum = fft.irfft(log_amplitude, ENVELOPE)
    cepstrum[:, 1 : ENVELOPE // 2] *= 2.0
    cepstrum[:, ENVELOPE // 2 + 1 :] = 0.0
    phase: Floats = fft.rfft(cepstrum).imag
    return phase


def _distort(log_amplitude: Floats, phase: Floats, f0: Floats, count: Whole) -> Floats:
    """Return phase distortion (T, K - 1): steps of phase less the filter's, less that of harmonic 1, wrapped.

    It is the same for every shift in time (Degottex et al., ICASSP 2011, equation 5).
    """
    filtered = _minimum_phase(_at_hertz(log_amplitude, f0, count))
    position = np.clip(
        f0[:, None] * np.arange(1, phase.shape[1] + 1) * (ENVELOPE / SAMPLE_RATE_HZ), 0, ENVELOPE // 2
    )
    lower = np.minimum(position.astype(np.int64), ENVELOPE // 2 - 1)
    share = position - lower
    rows = np.arange(len(f0))[:, None]
    source = phase - (filtered[rows, lower] * (1 - share) + filtered[rows, lower + 1] * share)
    return _wrapped(np.diff(source, axis=1) - source[:, :1])


def _wrapped(angle: Floats) -> Floats:
    wrapped: Floats = angle - 2 * np.pi * np.round(angle / (2 * np.pi))
    return wrapped


def phase_distortion(spectrum: NDArray[np.complex128], f0: Floats) -> tuple[Floats, Whole]:
    """Return phase distortion (T, 159) of harmonics 1, 2, ..., and how many lie below 8 kHz, (T,)."""
    harmonic = np.arange(1, MOST + 1)
    count = np.maximum(np.ceil(SAMPLE_RATE_HZ / 2 / f0 - 1).astype(np.int64), 2)
    position = np.minimum(f0[:, None] * harmonic * (SPECTRUM / SAMPLE_RATE_HZ), SPECTRUM // 2)
    lower = np.minimum(position.astype(np.int64), SPECTRUM // 2 - 1)
    share = position - lower
    rows = np.arange(len(f0))[:, None]
    read = spectrum[rows, lower] * (1 - share) + spectrum[rows, lower + 1] * share
    return _distort(np.log(np.abs(read) + 1e-9), np.angle(read), f0, count), count


def phase_statistics(distortion: Floats, count: Whole) -> tuple[Floats, Floats]:
    """Return HMPDM, (T, 25), and the deviation of phase distortion by harmonic, (T, 159).

    HMPD (Degottex 2014): the circular mean over 25 frames, averaged by log-harmonic band; the circular
    deviation over 9 frames of what a mean over 9 frames leaves. Each window is run forth and back.
    """
    exists = np.arange(1, distortion.shape[1] + 1) < count[:, None]
    turned = np.where(exists, np.exp(1j * distortion), 0.0)
    mean = _smooth(turned, 25)
    unit = np.where(exists, mean / np.maximum(np.abs(mean), 1e-12), 0.0)
    bands = _bands()
    summed = unit @ (bands[:, None] == np.arange(PDM_BANDS))
    hmpdm = np.where(np.abs(summed) > 1e-9, np.angle(summed), 0.0)
    trend = _smooth(turned, 9)
    trend = np.where(np.abs(trend) > 1e-12, trend / np.maximum(np.abs(trend), 1e-12), 1.0)
    share = _smooth(exists.astype(np.complex128), 9).real
    length = np.abs(_smooth(turned * np.conj(trend), 9)) / np.maximum(share, 1e-12)
    deviation = np.sqrt(-2 * np.log(np.clip(length, 1e-6, 1.0)))
    return hmpdm, np.where(exists, deviation, 0.0)


@cache
def _bands() -> Whole:
    """Return the band, 1 to 24, of each element of phase distortion: one each up to 8, then ever wider.

    The curve is a Bezier arc from (8, 8) over (24, 24) to the highest harmonic.
    """
    linear, order = 8.0, PDM_BANDS - 1.0
    t = np.linspace(0.0, 1.0, 201)
    x = (1 - t) ** 2 * linear + 2 * t * (1 - t) * order + t**2 * (MOST - 1)
    y = (1 - t) ** 2 * linear + 2 * t * (1 - t) * order + t**2 * order
    element = np.arange(1, MOST)
    return np.rint(np.where(element <= linear, element, np.interp(element, x, y))).astype(np.int64)


def _smooth(values: NDArray[np.complex128], length: int) -> NDArray[np.complex128]:
    """Return the running mean over frames, run forth and back; beyond the ends lies nothing."""
    from scipy.ndimage import uniform_filter1d

    for _ in range(2):
        values = uniform_filter1d(values, length, axis=0, mode="constant")
    return values


# --- the LF model ---------------------------------------------------------------------

SHAPES = np.arange(6, 51) / 20.0  # Rd from 0.3 to 2.5
COMPARED = 7  # elements of phase distortion that the fit looks at
# Those over 500 Hz are nearest to no pitch under it: with COVAREP's range they change nothing.
MODEL_PITCHES = np.concatenate(
    [np.geomspace(LOWEST_HZ, HIGHEST_HZ, 25), np.geomspace(HIGHEST_HZ, CEILING_HZ, 9)[1:]]
)


def lf_pulse(shape: float, points: int) -> Floats:
    """Return a period of the Liljencrants-Fant model of the glottal flow's derivative, its deepest point -1.

    Args:
        shape: Rd, 0.3 (tense) to 2.5 (lax); the other parameters follow from it (Fant 1995, eq. 2 to 4).
        points: samples in the period.
    """
    from scipy.optimize import brentq

    back = (-1 + 4.8 * shape) / 100
    skewness = (22.4 + 11.8 * shape) / 100
    rise = skewness / (4 * (0.11 * shape / (0.5 + 1.2 * skewness) - back))
    top = 1 / (2 * rise)
    end = top * (1 + skewness)
    omega = np.pi / top
    rest = 1 - end
    decay = brentq(lambda e: 1 - np.exp(-e * rest) - e * back, 0.1 / back, 2 / back)
    returned = -(1 - np.exp(-decay * rest) * (1 + decay * rest)) / (decay**2 * back)

    def area(growth: float) -> float:
        """The flow at the period's end; the open phase is scaled to fall to -1 at ``end``."""
        opened = growth * np.sin(omega * end) - omega * np.cos(omega * end) + omega * np.exp(-growth * end)
        return float(-opened / ((growth**2 + omega**2) * np.sin(omega * end)) + returned)

    growth = brentq(area, -50.0, 500.0)
    time = np.arange(points) / points
    opening = -np.exp(growth * (time - end)) * np.sin(omega * time) / np.sin(omega * end)
    closing = -(np.exp(-decay * (time - end)) - np.exp(-decay * rest)) / (decay * back)
    return np.where(time <= end, opening, closing)


@cache
def _models() -> Floats:
    """Return the phase distortion of LF pulses, (pitches, shapes, 7)."""
    pulses = np.stack([lf_pulse(shape, 1 << 13) for shape in SHAPES])
    series = np.fft.rfft(pulses)[:, 1 : MOST + 1]
    tables = []
    for pitch in MODEL_PITCHES:
        f0 = np.full(len(SHAPES), pitch)
        count = np.maximum(np.ceil(SAMPLE_RATE_HZ / 2 / f0 - 1).astype(np.int64), 2)
        tables.append(_distort(np.log(np.abs(series)), np.angle(series), f0, count)[:, :COMPARED])
    return np.stack(tables)


def fit_lf(distortion: Floats, f0: Floats) -> Floats:
    """Return (T, 2): Rd of the LF pulse whose phase distortion is nearest, and the confidence, 0 to 1."""
    pitch = np.abs(np.log(f0[:, None] / MODEL_PITCHES)).argmin(axis=1)
    apart = _wrapped(distortion[:, None, :COMPARED] - _models()[pitch])
    error = (apart**2).mean(axis=2)
    best = error.argmin(axis=1)
    rows = np.arange(len(error))
    inner = np.clip(best, 1, len(SHAPES) - 2)
    before, middle, after = error[rows, inner - 1], error[rows, inner], error[rows, inner + 1]
    bend = before - 2 * middle + after
    shift = np.where(
        (bend > 0) & (inner == best), 0.5 * (before - after) / np.where(bend > 0, bend, 1.0), 0.0
    )
    step = SHAPES[1] - SHAPES[0]
    return np.column_stack(
        [SHAPES[best] + np.clip(shift, -0.5, 0.5) * step, 1 - np.sqrt(error[rows, best]) / np.pi]
    )
