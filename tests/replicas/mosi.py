"""CMU-MOSI Raw: three videos of the official lists, one of each part.

Quirks: a label file without a header, in the older place or absent, a line that does not parse, a score out
of range, a segment without a clip, a clip without a label, a transcript line that does not parse, Windows
line ends.
"""

from __future__ import annotations

from pathlib import Path

from tests.replicas.media import write_clip, write_wav
from tests.replicas.text import write_lines

TRAIN, VALID, TEST, STRANGER = "2iD-tVS8NPw", "WKA5OygbEKI", "lXPQBPVc5Cw", "madeUpVideo"


def build(
    root: Path, *, labels: str | None = "Labels/OpinionLevelSentiment.csv", segmented: bool = True
) -> Path:
    """Write the tree below ``root``/Raw; without ``segmented``, only whole videos, to be cut by time."""
    root = root / "Raw"
    rows = [
        f"0.1,0.5,{TRAIN},1,2.4",
        f"0.6,1.0,{TRAIN},2,-0.6",
        f"0.0,0.4,{VALID},1,0.0",
        "0.0,0.4,madeUp",  # line 4: too few fields
        f"0.5,0.9,{VALID},2,7.5",  # line 5: out of [-3, 3]
        f"0.0,0.4,{TEST},1,-3.0",
        f"0.5,0.9,{TEST},2,1.0",  # no clip, no transcript
        f"0.0,0.4,{STRANGER},1,0.2",  # not on the official lists
    ]
    if labels is not None:
        write_lines(root / labels, rows, bom=True, crlf=True)
    for video in (TRAIN, VALID, TEST, STRANGER):
        write_clip(root / f"Video/Full/{video}.mp4", 1.2)
        write_wav(root / f"Audio/WAV_16000/Full/{video}.wav", 1.2)
    if segmented:
        for clip in (
            f"{TRAIN}_1",
            f"{TRAIN}_2",
            f"{VALID}_1",
            f"{VALID}_2",
            f"{TEST}_1",
            f"{STRANGER}_1",
            f"{TEST}_9",
        ):
            write_clip(root / f"Video/Segmented/{clip}.mp4", 0.4)
            write_wav(root / f"Audio/WAV_16000/Segmented/{clip}.wav", 0.4)
    transcripts = root / "Transcript/Segmented"
    write_lines(
        transcripts / f"{TRAIN}.annotprocessed",
        ["1_DELIM_I LOVED IT", "2_DELIM_BUT THE END", "3 what"],
        crlf=True,
    )
    write_lines(transcripts / f"{VALID}.annotprocessed", ["1_DELIM_IT IS A FILM"])
    write_lines(transcripts / f"{TEST}.annotprocessed", ["1_DELIM_TERRIBLE"])
    write_lines(transcripts / f"{STRANGER}.annotprocessed", ["1_DELIM_FINE"])
    return root
