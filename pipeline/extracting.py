"""Extract features of files, without a dataset: what ``lacuna extract`` does.

The clips go the way of a dataset's (pipeline/extraction/dataset.py): the same workers and the same kept results, so
that the numbers are the pipeline's, and what one has extracted the other finds.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data.datasets.folder import MEDIA
from pipeline.data.feature_tables import check_form, writing
from pipeline.data.manifest import MODALITIES
from pipeline.data.store import FeatureInfo, Status
from pipeline.errors import DataError, ParamsError, nearest
from pipeline.extraction.dataset import extract_clips
from pipeline.extraction.extractors import base
from pipeline.extraction.extractors.base import Clip, ExtractorSettings

DATA = Path("data")
DATASET = "files"  # what a store says instead of a dataset's name


@dataclass(frozen=True)
class Outcome:
    """What came of one extractor.

    Attributes:
        path: the file that was written.
        rows: how many rows it has.
        missing: id -> why there was nothing to extract.
        failed: id -> why the clip could not be read.
    """

    path: Path
    rows: int
    missing: Mapping[str, str]
    failed: Mapping[str, str]


def find_media(paths: Sequence[Path]) -> list[Path]:
    """Return the files, and the media files within the folders, sorted within each.

    Raises:
        DataError: a path is not there, or a folder holds no media.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                one
                for one in path.rglob("*")
                if one.suffix.lower() in MEDIA and not one.name.startswith(".") and one.is_file()
            )
            if not inside:
                raise DataError(f"{path}: holds no file that ends in one of {', '.join(MEDIA)}")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"{path}: there is no such file or folder")
    return list(dict.fromkeys(found))


def name_clips(paths: Sequence[Path]) -> list[str]:
    """Return an id for each file: its name without its ending, or its whole path where two have that name."""
    seen = Counter(path.stem for path in paths)
    return [path.stem if seen[path.stem] == 1 else path.as_posix() for path in paths]


def modality_of(extractor: str) -> str:
    """Return the modality of an extractor.

    Raises:
        ParamsError: there is none of that name, or it reads no media.
    """
    known = {name: modality for modality in MODALITIES for name in base.names(modality) if name != "import"}
    if extractor == "import":
        raise ParamsError("the extractor import reads features that are there already, and no media")
    if extractor not in known:
        raise ParamsError(
            f'there is no extractor "{extractor}"; expected one of: {", ".join(known)}.'
            f"{nearest(extractor, known)}"
        )
    return known[extractor]


def settings_of(
    extractors: Sequence[str], given: Sequence[str], params: Path
) -> dict[str, ExtractorSettings]:
    """Return the settings of each extractor: params.yaml's where there is one, and over these the given ones.

    Args:
        extractors: names of extractors.
        given: ``key=value`` for every extractor that has the key, or ``extractor.key=value``; values as YAML has
            them.
        params: params.yaml; it need not be there.

    Raises:
        ParamsError: an extractor, a key or a value is not allowed.
    """
    from pydantic import ValidationError

    from pipeline.params import load_params

    classes = {name: base.find(modality_of(name), name).Settings for name in extractors}
    found: dict[str, dict[str, Any]] = {name: {} for name in extractors}
    if params.is_file():
        sections = load_params(params).extractors
        for name in extractors:
            found[name] |= getattr(sections, modality_of(name)).get(name, {})
    for text in given:
        key, value = _parse(text)
        owner, _, inner = key.rpartition(".")
        if owner and owner not in classes:
            raise ParamsError(f'--set {text}: "{owner}" is not among the extractors: {", ".join(extractors)}')
        chosen = [owner] if owner else [name for name in extractors if inner in classes[name].model_fields]
        if not chosen:
            allowed = sorted({field for one in classes.values() for field in one.model_fields})
            raise ParamsError(
                f"--set {text}: no extractor has this setting; there are: {', '.join(allowed)}."
                f"{nearest(inner, allowed)}"
            )
        for name in chosen:
            found[name][inner] = value
    made = {}
    for name, values in found.items():
        try:
            made[name] = classes[name](**values)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"]))
            known = ", ".join(classes[name].model_fields)
            raise ParamsError(
                f"{name}{'.' if place else ''}{place}: found {problem.get('input')!r}: "
                f"{problem['msg'].removeprefix('Value error, ')}. Settings of {name}: {known or 'none'}"
            ) from error
    return made


def _parse(text: str) -> tuple[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    key, sign, raw = text.partition("=")
    if not key.strip() or not sign:
        raise ParamsError(f'--set: found "{text}", expected key=value')
    try:
        return key.strip(), YAML(typ="safe").load(raw)
    except (YAMLError, ValueError) as error:
        raise ParamsError(f"--set {text}: not a value of YAML: {error}") from error


def extract_to(
    clips: Sequence[Clip],
    settings: Mapping[str, ExtractorSettings],
    out: Path,
    *,
    data: Path = DATA,
    workers: int | str = "auto",
    progress: bool = False,
) -> Iterator[Outcome]:
    """Extract clips by one extractor after another, and yield what came of each.

    Args:
        clips: N clips with ids of their own.
        settings: name of an extractor -> its settings.
        out: the file; of several extractors each gets its own, ``NAME.<extractor>.csv``.
        data: the folder with assets/ and cache/. Where it is not there, nothing is kept.
        workers: how many processes, or "auto".
        progress: show a bar.

    Raises:
        DataError: the file's ending is none of pipeline/data/feature_tables.py.
        AssetError, SystemLibraryError: an extractor cannot work here.
        StoreError: the disk is full or cannot be written.
    """
    check_form(out)
    with _cache(data) as cache:
        for name, chosen in settings.items():
            modality = modality_of(name)
            done = extract_clips(
                clips,
                modality=modality,
                extractor=name,
                settings=chosen,
                assets=data / "assets" / name,
                cache=cache,
                workers=workers,
                title=name if progress else "",
            )
            info = FeatureInfo(
                dataset=DATASET,
                modality=modality,
                extractor=name,
                settings=chosen.model_dump(mode="json"),
                columns=done.columns,
                frame_period_s=done.frame_period_s,
                manifest_sha256="",
                versions=done.versions,
            )
            path = out if len(settings) == 1 else out.with_name(f"{out.stem}.{name}{out.suffix}")
            reasons: dict[Status, dict[str, str]] = {Status.MISSING: {}, Status.FAILED: {}}
            rows = 0
            with writing(path, info) as append:
                for clip, result in zip(clips, done.results.in_order(), strict=True):
                    append(clip.id, result)
                    rows += len(result.times)
                    if result.status is not Status.OK:
                        reasons[result.status][clip.id] = result.reason
            yield Outcome(path, rows, reasons[Status.MISSING], reasons[Status.FAILED])


@contextmanager
def _cache(data: Path) -> Iterator[Path]:
    """Give the folder of kept results, or one for the moment where there is no project."""
    if data.is_dir():
        yield data / "cache"
        return
    with tempfile.TemporaryDirectory(prefix="lacuna-extract-") as folder:
        yield Path(folder)
