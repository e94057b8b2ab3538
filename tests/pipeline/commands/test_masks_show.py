"""``lacuna masks show``."""

from __future__ import annotations

import json
from pathlib import Path

from tests.command_line import Command


def test_a_file_of_masks(lacuna: Command, report_data: Path) -> None:
    status, out, _ = lacuna("masks", "show", str(report_data / "masks/demo.h5"))
    assert status == 0
    for words in (
        "40 samples, seed 0",
        "one-missing, rate 0.3",
        "block, range 0.4-0.6",
        "counted on one draw",
        "leaves    each of a, v, t, av, at, vt, avt in turn",
    ):
        assert words in out
    found = json.loads(lacuna("masks", "show", str(report_data / "masks/demo.h5"), "--json")[1])
    assert found["masks"]["conditions"]["modalities_gone"] is None
    assert found["masks"]["one-missing"]["rate"] == 0.3
    assert found["masks"]["one-missing"]["checksum"] in out
    share = found["masks"]["one-missing"]["modalities_gone"]
    assert f"removes   {share:.1%} of the modalities\n" in out


def test_another_file_is_refused(lacuna: Command, report_data: Path) -> None:
    status, _, err = lacuna("masks", "show", str(report_data / "features/demo/text.h5"))
    assert status == 1
    assert 'expected kind "lacuna masks"' in err
