"""Write text files as people's machines do: with a byte order mark, with Windows line ends, in another
encoding.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def write_lines(path: Path, lines: Iterable[str], *, bom: bool = False, crlf: bool = False) -> Path:
    """Write lines as UTF-8 and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    end = b"\r\n" if crlf else b"\n"
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + b"".join(line.encode() + end for line in lines))
    return path
