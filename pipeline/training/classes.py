"""Which class of an experiment a sample belongs to: by the dataset's own labels, or by ``experiments.X.labels``.

``labels`` maps each class to what belongs to it, so that one set of features serves every table::

    labels: {happy: [happy, excited], sad: sad}                        # of the manifest's labels
    labels: {angry: angry, other: others}                              # others: the dataset's remaining labels
    labels: {negative: "< 0", zero: "= 0", positive: "> 0"}            # of the scores, by ``target``
    labels: {weak: "> 0, <= 1", strong: "> 1"}                         # a comma means "and"
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.data.manifest import Sample

OTHERS = "others"
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    ">=": operator.ge,
    ">": operator.gt,
}
_COMPARISON = re.compile(r"\s*(<=|>=|<|>|=)\s*([+-]?\d+(?:\.\d+)?)\s*$")


def is_comparison(given: str | Sequence[str]) -> bool:
    """Return whether a class is told by the score: its text begins with a comparison."""
    return isinstance(given, str) and given.lstrip()[:1] in ("<", ">", "=")


@dataclass(frozen=True)
class ClassRules:
    """The classes of an experiment.

    Attributes:
        names: of the C classes, in their order.
        by_label: label of the manifest -> class.
        by_score: class -> comparisons (operator, number), all of which must hold; empty when labels decide.
        others: the class of the labels that no other class names; None when there is none.
        known: the labels that ``others`` is made of; empty: every label.
    """

    names: tuple[str, ...]
    by_label: Mapping[str, int]
    by_score: Mapping[int, tuple[tuple[str, float], ...]]
    others: int | None = None
    known: tuple[str, ...] = ()

    @classmethod
    def parse(
        cls, labels: Mapping[str, str | Sequence[str]], dataset_labels: Sequence[str] = ()
    ) -> ClassRules:
        """Read the mapping of an experiment; an empty one means the dataset's own labels.

        Raises:
            ValueError: it names fewer than two classes, a label twice, mixes labels with scores, or a comparison
                cannot be read.
        """
        if not labels:
            return cls(tuple(dataset_labels), {name: i for i, name in enumerate(dataset_labels)}, {})
        if len(labels) < 2:
            raise ValueError(f"labels: found {len(labels)} class, expected two or more")
        scored = [name for name, given in labels.items() if is_comparison(given)]
        if scored and len(scored) < len(labels):
            raise ValueError(
                "labels: some classes are told by the score, some by labels; expected one of the two"
            )
        if scored:
            by_score = {i: _comparisons(name, str(given)) for i, (name, given) in enumerate(labels.items())}
            return cls(tuple(labels), {}, by_score)
        by_label: dict[str, int] = {}
        others = None
        for index, (name, given) in enumerate(labels.items()):
            if given == OTHERS:
                if others is not None:
                    raise ValueError("labels: two classes take the others")
                others = index
                continue
            for label in (given,) if isinstance(given, str) else given:
                if label in by_label:
                    raise ValueError(
                        f'labels: "{label}" belongs to {name} and to {list(labels)[by_label[label]]}'
                    )
                by_label[label] = index
        return cls(tuple(labels), by_label, {}, others, tuple(dataset_labels))

    def of(self, sample: Sample, target: str = "score") -> int | str:
        """Return a sample's class, or in words why it has none.

        Args:
            sample: its row of the manifest.
            target: the column of the scores.
        """
        if self.by_score:
            score = getattr(sample, target)
            if score is None:
                return f"no {target}"
            found = [
                c for c, tests in self.by_score.items() if all(_OPERATORS[o](score, n) for o, n in tests)
            ]
            if len(found) > 1:
                return f"{target} in more than one class ({', '.join(self.names[c] for c in found)})"
            return found[0] if found else f"{target} in no class"
        if not sample.label:
            return "no label"
        if sample.label in self.by_label:
            return self.by_label[sample.label]
        if self.others is not None and (not self.known or sample.label in self.known):
            return self.others
        return f"label {sample.label}"


def answer_of(sample: Sample, target: str | None, rules: ClassRules, score: str, scheme: str) -> int | str:
    """Return a sample's class (0 of a regression), or in words why an experiment leaves it out.

    Args:
        sample: its row of the manifest.
        target: the column that a regression learns; None for a classification.
        rules: the classes.
        score: the column of the scores by which ``rules`` may tell classes.
        scheme: of the folds.
    """
    answer: int | str = 0
    if target is None:
        answer = rules.of(sample, score)
    elif getattr(sample, target) is None:
        answer = f"no {target}"
    return "no split" if isinstance(answer, int) and scheme == "official" and not sample.split else answer


def _comparisons(name: str, given: str) -> tuple[tuple[str, float], ...]:
    found = []
    for part in given.split(","):
        match = _COMPARISON.match(part)
        if match is None:
            raise ValueError(
                f'labels.{name}: found "{given}", expected comparisons with numbers such as "< 0" or "> 0, <= 1"'
            )
        found.append((match[1], float(match[2])))
    return tuple(found)
