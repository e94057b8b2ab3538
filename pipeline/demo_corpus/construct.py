"""The demo corpus's folder, whole or not at all: clips, labels.csv, README.md."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from models import MODALITIES
from pipeline.data.assets import load_checked
from pipeline.data.datasets.demo import ATTRIBUTION, COLUMNS, DIALOGUE_COLUMNS, LABELS_FILE
from pipeline.data.files import whole_or_nothing
from pipeline.demo_corpus.pictures import face_codes, film_all
from pipeline.demo_corpus.plan import Utterance, plan
from pipeline.demo_corpus.processes import fresh_processes
from pipeline.demo_corpus.sentences import read_sentences
from pipeline.demo_corpus.speech import Spoken, speak_all
from pipeline.errors import DataError
from pipeline.params import Corpus


def build(settings: Corpus, faces: Path, sentences: Path, target: Path, *, workers: int = 1) -> None:
    """Write clips/<id>.mp4, labels.csv and README.md into ``target``, whole or not at all.

    Args:
        settings: size, seed, how often each modality contradicts the label, and how often two emotions share a face.
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
    clips = {code: str(load_checked(faces, f"1001_DFA_{code}_XX.flv")) for code in face_codes()}
    try:
        with whole_or_nothing(target) as beside:
            (beside / "clips").mkdir(parents=True)
            with fresh_processes(1) as one:
                spoken = one.submit(speak_all, settings.seed, utterances, pools, beside).result()
            film_all(settings.seed, settings.shared_faces, utterances, clips, beside, workers)
            _write_labels(beside / LABELS_FILE, utterances, spoken, settings.dialogues is not None)
            (beside / "README.md").write_text(_readme(settings), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{target}: cannot be written: {error}") from error
    except BrokenProcessPool as error:
        raise DataError(f"{target}: a process was killed; is the memory full? {error}") from error


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
  cropped, mirrored, relit. A share of {settings.shared_faces:g} shows a face that two emotions share: disgust for sad
  and angry, fear for happy and neutral.
- **Speech**: espeak-ng (GPL-3.0, used as a library), ten voices in five sessions; rate, pitch, range and
  volume follow the emotion.
- **Contradictions**: at most one modality of an utterance shows another emotion than the label's; shares:
  {shares}. The column `contradicted` of {LABELS_FILE} names it.
{talks}
C. J. Hutto and E. E. Gilbert: VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media
Text. ICWSM 2014.
"""
