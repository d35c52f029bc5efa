"""Gradients of block memberships without sampling them: the expectation itself, where it is closed.

The likelihood of a stochastic block model is linear in the membership of every single node. Under a guide with
independent memberships its expectation is had by putting their probabilities in the place of one-hot draws: the
objective is then exact in the memberships and differentiable through q, with no noise but that of the globals.
"""

from __future__ import annotations

from typing import Any

from pyro import poutine
from pyro.poutine import Trace
from torch.distributions import Categorical

from .elbo import DyadicELBO, InferenceError, Site, Structure

__all__ = ["ExpectationELBO", "is_node_category"]


class ExpectationELBO(DyadicELBO):
    """:class:`DyadicELBO` with node categories summed out where the edges are linear in each of them.

    Arguments:
        kl_weight, num_particles: as for :class:`DyadicELBO`.

    Raises:
        InferenceError: a story without such memberships, or with edges that are not linear in them.
    """

    def __init__(self, *, kl_weight: float = 1.0, num_particles: int = 1) -> None:
        # a divergence that is not closed would ask for the density of what is no draw
        super().__init__(kl_weight=kl_weight, num_particles=num_particles)

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Trace, Trace]:
        known = self._structure
        traces = super()._get_trace(model, guide, args, kwargs)
        assert self._structure is not None
        summed = _summed_out(*traces, self._structure)
        if self._structure is not known:  # read anew: what is summed out earns no learning signal
            upstream = {k: v - summed for k, v in self._structure.upstream.items()}
            self._structure = Structure(self._structure.sites, upstream)
        guide_trace = traces[1].copy()
        for name in summed:
            site = guide_trace.nodes[name]
            guide_trace.nodes[name] = {**site, "value": site["fn"].probs}
        replayed = poutine.replay(model, guide_trace)
        return poutine.trace(replayed).get_trace(*args, **kwargs), guide_trace


def is_node_category(site: Site) -> bool:
    """Whether a site draws one category for every node: Categorical, in the node plate."""
    return isinstance(site["fn"], Categorical) and any(
        f.name == "nodes" for f in site["cond_indep_stack"]
    )


def _summed_out(model_trace: Trace, guide_trace: Trace, structure: Structure) -> frozenset[str]:
    names = {
        n
        for n, s in guide_trace.nodes.items()
        if s["type"] == "sample" and not s["is_observed"] and is_node_category(s)
    }
    edges = model_trace.nodes["edges"]["fn"]
    followed = [
        n for n, up in structure.upstream.items() if names & up and n != "edges" and n not in names
    ]
    if not names or followed or not getattr(edges, "is_multilinear", False):
        raise InferenceError(
            "gradient='expectation' is for block memberships that the edges alone depend on, and linearly (SBM "
            "without degree correction, or for counts): use gradient='local_expectation', which takes any story"
        )
    return frozenset(names)
