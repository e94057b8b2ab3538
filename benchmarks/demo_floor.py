"""Does the demo corpus teach that modalities add up? ``python benchmarks/demo_floor.py [DATA] [--sizes 120 200]``.

Reads the features of the demo in DATA (data) and prints, for the linear floor (a logistic regression on each modality's
mean over its observed frames, standardised, by five folds of sessions), the share of samples that each set of
modalities gets right, with the exact binomial test against the largest class's share, and what each added
modality brings (McNemar's exact test over the same samples). With --sizes the first so many utterances alone.

``--shares TEXT AUDIO VIDEO FACES SIZE`` tells what another corpus would give without making it, which is how
``corpus`` of params.yaml was chosen: plans of that size with these shares of contradiction and of shared faces are
drawn, and each utterance gets the features of one in DATA whose text shows the wanted emotion in the same session,
whose voice does so by the same speaker, and whose face does so in the same session and is, or is not, one that two
emotions share. Printed is the mean over twelve plans. As an utterance may be taken twice within a fold, never in two,
the numbers are a little low.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.data.manifest import read_manifest
from pipeline.data.store import FeatureStore
from pipeline.demo_corpus.plan import Utterance, generator_of, plan
from pipeline.params import Contradict, Corpus

SETS = ("a", "v", "t", "av", "at", "vt", "avt")
NAMES = {"a": "audio", "v": "video", "t": "text"}
STRENGTH = 0.01  # C of scikit-learn's LogisticRegression: many columns, few samples


def means(path: Path) -> NDArray[np.float64]:
    """Return (N, D): means over the observed frames, zeros where there are none."""
    found = []
    with FeatureStore(path) as store:
        for index in range(len(store.ids)):
            one = store.read(index)
            seen = one.values[one.flags > 0]
            found.append(seen.mean(axis=0) if len(seen) else np.zeros(one.values.shape[1]))
    return np.array(found, np.float64)


def right(
    columns: list[NDArray[np.float64]], labels: NDArray[np.str_], folds: NDArray[np.str_]
) -> NDArray[np.bool_]:
    """Return (N,) whether each sample's label is found by a model that has not seen its session.

    Each modality is divided by the root of its number of columns, so that none weighs more for having more.
    """
    found = np.zeros(len(labels), bool)
    for fold in sorted(set(folds)):
        test = folds == fold
        parts = []
        for one in columns:
            scaler = StandardScaler().fit(one[~test])
            parts.append(scaler.transform(one) / np.sqrt(one.shape[1]) * 10)
        joined = np.concatenate(parts, axis=1)
        model = make_pipeline(LogisticRegression(C=STRENGTH, max_iter=500))
        found[test] = model.fit(joined[~test], labels[~test]).predict(joined[test]) == labels[test]
    return found


def table(data: Path, name: str, sizes: list[int]) -> None:
    """Print a table for each size."""
    samples = read_manifest(data / f"manifests/{name}.csv")
    features = {key: means(data / f"features/{name}/{modality}.h5") for key, modality in NAMES.items()}
    labels, folds = np.array([s.label for s in samples]), np.array([s.session for s in samples])
    for size in sizes or [len(samples)]:
        hits = {c: right([features[m][:size] for m in c], labels[:size], folds[:size]) for c in SETS}
        chance = max(np.mean(labels[:size] == one) for one in set(labels[:size]))
        print(
            f"\n{size} samples, chance {chance:.3f}\n\n| shown | right | p above chance | adds |"
            "\n| --- | --- | --- | --- |"
        )
        for shown, hit in hits.items():
            p = binomtest(int(hit.sum()), size, chance, alternative="greater").pvalue
            adds = []
            for less in (s for s in SETS if len(s) == len(shown) - 1 and set(s) <= set(shown)):
                more, fewer = int((hit & ~hits[less]).sum()), int((~hit & hits[less]).sum())
                q = binomtest(more, more + fewer, 0.5, alternative="greater").pvalue if more + fewer else 1.0
                adds.append(
                    f"{(set(shown) - set(less)).pop()} {hit.mean() - hits[less].mean():+.3f} (p {q:.1g})"
                )
            print(f"| {shown} | {hit.mean():.3f} | {p:.1g} | {', '.join(adds)} |")


def redrawn(data: Path, made: Corpus, wanted: Corpus, plans: int = 12) -> dict[str, float]:
    """Return {set: mean share right} over plans of another corpus, by the features of the one that was made."""
    place = {sample.id: index for index, sample in enumerate(read_manifest(data / "manifests/demo.csv"))}
    features = {key: means(data / f"features/demo/{modality}.h5") for key, modality in NAMES.items()}
    pools: dict[tuple[str | bool, ...], list[int]] = {}

    def keys(one: Utterance, shared: bool) -> dict[str, tuple[str | bool, ...]]:
        return {
            "a": ("a", one.speaker.name, one.shown["audio"]),
            "t": ("t", one.speaker.session, one.shown["text"]),
            "v": ("v", one.speaker.session, one.shown["video"], shared),
        }

    for one in plan(made):
        shared = generator_of(made.seed, "pictures", one.number).random() < made.shared_faces
        for key in keys(one, bool(shared)).values():
            pools.setdefault(key, []).append(place[one.id])
    found: dict[str, list[float]] = {shown: [] for shown in SETS}
    for seed in range(100, 100 + plans):
        generator = np.random.default_rng(seed)
        planned = plan(wanted.model_copy(update={"seed": seed}))
        taken: dict[str, list[int]] = {modality: [] for modality in NAMES}
        for one in planned:
            shared = bool(generator.random() < wanted.shared_faces)
            for modality, key in keys(one, shared).items():
                pool = pools.get(key) or pools[keys(one, not shared)[modality]]
                taken[modality].append(pool[generator.integers(len(pool))])
        labels = np.array([one.label for one in planned])
        folds = np.array([one.speaker.session for one in planned])
        for shown in SETS:
            hits = right([features[m][taken[m]] for m in shown], labels, folds)
            found[shown].append(float(hits.mean()))
    return {shown: float(np.mean(values)) for shown, values in found.items()}


def contradictions(corpus: Path) -> None:
    """Print how often each modality contradicts the label."""
    with (corpus / "labels.csv").open(encoding="utf-8") as file:
        rows = [row["contradicted"] for row in csv.DictReader(file)]
    print(", ".join(f"{one or 'nothing'} {rows.count(one) / len(rows):.2f}" for one in sorted(set(rows))))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", type=Path, default=Path("data"), metavar="DATA")
    parser.add_argument("--sizes", nargs="*", type=int, default=[], metavar="N")
    names = ("TEXT", "AUDIO", "VIDEO", "FACES", "SIZE")
    parser.add_argument("--shares", nargs=5, type=float, metavar=names)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="that DATA was made with")
    options = parser.parse_args()
    if options.shares is not None:
        text, audio, video, faces, size = options.shares
        made = Corpus(**yaml.safe_load(options.params.read_text(encoding="utf-8"))["corpus"])
        shares = Contradict(text=text, audio=audio, video=video)
        wanted = Corpus(size=int(size), contradict=shares, shared_faces=faces)
        for shown, share in redrawn(options.data, made, wanted).items():
            print(f"{shown} {share:.3f}")
        return
    if (options.data / "raw/demo/labels.csv").is_file():
        contradictions(options.data / "raw/demo")
    table(options.data, "demo", options.sizes)


if __name__ == "__main__":
    main()
