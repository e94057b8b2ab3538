"""Read the files of data/assets/: :func:`load_checked` returns the path of a file after checking its bytes.

asset.json, beside the files, records name, source, version, licence, and every file's sha256.
pipeline/data/fetching.py fills the folder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.data.files import file_sha256
from pipeline.errors import AssetError, nearest

ASSETS = Path("data/assets")
RECORD = "asset.json"


def load_checked(folder: Path, file: str, pin: str | None = None) -> Path:
    """Return the path of an asset's file after checking its bytes.

    Args:
        folder: an asset's, such as data/assets/glove.
        file: the file's name in it.
        pin: a sha256 that the file must have as well as the one that asset.json records.

    Raises:
        AssetError: folder or file is not there, asset.json does not name the file, or its sha256 is another.
    """
    files = read_record(folder)["files"]
    if file not in files:
        raise AssetError(
            f'{folder}: there is no file "{file}"; there are: {", ".join(files) or "none"}.'
            f"{nearest(file, files)} Say which files to keep in assets.{folder.name} of params.yaml"
        )
    path = folder / file
    if not path.is_file():
        raise AssetError(f"{path}: not there, though {RECORD} names it. Fetch it again: {_again(folder)}")
    found = file_sha256(path)
    for expected, source in ((files[file]["sha256"], f"{RECORD} records"), (pin, "is pinned")):
        if expected is not None and found != expected:
            raise AssetError(
                f"{path}: refused: its sha256 is {found}, but {expected} {source}. "
                f"Fetch it again: {_again(folder)}"
            )
    return path


def read_record(folder: Path) -> dict[str, Any]:
    """Return asset.json: name, source, version, licence, files {name: {sha256, bytes}} and the pins.

    Raises:
        AssetError: there is none, or it is damaged.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        for entry in record["files"].values():
            if not isinstance(entry["sha256"], str):
                raise TypeError("sha256")
        record["source"], record["version"]
    except OSError:
        raise AssetError(f"{folder}: not fetched (no {RECORD} there). Fetch it: {_again(folder)}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssetError(f"{path}: damaged ({error!r}). Fetch it again: {_again(folder)}") from None
    checked: dict[str, Any] = record
    return checked


def _again(folder: Path) -> str:
    return f"dvc repro -f -s assets@{folder.name}"
