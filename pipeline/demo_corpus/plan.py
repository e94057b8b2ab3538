"""What the demo corpus is to hold: the emotions, the voices, and each utterance's label and contradiction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models import MODALITIES
from pipeline.params import Contradict, Corpus, CorpusDialogues

LABELS = ("happy", "neutral", "sad", "angry")

# The range of ratings, in [-4, 4], of the sentences for each emotion; clearly negative ones stand for two.
RATINGS = {"happy": (2.4, 4.0), "neutral": (-0.6, 0.6), "sad": (-4.0, -2.4), "angry": (-4.0, -2.4)}


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


def plan(settings: Corpus) -> list[Utterance]:
    """Return the plan of each utterance.

    Without dialogues, speakers and labels are balanced to within one; with them, speakers are over ten dialogues of
    an even number of turns, and labels only as far as chance has it.
    """
    turns = _single_turns(settings) if settings.dialogues is None else _talks(settings, settings.dialogues)
    utterances = []
    for number, (speaker, label, dialogue, turn) in enumerate(turns):
        generator = generator_of(settings.seed, "plan", number)
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
        generator = generator_of(settings.seed, "turn", number)
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


def generator_of(seed: int, purpose: str, number: int = 0) -> np.random.Generator:
    """Return the generator of one purpose, of one utterance where ``number`` names it."""
    return np.random.default_rng([seed, number, *purpose.encode()])
