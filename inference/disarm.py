r"""Gradients of Bernoulli memberships by antithetic pairs: DisARM (also U2G) with dyadic credit.

One uniform u_nk a bit gives two graphs' worth of memberships, b_nk = 1[u_nk < q_nk] and b~_nk = 1[1 - u_nk < q_nk],
each with the law q. With phi the log odds of q and f_n the costs in which node n takes part (its dyads, its features,
the divergences downstream of it), the estimator is

.. math::
    g_{nk} = \tfrac12 \bigl(f_n(b) - f_n(\tilde b)\bigr)\,(b_{nk} - \tilde b_{nk})\,\sigma(|\phi_{nk}|).

It is unbiased with the local f_n, although b and b~ are coupled over all nodes. First, for any f,
:math:`E[f(b) (1 - 2 u_{nk})] = \nabla_{\phi_{nk}} E[f(b)]`, which involves one of the two draws alone; the other draw
gives the same with 1 - u, and averaging and taking the expectation given (b, b~) leave the formula above. Second,
f - f_n does not depend on b_n, hence not on u_n, and :math:`E[1 - 2 u_{nk}] = 0`: it may be left out. The two draws
need all bits coupled at once; neighbours that stay put in one of them would be a different estimator.

References:
    | DisARM: An Antithetic Gradient Estimator for Binary Latent Variables (Dong, Mnih and Tucker, 2020)
    | Probabilistic Best Subset Selection via Gradient-Based Optimization (Yin, Ho, Yan, Qian and Zhou, 2020): U2G
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pyro import poutine
from pyro.ops.provenance import detach_provenance
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from torch import Tensor

from .elbo import DyadicELBO, InferenceError, Site, _score_parts, _site_names, is_node_bits

__all__ = ["DisarmELBO"]

_OF_THE_DRAW = {"value", "log_prob", "log_prob_sum", "unscaled_log_prob", "score_parts"}


class DisarmELBO(DyadicELBO):
    """:class:`DyadicELBO` on two antithetic draws of the Bernoulli node sites, which get DisARM's gradient.

    The objective and the pathwise gradients are averages over the two draws. Everything else that is random is common
    to both. Other discrete sites, and Bernoulli sites whose log odds differ between the draws because they follow
    other memberships, get the score function in each draw.

    A pair costs one run of the guide and two of the story; two of each for a guide that looks at the memberships.

    Arguments: as for :class:`DyadicELBO`; a particle is a pair of draws.

    Raises:
        InferenceError: a story or guide whose sites depend on the memberships.
    """

    _uniforms: _Uniforms  # of the pair in hand, and what was called for it
    _call: tuple[Any, Any, Any, Any]
    _owed: dict[str, tuple[Site, Tensor]]

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Trace, Trace]:
        self._call = (model, guide, args, kwargs)
        self._uniforms = _Uniforms()
        return super()._get_trace(model, self._uniforms(guide), args, kwargs)

    def _loss_and_surrogate_loss_particle(
        self, model_trace: Trace, guide_trace: Trace
    ) -> tuple[Tensor, Tensor]:
        draws = [(model_trace, guide_trace), self._other_draw(guide_trace)]
        if _site_names(*draws[0]) != _site_names(*draws[1]):
            raise InferenceError(
                "the two draws of the memberships led to different sites: gradient='disarm' needs a story and a "
                "guide with the same sites whatever the memberships; 'dyadic' does not"
            )
        elbo: Any = 0.0
        surrogate_loss: Any = 0.0
        owed, told = [], []
        for draw in draws:
            self._owed = {}
            value, loss = super()._loss_and_surrogate_loss_particle(*draw)
            elbo, surrogate_loss = elbo + 0.5 * value, surrogate_loss + 0.5 * loss
            owed.append(self._owed)
            told.append(self.last)
        self.last = {name: 0.5 * (told[0][name] + told[1][name]) for name in told[0]}
        for name in owed[0]:
            surrogate_loss = surrogate_loss - self._pair_credit(name, owed[0][name], owed[1][name])
        return elbo, surrogate_loss

    def _other_draw(self, guide_trace: Trace) -> tuple[Trace, Trace]:
        """The traces of story and guide at the antithetic memberships."""
        assert self._structure is not None
        model, guide, args, kwargs = self._call
        drawn, upstream = self._uniforms.drawn, self._structure.upstream
        followed = any(
            name in upstream[other]
            for other in upstream
            if other in guide_trace.nodes
            for name in drawn
            if name != other
        )
        if followed:  # the same noise again, and what follows the memberships moves with them
            with _random_state_of(self._uniforms):
                run = _Uniforms(reflected=drawn)(guide)
                other_trace = poutine.trace(run).get_trace(*args, **kwargs)
        else:  # nothing in the guide moves: no second pass of its networks
            other_trace = guide_trace.copy()
            for name, u in drawn.items():
                site = guide_trace.nodes[name]
                kept = {key: v for key, v in site.items() if key not in _OF_THE_DRAW}
                other_trace.nodes[name] = {**kept, "value": _bits(site, 1.0 - u)}
        model_trace = poutine.trace(poutine.replay(model, other_trace)).get_trace(*args, **kwargs)
        return model_trace, other_trace

    def _credit(
        self, name: str, site: Site, signal: Tensor, model_trace: Trace, guide_trace: Trace
    ) -> Tensor:
        self._owed[name] = (site, signal)  # priced when both draws are known
        return signal.new_zeros(())

    def _pair_credit(
        self, name: str, first: tuple[Site, Tensor], second: tuple[Site, Tensor]
    ) -> Tensor:
        (site, signal), (other, other_signal) = first, second
        if name in self._uniforms.drawn:
            logits = detach_provenance(site["fn"].base_dist.logits)
            # with other log odds the pair is not antithetic, and each draw is rewarded for itself
            if logits.equal(detach_provenance(other["fn"].base_dist.logits)):
                change = detach_provenance(site["value"]) - detach_provenance(other["value"])
                with torch.no_grad():
                    gain = 0.5 * (signal - other_signal).unsqueeze(-1) * change
                    slope = gain * torch.sigmoid(logits.abs())
                return (slope * logits).sum()  # costs are scaled and masked, the score is not
        # one baseline, read before either draw enters it: the second draw may share values with the first
        baseline, baseline_loss = self._baseline(name, site, 0.5 * (signal + other_signal))
        credit = _score_parts(site).score_function * (signal - baseline)
        other_credit = _score_parts(other).score_function * (other_signal - baseline)
        return 0.5 * (credit.sum() + other_credit.sum()) - baseline_loss


class _Uniforms(Messenger):
    """Draw Bernoulli node sites from uniforms that are kept, or from the reflections 1 - u of given ones."""

    def __init__(self, reflected: dict[str, Tensor] | None = None) -> None:
        super().__init__()
        self.drawn: dict[str, Tensor] = {}
        self.reflected = reflected
        self.before: list[Tensor] = []

    def __enter__(self) -> Any:
        self.drawn, self.before = {}, _random_state()
        return super().__enter__()

    def _pyro_sample(self, msg: Site) -> None:
        if msg["done"] or msg["is_observed"] or not is_node_bits(msg):
            return
        name = msg["name"]
        # drawn for a reflection too, so that the noise after it is the same
        u = self.drawn[name] = _uniform(msg["fn"].base_dist.logits)
        if self.reflected is not None and name in self.reflected:
            u = 1.0 - self.reflected[name]
        msg["value"], msg["done"] = _bits(msg, u), True


def _uniform(like: Tensor) -> Tensor:
    return torch.rand(like.shape, dtype=like.dtype, device=like.device)


def _bits(site: Site, u: Tensor) -> Tensor:
    with torch.no_grad():
        q = torch.sigmoid(site["fn"].base_dist.logits)
        return (u < q).to(q.dtype)


def _random_state() -> list[Tensor]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return [torch.get_rng_state(), *cuda]


def _set_random_state(state: list[Tensor]) -> None:
    torch.set_rng_state(state[0])
    if len(state) > 1:
        torch.cuda.set_rng_state_all(state[1:])


@contextmanager
def _random_state_of(first_run: _Uniforms) -> Iterator[None]:
    """The random numbers of the first run once more; afterwards it is as if they had been drawn once."""
    after = _random_state()
    _set_random_state(first_run.before)
    try:
        yield
    finally:
        _set_random_state(after)
