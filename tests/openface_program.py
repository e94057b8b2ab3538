"""A program that answers as OpenFace's FeatureExtraction does, for machines that lack it."""

from __future__ import annotations

import sys
from pathlib import Path

SOURCE = '''#!{python}
"""Writes OpenFace 2's csv for a folder of pictures; a picture of one colour has no face."""
import sys
from pathlib import Path

import cv2

given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
switches = "-2Dfp -3Dfp -pdmparams -pose -aus -gaze".split()
if sys.argv[-6:] != switches or set(list(given)[:3]) != {{"-fdir", "-out_dir", "-of"}}:
    sys.exit("unknown arguments: " + " ".join(sys.argv[1:]))
regressed = "01 02 04 05 06 07 09 10 12 14 15 17 20 23 25 26 45".split()
classified = "01 02 04 05 06 07 09 10 12 14 15 17 20 23 25 26 28 45".split()
names = [f"gaze_{{eye}}_{{axis}}" for eye in (0, 1) for axis in "xyz"] + ["gaze_angle_x", "gaze_angle_y"]
names += [f"eye_lmk_{{axis}}_{{point}}" for axis in "xyXYZ" for point in range(56)]
names += [f"pose_{{part}}{{axis}}" for part in "TR" for axis in "xyz"]
names += [f"{{axis}}_{{point}}" for axis in "xyXYZ" for point in range(68)]
names += "p_scale p_rx p_ry p_rz p_tx p_ty".split() + [f"p_{{number}}" for number in range(34)]
names += [f"AU{{unit}}_r" for unit in regressed] + [f"AU{{unit}}_c" for unit in classified]
lines = [", ".join(["frame", "face_id", "timestamp", "confidence", "success", *names])]
for number, path in enumerate(sorted(Path(given["-fdir"]).iterdir()), start=1):
    picture = cv2.imread(str(path)).astype(float)
    success = int(picture.std() > 5)
    numbers = [f"{{picture.mean() + 0.001 * index:.3f}}" for index in range(len(names))]
    head = [str(number), "0", f"{{(number - 1) / 30:.3f}}", f"{{0.95 * success:.2f}}", str(success)]
    lines.append(", ".join(head + numbers))
Path(given["-out_dir"], given["-of"] + ".csv").write_text("\\n".join(lines) + "\\n")
print("Facial landmark detector")
'''


def write_program(path: Path, source: str | None = None) -> Path:
    """Write the program, or another that a test gives, and let it be run."""
    text = SOURCE.format(python=sys.executable) if source is None else f"#!{sys.executable}\n{source}"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path
