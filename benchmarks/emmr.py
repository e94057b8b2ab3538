"""EMMR's cost beside that of its three branches alone, and beside TF and TF+AE (Table 8, Figure 9).

Two peers, on the paper's sizes (batches of 32; 25, 150 and 100 frames of 768, 33 and 709 columns; a share of the
samples lacks one modality). ``branches``: the same network with all three branches, their reconstruction losses, the
pretrained network and the label from TF, but without recovery, opinions and combination: what the ensemble is
built on. ``sum of three``: TF alone, AE alone and MMIN alone as networks of their own, each with its modalities'
attention and its label. The limit for EMMR is 1.3 times the branches.

    python benchmarks/emmr.py [--steps 10] [--batch 32] [--device cuda] [--rate 0.2]

The paper's Table 8 has seconds: of 10 epochs of training, and of the test part.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from models.base import MODALITIES, Batch, Output, drop_modalities
from models.emmr import EMMRSettings, Model
from models.layers import task_loss

DIMS = {"text": 768, "audio": 33, "video": 709}
LENGTHS = {"text": 25, "audio": 150, "video": 100}
LIMIT = 1.3
PAPER = {  # Table 8: seconds of training (10 epochs) and of the test part on a 2080Ti, then on a 3090
    "TF": ((1826.44, 57.88), (1156.62, 24.10)),
    "TF+AE": ((1885.51, 62.39), (1192.76, 27.17)),
    "EMMR": ((1975.18, 78.08), (1246.20, 30.41)),
}


def make_batch(size: int, rate: float, device: torch.device, classes: int = 3) -> Batch:
    """Return a batch of the paper's sizes, of which a share lacks one modality, with the whole samples."""
    generator = torch.Generator().manual_seed(0)
    features = {m: torch.randn(size, LENGTHS[m], DIMS[m], generator=generator).to(device) for m in MODALITIES}
    lengths = {m: torch.full((size,), LENGTHS[m], device=device) for m in MODALITIES}
    observed = {m: torch.ones(size, LENGTHS[m], dtype=torch.bool, device=device) for m in MODALITIES}
    labels = torch.randint(0, classes, (size,), generator=generator).to(device)
    present = torch.ones(size, 3, dtype=torch.bool, device=device)
    whole = Batch(features, lengths, present, observed, labels)
    left = present.clone()
    for row in range(round(rate * size)):
        left[row, row % 3] = False
    return replace(drop_modalities(whole, left), views={"whole": whole})


class Branches(Model):
    """EMMR without recovery, opinions and combination."""

    def forward(self, batch: Batch) -> Output:
        """Return TF's label, and the losses of all three branches."""
        tokens = self.encoder(batch)
        joined, keep = tokens.joined()
        encoded = self.tf_encoder(joined, keep)
        decoded = self._decode(tokens, joined, keep, encoded)
        logits = self.head(self.head.pool(encoded, keep))
        losses = task_loss(logits, batch) | self._forward_loss(batch, tokens, encoded)
        losses |= self._backward_loss(batch, tokens, joined, keep, decoded)
        return Output(logits, losses)


class OneBranch(Model):
    """AE or MMIN alone: its latent vectors, averaged over positions, say the label."""

    def __init__(self, branch: str, outputs: int) -> None:
        super().__init__(EMMRSettings(branches=("tf", branch), forward_weight=0), DIMS, outputs)
        self.tf_encoder = self.tf_decoder = self.head = self.opinions = (
            nn.Identity()
        )  # nothing of TF's is used
        self.mix = self.to_joint = nn.Identity()
        self.read = nn.Linear(64 if branch == "ae" else 320, outputs)

    def forward(self, batch: Batch) -> Output:
        """Return the label and the losses of one branch."""
        tokens = self.encoder(batch)
        joined, keep = tokens.joined()
        decoded, latent = (self.ae or self.mmin)(joined)
        logits = self.read((latent * keep[:, :, None]).sum(dim=1) / keep.sum(dim=1, keepdim=True))
        losses = task_loss(logits, batch) | self._backward_loss(batch, tokens, joined, keep, [decoded])
        return Output(logits, losses)


def count(network: nn.Module) -> int:
    """Return the trained parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--rate", type=float, default=0.2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batch = make_batch(options.batch, options.rate, options.device)
    settings: dict[str, EMMRSettings] = {
        "TF": EMMRSettings(key="never"),
        "TF+AE": EMMRSettings(branches=("tf", "ae")),
        "TF+MMIN": EMMRSettings(branches=("tf", "mmin")),
        "EMMR": EMMRSettings(),
    }
    networks: dict[str, Any] = {name: Model(one, DIMS, 3) for name, one in settings.items()}
    networks["branches"] = Branches(EMMRSettings(), DIMS, 3)
    networks |= {"AE alone": OneBranch("ae", 3), "MMIN alone": OneBranch("mmin", 3)}
    steps, tests = {}, {}
    times: dict[str, list[float]] = {name: [] for name in networks}
    shown: dict[str, list[float]] = {name: [] for name in networks}
    for name, network in networks.items():
        network.to(options.device)
        optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 1e-3)

        def step(network: nn.Module = network, optimizer: torch.optim.Optimizer = optimizer) -> None:
            network.train()
            optimizer.zero_grad(set_to_none=True)
            losses: dict[str, Tensor] = network(batch).losses
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()

        def test(network: nn.Module = network) -> None:
            network.eval()
            with torch.no_grad():
                network(replace(batch, views={}, labels=None))

        steps[name], tests[name] = step, test
    clock = time.process_time if options.device.type == "cpu" else time.perf_counter
    for turn in range(options.steps + 2):  # in turn, so that whatever else runs slows all alike
        for kind, work in ((times, steps), (shown, tests)):
            for name, one in work.items():
                begin = clock()
                one()
                if options.device.type == "cuda":
                    torch.cuda.synchronize()
                if turn >= 2:
                    kind[name].append(clock() - begin)
    median = {name: statistics.median(each) for name, each in times.items()}
    for name, network in networks.items():
        print(
            f"{name:11} {count(network):>10,} parameters, {1000 * median[name]:8.1f} ms a step, "
            f"{1000 * statistics.median(shown[name]):8.1f} ms a test batch"
        )
    tested = {name: statistics.median(each) for name, each in shown.items()}
    for name, cards in PAPER.items():
        ours = f"training {median[name] / median['TF']:.2f}, test {tested[name] / tested['TF']:.2f}"
        theirs = " and ".join(
            f"{train / PAPER['TF'][card][0]:.2f}, {test / PAPER['TF'][card][1]:.2f}"
            for card, (train, test) in enumerate(cards)
        )
        print(f"{name:11} of TF's time: {ours}; the paper's, on a 2080Ti and a 3090: {theirs}")
    three = sum(median[name] for name in ("TF", "AE alone", "MMIN alone"))
    ratio = median["EMMR"] / median["branches"]
    print(
        f"EMMR: {ratio:.2f} of its branches alone (limit {LIMIT}), {median['EMMR'] / three:.2f} of the sum of three"
    )
    if ratio > LIMIT:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
