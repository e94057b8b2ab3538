"""Nothing leaves the machine: a process that uses MediaPipe's model, in which a proxy counts who comes to it.

MediaPipe reports its use when it is closed. libcurl, which it asks, goes by the environment, so that a proxy of this
test receives the report where nothing keeps it back; python's own sockets are refused.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.project import ROOT
from tests.proxy import proxy

PROGRAM = """
import sys
from pathlib import Path
import numpy as np
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        print("TRIED", event, arguments[1:])
sys.addaudithook(refuse)
from pipeline.extraction.extractors.video import _face_landmarks
from pipeline.extraction.extractors.video.facelandmarker import Extractor, FacelandmarkerSettings
if sys.argv[2] == "open":
    _face_landmarks.block_network = lambda: None
extractor = Extractor(FacelandmarkerSettings(), Path(sys.argv[1]))
extractor._look(np.zeros((64, 64, 3), np.uint8))
extractor.close()
"""


@pytest.mark.parametrize("way", ["open", "closed"])
def test_mediapipe_reports_nothing(assets: Callable[[str], Path], way: str) -> None:
    with proxy() as (address, asked):
        environment = os.environ | {"https_proxy": address, "PYTHONPATH": str(ROOT)}
        environment.pop("no_proxy", None)
        command = [sys.executable, "-c", PROGRAM, str(assets("facelandmarker")), way]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "TRIED" not in done.stdout
    if way == "open":  # the proxy sees what there is to see, so that seeing nothing says something
        assert asked[0].startswith(b"CONNECT play.googleapis.com:443")
    else:
        assert asked == []
