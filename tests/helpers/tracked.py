"""A small network with concatenations and sums, and a plain loop on the digits that is tracked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import analysis
from condense_core import Condensation, learn_groups

EPOCHS, BATCH, IMAGES = 4, 32, 96


class Joined(nn.Module):
    """Reads concatenations and sums; `asks` looks at a number, which cannot be traced."""

    def __init__(self, classes: int = 10, asks: bool = False):
        super().__init__()
        self.stem, self.asks = nn.Conv2d(3, 16, 3, padding=1), asks
        self.body = nn.ModuleDict(
            {"a": nn.Conv2d(16, 16, 1), "b": nn.Conv2d(32, 16, 1), "c": nn.Conv2d(16, 8, 1)}
        )
        self.norm, self.head = nn.BatchNorm2d(16), nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem(x)).relu()
        if self.asks and x.sum() > 0:
            x = x * 1.0
        a = self.body["a"](x)
        b = self.body["b"](torch.cat([x, a], 1)).relu()
        return self.head(self.body["c"](a + b).relu().mean((2, 3)))


class Loop:
    """A network, its optimizer and condensation, and a training that can be left and gone on with."""

    def __init__(self, seed: int = 0, groups: int = 4, network: nn.Module | None = None):
        torch.manual_seed(seed)
        self.model = network or Joined()
        learn_groups(self.model, groups=groups)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.05, momentum=0.9)
        digits, labels = load_digits(return_X_y=True)
        grey = torch.tensor(digits[:IMAGES] / 16, dtype=torch.float32).view(-1, 1, 8, 8)
        self.images, self.labels = grey.expand(-1, 3, -1, -1), torch.tensor(labels[:IMAGES])
        self.batches = list(zip(self.images.split(BATCH), self.labels.split(BATCH), strict=True))
        self.condensation = Condensation(self.model, self.optimizer, steps=EPOCHS * len(self.batches))
        self.seed = seed

    def track(self, runs: Path, **said: Any) -> Any:
        """Track this loop."""
        said = {"image_size": 8, "epochs": EPOCHS, "study": "mine", "seed": self.seed} | said
        return analysis.track(self.model, self.condensation, runs=runs, **said)

    def epoch(self) -> float:
        """Train an epoch and return its mean loss."""
        losses = []
        for images, labels in self.batches:
            loss = F.cross_entropy(self.model(images), labels) + self.condensation.penalty()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.condensation.step()
            losses.append(loss.item())
        return sum(losses) / len(losses)

    @torch.no_grad()
    def logits(self) -> torch.Tensor:
        """Return what the network says of its images."""
        return self.model.eval()(self.images)

    def error(self) -> float:
        """Return the error on its images, in percent."""
        return 100 * (self.logits().argmax(1) != self.labels).float().mean().item()

    def train(self, run: Any, first: int = 1, last: int = EPOCHS) -> None:
        """Train and log epochs."""
        for epoch in range(first, last + 1):
            run.log(epoch, train_loss=self.epoch(), validation_error_percent=self.error())
            self.model.train()


def tracked(runs: Path, seed: int = 0, groups: int = 4, **said: Any) -> Any:
    """Track a whole training, with its test outcomes, and return its run."""
    loop = Loop(seed, groups)
    with loop.track(runs, evaluate=loop.error, **said) as own:
        loop.train(own)
        own.outcomes("test", loop.logits(), loop.labels)
    return own.run
