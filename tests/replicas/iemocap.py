"""IEMOCAP_full_release: five dialogues in three sessions.

Quirks: rater lines, a malformed and an unknown-code evaluation line, a turn twice, transcripts that do not
parse, a transcript without a label (normal there) and a label without a transcript, a byte order mark and
Windows line ends, a missing wdseg and a wdseg with a broken line, a dialogue without sentence files, one
without an AVI, macOS resource forks, subfolders of EmoEvaluation that are to be left alone.
"""

from __future__ import annotations

from pathlib import Path

from tests.replicas.media import write_clip, write_wav
from tests.replicas.text import write_lines

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"


def turn(start: float, end: float, name: str, code: str, vad: str = "2.5000, 2.5000, 2.5000") -> list[str]:
    """Return the block of one turn: its line, rater lines, a blank line."""
    return [
        f"[{start:.4f} - {end:.4f}]\t{name}\t{code}\t[{vad}]",
        "C-E1:\tNeutral;\t()",
        "C-F1:\tAnger; Frustration;\t(tired)",
        "A-E3:\tval 3; act 2; dom  2;\t()",
        "A-M1:\tval 4; act  ; dom  3;\t()",
        "",
    ]


def wdseg(*words: tuple[int, int, str]) -> list[str]:
    """Return a forced alignment: a header, one line a token, the total."""
    lines = ["\tSFrm\t EFrm\t  SegAScr Word"]
    lines += [f"\t{start:4d}\t {end:4d}\t  -179602 {word}" for start, end, word in words]
    return [*lines, " Total score:     -2305012"]


def build(root: Path) -> Path:
    """Write the tree below ``root``/IEMOCAP_full_release."""
    root = root / "IEMOCAP_full_release"
    one, two, three = (root / f"Session{n}" for n in (1, 2, 3))

    # Session 1, improvised, the woman wears the markers: sentence files, alignments, everything
    name = "Ses01F_impro01"
    write_lines(
        one / f"dialog/EmoEvaluation/{name}.txt",
        [
            HEADER,
            "",
            *turn(
                1.2, 1.8, f"{name}_M000", "neu", "3.0000, 1.5000, 2.0000"
            ),  # later than F000: order by time
            *turn(0.1, 0.7, f"{name}_F000", "exc", "4.5000, 4.0000, 3.5000"),
            *turn(2.0, 2.5, f"{name}_F001", "xxx"),
            "[2.6000 - 2.9000 Ses01F_impro01_F002 ang",  # line 21: malformed
            *turn(3.0, 3.4, f"{name}_F003", "ang", "1.5000, 4.0000, 4.5000"),
            *turn(3.5, 3.9, f"{name}_M001", "zzz"),  # line 28: no such code
            *turn(0.1, 0.7, f"{name}_F000", "exc"),  # line 34: a turn twice
        ],
    )
    write_lines(
        one / f"dialog/transcriptions/{name}.txt",
        [
            f"{name}_F000 [000.1000-000.7000]: Excuse me, sir.",
            f"{name}_MXX0 [000.8000-001.0000]: (LAUGHTER)",  # never evaluated
            f"{name}_M000 [001.2000-001.8000]: Yes: next.",
            "F: Mmhmm.",  # line 4: does not parse
            f"{name}_F001 [002.0000-002.5000]: What?",
        ],  # F003 has no transcript
    )
    write_clip(one / f"dialog/avi/DivX/{name}.avi", 4.0)
    write_wav(one / f"dialog/wav/{name}.wav", 4.0)
    for utterance, seconds in (("F000", 0.6), ("M000", 0.6), ("F001", 0.5), ("F003", 0.4)):
        write_wav(one / f"sentences/wav/{name}/{name}_{utterance}.wav", seconds)
    alignment = one / f"sentences/ForcedAlignment/{name}"
    write_lines(
        alignment / f"{name}_F000.wdseg",
        wdseg(
            (0, 4, "<s>"),
            (5, 20, "EXCUSE"),
            (21, 29, "ME(2)"),
            (30, 34, "<sil>"),
            (35, 50, "SIR"),
            (51, 59, "</s>"),
        ),
    )
    broken = wdseg((0, 9, "++LAUGHTER++"), (10, 30, "YES"))
    write_lines(alignment / f"{name}_M000.wdseg", [*broken[:2], "\t  xx\t 12\t what", *broken[2:]])  # line 3
    write_lines(alignment / f"{name}_F003.wdseg", wdseg((0, 9, "<s>"), (10, 39, "NO")))

    # the same session, the man wears the markers: no sentence files, no alignment at all
    name = "Ses01M_script01_1b"
    write_lines(
        one / f"dialog/EmoEvaluation/{name}.txt",
        [HEADER, "", *turn(0.2, 0.6, f"{name}_F000", "sad"), *turn(0.7, 1.1, f"{name}_M000", "hap")],
        bom=True,
        crlf=True,
    )
    write_lines(
        one / f"dialog/transcriptions/{name}.txt",
        [f"{name}_F000 [0.2000-0.6000]: I lost it.", f"{name}_M000 [0.7000-1.1000]: Here it is!"],
        bom=True,
        crlf=True,
    )
    write_clip(one / f"dialog/avi/DivX/{name}.avi", 1.2)
    write_wav(one / f"dialog/wav/{name}.wav", 1.2)

    # what is to be left alone
    write_lines(
        one / "dialog/EmoEvaluation/Categorical/Ses01F_impro01_e1_cat.txt",
        [f"{name}_F000 :Neutral state; ()"],
    )
    write_lines(one / "dialog/EmoEvaluation/Self-evaluation/Ses01F_impro01_f1_cat.txt", ["anything"])
    (one / "dialog/EmoEvaluation/._Ses01F_impro01.txt").write_bytes(b"\x00\x05\x16\x07\x00\xff")

    # Session 2: no AVI; every other code once
    name = "Ses02F_script01_1"
    codes = ("neu", "fru", "ang", "sad", "hap", "exc", "sur", "fea", "dis", "oth", "xxx")
    lines = [HEADER, ""]
    for number, code in enumerate(codes):
        lines += turn(number / 2, number / 2 + 0.4, f"{name}_M{number:03d}", code)
        write_wav(two / f"sentences/wav/{name}/{name}_M{number:03d}.wav", 0.4)
    write_lines(two / f"dialog/EmoEvaluation/{name}.txt", lines)
    write_lines(
        two / f"dialog/transcriptions/{name}.txt",
        [f"{name}_M{n:03d} [{n / 2:.4f}-{n / 2 + 0.4:.4f}]: Line {n}." for n in range(len(codes))],
    )

    # the same session: the woman's turns
    name = "Ses02M_impro01"
    write_lines(
        two / f"dialog/EmoEvaluation/{name}.txt",
        [HEADER, "", *turn(0.1, 0.5, f"{name}_F000", "ang"), *turn(0.6, 1.0, f"{name}_F001", "neu")],
    )
    write_lines(
        two / f"dialog/transcriptions/{name}.txt",
        [f"{name}_F000 [0.1000-0.5000]: Go away!", f"{name}_F001 [0.6000-1.0000]: All right."],
    )
    write_clip(two / f"dialog/avi/DivX/{name}.avi", 1.0)
    for utterance in ("F000", "F001"):
        write_wav(two / f"sentences/wav/{name}/{name}_{utterance}.wav", 0.4)

    # Session 3: the one alignment that the owners lack
    name = "Ses03M_impro03"
    write_lines(
        three / f"dialog/EmoEvaluation/{name}.txt",
        [HEADER, "", *turn(0.0, 0.5, f"{name}_M001", "sad"), *turn(0.6, 1.0, f"{name}_F000", "neu")],
    )
    write_lines(
        three / f"dialog/transcriptions/{name}.txt",
        [f"{name}_M001 [0.0000-0.5000]: Oh.", f"{name}_F000 [0.6000-1.0000]: Well."],
    )
    write_clip(three / f"dialog/avi/DivX/{name}.avi", 1.0)
    for utterance in ("M001", "F000"):
        write_wav(three / f"sentences/wav/{name}/{name}_{utterance}.wav", 0.4)
    write_lines(
        three / f"sentences/ForcedAlignment/{name}/{name}_F000.wdseg", wdseg((0, 9, "<s>"), (10, 29, "WELL"))
    )
    return root
