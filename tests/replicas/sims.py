"""CH-SIMS as first distributed: Chinese text, unimodal labels, index files; and MMSA's label.csv tree.

Quirks: a byte order mark and Windows line ends, zero-padded clip names, a row with too few fields, a score
that is no number, a clip without a label, a label without a clip, a clip in no index; in MMSA's tree an
unknown mode, columns that older files lack, a path that climbs out of the root.
"""

from __future__ import annotations

from pathlib import Path

from replicas.media import write_clip
from replicas.text import write_lines

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
