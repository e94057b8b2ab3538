"""Seconds of a WAV file from its header."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.datasets._wav_header import wav_seconds
from pipeline.errors import MediaError
from tests.replicas.media import write_wav


def test_plain_odd_chunk_and_cut(tmp_path: Path) -> None:
    assert wav_seconds(write_wav(tmp_path / "a.wav", 1.25)) == 1.25
    assert wav_seconds(write_wav(tmp_path / "b.wav", 0.5, odd_chunk=True)) == 0.5
    assert wav_seconds(write_wav(tmp_path / "c.wav", 0.5, claimed=9.0)) == 0.5
    assert wav_seconds(write_wav(tmp_path / "d.wav", 0.0)) == 0.0


def test_what_is_no_wav(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    with pytest.raises(MediaError, match="cannot be read"):
        wav_seconds(path)
    path.write_bytes(b"ID3\x03 an mp3 by another name")
    with pytest.raises(MediaError, match="RIFF/WAVE"):
        wav_seconds(path)
    whole = write_wav(tmp_path / "whole.wav", 0.1).read_bytes()
    path.write_bytes(whole[:30])
    with pytest.raises(MediaError, match="ends before any samples"):
        wav_seconds(path)
    path.write_bytes(whole[:12] + whole[36:])
    with pytest.raises(MediaError, match="no format"):
        wav_seconds(path)
