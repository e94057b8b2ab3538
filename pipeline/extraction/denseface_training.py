"""Training of Denseface's network on FER+ (pipeline/extraction/ferplus.py).

The network, the normalisation and the order of the classes are those of
pipeline/extraction/extractors/video/_densenet.py. The recipe is DenseNet's (Huang et al., section 4.2): SGD with
Nesterov momentum 0.9, weight decay 1e-4, learning rate 0.1 divided by 10 after half and three quarters of the
epochs; with mirrored and shifted pictures. MMIN does not publish its own. Nothing here was trained on the
real FER+; what to expect is FER+'s own report: about 84 % for VGG13.

On a CPU equal files and settings give equal weights, bit for bit; but a CPU is too slow for the whole recipe.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.files import together
from pipeline.errors import DataError
from pipeline.extraction.extractors.video._densenet import CLASSES, DEVIATION, MEAN, SIDE, DenseNet
from pipeline.extraction.ferplus import Faces
from pipeline.params import DensefaceTraining

SHIFT = 4  # pixels of 64 that a training picture is moved at most

log = logging.getLogger("lacuna")


def train(
    faces: dict[str, Faces], settings: DensefaceTraining, out: Path, device: str = "cpu"
) -> dict[str, Any]:
    """Train the network, write its best epoch's weights as safetensors, and return the report.

    The report, which is also written beside ``out`` with the ending .json, holds the settings, the loss and accuracy
    of every epoch, and those of the test.

    Args:
        faces: what :func:`read_faces` returns.
        settings: the recipe.
        out: a .safetensors file; it takes its place when whole.
        device: auto is cuda when there is one, else cpu.

    Raises:
        DataError: there is nothing to train on, or the loss is no longer a number.
    """
    import torch
    from safetensors.torch import save

    if not len(faces["Training"].pixels):
        raise DataError("no row of the usage Training is left to train on")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(_seed(settings.seed, "weights"))
    with torch.random.fork_rng(
        devices=[]
    ):  # layers draw weights when made; PyTorch's generator must not change
        network = DenseNet(dropout=settings.dropout)
    network.initialise(generator)
    network.to(device)
    data = {usage: _prepare(part, device) for usage, part in faces.items()}
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        momentum=0.9,
        nesterov=True,
    )
    milestones = [max(1, settings.epochs // 2), max(2, settings.epochs * 3 // 4)]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
    history: list[dict[str, float]] = []
    best: tuple[float, float] = (-1.0, 0.0)
    kept: dict[str, Any] = {}
    for epoch in range(settings.epochs):
        loss = _epoch(network, optimizer, data["Training"], settings, epoch)
        scheduler.step()
        # Without rows to choose by, the last epoch is taken.
        valid = _evaluate(network, data["PublicTest"], settings.batch_size)
        history.append({"epoch": epoch + 1, "loss": loss, **{f"valid_{k}": v for k, v in valid.items()}})
        log.info("epoch %d: loss %.4f, %s", epoch + 1, loss, _words(valid))
        rank = (valid["accuracy"], -valid["loss"]) if valid else (0.0, float(epoch))
        if rank > best:
            best = rank
            kept = {name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()}
            kept = {name: value.contiguous() for name, value in kept.items()}
            chosen = epoch + 1
    network.load_state_dict(kept)
    test = _evaluate(network, data["PrivateTest"], settings.batch_size)
    log.info("epoch %d is kept; test: %s", chosen, _words(test))
    report = {
        "settings": settings.model_dump(mode="json", exclude={"fer2013", "ferplus"}),
        "classes": CLASSES,
        "faces": {usage: len(part.pixels) for usage, part in faces.items()},
        "left_out": {usage: part.left_out for usage, part in faces.items()},
        "epoch": chosen,
        "test": test,
        "history": history,
    }
    # One entry only: safetensors writes several in an order that changes from run to run.
    content = save(kept, metadata={"model": f"DenseNet-BC-100-12; classes: {', '.join(CLASSES)}"})
    with together(out.parent) as beside:
        (beside / out.with_suffix(".json").name).write_text(
            json.dumps(report, indent=2) + "\n", encoding="utf-8"
        )
        (beside / out.name).write_bytes(content)
    return report


def _epoch(
    network: Any, optimizer: Any, data: tuple[Any, Any], settings: DensefaceTraining, epoch: int
) -> float:
    """Go over the training faces once and return the mean loss."""
    import torch
    from torch.nn import functional as F

    pictures, targets = data
    generator = torch.Generator().manual_seed(_seed(settings.seed, "epoch", epoch))
    order = torch.randperm(len(pictures), generator=generator)
    total = 0.0
    network.train()
    with torch.random.fork_rng(devices=[pictures.device] if pictures.is_cuda else []):
        torch.manual_seed(_seed(settings.seed, "dropout", epoch))
        for start in range(0, len(order), settings.batch_size):
            rows = order[start : start + settings.batch_size].to(pictures.device)
            _, logits = network(_moved(pictures[rows], generator))
            loss = F.cross_entropy(logits, targets[rows])
            if not torch.isfinite(loss):
                raise DataError(f"epoch {epoch + 1}: the loss is {loss.item()}; lower learning_rate")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
    return total / len(order)


def _moved(pictures: Any, generator: Any) -> Any:
    """Mirror half of the pictures and shift each by up to 4 pixels; edges are repeated."""
    import torch
    from torch.nn import functional as F

    count, _, side, _ = pictures.shape
    mirrored = torch.rand(count, generator=generator) < 0.5
    shifts = torch.randint(0, 2 * SHIFT + 1, (count, 2), generator=generator).to(pictures.device)
    pictures = torch.where(mirrored.to(pictures.device)[:, None, None, None], pictures.flip(3), pictures)
    padded = F.pad(pictures, (SHIFT,) * 4, mode="replicate")[:, 0]
    reach = torch.arange(side, device=pictures.device)
    rows = (shifts[:, :1] + reach)[:, :, None]
    columns = (shifts[:, 1:] + reach)[:, None, :]
    return padded[torch.arange(count, device=pictures.device)[:, None, None], rows, columns][:, None]


def _evaluate(network: Any, data: tuple[Any, Any], batch_size: int) -> dict[str, float]:
    """Return loss and accuracy (of the most voted class), or nothing where there are no rows."""
    import torch
    from torch.nn import functional as F

    pictures, targets = data
    if not len(pictures):
        return {}
    network.eval()
    loss = right = 0.0
    with torch.inference_mode():
        for start in range(0, len(pictures), batch_size):
            part = slice(start, start + batch_size)
            _, logits = network(pictures[part])
            loss += F.cross_entropy(logits, targets[part], reduction="sum").item()
            right += (logits.argmax(dim=1) == targets[part].argmax(dim=1)).sum().item()
    return {"loss": loss / len(pictures), "accuracy": right / len(pictures)}


def _prepare(faces: Faces, device: str) -> tuple[Any, Any]:
    """Return (N, 1, 64, 64) normalised pictures and (N, 8) targets on the device."""
    import cv2
    import torch

    scaled = np.zeros((len(faces.pixels), 1, SIDE, SIDE), np.float32)
    for row, picture in enumerate(faces.pixels):
        scaled[row, 0] = cv2.resize(picture, (SIDE, SIDE))
    pictures = (torch.from_numpy(scaled) - MEAN) / DEVIATION
    return pictures.to(device), torch.from_numpy(faces.targets).to(device)


def _seed(seed: int, *purpose: object) -> int:
    return int.from_bytes(hashlib.sha256(repr((seed, *purpose)).encode()).digest()[:8], "little") >> 1


def _words(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items()) or "no rows"
