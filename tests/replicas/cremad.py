"""CREMA-D, the owner's tree: three actors.

Quirks: pictures as Flash video, sound as WAV and as MP3, a performance whose WAV is absent, one without a
picture, one without sound, an emotion that is none, an actor whose sex the table does not say.
"""

from __future__ import annotations

from pathlib import Path

from tests.replicas.media import write_clip, write_wav
from tests.replicas.text import write_lines

CLIPS = (
    "1001_IEO_HAP_LO",
    "1001_DFA_SAD_XX",
    "1001_TIE_NEU_XX",
    "1002_IEO_HAP_HI",
    "1002_DFA_SAD_XX",
    "1002_TIE_NEU_XX",
    "1076_MTI_SAD_XX",  # the owners say: without sound
)


def build(root: Path) -> Path:
    """Write the tree below ``root``/CREMA-D."""
    root = root / "CREMA-D"
    for name in CLIPS:
        write_clip(root / f"VideoFlash/{name}.flv", 0.4)
        write_wav(root / f"AudioWAV/{name}.wav", 0.4)
    (root / "AudioWAV/1002_TIE_NEU_XX.wav").unlink()  # its MP3 is there
    write_clip(root / "AudioMP3/1002_TIE_NEU_XX.mp3", 0.4, video=False)
    write_wav(root / "AudioWAV/1076_WSI_HAP_XX.wav", 0.4)  # no picture
    write_clip(root / "VideoFlash/1076_WSI_JOY_XX.flv", 0.4)  # no such emotion
    write_lines(
        root / "VideoDemographics.csv",
        [
            "ActorID,Age,Sex,Race,Ethnicity",
            "1001,51,Male,Caucasian,Not Hispanic",
            "1002,21,Female,Asian,Not Hispanic",
            "1076,25,?,Caucasian,Hispanic",  # line 4
        ],
        crlf=True,
    )
    return root
