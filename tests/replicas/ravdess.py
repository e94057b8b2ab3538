"""RAVDESS: two actors. Quirks: a song, a video without sound, a name that does not parse, an emotion that
is none.
"""

from __future__ import annotations

from pathlib import Path

from tests.replicas.media import write_clip, write_wav
from tests.replicas.text import write_lines

CLIPS = (
    "01-01-01-01-01-01-01",  # full, neutral
    "02-01-01-01-01-01-01",  # the same without sound
    "01-01-05-02-02-01-01",  # full, angry, strong
    "01-02-04-01-01-01-01",  # full, song
    "02-01-03-01-02-02-02",  # picture only
    "01-01-09-01-01-01-02",  # no such emotion
    "01-01-08",  # does not parse
)


def build(root: Path) -> Path:
    """Write the tree below ``root``/RAVDESS."""
    root = root / "RAVDESS"
    for name in CLIPS:
        actor = name[-2:] if len(name) == 20 else "02"
        write_clip(root / f"Actor_{actor}/{name}.mp4", 0.4, audio=name.startswith("01"))
    write_wav(root / "Actor_02/03-01-06-01-02-01-02.wav", 0.4)  # sound only
    write_lines(root / "Actor_02/readme.txt", ["by us"])
    return root
