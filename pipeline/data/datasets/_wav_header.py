"""The length of a WAV file, read from its header: nothing is decoded, and only a few hundred bytes are read."""

from __future__ import annotations

import struct
from pathlib import Path

from pipeline.errors import MediaError


def wav_seconds(path: Path) -> float:
    """Return the seconds of sound in a RIFF/WAVE file.

    When the header gives a larger size than the file has (an incomplete copy, a recorder that never wrote the
    size), the length follows from what the file has.

    Raises:
        MediaError: the file cannot be read, or its header is not that of a WAV file.
    """
    try:
        with path.open("rb") as file:
            total = path.stat().st_size
            if (head := file.read(12))[:4] != b"RIFF" or head[8:12] != b"WAVE":
                raise MediaError(f"{path}: found {head[:12]!r} at its start, expected a RIFF/WAVE header")
            bytes_a_second = 0
            while len(chunk := file.read(8)) == 8:
                name, size = struct.unpack("<4sI", chunk)
                if name == b"fmt ":
                    body = file.read(min(size, 12))  # a damaged size may say 4 GB
                    if len(body) == 12:
                        bytes_a_second = struct.unpack_from("<I", body, 8)[0]
                    file.seek(size + size % 2 - len(body), 1)
                elif name == b"data":
                    if not bytes_a_second:
                        raise MediaError(f"{path}: its header has no format before the samples")
                    return float(min(size, total - file.tell()) / bytes_a_second)
                else:
                    file.seek(size + size % 2, 1)
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror})") from error
    raise MediaError(f"{path}: its header ends before any samples")
