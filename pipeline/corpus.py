"""Stage ``corpus``: construct the demo corpus, data/raw/demo/, from real parts. It is no benchmark.

The words are rated sentences of film reviews (Hutto and Gilbert 2014). The faces are the six clips of CREMA-D's
actor 1001, re-timed, cropped, mirrored and relit. The speech is synthesised by espeak-ng with a prosody that
follows the emotion. Ten voices are the speakers, two in each of five sessions.

Each modality carries a part of the information, and none carries all of it: the same sentences stand for sad and
angry; some faces show disgust or fear, each of which stands for two emotions; the prosodies overlap; and in a
share of the utterances, set by the parameters, one modality contradicts the label (never two). With
``corpus.dialogues`` the two speakers of a session take turns, and emotions last over turns; without, utterances
have nothing to do with each other.

Every random draw comes from a generator of (seed, purpose, number of the utterance). Equal parameters and
libraries give equal bytes for any number of processes: espeak-ng keeps a state from one utterance to the next, so
one fresh process synthesises all speech; the encoders run on one thread and write no time of day.
"""

from __future__ import annotations

import csv
import ctypes
import logging
import multiprocessing
import multiprocessing.connection
import os
import re
import tarfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import MODALITIES
from pipeline.assets import ASSETS, load_checked
from pipeline.data.datasets.demo import ATTRIBUTION, COLUMNS, DIALOGUE_COLUMNS, LABELS_FILE
from pipeline.data.files import whole_or_nothing
from pipeline.errors import AssetError, DataError, SystemLibraryError
from pipeline.machine import usable_cores
from pipeline.params import Contradict, Corpus, CorpusDialogues, Params
from pipeline.stage import run_stage

RAW = Path("data/raw/demo")

LABELS = ("happy", "neutral", "sad", "angry")

# The range of ratings, in [-4, 4], of the sentences for each emotion; clearly negative ones stand for two.
RATINGS = {"happy": (2.4, 4.0), "neutral": (-0.6, 0.6), "sad": (-4.0, -2.4), "angry": (-4.0, -2.4)}
WORDS = (5, 12)  # of a sentence: 2 to 4 seconds of speech
PLAIN = re.compile(r"[A-Za-z' ,.!?;-]+")

FACES = {"happy": "HAP", "neutral": "NEU", "sad": "SAD", "angry": "ANG"}
SHARED_FACES = {"happy": "FEA", "neutral": "FEA", "sad": "DIS", "angry": "DIS"}
SHARED_SHARE = 0.25  # of the faces are those that two emotions share

FRAME_RATE_HZ = 25
SAMPLE_RATE_HZ = 22_050  # espeak-ng's own: 882 samples a frame
WIDTH, HEIGHT = 320, 240
LENGTH_S = (2.0, 4.0)

log = logging.getLogger("lacuna")


@dataclass(frozen=True)
class Speaker:
    """A voice of espeak-ng with its own pitch and speed."""

    name: str
    session: str
    gender: str
    voice: str
    pitch: int = 50  # espeak-ng's scale, 0 to 100
    rate: float = 1.0  # relative


# No voice whose definition has ``breath`` (f2, f3, f5, whisper, ...): its noise differs from run to run.
SPEAKERS = (
    Speaker("s1f", "s1", "female", "en-us+f4", 48, 1.00),
    Speaker("s1m", "s1", "male", "en-us+m3", 52, 0.97),
    Speaker("s2f", "s2", "female", "en-gb-x-rp+f1", 45, 1.05),
    Speaker("s2m", "s2", "male", "en+m7", 50, 1.02),
    Speaker("s3f", "s3", "female", "en-us-nyc+Annie", 52, 0.95),
    Speaker("s3m", "s3", "male", "en-gb-scotland+m1", 55, 1.04),
    Speaker("s4f", "s4", "female", "en-us+linda", 42, 1.03),
    Speaker("s4m", "s4", "male", "en-us+Michael", 47, 0.94),
    Speaker("s5f", "s5", "female", "en+steph", 50, 0.98),
    Speaker("s5m", "s5", "male", "en-029+m2", 54, 1.06),
)


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
class Utterance:
    """The plan of one clip: its label, and the emotion that each modality shows."""

    number: int
    id: str
    speaker: Speaker
    label: str
    contradicted: str  # text, audio, video or nothing
    shown: dict[str, str]  # {modality: emotion}
    dialogue: str = ""
    turn: int | None = None  # from 0


@dataclass(frozen=True)
class Spoken:
    """An utterance's sentence and the score, in [-4, 4], of its sample."""

    text: str
    score: float


def main(params: Params) -> None:
    """Construct the demo corpus in data/raw/demo/."""
    workers = params.compute.workers
    count = usable_cores() if workers == "auto" else workers
    build(params.corpus, ASSETS / "cremad", ASSETS / "sentences", RAW, workers=count)
    log.info("%s: %d utterances, CONSTRUCTED from real parts", RAW, params.corpus.size)


def build(settings: Corpus, faces: Path, sentences: Path, target: Path, *, workers: int = 1) -> None:
    """Write clips/<id>.mp4, labels.csv and README.md into ``target``, whole or not at all.

    Args:
        settings: size, seed, and how often each modality contradicts the label.
        faces: the folder of the asset ``cremad``.
        sentences: the folder of the asset ``sentences``.
        target: replaced when it is there.
        workers: processes that make pictures; changes no byte.

    Raises:
        AssetError: an asset is not there or not the pinned one.
        SystemLibraryError: a library that the pictures or the speech need cannot be loaded.
        DataError: something cannot be written, or a process was killed.
    """
    utterances = plan(settings)
    pools = read_sentences(sentences)
    clips = {code: str(load_checked(faces, f"1001_DFA_{code}_XX.flv")) for code in _codes()}
    try:
        with whole_or_nothing(target) as beside:
            (beside / "clips").mkdir(parents=True)
            with _processes(1) as one:
                spoken = one.submit(_speak_all, settings.seed, utterances, pools, beside).result()
            _film_all(settings.seed, utterances, clips, beside, workers)
            _write_labels(beside / LABELS_FILE, utterances, spoken, settings.dialogues is not None)
            (beside / "README.md").write_text(_readme(settings), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error}") from error
    except BrokenProcessPool as error:
        raise DataError(f"{target}: a process was killed; is the memory full? {error}") from error


def plan(settings: Corpus) -> list[Utterance]:
    """Return the plan of each utterance.

    Without dialogues, speakers and labels are balanced to within one; with them, speakers are over ten dialogues of
    an even number of turns, and labels only as far as chance has it.
    """
    turns = _single_turns(settings) if settings.dialogues is None else _talks(settings, settings.dialogues)
    utterances = []
    for number, (speaker, label, dialogue, turn) in enumerate(turns):
        generator = _generator(settings.seed, "plan", number)
        contradicted = _contradicted(settings.contradict, generator)
        others = [emotion for emotion in LABELS if emotion != label]
        if contradicted == "text":  # only a sentence with another range of ratings contradicts
            others = [emotion for emotion in others if RATINGS[emotion] != RATINGS[label]]
        other = others[generator.integers(len(others))]
        shown: dict[str, str] = {
            modality: other if modality == contradicted else label for modality in MODALITIES
        }
        name = f"{speaker.name}-{number:04d}"
        utterances.append(Utterance(number, name, speaker, label, contradicted, shown, dialogue, turn))
    return utterances


def _single_turns(settings: Corpus) -> Iterator[tuple[Speaker, str, str, int | None]]:
    """Yield speaker and label of each utterance."""
    for number in range(settings.size):
        block, place = divmod(number, len(SPEAKERS))
        # Over four blocks every speaker meets every label; over two the labels are even.
        yield SPEAKERS[place], LABELS[(place + (0, 2, 1, 3)[block % 4]) % len(LABELS)], "", None


def _talks(settings: Corpus, talks: CorpusDialogues) -> Iterator[tuple[Speaker, str, str, int | None]]:
    """Yield speaker, label, dialogue and turn of each utterance, dialogue by dialogue.

    Dialogues go round the sessions; each time round, the other one of the two begins. The first label of a dialogue
    goes round, too; every further one is that of the turn before with the probability ``persistence``, else one of
    the four with equal chances.
    """
    sessions = list(dict.fromkeys(speaker.session for speaker in SPEAKERS))
    label = LABELS[0]
    for number in range(settings.size):
        dialogue, turn = divmod(number, talks.turns)
        times_round, place = divmod(dialogue, len(sessions))
        pair = [speaker for speaker in SPEAKERS if speaker.session == sessions[place]]
        generator = _generator(settings.seed, "turn", number)
        if turn == 0:
            label = LABELS[(place + times_round) % len(LABELS)]
        elif generator.random() >= talks.persistence:
            label = LABELS[generator.integers(len(LABELS))]
        yield pair[(turn + times_round) % len(pair)], label, f"{sessions[place]}-{dialogue:04d}", turn


def _contradicted(shares: Contradict, generator: np.random.Generator) -> str:
    draw = generator.random()
    for modality in MODALITIES:
        draw -= getattr(shares, modality)
        if draw < 0:
            return modality
    return ""


def _generator(seed: int, purpose: str, number: int = 0) -> np.random.Generator:
    return np.random.default_rng([seed, number, *purpose.encode()])


def _codes() -> list[str]:
    return sorted({*FACES.values(), *SHARED_FACES.values()})


def _processes(count: int) -> Executor:
    """Return a pool of fresh processes: a forked one would inherit the state of C libraries."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """End this process when its parent is killed; otherwise it would wait for work for ever."""
    if (parent := multiprocessing.parent_process()) is None:
        return

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# --- words ----------------------------------------------------------------------------


def read_sentences(folder: Path) -> dict[str, list[tuple[str, float]]]:
    """Return {emotion: [(sentence, mean rating)]} of the short plain ones, in the file's order.

    The archive is read in place: movieReviewSnippets_GroundTruth.txt holds lines of number, rating, sentence.
    """
    archive = load_checked(folder, "hutto_ICWSM_2014.tar.gz")
    member = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
    try:
        with tarfile.open(archive) as opened:
            file = opened.extractfile(member)
            text = file.read().decode("utf-8") if file else ""
    except (tarfile.TarError, KeyError, OSError, EOFError, UnicodeDecodeError) as error:
        raise AssetError(f"{archive}: cannot read {member} in it: {error}") from error
    pools: dict[str, list[tuple[str, float]]] = {emotion: [] for emotion in LABELS}
    seen = set()
    for line in text.splitlines():
        _, rating, words = line.split("\t", 2)
        sentence = " ".join(words.split())
        count = len(sentence.split())
        # '' is how the file writes a quotation mark; many sentences have only one of a pair.
        if not WORDS[0] <= count <= WORDS[1] or not PLAIN.fullmatch(sentence) or "''" in sentence:
            continue
        if sentence in seen:
            continue
        seen.add(sentence)
        for emotion, (low, high) in RATINGS.items():
            if low <= float(rating) <= high:
                pools[emotion].append((sentence, float(rating)))
    return pools


# --- speech ---------------------------------------------------------------------------


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


def _speak_all(
    seed: int, utterances: Sequence[Utterance], pools: dict[str, list[tuple[str, float]]], folder: Path
) -> list[Spoken]:
    """Choose and speak every sentence, in order; leave the sound of each in ``folder``/<id>.npy (int16)."""
    synthesiser = _Synthesiser()
    queues = {}
    for low_high, emotion in {RATINGS[emotion]: emotion for emotion in LABELS}.items():
        order = _generator(seed, "sentences " + emotion).permutation(len(pools[emotion]))
        queues[low_high] = [pools[emotion][index] for index in order]
    turns = dict.fromkeys(queues, 0)
    spoken = []
    for utterance in utterances:
        kind = RATINGS[utterance.shown["text"]]
        queue = queues[kind]
        generator = _generator(seed, "speech", utterance.number)
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


# --- pictures -------------------------------------------------------------------------


@dataclass(frozen=True)
class Shot:
    """How a face's clip is shown: which part of it, at what speed, from which view, in which light."""

    clip: str
    start: float  # frames of the clip
    span: float
    phase: float  # where the shot begins, in frames: the part is played forwards and backwards in turn
    speed: float  # frames of the clip for each frame of the shot
    mirrored: bool
    zoom: float
    turn_deg: float
    shift: tuple[float, float]  # pixels of the shot
    sway: tuple[float, float, float]  # pixels to the side, pixels up, and cycles a second
    gamma: float
    gains: tuple[float, float, float]  # red, green, blue

    @classmethod
    def draw(cls, emotion: str, lengths: dict[str, int], generator: np.random.Generator) -> Shot:
        """Draw a shot of an emotion; ``lengths`` are the clips' numbers of frames."""
        shared = generator.random() < SHARED_SHARE
        clip = (SHARED_FACES if shared else FACES)[emotion]
        last = lengths[clip] - 1
        span = last * generator.uniform(0.55, 1.0)
        gain = generator.uniform(0.85, 1.12)
        return cls(
            clip=clip,
            start=generator.uniform(0, last - span),
            span=span,
            phase=generator.uniform(0, 2 * span),
            speed=30 / FRAME_RATE_HZ * generator.uniform(0.75, 1.25),
            mirrored=bool(generator.random() < 0.5),
            zoom=generator.uniform(1.05, 1.45),
            turn_deg=generator.normal(0, 2.5),
            shift=(generator.normal(0, 8), generator.normal(0, 5)),
            sway=(generator.uniform(0.5, 2.5), generator.uniform(0.5, 2.0), generator.uniform(0.2, 0.5)),
            gamma=generator.uniform(0.75, 1.3),
            gains=tuple(gain * generator.uniform(0.94, 1.06, 3)),
        )

    def pictures(self, frames: Sequence[NDArray[np.uint8]], count: int) -> Iterator[NDArray[np.uint8]]:
        """Yield ``count`` pictures, (240, 320, 3) uint8 red, green, blue, from the clip's frames."""
        import cv2

        height, width = frames[0].shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), self.turn_deg, WIDTH / width * self.zoom)
        if self.mirrored:
            matrix = matrix @ np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]])
        levels = np.linspace(0, 1, 256)[:, None] ** self.gamma * np.array(self.gains)
        light = np.clip(np.rint(levels * 255), 0, 255).astype(np.uint8)[None]
        for index in range(count):
            there_and_back = (self.phase + index * self.speed) % (2 * self.span)
            position = self.start + min(there_and_back, 2 * self.span - there_and_back)
            angle = 2 * np.pi * self.sway[2] * index / FRAME_RATE_HZ
            moved = matrix.copy()
            moved[0, 2] += (WIDTH - width) / 2 + self.shift[0] + self.sway[0] * np.sin(angle)
            moved[1, 2] += (HEIGHT - height) / 2 + self.shift[1] + self.sway[1] * np.cos(angle)
            picture = cv2.warpAffine(
                frames[round(position)],
                moved,
                (WIDTH, HEIGHT),
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REFLECT_101,
            )
            yield cv2.LUT(picture, light)


@cache
def _open_faces(clips: tuple[tuple[str, str], ...]) -> dict[str, list[NDArray[np.uint8]]]:
    """Decode the faces' clips, once a process: {code: pictures (360, 480, 3) uint8 red, green, blue}."""
    from pipeline.extraction.clip import Clip
    from pipeline.extraction.media import read_frames

    try:
        import cv2
    except ImportError as error:
        raise SystemLibraryError(
            f"OpenCV cannot be loaded ({error}). On Debian and Ubuntu: apt-get install libgl1 libglib2.0-0"
        ) from error
    cv2.setNumThreads(1)
    return {
        code: [picture for _, picture in read_frames(Clip(code, video=Path(path)), None)]
        for code, path in clips
    }


def _film_all(
    seed: int, utterances: Sequence[Utterance], clips: dict[str, str], folder: Path, workers: int
) -> None:
    from tqdm import tqdm

    with _processes(workers) as pool:
        jobs = [pool.submit(_film, seed, utterance, tuple(clips.items()), folder) for utterance in utterances]
        try:
            for job in tqdm(jobs, "demo corpus", unit="clip"):
                job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _film(seed: int, utterance: Utterance, clips: tuple[tuple[str, str], ...], folder: Path) -> None:
    """Make one clip: pictures for as long as its sound lasts, both into clips/<id>.mp4."""
    sound_file = folder / f"{utterance.id}.npy"
    sound = np.load(sound_file, allow_pickle=False)
    generator = _generator(seed, "pictures", utterance.number)
    faces = _open_faces(clips)
    lengths = {code: len(frames) for code, frames in faces.items()}
    shot = Shot.draw(utterance.shown["video"], lengths, generator)
    count = len(sound) * FRAME_RATE_HZ // SAMPLE_RATE_HZ
    path = folder / "clips" / f"{utterance.id}.mp4"
    try:
        _encode(path, shot.pictures(faces[shot.clip], count), sound)
    except OSError as error:  # PyAV's errors are OSErrors too, but cannot be sent to another process
        raise DataError(f"{path}: cannot be written: {error}") from None
    sound_file.unlink()


def _encode(path: Path, pictures: Iterator[NDArray[np.uint8]], sound: NDArray[np.int16]) -> None:
    """Write H.264 and AAC into an mp4, on one thread and without the time of day: equal input, equal bytes."""
    import av

    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        # superfast: the look-ahead of slower presets (x264's mbtree) differs a bit from run to run.
        options = {"preset": "superfast", "crf": "24", "threads": "1", "flags": "+bitexact"}
        video = container.add_stream("libx264", rate=FRAME_RATE_HZ, options=options)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        options = {"b": "64000", "flags": "+bitexact"}
        audio = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono", options=options)
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        frame = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        container.mux(audio.encode(frame))
        container.mux(audio.encode())


# --- what stands beside the clips -----------------------------------------------------


def _write_labels(
    path: Path, utterances: Sequence[Utterance], spoken: Sequence[Spoken], dialogues: bool
) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *(DIALOGUE_COLUMNS if dialogues else ())])
        for utterance, said in zip(utterances, spoken, strict=True):
            speaker = utterance.speaker
            row = [utterance.id, f"clips/{utterance.id}.mp4", said.text, speaker.name, speaker.gender]
            row += [speaker.session, utterance.label, f"{said.score:.4f}", utterance.contradicted]
            writer.writerow([*row, *([utterance.dialogue, utterance.turn] if dialogues else ())])


def _readme(settings: Corpus) -> str:
    shares = ", ".join(f"{modality} {getattr(settings.contradict, modality):g}" for modality in MODALITIES)
    talks = ""
    if settings.dialogues is not None:
        talks = f"""- **Dialogues**: the two speakers of a session take turns, {settings.dialogues.turns} to a
  dialogue; a turn has the emotion of the one before with the probability {settings.dialogues.persistence:g}, else
  one of the four with equal chances. The columns `dialogue` and `turn` of {LABELS_FILE} say which.
"""
    return f"""# Lacuna's demo corpus is CONSTRUCTED

{ATTRIBUTION}

{settings.size} utterances (seed {settings.seed}) put together from real parts, so that the whole pipeline
can run on real media at once. Nobody said these words with these faces: what a model scores here is no
benchmark.

- **Words**: film-review sentences with the mean of at least 20 human ratings in [-4, 4], from vaderSentiment
  3.3.2 (MIT). Clearly good ones are happy, those about zero neutral, clearly bad ones sad or angry. The score
  is the sentence's rating; where the text contradicts, it is that of another sentence that fits the label.
- **Faces**: the clips 1001_DFA_ANG, DIS, FEA, HAP, NEU and SAD of CREMA-D (Cao, Cooper, Keutmann, Gur,
  Nenkova and Verma 2014), Open Database License 1.0, contents Database Contents License 1.0; re-timed,
  cropped, mirrored, relit. A share of {SHARED_SHARE:g} shows a face that two emotions share: disgust for sad
  and angry, fear for happy and neutral.
- **Speech**: espeak-ng (GPL-3.0, used as a library), ten voices in five sessions; rate, pitch, range and
  volume follow the emotion.
- **Contradictions**: at most one modality of an utterance shows another emotion than the label's; shares:
  {shares}. The column `contradicted` of {LABELS_FILE} names it.
{talks}
C. J. Hutto and E. E. Gilbert: VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media
Text. ICWSM 2014.
"""


if __name__ == "__main__":
    run_stage(main)
