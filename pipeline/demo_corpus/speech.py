"""The demo corpus's sound: each utterance's sentence spoken by espeak-ng, with a prosody that follows the emotion."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.demo_corpus.plan import LABELS, RATINGS, Utterance, generator_of
from pipeline.errors import DataError, SystemLibraryError

FRAME_RATE_HZ = 25
SAMPLE_RATE_HZ = 22_050  # espeak-ng's own: 882 samples a frame
LENGTH_S = (2.0, 4.0)


@dataclass(frozen=True)
class Prosody:
    """How an emotion changes a voice: pitch and range in espeak-ng's units, rate as a factor, volume in %."""

    pitch: float
    range: float
    rate: float
    volume: float


PROSODY = {
    "happy": Prosody(+20, +40, 1.10, 96),
    "neutral": Prosody(0, -8, 1.00, 72),
    "sad": Prosody(-16, -36, 0.80, 42),
    "angry": Prosody(+6, +14, 1.28, 130),
}
JITTER = Prosody(3.5, 7, 0.04, 7)  # standard deviations over utterances
WORDS_PER_MINUTE = 165


@dataclass(frozen=True)
class Spoken:
    """An utterance's sentence and the score, in [-4, 4], of its sample."""

    text: str
    score: float


class _Synthesiser:
    """espeak-ng through its C interface (speak_lib.h, version 1.52); only one in a process."""

    SYNCHRONOUS, DO_NOT_EXIT, UTF8 = 2, 0x8000, 1
    RATE, VOLUME, PITCH, RANGE = 1, 2, 3, 4

    def __init__(self) -> None:
        try:
            import espeakng_loader

            self._library = ctypes.CDLL(espeakng_loader.get_library_path())
            data = str(espeakng_loader.get_data_path()).encode()
        except (ImportError, OSError) as error:
            raise SystemLibraryError(
                f"espeak-ng cannot be loaded: {error}; pip install espeakng-loader"
            ) from error
        self._pieces: list[NDArray[np.int16]] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._callback = kind(self._take)  # kept alive here: the library does not do that
        rate = self._library.espeak_Initialize(self.SYNCHRONOUS, 0, data, self.DO_NOT_EXIT)
        if rate != SAMPLE_RATE_HZ:
            raise SystemLibraryError(f"espeak-ng gives {rate} samples a second, expected {SAMPLE_RATE_HZ}")
        self._library.espeak_SetSynthCallback(self._callback)

    def _take(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(
        self, text: str, voice: str, *, rate: float, volume: float, pitch: float, spread: float
    ) -> NDArray[np.int16]:
        """Return (N,) int16 at 22,050 Hz, without the silence around the speech."""
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise SystemLibraryError(f'espeak-ng has no voice "{voice}"; pip install espeakng-loader==0.2.4')
        values = {self.RATE: (rate, 80, 450), self.VOLUME: (volume, 20, 140)}
        values |= {self.PITCH: (pitch, 0, 99), self.RANGE: (spread, 0, 99)}
        for parameter, (value, low, high) in values.items():
            self._library.espeak_SetParameter(parameter, round(min(max(value, low), high)), 0)
        self._pieces.clear()
        encoded = text.encode()
        size = ctypes.c_size_t(len(encoded) + 1)
        self._library.espeak_Synth(encoded, size, 0, 0, 0, self.UTF8, None, None)
        self._library.espeak_Synchronize()
        sound = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)
        loud = np.flatnonzero(np.abs(sound.astype(np.int32)) > 200)
        return sound[loud[0] : loud[-1] + 1] if len(loud) else sound[:0]


def speak_all(
    seed: int, utterances: Sequence[Utterance], pools: dict[str, list[tuple[str, float]]], folder: Path
) -> list[Spoken]:
    """Choose and speak every sentence, in order; leave the sound of each in ``folder``/<id>.npy (int16)."""
    synthesiser = _Synthesiser()
    queues = {}
    for low_high, emotion in {RATINGS[emotion]: emotion for emotion in LABELS}.items():
        order = generator_of(seed, "sentences " + emotion).permutation(len(pools[emotion]))
        queues[low_high] = [pools[emotion][index] for index in order]
    turns = dict.fromkeys(queues, 0)
    spoken = []
    for utterance in utterances:
        kind = RATINGS[utterance.shown["text"]]
        queue = queues[kind]
        generator = generator_of(seed, "speech", utterance.number)
        voice = _prosody(utterance, generator)
        for _ in range(len(queue)):
            text, score = queue[turns[kind] % len(queue)]  # a large corpus says some sentences again
            turns[kind] += 1
            sound = _record(synthesiser.say(text, utterance.speaker.voice, **voice), generator)
            if LENGTH_S[0] <= len(sound) / SAMPLE_RATE_HZ <= LENGTH_S[1]:
                break
        else:
            raise DataError(f"no sentence lasts {LENGTH_S} s in the voice {utterance.speaker.voice}")
        if utterance.contradicted == "text":  # the score fits the label, not the sentence
            pool = pools[utterance.label]
            score = pool[generator.integers(len(pool))][1]
        np.save(folder / f"{utterance.id}.npy", sound, allow_pickle=False)
        spoken.append(Spoken(text, score))
    return spoken


def _prosody(utterance: Utterance, generator: np.random.Generator) -> dict[str, float]:
    emotion, speaker = PROSODY[utterance.shown["audio"]], utterance.speaker
    draw = generator.normal(size=4)
    return {
        "pitch": speaker.pitch + emotion.pitch + JITTER.pitch * draw[0],
        "spread": 50 + emotion.range + JITTER.range * draw[1],
        "rate": WORDS_PER_MINUTE * speaker.rate * emotion.rate * (1 + JITTER.rate * draw[2]),
        "volume": emotion.volume + JITTER.volume * draw[3],
    }


def _record(speech: NDArray[np.int16], generator: np.random.Generator) -> NDArray[np.int16]:
    """Put speech into a room: silence around it, some distance, a little noise; cut to whole frames."""
    hop = SAMPLE_RATE_HZ // FRAME_RATE_HZ
    lead, tail = (generator.uniform(0.1, 0.3, 2) * SAMPLE_RATE_HZ).astype(int)
    length = -(-(lead + len(speech) + tail) // hop) * hop
    sound = np.zeros(length)
    sound[lead : lead + len(speech)] = speech * generator.uniform(0.6, 0.85)
    sound += generator.normal(0, generator.uniform(15, 60), length)
    return np.clip(np.rint(sound), -32768, 32767).astype(np.int16)
