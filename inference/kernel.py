"""The Markov kernel of a node-level story: Gibbs for what is discrete or conjugate, NUTS for the rest."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from pyro.infer.mcmc import NUTS
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel
from torch import Tensor
from torch.nn import functional as F

from ..data import Graph
from ..models.base import NodeStory
from ..models.sbm import SBM
from .gibbs import draw_bits, draw_categories
from .joint import Joint, Values
from .relabel import permute_blocks, swap_communities

__all__ = ["GibbsNUTS"]


class GibbsNUTS(MCMCKernel):
    r"""A Pyro kernel that leaves p(latents | A) invariant, for any node-level story.

    One sweep draws, each given all the others: the memberships of every node (categories, or bits column by column), by
    Gibbs; the community weights and the table of an SBM from their closed conditionals, where it has them; every other
    latent by one transition of NUTS in unconstrained space; and then proposes another numbering of the communities. It
    runs under ``pyro.infer.MCMC(kernel, ...).run(graph)`` too; draws are of the latents themselves, not unconstrained.

    Arguments:
        story: a float64 copy of it is used; the weights of its networks are not sampled.
        step_size: of NUTS, at the start.
        adapt: let NUTS adapt step size and mass matrix during the warm-up.
        target_accept: acceptance that its step size is adapted to.
        max_tree_depth: of NUTS.
        relabel: move between numberings of communities. SBM: a random permutation, always accepted, so that what
            depends on labels averages out over them (align draws first). LFRM and DGLFRM: a swap of two
            communities, accepted by Metropolis, which helps them find the order that the sticks prefer.
        initial: latents to start from; those left out start at random, continuous ones uniform on (-2, 2) in
            unconstrained space, memberships from their prior given these.

    Raises:
        ValueError: on setup, a story that is relaxed, tempered or has no posterior.
    """

    def __init__(
        self,
        story: NodeStory,
        *,
        step_size: float = 0.1,
        adapt: bool = True,
        target_accept: float = 0.8,
        max_tree_depth: int = 6,
        relabel: bool = True,
        initial: Values | None = None,
    ) -> None:
        self.story, self.relabel = story, relabel
        self._initial = dict(initial or {})
        self._options: dict[str, Any] = {
            "step_size": step_size,
            "adapt_step_size": adapt,
            "adapt_mass_matrix": adapt,
            "target_accept_prob": target_accept,
            "max_tree_depth": max_tree_depth,
        }
        self._nuts: NUTS | None = None
        #: for Pyro's MCMC: draws are already in the space of the latents
        self.transforms: dict[str, Any] = {}
        #: latents by site, in the shapes of the story
        self.values: Values = {}
        #: of the edges' likelihood where memberships are drawn; below 1 in a warm-up that anneals
        self.power = 1.0
        super().__init__()

    def setup(self, warmup_steps: int, graph: Graph) -> None:
        """Start a chain: ``warmup_steps`` sweeps adapt NUTS, the graph is what is observed."""
        self.joint = Joint(self.story, graph)
        start = {
            n: t(4.0 * torch.rand_like(t.inv(v)) - 2.0)
            for n, v in self.joint.draw().items()
            if (t := self.joint.transforms.get(n)) is not None
        }
        self.values = self.joint.draw({**start, **self._initial})
        self.by_nuts = [n for n in self.joint.continuous if n not in self._conjugate()]
        self._nuts = None
        if self.by_nuts:
            self._nuts = NUTS(potential_fn=self._potential, **self._options)
            self._nuts.initial_params = self._unconstrained()
            with torch.enable_grad():
                self._nuts.setup(warmup_steps)

    @property
    def is_random_start(self) -> bool:
        """Whether the memberships that the chain starts at are random."""
        return not self._initial.keys() & {*self.joint.categories, *self.joint.bits}

    @property
    def initial_params(self) -> Values:
        return self.values

    @initial_params.setter
    def initial_params(self, params: Values) -> None:
        self._initial = dict(params)

    def observe(self, graph: Graph) -> None:
        """Go on with another graph of the same nodes."""
        self.joint.observe(graph)

    def sample(self, params: Values) -> Values:
        """One sweep from the given latents."""
        self.values = dict(params)
        for name in self.joint.categories:
            self.values[name] = draw_categories(self.joint, self.values, name, self.power)
        for name in self.joint.bits:
            self.values[name] = draw_bits(self.joint, self.values, name, self.power)
        for name in self._conjugate():
            self.values[name] = self._conjugate_draw(name)
        if self._nuts is not None:
            self._nuts.clear_cache()  # what it remembers was under the other memberships
            with torch.enable_grad():
                found = self._nuts.sample(self._unconstrained())
            self.values |= {n: self.joint.transforms[n](z).detach() for n, z in found.items()}
        if self.relabel and isinstance(self.joint.story, SBM):
            self.values = permute_blocks(self.joint.story, self.values)
        elif self.relabel and self.joint.bits:
            self.values = swap_communities(self.joint, self.values)
        return dict(self.values)

    def end_warmup(self) -> None:
        if self._nuts is not None:
            self._nuts.end_warmup()

    def logging(self) -> OrderedDict[str, str]:
        return OrderedDict() if self._nuts is None else self._nuts.logging()

    def diagnostics(self) -> dict[str, Any]:
        """``divergences``: the draws after the warm-up in which NUTS diverged."""
        return {} if self._nuts is None else self._nuts.diagnostics()

    def log_density(self) -> float:
        """log p(A, latents) at the present state, in nats."""
        with torch.no_grad():
            return float(self.joint.log_density(self.values))

    def _conjugate(self) -> list[str]:
        story = self.joint.story
        if not isinstance(story, SBM):
            return []
        return ["community_weights", *([story.table_site] if story.is_conjugate else [])]

    def _conjugate_draw(self, name: str) -> Tensor:
        story, values = self.joint.story, self.values
        z = F.one_hot(values["membership"], story.num_blocks).double()
        with torch.no_grad():
            if name == "community_weights":
                return story.weights_given(z).sample()
            e, tau = values.get("node_bias"), values.get("edge_scale")
            return story.table_given(self.joint.graph, z, e, tau).sample()

    def _unconstrained(self) -> Values:
        return {n: self.joint.transforms[n].inv(self.values[n]).detach() for n in self.by_nuts}

    def _potential(self, params: Values) -> Tensor:
        """-log p(A, latents) in unconstrained space, memberships and conjugate latents as they are."""
        values, volume = dict(self.values), torch.zeros((), dtype=torch.float64)
        for name, z in params.items():
            transform = self.joint.transforms[name]
            values[name] = transform(z)
            volume = volume + transform.log_abs_det_jacobian(z, values[name]).sum()
        return -(self.joint.log_density(values) + volume)
