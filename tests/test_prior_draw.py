"""Draws of latents and graph from a Pyro program of the user's own."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

import graphlore as gl


def program(graph: gl.Graph | None = None) -> Tensor:
    c = pyro.sample("bias", dist.Normal(0.0, 1.0))
    with pyro.plate("nodes", 5, dim=-1):
        z = pyro.sample("position", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    law = gl.models.DyadicBernoulli(z, left_bias=(0.5 * c).expand(5))
    return pyro.sample("edges", law, obs=None if graph is None else graph.adjacency)


def test_a_plate_is_no_latent() -> None:
    latents, graph = gl.inference.prior_draw(program, seed=3)
    assert {name: tuple(value.shape) for name, value in latents.items()} == {
        "bias": (),
        "position": (5, 2),
    }
    assert graph.num_nodes == 5
    again, same = gl.inference.prior_draw(program, seed=3)
    assert torch.equal(again["position"], latents["position"])
    assert graph.fingerprint() == same.fingerprint()


def test_the_draws_of_an_inference_need_not_name_the_plate() -> None:
    def prior(graph: gl.Graph, seed: int) -> dict[str, Tensor]:
        return {"bias": torch.randn(50), "position": torch.randn(50, 5, 2)}

    result = gl.inference.sbc(program, prior, simulations=10, draws=9, progress=False)
    assert result.simulations == 10
    assert not result.failed
