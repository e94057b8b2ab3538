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

import logging
from pathlib import Path

from pipeline.data.assets import ASSETS
from pipeline.demo_corpus.construct import build
from pipeline.machine import usable_cores
from pipeline.params import Params
from pipeline.stage import run_stage

RAW = Path("data/raw/demo")

log = logging.getLogger("lacuna")


def main(params: Params) -> None:
    """Construct the demo corpus in data/raw/demo/."""
    workers = params.compute.workers
    count = usable_cores() if workers == "auto" else workers
    build(params.corpus, ASSETS / "cremad", ASSETS / "sentences", RAW, workers=count)
    log.info("%s: %d utterances, CONSTRUCTED from real parts", RAW, params.corpus.size)


if __name__ == "__main__":
    run_stage(main)
