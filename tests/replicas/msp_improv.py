"""MSP-IMPROV: two sessions, all four scenarios.

Quirks: the misspelt Evalution.txt (or the right spelling), its UTD prefix against the files' MSP prefix,
rater lines, Windows line ends, a line that does not parse, a code that is none, a turn twice, turns under a
second, a WAV that was cut, a missing WAV, a missing transcript, a label without a clip and a clip without a
label.
"""

from __future__ import annotations

from pathlib import Path

from tests.replicas.media import write_clip, write_wav
from tests.replicas.text import write_lines


def line(turn: str, code: str, vad: tuple[float, float, float] = (3.2, 2.8, 3.0)) -> list[str]:
    """Return the block of one turn of Evalution.txt."""
    activation, valence, dominance = vad
    return [
        f"UTD-IMPROV-{turn}.avi; {code}; A:{activation:.6f}; V:{valence:.6f}; D:{dominance:.6f} ; "
        "N:3.500000;",
        "WORKER00000041; Neutral; Concerned,Neutral; A:3.000000; V:3.000000; D:3.000000; N:4.000000;",
        "WORKER00000090; Other (hurt); Sad; A:2.000000; V:2.000000; D:NaN; N:3.000000;",
        "",
    ]


# turn, code, seconds of sound (None: no file), transcript (None: no file)
TURNS: tuple[tuple[str, str, float | None, str | None], ...] = (
    ("S01A-F01-S-FM01", "N", 1.2, "Where were you?"),
    ("S01A-F01-S-MF02", "A", 1.0, "That is not fair!"),
    ("S01A-F01-S-MF03", "A", 0.9, "No."),  # under a second
    ("S01A-F01-S-FM04", "X", 1.2, "Hm."),  # no agreement
    ("S01A-F01-S-FM05", "O", 1.2, "Well then."),  # other
    ("S01A-F01-T-FF01", "A", 1.2, "How can I not?"),
    ("S01A-F01-R-FF01", "A", 1.2, "How can I not?"),
    ("S01A-F01-P-MF01", "H", 1.2, "Coffee?"),
    ("S02H-M02-S-FM01", "H", 1.5, None),  # no transcript
    ("S02H-M02-S-MF02", "S", None, "Oh no."),  # no sound
    ("S02H-M02-S-FM03", "H", 0.3, "Cut."),  # the header promises 2 s, the file was cut
)


def build(
    root: Path, *, spelling: str = "Evalution.txt", transcripts: str = "All_human_transcriptions"
) -> Path:
    """Write the tree below ``root``/MSP-IMPROV."""
    root = root / "MSP-IMPROV"
    lines: list[str] = []
    for turn, code, seconds, text in TURNS:
        lines += line(turn, code, (4.0, 1.5, 3.5) if code == "A" else (3.2, 2.8, 3.0))
        sentence, speaker, scenario, _ = turn.split("-")
        place = f"session{int(speaker[1:])}/{sentence}/{scenario}/MSP-IMPROV-{turn}"
        write_clip(root / f"Video/{place}.avi", 0.6)
        if seconds is not None:
            write_wav(
                root / f"Audio/{place}.wav", seconds, odd_chunk=True, claimed=2.0 if text == "Cut." else None
            )
        if text is not None:
            write_lines(root / transcripts / f"MSP-IMPROV-{turn}.txt", [text])
    lines += line("S01A-F01-S-FM99", "N")  # line 45: a label without a clip
    lines += ["UTD-IMPROV-S01A-F01-S-FM98.avi; N; A:3.2; V:oops; D:3.0 ; N:3.5;", ""]  # line 49
    lines += line("S01A-F01-S-FM97", "Q")  # line 51: no such code
    lines += line("S01A-F01-S-FM01", "N")  # line 55: a turn twice
    write_lines(root / spelling, lines, crlf=True)
    write_wav(root / "Audio/session1/S01A/S/MSP-IMPROV-S01A-F01-S-MF96.wav", 1.2)  # a clip without a label
    return root
