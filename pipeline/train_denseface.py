"""Stage train-denseface: train Denseface's network on FER+, where params.yaml names its two files::

    train_denseface:
      ferplus: {fer2013: /data/fer2013.csv, ferplus: /data/fer2013new.csv}
    extractors:
      video:
        denseface: {weights: data/denseface/ferplus.safetensors}

fer2013.csv (Kaggle, "Challenges in Representation Learning") has 35,887 grey faces of 48 x 48 pixels, as
text; fer2013new.csv (Barsoum et al., ICMI 2016, github.com/microsoft/FERPlus) has ten annotators' votes for
the same rows in the same order. The pictures cannot be fetched automatically.

Rows of the usage ``Training`` are trained on, the accuracy on ``PublicTest`` chooses the epoch, and
``PrivateTest`` is evaluated once, at the end.

Targets (``labels``), after Barsoum et al., section 3. Rows with a vote for "NF" (no face) of more than
half, and rows without any vote for the eight classes, are left out and counted. Votes for "unknown" are
dropped.

- ``majority``, the default: the class with more than half of these votes; rows without one are left out.
- ``soft``: the share of each class among these votes; accuracy is then that of the most voted class.

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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.csv_rows import check_header, csv_rows
from pipeline.data.files import together
from pipeline.errors import DataError
from pipeline.extraction.extractors.video._densenet import CLASSES, DEVIATION, MEAN, SIDE, DenseNet
from pipeline.params import DensefaceTraining, Params
from pipeline.stage import run_stage

OUT = Path("data/denseface")
SIDE_FER = 48
USAGES = ("Training", "PublicTest", "PrivateTest")
VOTES = (*CLASSES, "unknown", "NF")
SHIFT = 4  # pixels of 64 that a training picture is moved at most

log = logging.getLogger("lacuna")


@dataclass(frozen=True)
class Faces:
    """The rows of one usage.

    Attributes:
        pixels: (N, 48, 48) uint8.
        targets: (N, 8) float32, each row's sum 1, in the order of :data:`CLASSES`.
        left_out: reason -> how many rows were left out for it.
    """

    pixels: NDArray[np.uint8]
    targets: NDArray[np.float32]
    left_out: dict[str, int]


def read_faces(fer2013: Path, ferplus: Path, labels: str = "majority") -> dict[str, Faces]:
    """Return the faces of every usage, ``Training``, ``PublicTest`` and ``PrivateTest``.

    Raises:
        DataError: a file is absent or has other columns, a row is damaged, or the two files do not have the
            same rows.
    """
    pixels: dict[str, list[NDArray[np.uint8]]] = {usage: [] for usage in USAGES}
    targets: dict[str, list[NDArray[np.float32]]] = {usage: [] for usage in USAGES}
    left_out: dict[str, dict[str, int]] = {usage: {} for usage in USAGES}
    pictures = _rows(fer2013, ("emotion", "pixels", "Usage"))
    votes = _rows(ferplus, ("Usage", *VOTES))
    while True:
        picture, vote = next(pictures, None), next(votes, None)
        if picture is None or vote is None:
            if (picture is None) != (vote is None):
                shorter = fer2013 if picture is None else ferplus
                raise DataError(f"{shorter}: ends before the other file; the two must have the same rows")
            break
        usage = picture[1]["Usage"]
        where = f"{fer2013}, line {picture[0]}, and {ferplus}, line {vote[0]}"
        if usage not in USAGES or usage != vote[1]["Usage"]:
            raise DataError(
                f'{where}: found the usages "{usage}" and "{vote[1]["Usage"]}", expected one of {USAGES}'
            )
        target, reason = _target(vote[1], labels, f"{ferplus}, line {vote[0]}")
        if target is None:
            left_out[usage][reason] = left_out[usage].get(reason, 0) + 1
            continue
        pixels[usage].append(_pixels(picture[1]["pixels"], f"{fer2013}, line {picture[0]}"))
        targets[usage].append(target)
    return {
        usage: Faces(
            np.stack(pixels[usage]) if pixels[usage] else np.zeros((0, SIDE_FER, SIDE_FER), np.uint8),
            np.stack(targets[usage]) if targets[usage] else np.zeros((0, len(CLASSES)), np.float32),
            left_out[usage],
        )
        for usage in USAGES
    }


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


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv_rows(file, str(path))
        line = 0
        try:
            _, _, header = next(rows, (1, 1, []))
            names = [name.strip() for name in header]
            check_header(names, columns, str(path))
            for line, _, row in rows:
                if not row:
                    continue
                if len(row) != len(names):
                    raise DataError(f"{path}, line {line}: found {len(row)} fields, expected {len(names)}")
                yield line, dict(zip(names, row, strict=True))
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, after line {line}: not UTF-8 ({error.reason})") from error


def _pixels(text: str, where: str) -> NDArray[np.uint8]:
    try:
        values = np.array(text.split(), dtype=np.int64)
    except ValueError:
        values = np.zeros(0, np.int64)
    if len(values) != SIDE_FER**2 or values.min() < 0 or values.max() > 255:
        raise DataError(
            f"{where}: expected {SIDE_FER**2} pixels from 0 to 255, found {len(values)} that can be read"
        )
    return values.astype(np.uint8).reshape(SIDE_FER, SIDE_FER)


def _target(row: dict[str, str], labels: str, where: str) -> tuple[NDArray[np.float32] | None, str]:
    """Return the target (8,) and nothing, or None and the reason why the row is left out."""
    try:
        votes = np.array([int(row[name]) for name in VOTES], np.float32)
    except ValueError:
        raise DataError(f"{where}: expected whole numbers of votes for {', '.join(VOTES)}") from None
    if (votes < 0).any():
        raise DataError(f"{where}: found a negative number of votes")
    if votes[9] > votes.sum() / 2:
        return None, "no face"
    shares = votes[:8]
    if not shares.sum():
        return None, "no vote for a class"
    shares = shares / shares.sum()
    if labels == "soft":
        return shares, ""
    if shares.max() <= 0.5:
        return None, "no majority"
    return (shares == shares.max()).astype(np.float32), ""


def _seed(seed: int, *purpose: object) -> int:
    return int.from_bytes(hashlib.sha256(repr((seed, *purpose)).encode()).digest()[:8], "little") >> 1


def _words(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items()) or "no rows"


def main(params: Params, name: str) -> None:
    """Train one of params.yaml's networks and write data/denseface/NAME.safetensors.

    Raises:
        ParamsError: there is no training of that name.
        DataError: the files are not FER+'s.
    """
    settings = params.denseface_training(name)
    faces = read_faces(settings.fer2013, settings.ferplus, settings.labels)
    for usage, part in faces.items():
        log.info("%s: %d faces; left out: %s", usage, len(part.pixels), part.left_out or "none")
    out = OUT / f"{name}.safetensors"
    train(faces, settings, out, params.compute.device)
    log.info("wrote %s", out)


if __name__ == "__main__":
    run_stage(main)
