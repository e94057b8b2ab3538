"""COVAREP's columns on synthetic voices: LF pulses of known shape and pitch through four formants."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal as dsp

from pipeline.errors import StreamMissing
from pipeline.extraction.extractors.audio import covarep
from pipeline.extraction.extractors.base import Clip

RATE = covarep.SAMPLE_RATE_HZ
COLUMN = {name: index for index, name in enumerate(covarep.COLUMNS)}
FORMANTS = ((700, 80), (1200, 100), (2600, 150), (3500, 200))  # Hz and width: an open vowel


def voice(
    pitch_hz: float, shape: float, seconds: float = 1.0, jitter: float = 0.01, hiss: float = 1e-3
) -> NDArray[np.float64]:
    """Return (N,) at 16 kHz: LF pulses made at 128 kHz, periods off by ``jitter``, through the formants."""
    generator = np.random.default_rng(1)
    finer, count = 8, int(seconds * RATE)
    periods = (1 + jitter * generator.normal(size=int(2 * seconds * pitch_hz) + 9)) / pitch_hz
    ends = np.concatenate([[0.0], np.cumsum(periods)])
    phase = np.interp(np.arange(count * finer) / (RATE * finer), ends, np.arange(len(ends))) % 1
    pulse = covarep.lf_pulse(shape, 1 << 14)
    sound = dsp.resample_poly(pulse[(phase * len(pulse)).astype(int)], 1, finer)
    for frequency, width in FORMANTS:
        radius = np.exp(-np.pi * width / RATE)
        poles = [1, -2 * radius * np.cos(2 * np.pi * frequency / RATE), radius**2]
        sound = dsp.lfilter([sum(poles)], poles, sound)
    result: NDArray[np.float64] = 0.5 * sound / np.abs(sound).max() + hiss * generator.normal(size=count)
    return result


def middle(sound: NDArray[np.float64], name: str) -> float:
    """Return a column's median, the edges left out."""
    return float(np.median(covarep.analyse(sound)[15:-15, COLUMN[name]]))


def test_there_are_74_columns_in_covareps_order() -> None:
    assert len(covarep.COLUMNS) == 74
    assert covarep.COLUMNS[10:12] == ("creak", "MCEP_0")
    assert (COLUMN["MCEP_24"], COLUMN["HMPDM_0"], COLUMN["HMPDD_0"], COLUMN["HMPDD_12"]) == (35, 36, 61, 73)


@pytest.mark.parametrize("pitch_hz", [75, 110, 180, 260, 380])
def test_pitch_and_voicing_of_a_voice(pitch_hz: float) -> None:
    values = covarep.analyse(voice(pitch_hz, 1.2))[10:-10]
    assert values[:, COLUMN["VUV"]].mean() > 0.98
    assert np.median(np.abs(values[:, 0] - pitch_hz)) <= 0.02 * pitch_hz
    assert (np.abs(values[:, 0] - pitch_hz) < 0.1 * pitch_hz).mean() > 0.95


@pytest.mark.parametrize("pitch_hz", [310, 480, 560, 700])
def test_a_scream_is_not_halved_under_a_ceiling_that_is_high_enough(pitch_hz: float) -> None:
    sound = voice(pitch_hz, 0.6, jitter=0.03)
    centres = np.arange(covarep.FIRST, len(sound), covarep.HOP)

    def right(*range_hz: int) -> float:
        found = covarep.track_pitch(sound, centres, range_hz or (50, 500))[0][10:-10]
        return float((np.abs(found / pitch_hz - 1) < 0.06).mean())

    assert right(50, 1000) == 1.0
    assert right() == (pitch_hz < 500)  # over COVAREP's own range nothing is right
    if pitch_hz < 500:  # the second pass keeps to an octave of the median, whatever the ceiling is
        narrow, wide = (
            covarep.track_pitch(sound, centres, (50, top))[0][10:-10].tolist() for top in (500, 1000)
        )
        assert narrow == wide


def test_the_columns_of_a_scream_are_those_of_its_pitch() -> None:
    sound = voice(640, 1.0, jitter=0.02)
    values = covarep.analyse(sound, 1, (50, 1000))[15:-15]
    assert np.median(values[:, 0]) == pytest.approx(640, rel=0.02)
    assert values[:, COLUMN["VUV"]].mean() > 0.98
    assert np.isfinite(values).all()
    low = covarep.analyse(sound, 1)[15:-15]
    assert np.median(low[:, 0]) == pytest.approx(0.6 * 640, rel=0.02)


def test_a_range_of_pitch_is_an_octave_or_more() -> None:
    with pytest.raises(
        ValueError, match=r"pitch from 300 to 500 Hz, expected an octave at least: f0_max_hz: 600"
    ):
        covarep.CovarepSettings(f0_min_hz=300)
    assert covarep.CovarepSettings(f0_min_hz=250).f0_max_hz == 500


def test_noise_is_unvoiced_and_has_no_pulses() -> None:
    values = covarep.analyse(np.random.default_rng(0).normal(scale=0.1, size=RATE))
    assert values[:, COLUMN["VUV"]].mean() < 0.1
    assert values[:, COLUMN["creak"]].max() < 0.05


def test_voicing_follows_the_sound() -> None:
    sound = np.concatenate([voice(120, 1.0), np.random.default_rng(2).normal(scale=0.05, size=RATE)])
    values = covarep.analyse(sound)
    assert values[10:90, 1].mean() > 0.95
    assert values[110:, 1].mean() < 0.1
    assert not values[150:, COLUMN["NAQ"]].any()  # after the last pulse there is nothing to measure


@pytest.mark.parametrize("pitch_hz", [110, 200])
def test_the_pulses_shape_is_found_again(pitch_hz: float) -> None:
    shapes = (0.6, 1.0, 1.6, 2.2)
    found = [covarep.analyse(voice(pitch_hz, shape))[15:-15] for shape in shapes]
    for shape, values in zip(shapes, found, strict=True):
        assert np.median(values[:, COLUMN["Rd"]]) == pytest.approx(shape, abs=0.12)
        assert np.median(values[:, COLUMN["Rd_conf"]]) > 0.8
        # Fant 1995: Rd is U0 / Ee * F0 / 110, that is NAQ / 0.11.
        assert np.median(values[:, COLUMN["NAQ"]]) == pytest.approx(0.11 * shape, rel=0.25)
    for name in ("NAQ", "QOQ", "H1H2", "PSP"):  # all rise from tense to lax
        medians = [float(np.median(values[:, COLUMN[name]])) for values in found]
        assert medians == sorted(medians), name


def test_h1_h2_is_that_of_the_pulse_itself() -> None:
    series = np.abs(np.fft.rfft(covarep.lf_pulse(1.0, 1 << 12)))
    expected = 20 * np.log10(series[1] / series[2])
    assert middle(voice(110, 1.0), "H1H2") == pytest.approx(expected, abs=2.0)


def test_both_ways_up_give_the_same() -> None:
    sound = voice(120, 1.0)
    assert covarep.find_polarity(sound, covarep.lp_residual(sound, sound, 18)) == 1
    assert covarep.find_polarity(-sound, covarep.lp_residual(-sound, -sound, 18)) == -1
    np.testing.assert_array_equal(covarep.analyse(sound), covarep.analyse(-sound))
    turned = covarep.analyse(sound, polarity=-1)
    assert not np.allclose(turned[:, COLUMN["NAQ"]], covarep.analyse(sound)[:, COLUMN["NAQ"]])


def test_a_pulse_train_has_its_pulses_where_they_are() -> None:
    period, count = 100, 8000
    sound = np.zeros(count)
    sound[50::period] = 1.0
    lowered = dsp.lfilter([1], [1, -0.95], sound)  # a decaying pulse: the residual's peak is its onset
    residual = covarep.lp_residual(lowered, lowered, 18)
    pulses = covarep.find_pulses(lowered, residual, RATE / period)
    inner = pulses[(pulses > 500) & (pulses < count - 500)]
    assert len(inner) == pytest.approx(70, abs=2)
    assert (np.abs((inner - 50 + period // 2) % period - period // 2) <= 1).all()


def test_a_flat_sound_has_no_pulses() -> None:
    assert len(covarep.find_pulses(np.zeros(4000), np.zeros(4000), 100.0)) == 0


def test_dispersion_is_zero_for_impulses_and_grows_with_their_width() -> None:
    pulses = np.arange(400, 7600, 160)
    periods = np.full(len(pulses), 160)
    impulses = np.zeros(8000)
    impulses[pulses] = 1.0
    assert np.max(covarep.dispersion(impulses, pulses, periods)[1:-1]) == 0.0  # the ends lack a neighbour
    generator = np.random.default_rng(0)
    spread = [
        float(np.nanmean(covarep.dispersion(impulses + noise * generator.normal(size=8000), pulses, periods)))
        for noise in (0.05, 0.3, 1.0)
    ]
    assert 0 < spread[0] < spread[1] < spread[2] <= 0.2


def test_peak_slope_follows_the_spectral_tilt() -> None:
    noise = np.random.default_rng(3).normal(size=RATE)
    tilted = [covarep.peak_slope(dsp.lfilter([1 - pole], [1, -pole], noise), 100) for pole in (0.0, 0.5, 0.9)]
    medians = [float(np.median(slope)) for slope in tilted]
    assert medians[0] > medians[1] > medians[2]
    # One impulse: every band's maximum is 1, the slope is 0 wherever the window sees it.
    impulse = np.zeros(RATE)
    impulse[RATE // 2] = 1.0
    np.testing.assert_allclose(covarep.peak_slope(impulse, 100)[49:51], 0.0, atol=1e-12)
    assert not covarep.peak_slope(np.zeros(RATE), 100).any()


def test_creak_stands_for_a_slow_and_peaky_voice() -> None:
    slow, fast = (covarep.analyse(voice(pitch, 0.6))[15:-15, COLUMN["creak"]] for pitch in (58, 150))
    assert np.median(slow) > 0.3
    assert fast.max() < 0.05


def test_levinson_solves_the_normal_equations() -> None:
    from scipy.linalg import solve_toeplitz

    frames = np.random.default_rng(4).normal(size=(3, 200)).cumsum(axis=1)
    filters = covarep.predict(frames, 8)
    for frame, found in zip(frames, filters, strict=True):
        correlation = np.correlate(frame, frame, "full")[199:208]
        expected = -solve_toeplitz(correlation[:8], correlation[1:9])
        np.testing.assert_allclose(found[1:], expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            covarep.fir(found[None], frame[None])[0], dsp.lfilter(found, [1], frame), rtol=1e-9, atol=1e-9
        )


def test_the_parabola_of_psp_is_that_of_least_squares() -> None:
    pulse = np.hanning(100)
    level = 20 * np.log10(np.maximum(np.abs(np.fft.rfft(pulse, 2048)), 1e-12))
    for count in range(3, 256):
        bins = np.arange(count)
        curve, base = np.polyfit(bins**2, level[:count], 1)
        if ((level[:count] - curve * bins**2 - base) ** 2).sum() / (level[:count] ** 2).sum() >= 0.01:
            break
    assert covarep._parabola(pulse[None])[0] == pytest.approx(curve, rel=1e-6)


def test_lf_pulse_returns_to_zero_flow() -> None:
    for shape in (0.3, 1.0, 2.5):
        pulse = covarep.lf_pulse(shape, 1 << 14)
        assert pulse.min() == pytest.approx(-1.0, abs=2e-3)
        assert abs(pulse.mean()) < 2e-4  # the flow at the end is that at the beginning
        flow = np.cumsum(pulse) / len(pulse)
        assert flow.max() == pytest.approx(0.11 * shape, rel=0.12)  # Fant 1995: U0 / Ee = 0.11 Rd, T0 = 1


def test_the_envelope_touches_the_harmonics_and_not_the_gaps() -> None:
    time = np.arange(4800) / RATE
    amplitudes = {k: 0.5 ** (k / 4) for k in range(1, 40)}
    sound = sum(a * np.cos(2 * np.pi * 200 * k * time) for k, a in amplitudes.items())
    spectrum = covarep.harmonic_spectrum(np.asarray(sound), np.array([2400]), np.array([200.0]))
    envelope = covarep.true_envelope(spectrum[:, ::2], np.array([200.0]))[0]
    bins = np.rint(np.arange(2, 38) * 200 * covarep.ENVELOPE / RATE).astype(int)
    expected = np.log([amplitudes[k] / 2 for k in range(2, 38)])
    assert np.abs(envelope[bins] - expected).max() < np.log(10 ** (3 / 20))


def test_the_warped_cepstrum_of_a_mel_cosine_is_one_coefficient() -> None:
    hertz = np.arange(513) * RATE / covarep.ENVELOPE
    mel = np.log1p(hertz / 700) / np.log1p(RATE / 2 / 700)
    cepstrum = covarep.warped_cepstrum((1.5 + 0.7 * np.cos(np.pi * 3 * mel))[None], 12)[0]
    expected = np.zeros(13)
    expected[[0, 3]] = 1.5, 0.7
    np.testing.assert_allclose(cepstrum, expected, atol=2e-3)


def test_phase_distortion_does_not_see_a_shift_in_time() -> None:
    sound = voice(125, 1.0, jitter=0.0, hiss=0.0)
    pitch = np.full(40, 125.0)
    spectra = [covarep.harmonic_spectrum(sound, 6000 + start + np.arange(40), pitch) for start in (0, 57)]
    first, second = (covarep.phase_distortion(spectrum, pitch)[0][:, :20] for spectrum in spectra)
    assert np.abs(covarep._wrapped(first - second)).max() < 0.1


def test_deviation_of_phase_is_low_for_a_steady_voice_and_high_for_noise() -> None:
    steady = covarep.analyse(voice(125, 1.0, jitter=0.002, hiss=0.0), polarity=1)[30:-30]
    noise = covarep.analyse(np.random.default_rng(5).normal(scale=0.1, size=RATE), polarity=1)[30:-30]
    assert steady[:, COLUMN["HMPDD_0"]].mean() < noise[:, COLUMN["HMPDD_0"]].mean() - 1.0
    assert (np.abs(steady[:, COLUMN["HMPDM_0"] :][:, :25]) <= np.pi).all()
    assert steady[:, COLUMN["HMPDM_1"]].std() < 0.1 < noise[:, COLUMN["HMPDM_1"]].std()


def test_blocks_do_not_show() -> None:
    sound = voice(140, 1.0, seconds=7.0)
    whole = covarep.analyse(sound, polarity=1)
    assert len(whole) == 700 > covarep.BLOCK
    blocks, covarep.BLOCK = covarep.BLOCK, 333
    try:
        again = covarep.analyse(sound, polarity=1)
    finally:
        covarep.BLOCK = blocks
    np.testing.assert_allclose(again, whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("samples", [81, 160, 400, 800, 1700])
def test_the_shortest_sounds(samples: int) -> None:
    values = covarep.analyse(voice(150, 1.0)[4000 : 4000 + samples])
    assert values.shape == (len(range(80, samples, 160)), 74)
    assert np.isfinite(values).all()


def test_silence_is_zeros() -> None:
    assert not covarep.analyse(np.zeros(RATE)).any()
    sound = np.concatenate([np.zeros(RATE // 2), voice(120, 1.0)])
    values = covarep.analyse(sound)
    assert not values[:49].any()
    assert values[60:, 0].all()


def write_wave(path: Path, sound: NDArray[np.float64]) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    return path


def test_extract_gives_a_frame_every_ten_milliseconds(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "voice.wav", voice(180, 1.0))
    extractor = covarep.Extractor(covarep.CovarepSettings(), tmp_path)
    sequence = extractor.extract(Clip("a", audio=path))
    sequence.check(74, "test")
    assert len(sequence.times) == 100
    np.testing.assert_allclose(sequence.times[:3], [0.005, 0.015, 0.025], atol=1e-6)
    assert sequence.values[20:80, 0] == pytest.approx(180, rel=0.03)
    again = extractor.extract(Clip("a", audio=path))
    assert sequence.values.tobytes() == again.values.tobytes()


def test_a_sound_shorter_than_a_frame_is_missing(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "click.wav", np.full(60, 0.1))
    with pytest.raises(StreamMissing, match="shorter than one frame"):
        covarep.Extractor(covarep.CovarepSettings(), tmp_path).extract(Clip("a", audio=path))
