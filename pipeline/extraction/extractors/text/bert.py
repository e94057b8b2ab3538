"""Any Hugging Face encoder of text: its last hidden state for every word piece.

MMIN (section 4.2), MISA, Self-MM and EMMR use BERT in this way. The default is the asset ``bert``: MiniLM, a small
BERT of 384 dimensions. Weights are read from safetensors only, nothing is fetched, and no code of the model's
folder is run.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from pipeline.data.store import FeatureSequence
from pipeline.errors import AssetError, StreamMissing
from pipeline.extraction.extractors._encoder import check_tokenizer_files, check_vocabulary, load_encoder
from pipeline.extraction.extractors.base import BaseExtractor, Clip, ExtractorSettings, token_times

# For a given padded length every pass of the encoder has the same shape: missing rows are filled with padding. So a
# clip's values do not depend, to the last bit, on the clips that are computed together with it.
ROWS_A_PASS = 8
PADDED_TO = 2  # word pieces
FROM_PADDING = (  # kinds of encoder whose positions start one after that of the padding token
    *("camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta"),
    *("roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"),
)

log = logging.getLogger("lacuna")


class BertSettings(ExtractorSettings):
    """Which encoder is used.

    Attributes:
        model: a folder with config.json, a tokenizer and *.safetensors, or a name on the hub whose files were
            downloaded before; null: the asset ``bert``.
        max_length: word pieces, [CLS] and [SEP] among them; a longer transcript is cut, with a warning. So is
            one that is longer than the encoder has positions.
    """

    model: str | None = None
    max_length: int = Field(512, ge=8, le=8192)


class Extractor(BaseExtractor[BertSettings]):
    """Last hidden state (T, D) of the T word pieces without [CLS] and [SEP]; D is the encoder's width."""

    modality = "text"
    Settings = BertSettings
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "tokenizers")
    parts: ClassVar[tuple[str, ...]] = ("pipeline.extraction.extractors._encoder",)
    batch: ClassVar[int] = 512  # a large batch leaves fewer rows to fill with padding

    @cached_property
    def folder(self) -> Path:
        """Where the encoder's files are.

        Raises:
            AssetError: the model of the settings is neither a folder nor among the downloaded models.
        """
        model = self.settings.model
        if model is None:
            return self.assets
        if Path(model).is_dir():
            return Path(model)
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(model, local_files_only=True))
        except (OSError, ValueError) as error:
            raise AssetError(
                f'the encoder "{model}" is neither a folder nor a downloaded model. Give a folder with '
                f"config.json, tokenizer and *.safetensors, or fetch it first: hf download {model}"
            ) from error

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """hidden_0 .. hidden_<D-1>."""
        path = self.folder / "config.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            width = next(int(config[key]) for key in ("hidden_size", "dim", "d_model") if key in config)
        except (OSError, ValueError, TypeError, StopIteration) as error:
            raise AssetError(
                f"{path}: not an encoder's configuration with hidden_size ({error!r})"
            ) from error
        return tuple(f"hidden_{index}" for index in range(width))

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of ``settings.model``; those of the asset are in asset.json already."""
        if self.settings.model is None:
            return ()
        return tuple(
            p
            for p in sorted(self.folder.iterdir())
            if p.suffix in (".json", ".safetensors", ".txt", ".model")
        )

    def prepare(self) -> None:
        """Load tokenizer and encoder."""
        self._tokenizer, self._model  # noqa: B018 - they are loaded when they are first asked for

    def extract(self, clip: Clip) -> FeatureSequence:
        """Return one row a word piece."""
        result = self.extract_batch([clip])[0]
        if isinstance(result, Exception):
            raise result
        return result

    def extract_batch(self, clips: Sequence[Clip]) -> list[FeatureSequence | Exception]:
        """Return the rows of each clip; clips of similar length go through the encoder together."""
        results: list[FeatureSequence | Exception] = [StreamMissing("empty transcript")] * len(clips)
        passes: dict[int, list[tuple[int, dict[str, Any]]]] = {}
        for index, encoding in self._encode(clips):
            if not all(encoding["special_tokens_mask"]):
                padded = -(-len(encoding["input_ids"]) // PADDED_TO) * PADDED_TO
                passes.setdefault(padded, []).append((index, encoding))
        for padded, waiting in sorted(passes.items()):
            for start in range(0, len(waiting), ROWS_A_PASS):
                together = waiting[start : start + ROWS_A_PASS]
                hidden = self._forward([encoding for _, encoding in together], padded)
                for row, (index, encoding) in enumerate(together):
                    results[index] = self._sequence(clips[index], encoding, hidden[row])
        return results

    def _encode(self, clips: Sequence[Clip]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the index and the tokenizer's output of every clip that has a transcript."""
        tokenizer, limit = self._tokenizer
        spoken = [index for index, clip in enumerate(clips) if clip.text.strip()]
        if not spoken:
            return
        encodings = tokenizer(
            [clips[index].text for index in spoken],
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            truncation=True,
            max_length=limit,
        )
        for row, index in enumerate(spoken):
            clip, encoding = clips[index], {name: lists[row] for name, lists in encodings.items()}
            full = len(encoding["input_ids"]) == limit
            if full and len(tokenizer(clip.text, verbose=False)["input_ids"]) > limit:
                why = "max_length" if limit == self.settings.max_length else "the encoder's longest"
                log.warning('%s: the transcript is cut to %d word pieces ("%s")', clip.id, limit, why)
            yield index, encoding

    def _forward(self, encodings: list[dict[str, Any]], padded: int) -> Any:
        import torch

        tokenizer, _ = self._tokenizer
        names = [name for name in tokenizer.model_input_names if name in encodings[0]]
        inputs = {}
        for name in names:
            filler = tokenizer.pad_token_id if name == "input_ids" else 0
            block = torch.full((ROWS_A_PASS, padded), filler or 0, dtype=torch.long)
            for row, encoding in enumerate(encodings):
                block[row, : len(encoding[name])] = torch.tensor(encoding[name])
            if name == "attention_mask":
                block[len(encodings) :, 0] = (
                    1  # without any token to attend to, a row of padding would become NaN
                )
            inputs[name] = block
        with torch.inference_mode():
            return self._model(**inputs).last_hidden_state.numpy()

    def _sequence(self, clip: Clip, encoding: dict[str, Any], hidden: Any) -> FeatureSequence:
        kept = [index for index, special in enumerate(encoding["special_tokens_mask"]) if not special]
        ids = [encoding["input_ids"][index] for index in kept]
        spans = [encoding["offset_mapping"][index] for index in kept]
        return FeatureSequence(
            values=np.ascontiguousarray(hidden[kept], np.float32),
            times=token_times(clip.text, spans, clip.words),
            flags=np.ones(len(kept), np.uint8),
            tokens=tuple(self._tokenizer[0].convert_ids_to_tokens(ids)),
            token_ids=np.array(ids, np.int64),
        )

    @cached_property
    def _tokenizer(self) -> tuple[Any, int]:
        from transformers import AutoTokenizer

        check_tokenizer_files(self.folder)
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                self.folder, local_files_only=True, trust_remote_code=False, use_fast=True
            )
        except Exception as error:  # of the tokenizers library, some are no other kind
            raise AssetError(f"{self.folder}: its tokenizer cannot be loaded: {error}") from error
        if not tokenizer.is_fast:
            raise AssetError(
                f"{self.folder}: there is no fast tokenizer (tokenizer.json) that tells where pieces lie"
            )
        check_vocabulary(self.folder, len(tokenizer), self._config)
        return tokenizer, min(self.settings.max_length, tokenizer.model_max_length, self._positions)

    @cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError) as error:
            raise AssetError(f"{self.folder}: its configuration cannot be loaded: {error}") from error

    @cached_property
    def _positions(self) -> int:
        """Return how many word pieces the encoder has positions for."""
        config = self._config
        count = getattr(config, "max_position_embeddings", None)
        if not isinstance(count, int) or count <= 0:  # positions are relative: any length is possible
            return sys.maxsize
        return count - (config.pad_token_id + 1 if config.model_type in FROM_PADDING else 0)

    @cached_property
    def _model(self) -> Any:
        return load_encoder(self.folder, self.assets if self.settings.model is None else None, ("pooler.",))
