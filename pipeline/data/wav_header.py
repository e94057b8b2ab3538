"""The length of a WAV file, read from its header: nothing is decoded, and only a few hundred bytes are read."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import MediaError

# Programs that write to a pipe cannot know the size beforehand: they write 0, or a number near the largest one of 31 or
# 32 bits, such as 0x7FFFF000 and 0xFFFFFFFF.
NO_SIZE = 0x7FFF0000


@dataclass(frozen=True)
class WavLength:
    """Seconds of sound in a WAV file.

    Attributes:
        there_s: in the file.
        declared_s: by its header; None when that does not say.
    """

    there_s: float
    declared_s: float | None


def wav_length(path: Path) -> WavLength:
    """Return the seconds of sound in a RIFF/WAVE file, and those that its header gives.

    The header gives more than there is in an incomplete copy.

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
                    left = total - file.tell()
                    unknown = size >= NO_SIZE or (size == 0 and left > 0)
                    there = left if unknown else min(size, left)
                    return WavLength(there / bytes_a_second, None if unknown else size / bytes_a_second)
                else:
                    file.seek(size + size % 2, 1)
    except OSError as error:
        raise MediaError(f"{path}: cannot be read ({error.strerror})") from error
    raise MediaError(f"{path}: its header ends before any samples")
