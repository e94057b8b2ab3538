"""Any Hugging Face speech encoder (wav2vec 2.0, HuBERT, WavLM, data2vec-audio): its last hidden state.

Baevski et al., NeurIPS 2020. The pinned packages contain no weights of such a model: name a folder with
config.json and *.safetensors, in ``extractors.audio.wav2vec2.model`` or as ``assets.wav2vec2.path``. Weights are
read from safetensors only, nothing is fetched, and no code of the model's folder is run.

Clips are encoded one by one: the padding of a batch would change the values of encoders that normalise over time
(such as wav2vec 2.0 base), and on a CPU a batch is not quicker.
"""

from __future__ import annotations

import json
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.data.store import FeatureSequence
from pipeline.errors import AssetError, StreamMissing
from pipeline.extraction.extractors._encoder import load_encoder
from pipeline.extraction.extractors.base import BaseExtractor, Clip, ExtractorSettings
from pipeline.extraction.media import read_audio

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
PROCESSOR = "processor_config.json"  # the same within a file of newer folders
SAMPLE_RATE_HZ = 16000  # what all of these encoders were trained on; another rate in the folder is an error
MARGIN_S = 2.0  # context to either side of a window, dropped from its result


class Wav2vec2Settings(ExtractorSettings):
    """Which encoder is used.

    Attributes:
        model: a folder with config.json and *.safetensors; null: the folder that ``assets.wav2vec2.path``
            names.
        window_s: a longer sound is encoded in windows of so many seconds, each with 2 s of context to either
            side: attention's cost grows with the square of the length.
    """

    model: Path | None = None
    window_s: float = Field(60.0, ge=10, le=600)


class Extractor(BaseExtractor[Wav2vec2Settings]):
    """Last hidden state (T, D), D the encoder's width; 50 frames a second for all usual encoders.

    A frame's time is the middle of the stretch of sound that its convolutions cover.
    """

    modality = "audio"
    Settings = Wav2vec2Settings
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    parts: ClassVar[tuple[str, ...]] = ("pipeline.extraction.extractors._encoder",)

    @cached_property
    def folder(self) -> Path:
        """Where the encoder's files are.

        Raises:
            AssetError: neither the settings nor the asset name a folder with config.json.
        """
        folder = self.settings.model or self.assets
        if not (folder / CONFIG).is_file():
            found = f"{folder} holds no {CONFIG}" if self.settings.model else "no encoder is given"
            raise AssetError(
                f"wav2vec2: {found}. Write extractors.audio.wav2vec2.model: /a/folder in params.yaml, or "
                "assets.wav2vec2: {path: /a/folder}; the folder has config.json, preprocessor_config.json and "
                "*.safetensors, as `hf download facebook/wav2vec2-base` leaves them"
            )
        return folder

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of ``settings.model``; those of the asset are in asset.json already."""
        if self.settings.model is None:
            return ()
        return tuple(p for p in sorted(self.folder.iterdir()) if p.suffix in (".json", ".safetensors"))

    @property
    def columns(self) -> tuple[str, ...]:
        """hidden_0 .. hidden_<D-1>."""
        return tuple(f"hidden_{index}" for index in range(self._config["hidden_size"]))

    @property
    def frame_period_s(self) -> float:
        """The strides' product: 0.02 s for all usual encoders."""
        return self._hop / SAMPLE_RATE_HZ

    def prepare(self) -> None:
        """Load the encoder and how its sound is normalised."""
        self._preprocessor, self._model  # noqa: B018 - they are loaded when they are first asked for

    def extract(self, clip: Clip) -> FeatureSequence:
        """Return one row for each frame; a sound too short for a single frame is extended by silence."""
        samples = read_audio(clip, SAMPLE_RATE_HZ)
        if not len(samples):
            raise StreamMissing("no sound")
        samples = np.pad(samples, (0, max(0, self._field - len(samples))))
        values = self._encode(self._prepare(samples))
        times = (self._field / 2 + self._hop * np.arange(len(values))) / SAMPLE_RATE_HZ
        return FeatureSequence(values, times.astype(np.float32), np.ones(len(values), np.uint8))

    def _prepare(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the whole sound with mean 0 and variance 1 if the encoder was trained so."""
        if not self._preprocessor["do_normalize"]:
            return samples
        centred = samples - samples.mean(dtype=np.float64)
        # The constant is that of transformers' Wav2Vec2FeatureExtractor.
        return (centred / np.sqrt(samples.var(dtype=np.float64) + 1e-7)).astype(np.float32)

    def _encode(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (T, D), in windows where the sound is long; windows begin on frames."""
        frames = (len(samples) - self._field) // self._hop + 1
        margin = round(MARGIN_S * SAMPLE_RATE_HZ / self._hop)
        window = round(self.settings.window_s * SAMPLE_RATE_HZ / self._hop)
        if frames <= window + 2 * margin:
            return self._forward(samples)
        parts = []
        starts = [*range(0, frames - window // 2, window), frames]
        for start, stop in pairwise(starts):
            first, last = max(0, start - margin), min(frames, stop + margin)
            hidden = self._forward(samples[first * self._hop : (last - 1) * self._hop + self._field])
            parts.append(hidden[start - first : stop - first])
        return np.concatenate(parts)

    def _forward(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (T, D) of one pass.

        Raises:
            AssetError: the encoder gives another number of frames than its convolutions.
        """
        import torch

        with torch.inference_mode():
            hidden = self._model(torch.from_numpy(np.ascontiguousarray(samples))[None]).last_hidden_state[0]
        values: NDArray[np.float32] = hidden.float().numpy()
        expected = (len(samples) - self._field) // self._hop + 1
        if len(values) != expected:
            raise AssetError(
                f"{self.folder}: gives {len(values)} frames for {len(samples)} samples, where its conv_kernel and "
                f"conv_stride give {expected}; when they are is not known. Expected an encoder that keeps its "
                "convolutions' frames, such as wav2vec 2.0, HuBERT or WavLM without an adapter"
            )
        return np.ascontiguousarray(values)

    @cached_property
    def _config(self) -> dict[str, Any]:
        config = _read_json(self.folder / CONFIG)
        try:
            int(config["hidden_size"])
            if len(config["conv_kernel"]) != len(config["conv_stride"]):
                raise ValueError(config["conv_stride"])
        except (KeyError, TypeError, ValueError) as error:
            raise AssetError(
                f"{self.folder / CONFIG}: not a speech encoder with hidden_size, conv_kernel and conv_stride "
                f"({error!r}); expected one such as wav2vec 2.0, HuBERT or WavLM"
            ) from error
        return config

    @cached_property
    def _preprocessor(self) -> dict[str, Any]:
        path = self.folder / PREPROCESSOR
        if path.is_file():
            settings = _read_json(path)
        else:
            path = self.folder / PROCESSOR
            settings = _read_json(path).get("feature_extractor", {}) if path.is_file() else {}
        if not isinstance(settings, dict) or not isinstance(settings.get("do_normalize"), bool):
            raise AssetError(
                f"{self.folder}: {PREPROCESSOR} is not there, or says not whether sound is normalised; expected "
                'one with "do_normalize": true or false and "sampling_rate", as the encoder was trained'
            )
        rate = settings.get("sampling_rate", SAMPLE_RATE_HZ)
        if rate != SAMPLE_RATE_HZ:
            raise AssetError(f"{path}: found sampling_rate {rate}, expected {SAMPLE_RATE_HZ}")
        return settings

    @cached_property
    def _hop(self) -> int:
        """The number of samples from one frame to the next."""
        return int(np.prod(self._config["conv_stride"]))

    @cached_property
    def _field(self) -> int:
        """The number of samples that one frame's convolutions cover."""
        field, hop = 1, 1
        for kernel, stride in zip(self._config["conv_kernel"], self._config["conv_stride"], strict=True):
            field += (kernel - 1) * hop
            hop *= stride
        return field

    @cached_property
    def _model(self) -> Any:
        return load_encoder(
            self.folder, self.assets if self.settings.model is None else None, ("masked_spec_embed",)
        )  # training alone uses it


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AssetError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise AssetError(f"{path}: found {type(content).__name__}, expected a JSON object")
    return content
