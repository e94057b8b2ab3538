"""Run a loader over a replica and look at what comes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.data.datasets import base
from pipeline.data.datasets.base import Finding
from pipeline.data.manifest import Sample
from pipeline.data.preparation import prepare


def read(loader: str, root: Path, **options: Any) -> tuple[list[Sample], base.BaseLoader[Any]]:
    """Return the samples, and the loader with its findings."""
    owner = base.find(loader)
    reader = owner(owner.Settings(**options), root)
    return list(reader.load()), reader


def manifest(loader: str, root: Path, folder: Path, **options: Any) -> dict[str, Any]:
    """Run the prepare stage's function into ``folder`` and return its report."""
    owner = base.find(loader)
    return prepare(loader, owner(owner.Settings(**options), root), folder)


def filled(sample: Sample) -> dict[str, Any]:
    """Return the fields that say something."""
    return {
        field.name: value
        for field in dataclasses.fields(sample)
        if (value := getattr(sample, field.name)) not in ("", None, (), {})
    }


def places(findings: Iterable[Finding]) -> list[tuple[str, int | None]]:
    """Return file and line of each finding, in their order."""
    return [(finding.file, finding.line) for finding in findings]
