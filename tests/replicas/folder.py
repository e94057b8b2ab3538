"""Anyone's own data: a folder of clips and a csv. Names with spaces and in other scripts; rows that are
wrong.
"""

from __future__ import annotations

from pathlib import Path

from tests.replicas.media import write_clip, write_wav
from tests.replicas.text import write_lines


def build(root: Path) -> Path:
    """Write the tree below ``root``/mine."""
    root = root / "mine"
    write_clip(root / "clips/my clip.mp4", 0.4)
    write_clip(root / "clips/привет.avi", 0.4)
    write_wav(root / "clips/talk.wav", 1.0)
    write_clip(root / "clips/unlabelled.mp4", 0.4)
    write_lines(
        root / "samples.csv",
        [
            "id,video_path,audio_path,start_s,end_s,text,speaker,split,label,score",
            "one,clips/my clip.mp4,,,,Hello there,ann,train,happy,0.5",
            'two,clips/привет.avi,clips/talk.wav,0.1,0.3,"He said ""no"", twice",bob,test,sad,-0.5',
            "three,,clips/talk.wav,0.2,0.6,,ann,,neutral,",
            "four,clips/absent.mp4,,,,x,ann,train,happy,0.1",  # line 5
            "five,../secret.mp4,,,,x,ann,train,happy,0.1",  # line 6
            "six,clips/my clip.mp4,,soon,,x,ann,train,happy,0.1",  # line 7
            "one,clips/my clip.mp4,,,,x,ann,train,happy,0.1",  # line 8
            "seven,clips/my clip.mp4,,,,x,ann,holdout,happy,0.1",  # line 9
            "eight,clips/my clip.mp4",  # line 10
            "nine,clips/my clip.mp4,,0.3,0.1,x,ann,train,happy,0.1",  # line 11
            "ten,clips/my clip.mp4,,0.1,0.4,It is a sad day,cat,train,sad,-0.4",
            "eleven,clips/привет.avi,,,,What is this,dan,valid,happy,0.2",
        ],
        bom=True,
        crlf=True,
    )
    return root
