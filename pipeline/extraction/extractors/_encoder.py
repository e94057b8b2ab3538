"""Hugging Face encoders from a folder: what the extractors of text and of speech share.

The library silently replaces whatever a folder lacks: by a tokenizer without words, by random weights, or by a
network with fewer layers than the weights have. That runs, but gives wrong numbers; here it is an error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pipeline.errors import AssetError

LEAST_VOCABULARY = (
    0.95  # share of the ids counted in config.json that a tokenizer must have; some ids are spare
)
TOKENIZERS = (  # any one of these sets of files is a whole tokenizer
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
    ("spm.model",),
    ("tokenizer.model",),
)


def load_encoder(folder: Path, asset: Path | None, unused: tuple[str, ...]) -> Any:
    """Load an encoder in float32 for inference, from safetensors only. Nothing is fetched, and no code from the
    folder is run.

    Args:
        folder: the folder with config.json and the weights.
        asset: the asset that the folder belongs to, whose files are checked first; None for the user's folder.
        unused: prefixes of the names of weights that features do not need, and that may be missing.

    Raises:
        AssetError: a checksum is wrong, the folder holds no encoder, a file is cut short, weights are lacking,
            or there are weights of more layers than config.json says.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel
    from transformers.utils import logging as notes

    from pipeline.data.assets import load_checked, read_record

    if asset is not None:
        for file in read_record(asset)["files"]:
            load_checked(asset, file)
    if (folder / "adapter_config.json").is_file():
        raise AssetError(
            f"{folder}: is an adapter of another encoder; give the folder of the merged encoder itself"
        )
    level = notes.get_verbosity()
    notes.set_verbosity_error()
    notes.disable_progress_bar()
    try:
        model, found = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except SafetensorError as error:
        raise AssetError(
            f"{folder}: its *.safetensors cannot be read ({error}). Was a download broken off? Fetch it again"
        ) from error
    except (OSError, ValueError, LookupError, RuntimeError, TypeError, AttributeError, ImportError) as error:
        raise AssetError(f"{folder}: no encoder can be loaded from its safetensors: {error}") from error
    finally:
        notes.set_verbosity(level)
    lacking = [name for name in found["missing_keys"] if not name.startswith(unused)]
    if lacking:
        raise AssetError(f"{folder}: weights are lacking: {', '.join(sorted(lacking)[:5])}")
    if others := _beyond(model, found["unexpected_keys"]):
        raise AssetError(
            f"{folder}: its weights have more layers than its config.json says: {', '.join(others[:5])}. Is it "
            "the config.json of another encoder?"
        )
    return model.eval()


def _beyond(model: Any, unexpected: Any) -> list[str]:
    """Return the names of weights that differ from the encoder's own only in the number of a layer.

    Other unexpected weights belong to a head, such as the one used in pretraining, and are harmless.
    """

    def shape(name: str) -> str:
        return re.sub(r"\d+", "#", name.removeprefix(f"{model.base_model_prefix}."))

    own = {shape(name) for name in model.state_dict()}
    return sorted(name for name in unexpected if re.search(r"\d", name) and shape(name) in own)


def check_tokenizer_files(folder: Path) -> None:
    """Check that a folder holds a tokenizer: from one without, the library makes one that knows no word.

    Raises:
        AssetError: none of :data:`TOKENIZERS` is there.
    """
    if not any(all((folder / name).is_file() for name in names) for names in TOKENIZERS):
        raise AssetError(
            f"{folder}: holds no tokenizer, so that every word would be unknown; expected tokenizer.json, or "
            + ", or ".join(" with ".join(names) for names in TOKENIZERS[1:])
        )


def check_vocabulary(folder: Path, known: int, config: Any) -> None:
    """Check a tokenizer's size against that of the encoder's table.

    Args:
        folder: of both, for messages.
        known: how many word pieces the tokenizer has.
        config: the encoder's configuration.

    Raises:
        AssetError: the tokenizer has more ids than the encoder, or too few of the encoder's.
    """
    size = getattr(config, "vocab_size", None)
    if isinstance(size, int) and not LEAST_VOCABULARY * size <= known <= size:
        raise AssetError(
            f"{folder}: its tokenizer knows {known} word pieces, config.json says {size}. Is it of another "
            "encoder, or was its vocabulary cut short?"
        )
