"""The schema of params.yaml, checked whole before any stage works.

Sections are the stages' names. ``load_params`` is the only reader (pipeline/params_file.py reads the file as DVC
does); a stage gets a checked object, never a raw dict.
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from models import MODALITIES as MODALITIES
from models import Modality as Modality
from pipeline.data.datasets import base as loaders
from pipeline.data.manifest import Target
from pipeline.data.media_list import PLACES
from pipeline.errors import LacunaError, ParamsError, nearest
from pipeline.extraction.extractors import base as extractors
from pipeline.extraction.extractors.base import ExtractorSettings
from pipeline.params_file import read_params_file
from pipeline.reporting.published_rows import find_rows
from pipeline.training import metrics
from pipeline.training.classes import ClassRules, is_comparison

T = TypeVar("T")

PARAMS_FILE = Path("params.yaml")
LOCAL_FILE = "params.local.yaml"  # beside it, for this machine alone; git does not track it
LOCAL_SECTIONS = ("compute", "media")  # no result depends on them
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100)]
Condition = Literal["a", "v", "t", "av", "at", "vt", "avt"]
Checksum = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


TRAINING_SETS = ("full", "missing", "augmented", "random-condition", "a", "v", "t", "av", "at", "vt")


class Section(BaseModel):
    """The root of every section: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


class Compute(Section):
    """Where the work is done; changes no result but the last bits of what a GPU computes."""

    # processes that extract features and train folds; auto: one a core
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    # processes of this machine, or ray: of every machine of a Ray cluster
    engine: Literal["processes", "ray"] = "processes"
    address: Annotated[str, Field(min_length=1)] = "auto"  # of the Ray cluster; auto: the one of this machine
    # of trainings; auto: a GPU if there is one
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    # extraction stops when more of a dataset's clips than this cannot be read
    max_failed_share: Share = 0.05
    clip_timeout_s: Annotated[float, Field(gt=0, le=7 * 86_400)] = (
        3600.0  # a clip that takes longer has failed
    )
    # DVCLive's files beside trainings (data/live/), for VS Code and Studio; needs the extra live
    dvclive: bool = False


class Contradict(Section):
    """How often each modality of the demo corpus shows another emotion than the label's; never two at once."""

    # share of utterances whose sentence does
    text: Share = 0.05
    # share of utterances whose voice does
    audio: Share = 0.1
    # share of utterances whose face does
    video: Share = 0.15

    @model_validator(mode="after")
    def _one_at_a_time(self) -> Contradict:
        if (total := self.text + self.audio + self.video) > 1 + 1e-9:
            raise ValueError(f"text, audio and video add up to {total:g}; never two at once, so at most 1")
        return self


class CorpusDialogues(Section):
    """The demo corpus as dialogues: the two speakers of a session take turns, and an emotion lasts over turns."""

    turns: Annotated[int, Field(ge=2)] = 8  # of a dialogue; the last one may have fewer
    persistence: Share = 0.6  # how often a turn has the emotion of the one before; else any of the four


class Corpus(Section):
    """The constructed demo corpus."""

    # utterances
    size: Annotated[int, Field(ge=20, le=10_000)] = 200
    # of everything that is drawn for it
    seed: Annotated[int, Field(ge=0)] = 0
    # how often a modality shows another emotion than the label's
    contradict: Contradict = Contradict()
    # share of faces that two emotions have in common: happy and neutral, sad and angry
    shared_faces: Share = 0.8
    dialogues: CorpusDialogues | None = None  # none: utterances that have nothing to do with each other


class Asset(Section):
    """A pinned package, an installed library, or the user's own folder or file: exactly one of the three."""

    # of the package index, at an exact version: NAME==1.2.3
    package: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+==[A-Za-z0-9_.!+-]+$")] | None = None
    sdist: bool = False  # take the source package, not the wheel
    # an installed library without weights; its version is recorded
    library: str | None = None
    # your own folder or file
    path: Path | None = None
    # as the report names it
    licence: str = ""
    sha256: Checksum | None = None  # of the package's archive
    files: tuple[str, ...] = ()  # globs inside the package; kept by their last name
    checksums: dict[str, Checksum] = {}  # of files that are kept

    @model_validator(mode="after")
    def _one_source(self) -> Asset:
        given = [name for name in ("package", "library", "path") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"found {given or 'none of them'}, expected exactly one of package, library, path"
            )
        if self.package and not self.files:
            raise ValueError("a package needs files: which of its files to keep")
        return self


class DensefaceTraining(Section):
    """One training of Denseface's network on FER+ (pipeline/train_denseface.py)."""

    fer2013: Path  # fer2013.csv: the faces
    ferplus: Path  # fer2013new.csv: the annotators' votes
    labels: Literal["majority", "soft"] = "majority"  # what the votes become
    # of the training
    epochs: Annotated[int, Field(ge=1)] = 300
    # pictures a step
    batch_size: Annotated[int, Field(ge=2)] = 64
    # at first
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    # of all weights
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    # share of a layer's outputs that are dropped
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seed: Annotated[int, Field(ge=0)] = 0  # of weights, order and augmentation


class Extraction(Section):
    """Which extractor makes one modality's features, and where it leaves ``extractors.<modality>.<name>``."""

    # a file of pipeline/extraction/extractors/MODALITY/
    extractor: str
    settings: dict[str, Any] = {}  # override the extractor's section for this dataset alone
    align: Literal["none", "words"] | Annotated[int, Field(ge=1, le=10_000)] = (
        "none"  # pipeline/extraction/alignment.py
    )


class Folds(Section):
    """How samples are split; pipeline/training/folds.py says what each scheme does."""

    # official: as the owner splits; session, speaker: each in turn is the test part; speaker-partner: MMIN's; random,
    # video-disjoint: by chance; none: features alone, no training
    scheme: Literal[
        "none", "official", "session", "speaker", "speaker-partner", "random", "video-disjoint"
    ] = "official"
    # only the first so many folds; none: all
    count: Annotated[int, Field(ge=1)] | None = None
    shares: tuple[Share, Share, Share] = (0.8, 0.1, 0.1)  # train, validate, test of a split by chance
    seed: Annotated[int, Field(ge=0)] = 0  # of a split by chance

    @model_validator(mode="after")
    def _shares_make_a_whole(self) -> Folds:
        if min(self.shares) <= 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(f"found the shares {list(self.shares)}, expected three above 0 with the sum 1")
        usual = type(self).model_fields["shares"].default  # stands in the record of every run
        if self.shares != usual and self.scheme not in ("random", "video-disjoint"):
            raise ValueError(f"shares mean nothing to the scheme {self.scheme}")
        return self


class Dataset(Section):
    """One dataset: its loader, its place, its labels and one extractor a modality."""

    # a file of pipeline/data/datasets/
    loader: str
    # the folder of its files; data/media/NAME for one that media names
    root: Path
    # of the loader
    options: dict[str, Any]
    # the classes, in the order of the model's outputs; others are left out. None: all that occur
    labels: tuple[str, ...] = ()
    # how samples are split into train, validation and test
    folds: Folds = Folds()
    # its features
    text: Extraction
    # its features
    audio: Extraction
    # its features
    video: Extraction

    def extraction(self, modality: Modality) -> Extraction:
        """Return the extraction of a modality."""
        chosen: Extraction = getattr(self, modality)
        return chosen


class Extractors(Section):
    """The settings of every extractor that may be selected."""

    text: dict[str, dict[str, Any]] = {}
    audio: dict[str, dict[str, Any]] = {}
    video: dict[str, dict[str, Any]] = {}


class Mask(Section):
    """One missing-modality protocol (pipeline/data/masks.py), or with ``rates`` a family of them."""

    # what goes missing; pipeline/data/masks.py says how each draws
    protocol: Literal["conditions", "one-missing", "random", "random-condition", "block", "frames", "mixture"]
    # how much: the share of samples, modalities or frames, by the protocol
    rate: Share | None = None
    rates: tuple[Share, ...] = ()  # a mask for each rate, NAME-10 for 0.1
    range: tuple[Share, Share] | None = (
        None  # block: the block's share; frames: the rate, drawn for each sample
    )
    ranges: dict[Modality, tuple[Share, Share]] = {}  # block: a modality's own range
    weights: tuple[float, float, float] | None = None  # one-missing: how likely text, audio, video go
    axis: Literal["time", "feature"] = "time"  # block
    draw: Literal["fixed", "sampled"] = "fixed"  # sampled: drawn anew in every epoch of a training
    conditions: tuple[Condition, ...] = ()  # random-condition: among which; the six missing ones if none
    of: tuple[Mask, ...] = ()  # mixture: the protocols, each sample under one of them
    family: Name | None = None  # draw with the random numbers of this name; ``rates`` sets it

    def as_json(self) -> str:
        """Return the settings as a file of masks keeps them. Fields that came after the file's first schema stand
        only where they say something, so that an older mask's file stays the same bytes.
        """
        later = ("rates", "conditions", "of", "family")
        return self.model_dump_json(exclude={name for name in later if not getattr(self, name)})

    def members(self, name: str) -> dict[str, Mask]:
        """Return name -> mask: this one, or one for each of ``rates``."""
        if not self.rates:
            return {name: self}
        found = {}
        for rate in self.rates:
            percent = f"{100 * rate:.4g}".replace(".", "_")
            found[f"{name}-{percent}"] = self.model_copy(
                update={"rate": rate, "rates": (), "family": self.family or name}
            )
        return found

    @model_validator(mode="after")
    def _fits_protocol(self) -> Mask:
        with_rate = self.protocol in ("one-missing", "random") or (
            self.protocol == "frames" and not self.range
        )
        if (self.rate is not None) + bool(self.rates) != with_rate:
            if with_rate:
                raise ValueError(f"the protocol {self.protocol} needs a rate, or rates for a family of masks")
            raise ValueError(
                f"rate means nothing to the protocol {self.protocol}" + " with a range" * bool(self.range)
            )
        if self.range is None and self.protocol == "block":
            raise ValueError("range is needed by the protocol block")
        if self.range is not None and self.protocol not in ("block", "frames"):
            raise ValueError(f"range means nothing to the protocol {self.protocol}")
        if len(set(self.rates)) < len(self.rates):
            raise ValueError(f"found the rates {list(self.rates)}, expected different ones")
        if self.conditions and self.protocol != "random-condition":
            raise ValueError(f"conditions means nothing to the protocol {self.protocol}")
        if (len(self.of) > 1) != (self.protocol == "mixture"):
            raise ValueError("of lists two protocols or more, and belongs to the protocol mixture")
        for one in self.of:
            if one.protocol in ("conditions", "mixture") or one.rates or one.axis == "feature" or one.family:
                raise ValueError(
                    f"of: found {one.protocol}, expected protocols that draw, over time, with one rate, of no family"
                )
        if self.weights is not None and (
            self.protocol != "one-missing" or min(self.weights) < 0 or not sum(self.weights)
        ):
            raise ValueError(
                "weights are three numbers >= 0, not all 0, and belong to the protocol one-missing"
            )
        if self.ranges and self.protocol != "block":
            raise ValueError(f"ranges means nothing to the protocol {self.protocol}")
        for found in (*([self.range] if self.range else []), *self.ranges.values()):
            if found[0] > found[1]:
                raise ValueError(f"found the range {list(found)}, expected the lower end first")
        for rate in (self.rate or 0.0, *self.rates):
            if self.protocol == "random" and rate > 2 / 3 + 1e-9:
                raise ValueError(
                    f"found rate {rate}; random keeps one modality at least, so at most 2/3 can go"
                )
        if self.protocol == "conditions" and self.draw == "sampled":
            raise ValueError("conditions enumerates; there is nothing to draw")
        return self


class Length(Section):
    """How many frames a modality has at most, or exactly."""

    frames: Annotated[int, Field(ge=1, le=100_000)]
    by: Literal["cut", "resample"] = "cut"  # keep the first so many; or means over so many equal parts


class Experiment(Section):
    """dataset x model x regime x folds x seeds."""

    # one of datasets
    dataset: str
    # a file of models/
    model: str
    # a file of pipeline/training/regimes/
    regime: str = "standard"
    task: Literal["classification", "regression"] = "classification"  # of the labels, or of the scores
    # regression: which column of the manifest
    target: Target = "score"
    # full: complete samples; missing: each under all six missing conditions; augmented: both; random-condition:
    # each under one of the six, drawn anew every epoch; a, v, t, av, at, vt: with just these modalities, and
    # evaluated with just these (MMIN Table 7); or the name of a mask: a fixed one as data/masks has it, a sampled
    # one drawn anew every epoch.
    train_on: str = "full"
    train_mask: str | None = None  # a mask that lies over all of train_on besides
    evaluate_on: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "conditions",
    )  # masks, or families of them
    evaluate_conditions: bool = False  # put a mask that draws over each of the seven conditions, too
    labels: dict[Name, str | tuple[str, ...]] = {}  # class -> labels, "others", or "> 0" of the scores
    folds: Folds | None = None  # another split than the dataset's
    lengths: dict[Modality, Length] = {}  # cut or resample to so many frames
    settings: dict[str, Any] = {}  # the model's
    # the regime's
    regime_settings: dict[str, Any] = {}
    frame_rate_hz: dict[Modality, Annotated[float, Field(gt=0)]] = {}  # average frames down to this rate
    runs: Annotated[int, Field(ge=1)] = 1  # seeds, from the root seed on
    # at most
    epochs: Annotated[int, Field(ge=1)] = 100
    # samples a batch
    batch_size: Annotated[int, Field(ge=1)] = 128
    batches: Literal["shuffled", "by-length"] = "shuffled"  # by-length: samples of like length together
    accumulate: Annotated[int, Field(ge=1)] = 1  # a step on the mean gradient of so many batches
    # Adam's
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    learning_rates: dict[str, Annotated[float, Field(gt=0)]] = {}  # by parameter group, over learning_rate
    decay_epochs: Annotated[int, Field(ge=0)] = 0  # the last so many epochs take the learning rate down to 0
    halve_after: Annotated[int, Field(ge=1)] | None = (
        None  # halve the rates after epochs without a lower loss
    )
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9  # Adam's
    # Adam's, of every parameter group
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    weight_decays: dict[str, Annotated[float, Field(ge=0)]] = {}  # by parameter group, over weight_decay
    # the most that the gradient's norm may be; none: no limit
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    clip_groups: bool = False  # clip each parameter group by itself
    clip_value: Annotated[float, Field(gt=0)] | None = (
        None  # of each number of the gradient, before clip_norm
    )
    patience: Annotated[int, Field(ge=1)] | None = None  # epochs without a better validation score
    select_by: str = "ua"  # by validation; a metric of the task or loss; of a regression mae, if not given
    # validation chooses the epoch; test-paper lets the test part choose, as some public codes do: its numbers are too
    # good, and every table says so.
    selection: Literal["validation", "test-paper"] = "validation"
    # of the network's arithmetic on a GPU
    precision: Literal["float32", "bfloat16"] = "float32"
    # let PyTorch compile the network
    compile: bool = False
    watch_test: bool = False  # also put the test part's curves into history.csv; nothing is chosen by them
    keep_hidden: tuple[str, ...] = ()  # the model's hidden states to keep, of the first run's test samples

    @field_validator("evaluate_on", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @field_validator("lengths", mode="before")
    @classmethod
    def _number_alone(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {key: {"frames": value} if isinstance(value, int) else value for key, value in given.items()}

    @model_validator(mode="before")
    @classmethod
    def _usual_selection(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("task") == "regression":
            return {"select_by": "mae", **given}
        return given

    @model_validator(mode="after")
    def _fits_the_task(self) -> Experiment:
        allowed = metrics.SELECTORS[self.task]
        if self.select_by not in allowed:
            raise ValueError(
                f'found select_by "{self.select_by}"; a {self.task} has: {", ".join(allowed)}.'
                f"{nearest(self.select_by, allowed)}"
            )
        by_score = any(is_comparison(one) for one in self.labels.values())
        if self.target != "score" and self.task != "regression" and not by_score:
            raise ValueError(f"target {self.target} means nothing to a classification; set task: regression")
        if self.labels and self.task == "regression":
            raise ValueError("labels means nothing to a regression; set task: classification")
        if self.labels:
            ClassRules.parse(self.labels)
        for modality, length in self.lengths.items():
            if length.by == "resample" and modality in self.frame_rate_hz:
                raise ValueError(
                    f"{modality} has a frame_rate_hz and is resampled by lengths; expected one of the two"
                )
        return self


class ForeignPredictions(Section):
    """Predictions from elsewhere, as one more row of the report (pipeline/reporting/foreign.py)."""

    file: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]*\.csv$", max_length=100)
    ]  # in data/predictions/
    like: Name  # the experiment on whose test samples, labels, folds and conditions they are measured


class PublishedRow(Section):
    """A row of a published table; pipeline/reporting/published.csv holds the numbers."""

    # its name in published.csv
    paper: str
    # its number there
    table: str
    dataset: str  # the paper's: iemocap, msp_improv, mosi, sims
    # the row's name there
    model: str
    conditions: tuple[str, ...] = ()  # only these; empty: all that both have


class ReportTable(Section):
    """One table or figure: a section of the page, with a baseline of its own. Its experiments share one dataset."""

    # of the section
    title: Annotated[str, Field(min_length=1)]
    experiments: Annotated[tuple[Name, ...], Field(min_length=1)]  # the rows, in their order on the page
    baseline: Name | None = None  # the experiment that the others are tested against
    against: dict[Name, Name] = {}  # experiment -> the one that it is tested against, instead of the baseline
    published: dict[Name, PublishedRow] = {}  # experiment -> the published row beside it
    p_values: dict[Name, PublishedRow] = {}  # experiment -> the published p-values of its test

    @model_validator(mode="after")
    def _names_its_own_experiments(self) -> ReportTable:
        if len(set(self.experiments)) < len(self.experiments):
            twice = sorted({name for name in self.experiments if self.experiments.count(name) > 1})
            raise ValueError(f"experiments: found twice: {', '.join(twice)}")
        named = {
            "baseline": [self.baseline] if self.baseline else [],
            "against": [*self.against, *self.against.values()],
            "published": [*self.published],
            "p_values": [*self.p_values],
        }
        for key, names in named.items():
            for name in names:
                if name not in self.experiments:
                    listed = ", ".join(self.experiments)
                    raise ValueError(
                        f'{key}: found "{name}", expected one of the experiments of this table: {listed}.'
                        f"{nearest(name, self.experiments)}"
                    )
        return self


class Report(Section):
    """The page: one section for each table, and one a dataset for the experiments that stand in no table."""

    # of the page
    title: str = "Lacuna"
    baseline: str | None = None  # the others are tested against it; of the experiments that stand in no table
    # which t-test decides: paired over folds and seeds, as the papers', or the one that allows for folds that share
    # training data (Nadeau and Bengio 2003). Either is corrected by Holm over a section's tests; the page shows both.
    test: Literal["paired", "resampled"] = "paired"
    # NAME -> a section of the page
    tables: dict[Name, ReportTable] = {}


class Params(Section):
    """The whole of params.yaml."""

    # the root of all random numbers of masks and trainings
    seed: Annotated[int, Field(ge=0)] = 0
    # where the work is done
    compute: Compute = Compute()
    # the demo corpus
    corpus: Corpus = Corpus()
    # NAME -> what is fetched: pretrained weights, an installed library, the corpus's parts
    assets: dict[Name, Asset] = {}
    # NAME -> a dataset and its three extractors
    datasets: dict[Name, Dataset]
    # the settings of every extractor that a dataset selects, by modality and name
    extractors: Extractors = Extractors()
    train_denseface: dict[Name, DensefaceTraining] = {}  # -> data/denseface/NAME.safetensors
    # NAME -> a missing-modality protocol
    masks: dict[Name, Mask] = {}
    # NAME -> a training and its evaluation
    experiments: dict[Name, Experiment] = {}
    predictions: dict[Name, ForeignPredictions] = {}  # of other tools: a row of the report each
    # what the page shows
    report: Report = Report()
    # NAME -> a folder outside of the project, which datasets name as root: data/media/NAME. LACUNA_MEDIA_NAME of the
    # environment or params.local.yaml may name another on this machine; null: only these do.
    media: dict[Name, Path | None] = {}

    @model_validator(mode="after")
    def _masks_have_names_of_their_own(self) -> Params:
        seen: dict[str, str] = {}
        for family, mask in self.masks.items():
            for name in mask.members(family):
                if name in TRAINING_SETS:
                    raise ValueError(
                        f"masks.{family}: {name} is what train_on calls a set of conditions; choose another name"
                    )
                if name in seen:
                    raise ValueError(f"masks.{family} makes a mask {name}, and so does masks.{seen[name]}")
                seen[name] = family
        return self

    def dataset(self, name: str) -> Dataset:
        """Return a dataset. Raises ParamsError when there is none of that name."""
        return _pick(self.datasets, name, "datasets")

    def experiment(self, name: str) -> Experiment:
        """Return an experiment. Raises ParamsError when there is none of that name."""
        return _pick(self.experiments, name, "experiments")

    def asset(self, name: str) -> Asset:
        """Return an asset. Raises ParamsError when there is none of that name."""
        return _pick(self.assets, name, "assets")

    def denseface_training(self, name: str) -> DensefaceTraining:
        """Return a training of Denseface. Raises ParamsError when there is none of that name."""
        return _pick(self.train_denseface, name, "train_denseface")

    @cached_property
    def all_masks(self) -> dict[str, Mask]:
        """Every mask by its name, families by their members."""
        return {
            name: one for family, mask in self.masks.items() for name, one in mask.members(family).items()
        }

    def evaluation_masks(self, experiment: Experiment) -> tuple[str, ...]:
        """Return the masks that an experiment is evaluated under, families by their members, each once."""
        found: dict[str, None] = {}
        for name in experiment.evaluate_on:
            family = self.masks.get(name)
            found.update(dict.fromkeys([name] if family is None else family.members(name)))
        return tuple(found)

    def media_place(self, name: str) -> Path | None:
        """Return the folder of ``media.NAME`` on this machine, or None if none is given."""
        place = _pick(self.media, name, "media")
        return None if place is None else place.expanduser()

    def no_media(self, name: str) -> str:
        """Return the message for media that are not on this machine."""
        place = self.media_place(name)
        return (
            f"media.{name}: {f'there is no folder {place}' if place else 'no place is given'}. Write the place of your "
            f"copy into media.{name} of {LOCAL_FILE}, or set {media_variable(name)}; who needs no media takes what the "
            "team made: dvc pull --run-cache"
        )

    def root(self, dataset: str) -> Path:
        """Return the folder of a dataset's media on this machine; it may not be there."""
        root = self.dataset(dataset).root
        return (self.media_place(root.name) if root.parent == PLACES else None) or root

    def loader(self, dataset: str) -> loaders.BaseLoader[loaders.LoaderSettings]:
        """Return the loader of a dataset, with its checked options and its root on this machine.

        Raises:
            ParamsError: its root is data/media/NAME, and there is no such folder on this machine.
        """
        chosen = self.dataset(dataset)
        if chosen.root.parent == PLACES and not self.root(dataset).is_dir():
            raise ParamsError(self.no_media(chosen.root.name))
        owner = loaders.find(chosen.loader)
        return owner(owner.Settings(**chosen.options), self.root(dataset))

    def extractor_settings(self, dataset: str, modality: Modality) -> ExtractorSettings:
        """Return the checked settings of the extractor that makes one modality of a dataset."""
        chosen = self.dataset(dataset).extraction(modality)
        shared = getattr(self.extractors, modality).get(chosen.extractor, {})
        return extractors.find(modality, chosen.extractor).Settings(**{**shared, **chosen.settings})


def _pick(sections: dict[str, T], name: str, key: str) -> T:
    if name not in sections:
        listed = ", ".join(sections) or "none"
        raise ParamsError(f'{key}: there is no "{name}"; there are: {listed}.{nearest(name, sections)}')
    return sections[name]


def load_params(path: Path = PARAMS_FILE, *, models: bool = True) -> Params:
    """Read and check params.yaml.

    Args:
        path: the file.
        models: check the settings of models and regimes, too, whose code loads PyTorch, which takes seconds.

    Raises:
        ParamsError: the file is absent, is not YAML, or says something that is not allowed; the message lists every
            mistake with the key's path, what was found, what is allowed and the nearest name.
    """
    raw = _with_local(path, read_params_file(path), os.environ)
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        raise ParamsError(_explain(path, error, Params)) from error
    _check_names(path, params, models)
    return params


def media_variable(name: str) -> str:
    """Return the variable of the environment that says where ``media.NAME`` is on this machine."""
    return "LACUNA_MEDIA_" + name.upper().replace("-", "_")


def _with_local(path: Path, raw: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what params.yaml says, with what params.local.yaml and the environment say of this machine."""
    merged, beside = dict(raw), path.with_name(LOCAL_FILE)
    local = read_params_file(beside) if path.name == PARAMS_FILE.name and beside.is_file() else {}
    for section, values in local.items():
        if section not in LOCAL_SECTIONS or not isinstance(values, dict):
            raise ParamsError(
                f"{beside}: found {section}, expected keys in the sections {' and '.join(LOCAL_SECTIONS)} alone: "
                "everything else belongs to the team's params.yaml"
            )
        shared = merged.get(section) or {}
        if isinstance(shared, dict):
            if section == "media" and (unknown := [name for name in values if name not in shared]):
                raise ParamsError(
                    f"{beside}: media.{unknown[0]}: there is no such key in {path}.{nearest(unknown[0], shared)}"
                )
            merged[section] = {**shared, **values}
    if isinstance(media := merged.get("media"), dict):
        merged["media"] = {
            name: environment.get(media_variable(name)) or place for name, place in media.items()
        }
    return merged


@cache
def module_names(package: str) -> tuple[str, ...]:
    """Return the names that params.yaml may use for loaders, models and regimes: their files."""
    folder = Path(str(importlib.import_module(package).__file__)).parent
    reserved = {"__init__", "base", "layers", "parts", "blocks"}
    stems = (path.stem for path in folder.glob("*.py"))
    return tuple(sorted(stem for stem in stems if stem not in reserved and not stem.startswith("_")))


def _check_names(path: Path, params: Params, models: bool) -> None:
    problems: list[str] = []

    def check(key: str, name: str, allowed: Any) -> bool:
        if name in allowed:
            return True
        problems.append(
            f'{key}: found "{name}", expected one of: {", ".join(allowed)}.{nearest(name, allowed)}'
        )
        return False

    variables = [media_variable(name) for name in params.media]
    for name, variable in zip(params.media, variables, strict=True):
        if variables.count(variable) > 1:
            problems.append(
                f"media.{name}: {variable} would stand for another one as well; choose another name"
            )
    for name, dataset in params.datasets.items():
        if dataset.root.parent == PLACES:
            check(f"datasets.{name}.root: {PLACES}/", dataset.root.name, params.media)
        if check(f"datasets.{name}.loader", dataset.loader, loaders.names()):
            loader = loaders.find(dataset.loader)
            problems += _check_settings(f"datasets.{name}.options", loader, dataset.options)
        for modality in MODALITIES:
            chosen = dataset.extraction(modality)
            key = f"datasets.{name}.{modality}"
            if check(f"{key}.extractor", chosen.extractor, extractors.names(modality)):
                check(f"extractors.{modality}", chosen.extractor, getattr(params.extractors, modality))
                problems += _check_settings(
                    f"{key}.settings", extractors.find(modality, chosen.extractor), chosen.settings
                )
    for modality in MODALITIES:
        for name, settings in getattr(params.extractors, modality).items():
            key = f"extractors.{modality}.{name}"
            if check(key, name, extractors.names(modality)):
                problems += _check_settings(key, extractors.find(modality, name), settings)
    for name, experiment in params.experiments.items():
        key = f"experiments.{name}"
        check(f"{key}.dataset", experiment.dataset, params.datasets)
        drawn = [mask for mask, one in params.all_masks.items() if one.protocol != "conditions"]
        check(f"{key}.train_on", experiment.train_on, (*TRAINING_SETS, *drawn))
        if experiment.train_mask is not None:
            check(f"{key}.train_mask", experiment.train_mask, drawn)
        for mask in experiment.evaluate_on:
            check(f"{key}.evaluate_on", mask, dict.fromkeys([*params.masks, *params.all_masks]))
        problems += _check_task(key, experiment, params)
        for field, package in (("model", "models"), ("regime", "pipeline.training.regimes")):
            chosen_name = getattr(experiment, field)
            if check(f"{key}.{field}", chosen_name, module_names(package)) and models:
                module = importlib.import_module(f"{package}.{chosen_name}")
                settings_key = "settings" if field == "model" else "regime_settings"
                owner = module.Model if field == "model" else module.Regime
                wrong = _check_settings(f"{key}.{settings_key}", owner, getattr(experiment, settings_key))
                if field == "model" and not wrong:
                    wrong = _check_decay(key, experiment, owner)
                if field == "regime" and not wrong:
                    problems += _check_groups(key, experiment, owner)
                    for stream in owner(owner.Settings.model_validate(experiment.regime_settings)).streams:
                        if stream.train_on is not None:
                            where = f"{key}.{settings_key}.{stream.name}_on"
                            check(where, stream.train_on, (*TRAINING_SETS, *drawn))
                        if stream.train_mask is not None:
                            check(f"{key}.{settings_key}.{stream.name}_mask", stream.train_mask, drawn)
                problems += wrong
    if params.report.baseline is not None and params.experiments:
        check("report.baseline", params.report.baseline, params.experiments)
    for name, foreign in params.predictions.items():
        if name in params.experiments:
            problems.append(f"predictions.{name}: an experiment has this name; choose another")
        check(f"predictions.{name}.like", foreign.like, params.experiments)
    rows = {**params.experiments, **params.predictions}
    for name, table in params.report.tables.items():
        known = [check(f"report.tables.{name}.experiments", one, rows) for one in table.experiments]
        if all(known):
            problems += _check_table(f"report.tables.{name}", table, params)
    if problems:
        raise ParamsError("\n".join([f"{path}: {len(problems)} mistake(s)", *(f"  {p}" for p in problems)]))


def _check_table(key: str, table: ReportTable, params: Params) -> list[str]:
    """Return what is wrong with a table of the report whose experiments are all there."""
    problems = []
    for kind in ("published", "p_values"):
        for name, row in getattr(table, kind).items():
            try:
                find_rows(row)
            except ParamsError as error:
                problems.append(f"{key}.{kind}.{name}: {error}")
    trained = [
        params.predictions[one].like if one in params.predictions else one for one in table.experiments
    ]
    datasets = list(
        dict.fromkeys(params.experiments[one].dataset for one in trained if one in params.experiments)
    )
    if len(datasets) <= 1:
        return problems
    return [
        *problems,
        f"{key}.experiments: found experiments on {' and '.join(datasets)}, expected one dataset. Write one table "
        "for each dataset",
    ]


def _check_task(key: str, experiment: Experiment, params: Params) -> list[str]:
    """Return what is wrong with a regression on a dataset whose loader does not give its target."""
    if experiment.task != "regression" or experiment.dataset not in params.datasets:
        return []
    dataset = params.datasets[experiment.dataset]
    loader = dataset.loader
    if loader not in loaders.names():
        return []
    owner = loaders.find(loader)
    try:
        made = owner(owner.Settings(**dataset.options), dataset.root)
    except ValidationError:
        return []  # is said elsewhere
    target = experiment.target
    scale = metrics.Scale.of(target, made.ranges, made.score_limit if owner.scores else None)
    if scale is not None:
        allowed = ("loss", *scale.metrics)
        if experiment.select_by in allowed:
            return []
        return [
            f'{key}.select_by: found "{experiment.select_by}", expected one of {", ".join(allowed)}: the {target} of '
            f"{experiment.dataset} goes from {scale.low:g} to {scale.high:g}"
        ]
    if owner.scores or made.ranges:
        way_out = f"Write its scale into datasets.{experiment.dataset}.options: ranges: {{{target}: [1, 7]}}"
        return [
            f'{key}.target: found "{target}", but the loader {loader} of {experiment.dataset} gives '
            f"{', '.join((*['score'] * owner.scores, *made.ranges))}{f'. {way_out}' if loader == 'folder' else ''}"
        ]
    those = [name for name, one in params.datasets.items() if loaders.find(one.loader).scores]
    return [
        f'{key}.task: found "regression", but the loader {loader} of {experiment.dataset} gives no scores; '
        f"expected classification, or a dataset with scores ({', '.join(those) or 'none here'})"
    ]


def _check_decay(key: str, experiment: Experiment, model: Any) -> list[str]:
    """Return what is wrong with decay_epochs; a recipe's are made to fit the epochs (``resolve``)."""
    recipe = model.recipe(model.Settings.model_validate(experiment.settings))
    given = experiment.model_fields_set
    epochs = experiment.epochs if "epochs" in given else recipe.get("epochs", experiment.epochs)
    if "decay_epochs" not in given or experiment.decay_epochs < epochs:
        return []
    return [
        f"{key}.decay_epochs: found {experiment.decay_epochs}, expected fewer than the {epochs} epochs: the rate would "
        "be below learning_rate from the first epoch on"
    ]


def _check_groups(key: str, experiment: Experiment, regime: Any) -> list[str]:
    """Return what is wrong with the names of the model's parameter groups, which a network without memory knows.

    A network whose settings are wrong, or that starts from files, is not built here: the training checks its names.
    """
    chosen = regime(regime.Settings.model_validate(experiment.regime_settings))
    asked: dict[str, Any] = {f"regime_settings.{one}": names for one, names in chosen.named_groups.items()}
    asked |= {one: getattr(experiment, one) for one in ("learning_rates", "weight_decays")}
    if not any(asked.values()) or experiment.model not in module_names("models"):
        return []
    import torch  # stages that do no training start without it

    owner = importlib.import_module(f"models.{experiment.model}").Model
    try:
        settings = owner.Settings.model_validate(experiment.settings)
        if owner.files(settings):
            return []
        with torch.device("meta"):
            groups = owner(settings, dict.fromkeys(MODALITIES, 8), 2).parameter_groups()
    except (LacunaError, OSError, ValueError, RuntimeError):  # pydantic's ValidationError is a ValueError
        return []
    return [
        f'{key}.{one}: there is no parameter group "{name}"; {experiment.model} has {", ".join(groups)}.'
        f"{nearest(name, groups)}"
        for one, names in asked.items()
        for name in names
        if name not in groups
    ]


def _check_settings(key: str, owner: Any, settings: dict[str, Any]) -> list[str]:
    try:
        owner.Settings.model_validate(settings)
    except ValidationError as error:
        return _problems(error, owner.Settings, key)
    return []


def _explain(path: Path, error: ValidationError, model: type[BaseModel]) -> str:
    problems = _problems(error, model, "")
    return "\n".join([f"{path}: {len(problems)} mistake(s)", *(f"  {p}" for p in problems)])


def _problems(error: ValidationError, model: type[BaseModel], prefix: str) -> list[str]:
    problems = []
    for item in error.errors():
        key = ".".join([prefix, *map(str, item["loc"])] if prefix else map(str, item["loc"])) or prefix
        found = item.get("input")
        if item["type"] == "extra_forbidden":
            allowed = _keys_at(model, item["loc"][:-1])
            problems.append(
                f"{key}: unknown key; expected one of: {', '.join(allowed)}.{nearest(str(item['loc'][-1]), allowed)}"
            )
        elif item["type"] == "missing":
            problems.append(f"{key}: missing; it has no default")
        else:
            message = item["msg"].removeprefix("Value error, ")
            choices = str((item.get("ctx") or {}).get("expected", ""))
            hint = ""
            if isinstance(found, str) and choices:
                options = [c.strip(" '\"") for c in choices.replace(" or ", ", ").split(",")]
                close = difflib.get_close_matches(found, options, n=1, cutoff=0.4)
                hint = f' Did you mean "{close[0]}"?' if close else ""
            shown = "" if isinstance(found, dict) else f"found {found!r}; "
            problems.append(f"{key}: {shown}{message}.{hint}")
    return problems


def _keys_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Return the field names of the section that ``loc`` leads to."""
    current: Any = model
    for part in loc:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(part))
            current = field.annotation if field else None
        else:  # a dict of sections: its values
            arguments = [a for a in get_args(current) if isinstance(a, type) and issubclass(a, BaseModel)]
            current = arguments[0] if arguments else None
    if isinstance(current, type) and issubclass(current, BaseModel):
        return list(current.model_fields)
    return []
