"""Seconds of a WAV file from its header."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.wav_header import NO_SIZE, WavLength, wav_length
from pipeline.errors import MediaError
from tests.replicas.media import write_wav


def test_plain_odd_chunk_and_cut(tmp_path: Path) -> None:
    assert wav_length(write_wav(tmp_path / "a.wav", 1.25)).there_s == 1.25
    assert wav_length(write_wav(tmp_path / "b.wav", 0.5, odd_chunk=True)).there_s == 0.5
    assert wav_length(write_wav(tmp_path / "c.wav", 0.5, claimed=9.0)).there_s == 0.5
    assert wav_length(write_wav(tmp_path / "d.wav", 0.0)).there_s == 0.0


def test_what_the_header_declares(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", 0.5, claimed=9.0)
    assert wav_length(path).declared_s == 9.0
    assert wav_length(write_wav(tmp_path / "b.wav", 0.5, claimed=0.25)) == WavLength(0.25, 0.25)
    data = path.read_bytes()
    at = data.index(b"data") + 4
    for size in (0, NO_SIZE, 0xFFFFFFFF):  # written to a pipe
        path.write_bytes(data[:at] + size.to_bytes(4, "little") + data[at + 4 :])
        assert wav_length(path) == WavLength(0.5, None)
    assert wav_length(write_wav(tmp_path / "c.wav", 0.0)) == WavLength(0.0, 0.0)


def test_what_is_no_wav(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    with pytest.raises(MediaError, match="cannot be read"):
        wav_length(path)
    path.write_bytes(b"ID3\x03 an mp3 by another name")
    with pytest.raises(MediaError, match="RIFF/WAVE"):
        wav_length(path)
    whole = write_wav(tmp_path / "whole.wav", 0.1).read_bytes()
    path.write_bytes(whole[:30])
    with pytest.raises(MediaError, match="ends before any samples"):
        wav_length(path)
    path.write_bytes(whole[:12] + whole[36:])
    with pytest.raises(MediaError, match="no format"):
        wav_length(path)
