"""Loading of Hugging Face encoders from a folder, for the extractors of text and of speech."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.errors import AssetError


def load_encoder(folder: Path, asset: Path | None, unused: tuple[str, ...]) -> Any:
    """Load an encoder in float32 for inference, from safetensors only. Nothing is fetched, and no code from the
    folder is run.

    Args:
        folder: the folder with config.json and the weights.
        asset: the asset that the folder belongs to, whose files are checked first; None for the user's folder.
        unused: prefixes of the names of weights that features do not need, and that may be missing.

    Raises:
        AssetError: a checksum is wrong, the folder holds no encoder, or weights are missing.
    """
    import torch
    from transformers import AutoModel
    from transformers.utils import logging as notes

    from pipeline.assets import load_checked, read_record

    if asset is not None:
        for file in read_record(asset)["files"]:
            load_checked(asset, file)
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
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise AssetError(f"{folder}: no encoder can be loaded from its safetensors: {error}") from error
    finally:
        notes.set_verbosity(level)
    lacking = [name for name in found["missing_keys"] if not name.startswith(unused)]
    if lacking:
        raise AssetError(f"{folder}: weights are lacking: {', '.join(sorted(lacking)[:5])}")
    return model.eval()
