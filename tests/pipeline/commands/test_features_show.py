"""``lacuna features show``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.store import FeatureInfo, FeatureSequence, FeatureWriter
from tests import clips
from tests.command_line import Command, run_process


def test_a_store(lacuna: Command, report_data: Path) -> None:
    status, out, _ = lacuna("features", "show", str(report_data / "features/demo/video.h5"))
    assert status == 0
    for words in (
        "video of demo", 'facelandmarker {"level": "lld"}', "facelandmarker 1.2.3",
        "186 frames x 5 columns",
        "v0, v1, v2, v3, v4", "8 a second", "149 of 186", "4 to 6 frames", "37 ok, 2 missing, 1 failed",
        "2 missing: no face in any frame (demo_003, demo_004)",
        "1 failed: cannot decode: moov atom not found (demo_009)",
    ):  # fmt: skip
        assert words in out


def test_as_json(lacuna: Command, report_data: Path) -> None:
    found = json.loads(lacuna("features", "show", str(report_data / "features/demo/text.h5"), "--json")[1])
    assert found["status"] == {"ok": 39, "missing": 1, "failed": 0}
    assert found["reasons"] == {"missing: empty transcript": ["demo_005"]}
    assert len(found["columns"]) == 8
    assert found["frame_period_s"] is None
    assert len(found["values_sha256"]) == 64


def test_columns_are_cut_unless_asked_for(lacuna: Command, report_data: Path) -> None:
    path = str(report_data / "features/demo/text.h5")
    assert "t0, t1, t2, ..., t6, t7" in lacuna("features", "show", path)[1]
    assert "t3, t4" in lacuna("features", "show", path, "--columns")[1]


def test_another_file_is_refused(lacuna: Command, report_data: Path, tmp_path: Path) -> None:
    other = report_data / "masks/demo.h5"
    status, _, err = lacuna("features", "show", str(other))
    assert status == 1
    assert 'expected kind "lacuna features"' in err
    short = tmp_path / "short.h5"
    short.write_bytes(other.read_bytes()[:1000])
    status, _, err = lacuna("features", "show", str(short))
    assert status == 1
    assert "not a whole HDF5 file" in err


def test_a_terminal_that_has_only_ascii(report_data: Path) -> None:
    path = str(report_data / "features/demo/audio.h5")
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = run_process("features", "show", path, "--json", env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["modality"] == "audio"


def test_columns_in_numbers(lacuna: Command, report_data: Path) -> None:
    status, out, _ = lacuna("features", "show", str(report_data / "features/demo/video.h5"), "--statistics")
    assert status == 0
    assert "columns        5, over 149 observed rows" in out
    assert "constant       none" in out


def test_a_clip_is_drawn(lacuna: Command, report_data: Path, project: Path) -> None:
    store = str(report_data / "features/demo/audio.h5")
    status, out, _ = lacuna("features", "show", store, "--id", "demo_001", "--plot", "a.png")
    assert status == 0
    assert out.startswith("a.png: demo_001, ")
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")
    clips.write_clip(project / "a.wav", seconds=0.5)
    status, _, _ = lacuna(
        "features", "show", store, "--id", "demo_001", "--picture", "b.png", "--media", "a.wav"
    )
    assert status == 0
    assert Path("b.png").stat().st_size > Path("a.png").stat().st_size  # the waveform came to it


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--plot", "a.png"], "holds 40 clips; name one: --id demo_000"),
        (["--plot", "a.png", "--id", "demo_00x"], "Did you mean"),
        (["--plot", "a.jpg", "--id", "demo_001"], "expected a name that ends in .png"),
        (["--picture", "a.png", "--id", "demo_001", "--media", "no.mp4"], "no.mp4: there is no such file"),
        (["--picture", "a.png", "--id", "demo_001"], "there is no such manifest"),
        (["--id", "demo_001"], "give --picture or --plot too"),
        (["--picture", "a.png", "--id", "demo_001", "--start", "1"], "--start and --end are of --media"),
    ],
)
def test_what_is_not_drawn(
    lacuna: Command, report_data: Path, project: Path, words: list[str], message: str
) -> None:
    status, _, err = lacuna("features", "show", str(report_data / "features/demo/audio.h5"), *words)
    assert status == 1
    assert message in err
    assert not list(project.glob("a.*"))


def test_columns_that_mislead_are_named(lacuna: Command, project: Path) -> None:
    columns = ("AU1", "AU6", "AU9", "Joy")
    info = FeatureInfo("demo", "video", "facet35", {"frame_rate_hz": 8.0}, columns, 0.125, "")
    with FeatureWriter(project / "a.h5", info) as writer:
        times = np.array([0.0625], np.float32)
        writer.append("a", FeatureSequence(np.ones((1, 4), np.float32), times, np.ones(1, np.uint8)))
    out = lacuna("features", "show", "a.h5")[1]
    assert "mind: AU6, AU9: nearly constant: MediaPipe's model barely moves" in out
    assert "mind: Joy: damped" in out
    assert "AU43" not in out  # it is not among these columns
    assert "mind           Joy: damped" in lacuna("features", "show", "a.h5", "--statistics")[1]
    found = json.loads(lacuna("features", "show", "a.h5", "--json")[1])
    assert [one["columns"] for one in found["cautions"]] == [["AU6", "AU9"], ["Joy"]]
