"""MELD: three parts. Quirks: another name for a part's folder, Windows-1252 quotes in a text, a clip that is
absent, a clip without a row, an unknown emotion, a row with too few fields, a number that is none, macOS
resource forks."""

from __future__ import annotations

from pathlib import Path

from tests.replicas.media import write_clip
from tests.replicas.text import write_lines

HEADER = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
)


def build(root: Path) -> Path:
    """Write the tree below ``root``/MELD.Raw."""
    root = root / "MELD.Raw"
    tail = '8,21,"00:16:16,059","00:16:21,731"'
    write_lines(
        root / "train_sent_emo.csv",
        [
            HEADER,
            f'1,"Also I was, the point person",Chandler,neutral,neutral,0,0,{tail}',
            f"2,Oh my God!,Phoebe,surprise,negative,0,1,{tail}",
            f"3,No.,Phoebe,bored,negative,0,2,{tail}",  # line 4: no such emotion
            "4,Short",  # line 5
            f"5,Hm,Joey,joy,positive,zero,1,{tail}",  # line 6: no number
            f"6,Gone,Joey,joy,positive,1,0,{tail}",  # line 7: no clip
        ],
        crlf=True,
    )
    with (root / "train_sent_emo.csv").open(
        "ab"
    ) as file:  # line 8: an apostrophe of Windows-1252, as a control character
        file.write(b"7,I\xc2\x92m fine,Ross Geller,sadness,negative,1,1," + tail.encode() + b"\r\n")
    write_lines(root / "dev_sent_emo.csv", [HEADER, f"1,Hi,Monica,joy,positive,0,0,{tail}"], bom=True)
    write_lines(root / "test_sent_emo.csv", [HEADER, f"1,Go away,Ross,anger,negative,0,0,{tail}"])
    for name in ("dia0_utt0", "dia0_utt1", "dia0_utt2", "dia1_utt1", "dia9_utt9"):
        write_clip(root / f"train_splits/{name}.mp4", 0.4)
    write_clip(root / "dev_splits_complete/dia0_utt0.mp4", 0.4)
    write_clip(root / "output_repeated_splits_test/dia0_utt0.mp4", 0.4)
    (root / "train_splits/._dia0_utt0.mp4").write_bytes(b"\x00\x05\x16\x07")
    return root
