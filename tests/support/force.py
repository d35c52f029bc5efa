"""Give latent sites of a guide chosen values, as if they had been drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor

__all__ = ["Force"]


class Force(Messenger):
    """Set the value of sites that a guide draws; they stay unobserved."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"], msg["done"] = self.value(msg), True

    def value(self, msg: dict[str, Any]) -> Tensor:
        return self.values[msg["name"]]
