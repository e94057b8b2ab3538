"""One modality of a whole dataset, from its manifest and media to its feature store.

The clips are shared among workers (pipeline/extraction/engines.py). Each loads the model once and uses one thread:
only the number of workers decides how many cores are used, so that the bytes of the result do not depend on it.

Every result is kept at once under data/cache/ (pipeline/extraction/kept_clips.py). Its key is a hash of all that
it was made from: the bytes of the media, the part of the file, the extractor with its settings, weights, code and
libraries. So a changed or added clip costs the extraction of that clip alone, and a run that is stopped loses
only the clips that were in work. The store is put together from these results in the manifest's order.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.manifest import Sample, manifest_checksum, read_manifest, resolve_media
from pipeline.data.store import FeatureInfo, FeatureSequence, FeatureWriter, Status
from pipeline.errors import DataError, StoreError
from pipeline.extraction import kept_clips
from pipeline.extraction.alignment import Align, aligned
from pipeline.extraction.engines import Engine, Job, closing, compute
from pipeline.extraction.extractors import base
from pipeline.extraction.extractors.base import Clip, ExtractorSettings
from pipeline.extraction.kept_clips import KeptResults

CACHE = Path("data/cache")
NAMED_FAILURES = 10

log = logging.getLogger("lacuna")


@dataclass(frozen=True)
class Summary:
    """The result of an extraction, in numbers.

    Attributes:
        ok, missing, failed: numbers of samples by status.
        computed: how many results were computed in this run; the others were kept from earlier runs, or belong
            to a clip with the same content as one of these.
        rows: rows of the store, and those that a sample without rows would have had (``unseen``).
        unobserved: those among ``rows`` in which nothing was observed (no face, an unknown word).
        seconds: wall time that computing took.
        what: what the unobserved rows are, in words.
    """

    ok: int
    missing: int
    failed: int
    computed: int
    rows: int
    unobserved: int
    seconds: float
    what: str = "rows unobserved"

    def __str__(self) -> str:
        """Return the numbers in one line."""
        total = self.ok + self.missing + self.failed
        rate = f" in {self.seconds:.1f} s ({self.computed / self.seconds:.1f}/s)" if self.computed else ""
        unobserved = ""
        if self.unobserved:
            unobserved = f"; {self.unobserved / self.rows:.1%} of {self.rows} {self.what}"
        return (
            f"{self.ok} ok, {self.missing} missing, {self.failed} failed; {self.computed} computed{rate}, "
            f"{max(0, total - self.computed)} kept{unobserved}"
        )


def extract(
    *,
    dataset: str,
    modality: str,
    manifest: Path,
    root: Path,
    extractor: str,
    settings: ExtractorSettings,
    assets: Path,
    store: Path,
    cache: Path = CACHE,
    workers: int | str = "auto",
    engine: Engine = "processes",
    address: str = "auto",
    clip_timeout_s: float = 3600.0,
    max_failed_share: float = 0.05,
    align: Align = "none",
    progress: bool = True,
) -> Summary:
    """Write the feature store of one modality of a dataset.

    Args:
        dataset: its name, kept in the store.
        modality: text, audio or video.
        manifest: the dataset's manifest.
        root: the folder that the manifest's paths are relative to.
        extractor: the name of a file in pipeline/extraction/extractors/<modality>/.
        settings: an object of that extractor's ``Settings``.
        assets: the folder with its weights.
        store: the file to write; it takes its place when whole.
        cache: where results are kept by content.
        workers: how many, or "auto" for one per core.
        engine, address: where they run (pipeline/extraction/engines.py).
        clip_timeout_s: a clip that takes longer has failed.
        max_failed_share: of the samples that may fail; missing ones do not count as failed.
        align: rows averaged over words, or resampled to this many (pipeline/extraction/alignment.py).
        progress: show a bar with rate and time left.

    Raises:
        DataError: the manifest is damaged, or too many clips failed; the other clips' results are kept all the
            same.
        AssetError, SystemLibraryError: the extractor cannot work here.
        StoreError: the disk is full or cannot be written.
    """
    samples = read_manifest(manifest)
    done = extract_clips(
        [clip_of(sample, root) for sample in samples],
        root=root,
        modality=modality,
        extractor=extractor,
        settings=settings,
        assets=assets,
        cache=cache,
        workers=workers,
        engine=engine,
        address=address,
        clip_timeout_s=clip_timeout_s,
        title=f"{dataset} {modality}" if progress else "",
    )
    info = FeatureInfo(
        dataset=dataset,
        modality=modality,
        extractor=extractor,
        settings=settings.model_dump(mode="json") | ({} if align == "none" else {"align": align}),
        columns=done.columns,
        frame_period_s=done.frame_period_s if align == "none" else None,
        manifest_sha256=manifest_checksum(manifest),
        versions=done.versions,
    )
    rows = (
        aligned(result, sample.words, align)
        for sample, result in zip(samples, done.results.in_order(), strict=True)
    )
    return _assemble(store, info, [sample.id for sample in samples], rows, max_failed_share, done.results)


@dataclass(frozen=True)
class Extracted:
    """What came of an extractor and some clips.

    Attributes:
        columns: the names of the D columns.
        frame_period_s: seconds from one frame to the next; None where they are words, or otherwise uneven.
        versions: of the libraries that can change the numbers.
        results: the features, in the clips' order.
    """

    columns: tuple[str, ...]
    frame_period_s: float | None
    versions: Mapping[str, str]
    results: Results


def extract_clips(
    clips: Sequence[Clip],
    *,
    modality: str,
    extractor: str,
    settings: ExtractorSettings,
    assets: Path,
    root: Path | None = None,
    cache: Path = CACHE,
    workers: int | str = "auto",
    engine: Engine = "processes",
    address: str = "auto",
    clip_timeout_s: float = 3600.0,
    title: str = "",
) -> Extracted:
    """Extract one modality of some clips, or find what is kept of them. Arguments and errors are those of
    :func:`extract`; ``root``, if given, is the one folder of the clips' media, which must be there for an extractor
    that reads them; ``title`` is that of the progress bar, of which there is none without.
    """
    owner = base.find(modality, extractor)
    with closing(owner(settings, assets)) as instance:
        if modality != "text" and not instance.by_id and root is not None and not root.is_dir():
            raise DataError(
                f"{modality}: there is no folder {root} with the media that {extractor} reads. Mend the dataset's "
                "root in params.yaml, or its media in params.local.yaml; what the team extracted is taken by "
                "dvc pull --run-cache"
            )
        columns, period_s = instance.columns, instance.frame_period_s
        made_with = kept_clips.made_with(instance, extractor)
        keys = kept_clips.keys_of(clips, instance, made_with)
    folder = cache / modality / extractor
    job = Job(modality, extractor, settings.model_dump_json(), assets, folder, len(columns), made_with)

    def run(todo: Sequence[int]) -> dict[int, FeatureSequence]:
        return compute(job, clips, keys, todo, workers, title, engine, address, clip_timeout_s)

    results = Results(KeptResults(job.cache, job.dims), keys, run)
    return Extracted(columns, period_s, kept_clips.versions_of(owner), results)


def clip_of(sample: Sample, root: Path) -> Clip:
    """Return the :class:`Clip` of a sample, which extractors take.

    Raises:
        DataError: a path leaves the root.
    """
    return Clip(
        id=sample.id,
        video=resolve_media(root, sample.video_path) if sample.video_path else None,
        audio=resolve_media(root, sample.audio_path) if sample.audio_path else None,
        start_s=sample.start_s,
        end_s=sample.end_s,
        audio_start_s=sample.audio_start_s,
        audio_end_s=sample.audio_end_s,
        picture=sample.picture,
        text=sample.text,
        words=sample.words,
    )


def _assemble(
    store: Path,
    info: FeatureInfo,
    ids: Sequence[str],
    rows_of_samples: Iterator[FeatureSequence],
    max_failed_share: float,
    results: Results,
) -> Summary:
    counts: Counter[Status] = Counter()
    failures: list[str] = []
    rows = unobserved = 0
    with FeatureWriter(store, info) as writer:
        for sample_id, result in zip(ids, rows_of_samples, strict=True):
            writer.append(sample_id, result)
            counts[result.status] += 1
            rows += len(result.flags) + result.unseen
            unobserved += int((result.flags == 0).sum()) + result.unseen
            if result.status is Status.FAILED:
                failures.append(f"  {sample_id}: {result.reason}")
        if len(failures) > max_failed_share * len(ids):
            more = len(failures) - NAMED_FAILURES
            raise DataError(
                f"{info.dataset}, {info.modality}: {len(failures)} of {len(ids)} clips failed, more than the "
                f"{max_failed_share:.0%} that compute.max_failed_share allows:\n"
                + "\n".join(failures[:NAMED_FAILURES])
                + (f"\n  and {more} more" if more > 0 else "")
                + "\nThe other results are kept. Mend or remove these clips, or raise "
                "compute.max_failed_share, and run: dvc repro"
            )
    for line in failures[:NAMED_FAILURES]:
        log.warning("failed:%s", line[1:])
    words = info.modality == "text" and "align" not in info.settings
    return Summary(
        counts[Status.OK],
        counts[Status.MISSING],
        counts[Status.FAILED],
        results.computed,
        rows,
        unobserved,
        results.seconds,
        "words are unknown words" if words else "rows unobserved",
    )


# --- results, kept by key -------------------------------------------------------------


class Results:
    """The results of all clips. A kept one is decoded once; what is not kept, or is damaged, is computed.

    Args:
        kept: the results that are kept.
        keys: N keys, one a clip; None where nothing may be kept.
        compute: computes and keeps the results of the clips with these indices, and returns those that may
            not be kept.

    Attributes:
        computed: how many results were computed.
        seconds: of wall time that computing took.
    """

    def __init__(
        self,
        kept: KeptResults,
        keys: Sequence[str | None],
        compute: Callable[[Sequence[int]], dict[int, FeatureSequence]],
    ) -> None:
        self._kept, self._keys, self._compute = kept, keys, compute
        self._fresh: set[str | None] = set()  # keys whose results were computed now
        self._unkept: dict[int, FeatureSequence] = {}
        self._unkept_by_key: dict[str | None, FeatureSequence] = {}
        self.computed = 0
        self.seconds = 0.0
        kept.refresh({key for key in keys if key is not None})
        self._run(_first_of_each(keys, lambda key: key not in kept))

    def in_order(self) -> Iterator[FeatureSequence]:
        """Yield every clip's result in order.

        Raises:
            StoreError: a result that was kept a moment ago is gone or damaged.
        """
        with ExitStack() as opened:
            read = opened.enter_context(self._kept.reader())
            for index, key in enumerate(self._keys):
                result = self._unkept.get(index) or self._unkept_by_key.get(key)
                if result is None and key is not None:
                    result = read(key)
                    if result is None and key not in self._fresh:
                        self._replace_damaged(index, read)
                        opened.close()
                        read = opened.enter_context(self._kept.reader())
                        result = self._unkept.get(index) or read(key)
                if result is None:
                    raise StoreError(f"the kept result {key} changed while it was used. Run: dvc repro")
                yield result

    def _replace_damaged(self, first: int, read: Callable[[str], FeatureSequence | None]) -> None:
        """Compute again, at once, the result ``first`` and all later ones that are damaged."""

        def is_damaged(key: str) -> bool:
            return key not in self._fresh and read(key) is None

        later = _first_of_each(self._keys[first:], is_damaged)
        damaged = [index for place in later if self._keys[index := first + place] is not None]
        log.warning("%d kept result(s) are damaged and computed again", len(damaged))
        self._run(damaged)

    def _run(self, todo: Sequence[int]) -> None:
        if not todo:
            return
        begin = time.perf_counter()
        unkept = self._compute(todo)
        self.seconds += time.perf_counter() - begin
        self.computed += len(todo)
        self._fresh |= {self._keys[index] for index in todo}
        self._unkept |= unkept
        self._unkept_by_key |= {
            key: result for index, result in unkept.items() if (key := self._keys[index]) is not None
        }
        self._kept.refresh({key for key in self._keys if key is not None})


def _first_of_each(keys: Sequence[str | None], wanted: Callable[[str], bool]) -> list[int]:
    """Return what to compute: each clip without a key, and the first of those that share a wanted key."""
    seen: set[str] = set()
    chosen = []
    for index, key in enumerate(keys):
        if key is None or (key not in seen and wanted(key)):
            chosen.append(index)
        if key is not None:
            seen.add(key)
    return chosen
