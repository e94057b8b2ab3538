"""CH-SIMS as first distributed: Chinese text, unimodal labels, index files; v2; and MMSA's label.csv tree.

Quirks: a byte order mark and Windows line ends, zero-padded clip names, a row with too few fields, a score
that is no number, a clip without a label, a label without a clip, a clip in no index; in MMSA's tree an
unknown mode, columns that older files lack, a path that climbs out of the root; in v2 a table that is called
meta.csv, five digits a clip, lost zeros, a line break and a comma within a text, a unimodal score left empty, a row
without a label, an annotation that says otherwise than the score, a score out of range, a video without a folder.
"""

from __future__ import annotations

from pathlib import Path

from tests.replicas.media import write_clip
from tests.replicas.text import write_lines

CLIPS = (
    ("video_0001", "0001", "我觉得很好。", 0.8, "train"),
    ("video_0001", "0002", "不，算了吧", -0.6, "train"),
    ("video_0002", "0001", "嗯……", 0.0, "valid"),
    ("video_0003", "0010", "你说什么？", -0.2, "test"),
)


def build(root: Path) -> Path:
    """Write the original layout below ``root``/CH-SIMS."""
    root = root / "CH-SIMS"
    for video, clip, *_ in CLIPS:
        write_clip(root / f"Raw/{video}/{clip}.mp4", 0.4)
    write_clip(root / "Raw/video_0003/0011.mp4", 0.4)  # a clip without a label
    for letter, shift in (("M", 0.0), ("T", 0.2), ("A", -0.2), ("V", 0.1)):
        rows = ["video_id,clip_id,text,label"]
        rows += [f"{video},{clip},{text},{score + shift:.1f}" for video, clip, text, score, _ in CLIPS]
        if letter == "M":
            rows += ["video_0004,0001,没有文件,0.4", "video_0009", "video_0003,0012,坏,good"]  # lines 6, 7, 8
        write_lines(root / f"metadata/sentiment/label_{letter}.csv", rows, bom=True, crlf=True)
    for part in ("train", "val", "test"):
        rows = ["video_id,clip_id"]
        rows += [f"{video},{clip}" for video, clip, *_, split in CLIPS if split.startswith(part)]
        write_lines(root / f"metadata/{part}_index.csv", rows)
    return root


def build_mmsa(root: Path, *, unimodal: bool = True, name: str = "SIMS") -> Path:
    """Write MMSA's layout below ``root``/<name>; without ``unimodal``, as older files are."""
    root = root / name
    for video, clip, *_ in CLIPS:
        write_clip(root / f"Raw/{video}/{clip}.mp4", 0.4)
    write_clip(root / "Raw/video_0003/0011.mp4", 0.4)  # a clip without a label
    extra = "label_T,label_A,label_V," if unimodal else ""
    rows = [f"video_id,clip_id,text,label,{extra}annotation,mode"]
    for video, clip, text, score, split in CLIPS:
        parts = f"{score + 0.2:.1f},{score - 0.2:.1f},," if unimodal else ""
        annotation = "Positive" if score > 0 else "Negative" if score < 0 else "Neutral"
        rows.append(f'{video},{clip},"{text}",{score},{parts}{annotation},{split}')
    blank = "0,0,0," if unimodal else ""
    rows += [
        f"video_0004,0001,没有文件,0.4,{blank}Positive,train",  # line 6: a label without a clip
        f"video_0001,0003,坏,0.4,{blank}Positive,dev2",  # line 7: no such mode
        f"../outside,0001,坏,0.4,{blank}Positive,train",  # line 8: leaves the root
        f"video_0001,0001,again,0.4,{blank}Positive,train",  # line 9: twice
        "video_0001",  # line 10
    ]
    write_lines(root / "label.csv", rows, bom=True, crlf=True)
    return root


V2_ROWS = (
    'aqgy_0003,00012,"行，就这样吧。",0.2,0.4,0.0,,Positive,train',  # line 2: no label_V
    'aqgy_0003,00013,"你说""好""？\r\n好什么好",-0.8,-0.2,-0.8,-1.0,Negative,train',  # lines 3 and 4
    "aqgy_0011,00000,嗯,0.0,0.0,0.0,0.0,Neutral,valid",
    "bzhc_0002,7,谢谢！,0.8,0.6,0.6,1.0,Weakly Positive,test",  # line 6: 00007 without its zeros
    "bzhc_0002,00008,再见,-0.1,0.0,-0.2,-0.2,Negative,test",
    "bzhc_0002,00009,没有标签,,,,,,train",  # line 8: no label, as of the unsupervised part
    "bzhc_0002,00010,太大了,3.0,0.0,0.0,0.0,Positive,train",  # line 9: out of range
    "cjxd_0001,00001,没有文件,-0.4,-0.4,x,-0.4,Negative,train",  # line 10: no clip; label_A is no number
)


def build_v2(root: Path, *, table: str = "meta.csv") -> Path:
    """Write the supervised part of CH-SIMS v2 below ``root``/ch-simsv2s."""
    root = root / "ch-simsv2s"
    clips = ("aqgy_0003/00012", "aqgy_0003/00013", "aqgy_0011/00000", "bzhc_0002/00007", "bzhc_0002/00008")
    for clip in (*clips, "bzhc_0002/00009", "bzhc_0002/00010", "aqgy_0003/00014"):  # the last without a row
        write_clip(root / f"Raw/{clip}.mp4", 0.4)
    (root / "Raw/aqgy_0003/._00012.mp4").write_bytes(b"\0")  # of macOS
    header = "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode"
    write_lines(root / table, [header, *V2_ROWS], bom=True, crlf=True)
    return root
