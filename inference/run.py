"""The state of a running fit: everything a checkpoint holds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .elbo import DyadicELBO
from .held_out import SCORES
from .settings import FitSettings

__all__ = ["Run"]


@dataclass
class Run:
    """Everything a checkpoint holds."""

    story: nn.Module
    guide: nn.Module
    elbo: DyadicELBO
    optimizer: torch.optim.Optimizer
    history: dict[str, list[float]]
    average: dict[str, Tensor] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    settled: int = 0
    best_step: int | None = None
    best_score: float = -math.inf
    waited: int = 0
    seconds: float = 0.0

    @classmethod
    def start(
        cls, story: nn.Module, guide: nn.Module, elbo: DyadicELBO, settings: FitSettings
    ) -> Run:
        parameters = [p for m in (story, guide) for p in m.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            parameters,
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,  # one pass over what may be millions of numbers
        )
        names = (
            "step",
            "objective",
            "elbo",
            "kl",
            "active_communities",
            "seconds",
            "val_step",
            *SCORES,
        )
        run = cls(story, guide, elbo, optimizer, {n: [] for n in names})
        if settings.averaging:
            run.average = {k: v.detach().clone() for k, v in run.weights().items()}
        return run

    def parameters(self) -> list[Tensor]:
        """What the optimiser moves."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def weights(self) -> dict[str, Tensor]:
        return {
            f"{part}.{k}": v
            for part, module in (("story", self.story), ("guide", self.guide))
            for k, v in module.state_dict().items()
        }

    def put(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for k, v in self.weights().items():
                v.copy_(weights[k])

    def update_average(self, decay: float) -> None:
        # an early average would remember the initial weights for 1 / (1 - decay) steps: start with a short memory
        decay = min(decay, (1.0 + self.step) / (10.0 + self.step))
        for k, v in self.weights().items():
            self.average[k].lerp_(v.detach().to(self.average[k].dtype), 1.0 - decay)

    def choose(self) -> None:
        """Take the state that validation chose, or else the average, as the result."""
        if self.best:
            self.put(self.best)
        elif self.average:
            self.put(self.average)

    def rest_encoder(self) -> None:
        """No dropout, and no change of the encoder: what is left to train meets the posterior that is used."""
        self.guide.eval()
        for name, module in self.guide.named_children():
            if name == "encoder":
                module.requires_grad_(False)

    def forget_momentum(self) -> None:
        for state in self.optimizer.state.values():
            for key, value in state.items():
                if key != "step":
                    value.zero_()

    def is_patience_over(self, settings: FitSettings) -> bool:
        return settings.patience is not None and self.waited >= settings.patience
