"""The demo corpus's words: short rated sentences of film reviews, by emotion."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

from pipeline.data.assets import load_checked
from pipeline.demo_corpus.plan import LABELS, RATINGS
from pipeline.errors import AssetError

WORDS = (5, 12)  # of a sentence: 2 to 4 seconds of speech
PLAIN = re.compile(r"[A-Za-z' ,.!?;-]+")


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
