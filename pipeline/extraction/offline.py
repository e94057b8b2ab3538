"""No network for what extracts features: the workers of extraction and the process of ``lacuna predict``.

Nothing here needs it, but MediaPipe reports to Google that it is used when it is closed (it sends no pictures; its
issue 6291), and has no switch for that. It asks libcurl, which goes by the environment: so its reports go to an
address where nothing answers. (Hugging Face's libraries are told by each call to look on this machine alone.)
"""

from __future__ import annotations

import os

NO_NETWORK = {
    "https_proxy": "http://127.0.0.1:9",  # the port "discard": nothing listens there
    "no_proxy": "localhost",  # else the user's own list could name Google's hosts
}


def block_network() -> None:
    """Let libcurl reach nothing by https from this process, and from those that it starts, for as long as it lives.

    MediaPipe's reports leave from a thread of their own at some later time, so that no shorter time would do.
    """
    os.environ.update(NO_NETWORK)
