"""The models, one file a paper. This file stays light: whoever only needs the modalities' names imports no torch."""

from typing import Literal, get_args

Modality = Literal["text", "audio", "video"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)  # in this order everywhere
