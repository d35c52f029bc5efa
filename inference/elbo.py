"""The project's gradient estimator: TraceGraph_ELBO with the credit that a dyad owes to its two ends.

A discrete latent of node i touches only the dyads of i. Pyro's plates cannot say so: with the edges outside the node
plate every node is rewarded for the whole graph (unbiased, variance growing with N^2), with the edges in a plate of
rows half of a node's dyads is lost (biased). :class:`DyadicELBO` gives node i the learning signal
sum_j log p(A_ij | .), every dyad of i once and no other, which is unbiased and local.

Wherever q(x) and p(x) of a latent have a closed divergence, log p(x) - log q(x) is replaced by its expectation -KL,
which changes no expected gradient and removes its noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.util import is_identically_zero, scale_and_mask, sum_rightmost
from pyro.infer import TraceGraph_ELBO
from pyro.infer.util import MultiFrameTensor
from pyro.ops.provenance import detach_provenance, get_provenance
from pyro.poutine import Trace
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Independent, kl_divergence
from torch.nn import functional as F

from ..models.dyadic import Dyadic

__all__ = ["DecayingAverages", "DyadicELBO", "InferenceError"]


Site = dict[str, Any]


class InferenceError(RuntimeError):
    """Inference that would be wrong or has broken down; the message says what to do."""


class DecayingAverages(nn.Module):
    """Running averages of learning signals, by site: the state of decaying baselines, saved with a checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self._averages: dict[str, Tensor] = {}

    def read_and_update(self, site: str, signal: Tensor, decay: float) -> Tensor:
        """The average before this signal, which then enters with weight 1 - decay."""
        old = self._averages.get(site)
        if old is None or old.shape != signal.shape:
            old = signal.detach().clone()  # the first signal is its own best guess of the level
            self._averages[site] = old
            return torch.zeros_like(old)
        self._averages[site] = decay * old + (1.0 - decay) * signal.detach()
        return old

    def get_extra_state(self) -> dict[str, Tensor]:
        return dict(self._averages)

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        self._averages = dict(state)


class DyadicELBO(TraceGraph_ELBO):
    """ELBO with dyadic credit, for stories whose ``edges`` are a :class:`~graphlore.models.Dyadic`.

    Use it as any Pyro ELBO: in ``SVI``, or as ``DyadicELBO()(story, guide)`` with ``torch.optim``. Baselines are
    asked for at the guide's sites as in Pyro (``infer={"baseline": ...}``); decaying averages live in
    its module ``averages``, not in the global parameter store, and follow a graph of another size.

    Arguments:
        local: give nodes the signal of their own dyads; False gives every node the whole graph's, as Pyro does.
        analytic_kl: use closed divergences where they exist.
        kl_weight: multiplies log p - log q of the latents; 1 is the ELBO.
        num_particles: draws a gradient is averaged over.

    Raises:
        InferenceError: on the first evaluation, for a guide whose sites are not those of the story, or with discrete
            sites from which no observed density depends (their gradient would be silently wrong).
    """

    def __init__(
        self,
        *,
        local: bool = True,
        analytic_kl: bool = True,
        kl_weight: float = 1.0,
        num_particles: int = 1,
    ) -> None:
        super().__init__(num_particles=num_particles)
        self.local, self.analytic_kl, self.kl_weight = local, analytic_kl, kl_weight
        self.averages = DecayingAverages()
        #: Of the last evaluation, in nats: likelihood, kl, elbo = likelihood - kl (whatever kl_weight), and the
        #: mean number of memberships of a node, where there are any.
        self.last: dict[str, float] = {}
        self._structure: Structure | None = None

    def differentiable_loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        """-ELBO whose gradient is the estimator's: what ``ELBOModule`` and ``torch.optim`` need."""
        elbo, surrogate = self._loss_and_surrogate_loss(model, guide, args, kwargs)
        return -elbo.detach() + surrogate - surrogate.detach()

    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Trace, Trace]:
        if self._structure is not None:
            traces = _trace_pair(model, guide, args, kwargs)
            if self._structure.sites == _site_names(*traces):
                return traces
        # The first time, or with other sites than before: Pyro's checks and provenance tracking, at their price, and
        # on random numbers of their own, so that every evaluation draws and adds up in the same way.
        with torch.random.fork_rng():
            tracked = super()._get_trace(model, guide, args, kwargs)
        check_sites(*tracked)
        self._structure = Structure.read(*tracked)
        return _trace_pair(model, guide, args, kwargs)

    def _loss_and_surrogate_loss_particle(
        self, model_trace: Trace, guide_trace: Trace
    ) -> tuple[Tensor, Tensor]:
        structure = self._structure
        assert structure is not None
        elbo: Any = 0.0
        surrogate: Any = 0.0
        likelihood: Any = 0.0
        signals: dict[str, MultiFrameTensor] = {}

        def charge(cost: Tensor, frames: Any, names: Iterable[str]) -> None:
            for name in names:
                signals.setdefault(name, MultiFrameTensor()).add((frames, cost.detach()))

        for name, site in _samples(model_trace):
            if name in guide_trace.nodes:
                continue
            if self.local and structure.upstream[name] and isinstance(site["fn"], Dyadic):
                site["fn"].keep_nodes = True
            log_prob = _log_prob(site)
            total = log_prob.sum()
            elbo, surrogate, likelihood = (
                elbo + total,
                surrogate + total,
                likelihood + total.detach(),
            )
            self._charge_observed(site, log_prob, guide_trace, structure.upstream[name], charge)

        for name, site in _samples(guide_trace):
            upstream = structure.upstream[name]
            p = model_trace.nodes.get(name)  # None: auxiliary, the story has no such site
            kl = closed_divergence(site["fn"], p["fn"]) if self.analytic_kl and p else None
            if kl is not None:
                cost = -self.kl_weight * scale_and_mask(kl, site["scale"], site["mask"])
                elbo, surrogate = elbo + cost.sum(), surrogate + cost.sum()
                # given what is upstream of the site, its own draw no longer enters
                charge(cost, site["cond_indep_stack"], upstream - {name})
                continue
            log_q = self.kl_weight * _log_prob(site)
            log_p = self.kl_weight * _log_prob(p) if p else torch.zeros_like(log_q)
            elbo = elbo + (log_p - log_q).sum()
            surrogate = surrogate + log_p.sum()
            entropy = _score_parts(site).entropy_term
            if not is_identically_zero(entropy):
                surrogate = surrogate - self.kl_weight * entropy.sum()
            charge(log_p - log_q, site["cond_indep_stack"], upstream)

        for name, cost_by_frame in signals.items():
            site = guide_trace.nodes[name]
            signal = detach_provenance(cost_by_frame.sum_to(site["cond_indep_stack"])).detach()
            surrogate = surrogate + self._credit(name, site, signal, model_trace, guide_trace)

        elbo = detach_provenance(elbo)
        likelihood = float(detach_provenance(likelihood))
        kl = (likelihood - float(elbo.detach())) / self.kl_weight
        self.last = {"likelihood": likelihood, "kl": kl, "elbo": likelihood - kl}
        if "memberships" in model_trace.nodes:
            memberships = detach_provenance(model_trace.nodes["memberships"]["value"])
            self.last["active"] = float((memberships > 0.5).sum(-1).float().mean())
        return elbo, detach_provenance(-surrogate)

    def _credit(
        self, name: str, site: Site, signal: Tensor, model_trace: Trace, guide_trace: Trace
    ) -> Tensor:
        """What the surrogate holds for a discrete site: score function times (signal - baseline)."""
        baseline, baseline_loss = self._baseline(name, site, signal)
        return (_score_parts(site).score_function * (signal - baseline)).sum() - baseline_loss

    def _charge_observed(
        self,
        site: Site,
        log_prob: Tensor,
        guide_trace: Trace,
        upstream: frozenset[str],
        charge: Any,
    ) -> None:
        if not self.local or not isinstance(site["fn"], Dyadic):
            charge(log_prob, site["cond_indep_stack"], upstream)
            return
        for name in upstream:
            # the frame of the node plate, if the site stands in it; a global site is charged the whole graph
            nodes = [f for f in guide_trace.nodes[name]["cond_indep_stack"] if f.name == "nodes"]
            if nodes:
                incident = site["fn"].incident_log_prob(site["value"])
                if incident.dim() > 1:
                    raise InferenceError(
                        "dyadic credit is for one draw a trace: average over num_particles, not over an outer plate"
                    )
                incident = scale_and_mask(incident, site["scale"], site["mask"])
                incident = incident.reshape(-1, *[1] * (-nodes[0].dim - 1))
                charge(incident, tuple(nodes), (name,))
            else:
                charge(log_prob, site["cond_indep_stack"], (name,))

    def _baseline(
        self, name: str, site: dict[str, Any], signal: Tensor
    ) -> tuple[Tensor | float, Tensor | float]:
        options = dict(site["infer"].get("baseline", {}))
        network, network_input = (
            options.pop("nn_baseline", None),
            options.pop("nn_baseline_input", None),
        )
        decaying, decay = (
            options.pop("use_decaying_avg_baseline", False),
            options.pop("baseline_beta", 0.9),
        )
        value = options.pop("baseline_value", None)
        if options:
            raise InferenceError(f"unknown baseline options at site {name!r}: {sorted(options)}")
        baseline: Any = 0.0
        if decaying:
            baseline = self.averages.read_and_update(name, signal, decay)
        if network is not None:
            value = network(detach_provenance(network_input).detach())
        if value is None:
            return baseline, 0.0
        if value.shape != signal.shape:
            raise InferenceError(
                f"the baseline of site {name!r} has shape {tuple(value.shape)}, its learning signal "
                f"{tuple(signal.shape)}"
            )
        baseline = baseline + value
        return baseline.detach(), ((signal - baseline) ** 2).sum()


@dataclass(frozen=True)
class Structure:
    """Which discrete sites every density depends on, read once by provenance and used while the sites stay the same."""

    sites: tuple[frozenset[str], frozenset[str]]
    upstream: dict[str, frozenset[str]]

    @classmethod
    def read(cls, model_trace: Trace, guide_trace: Trace) -> Structure:
        upstream: dict[str, frozenset[str]] = {}
        for trace in (model_trace, guide_trace):
            for name, site in _samples(trace):
                upstream[name] = upstream.get(name, frozenset()) | get_provenance(
                    site["log_prob_sum"]
                )
        return cls(_site_names(model_trace, guide_trace), upstream)


def closed_divergence(q: Any, p: Any) -> Tensor | None:
    """KL(q || p) where it is known in closed form, of the batch shape of q; None elsewhere."""
    if isinstance(q, Independent) and isinstance(p, Independent):
        if q.reinterpreted_batch_ndims != p.reinterpreted_batch_ndims:
            return None
        inner = closed_divergence(q.base_dist, p.base_dist)
        return None if inner is None else sum_rightmost(inner, q.reinterpreted_batch_ndims)
    if isinstance(q, Bernoulli) and isinstance(p, Bernoulli):
        # torch's own is infinite once a prior probability underflows
        a, b = q.logits, p.logits
        return torch.sigmoid(a) * (a - b) - F.softplus(a) + F.softplus(b)
    if isinstance(q, Categorical) and isinstance(p, Categorical):
        return (q.probs * (q.logits - p.logits)).sum(-1)  # finite logits, for the same reason
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return None


def is_node_bits(site: Site) -> bool:
    """Whether a site draws independent bits for every node: Bernoulli with one event dimension, in the node plate."""
    q = site["fn"]
    return (
        isinstance(q, Independent)
        and q.reinterpreted_batch_ndims == 1
        and isinstance(q.base_dist, Bernoulli)
        and not q.has_rsample
        and any(f.name == "nodes" for f in site["cond_indep_stack"])
    )


def _trace_pair(model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Trace, Trace]:
    guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
    return poutine.trace(poutine.replay(model, guide_trace)).get_trace(*args, **kwargs), guide_trace


def _samples(trace: Trace) -> Iterator[tuple[str, Site]]:
    """Sample sites, without the bookkeeping of plates and without deterministic sites."""
    for name, site in trace.nodes.items():
        drawn = site["type"] == "sample" and not isinstance(site["fn"], _Subsample)
        if drawn and not site["infer"].get("_deterministic"):
            yield name, site


def _site_names(model_trace: Trace, guide_trace: Trace) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(n for n, _ in _samples(model_trace)), frozenset(
        n for n, _ in _samples(guide_trace)
    )


def _log_prob(site: Site) -> Tensor:
    if "log_prob" not in site:
        site["log_prob"] = scale_and_mask(
            site["fn"].log_prob(site["value"]), site["scale"], site["mask"]
        )
    return site["log_prob"]


def _score_parts(site: Site) -> Any:
    if "score_parts" not in site:
        parts = site["fn"].score_parts(site["value"])
        site["score_parts"] = parts.scale_and_mask(site["scale"], site["mask"])
    return site["score_parts"]


def check_sites(model_trace: Trace, guide_trace: Trace) -> None:
    """Refuse a pair of story and guide that Pyro would only warn about, or not even that.

    Raises:
        InferenceError: latent sites that differ; a discrete guide site that reaches no observed density (its value
            left the tensors that carry provenance, by ``.item()``, ``if z:``, ``A[i] = z`` and the like).
    """
    latent = {n for n, s in _samples(model_trace) if not s["is_observed"]}
    guided = {
        n
        for n, s in _samples(guide_trace)
        if not s["is_observed"] and not s["infer"].get("is_auxiliary")
    }
    if latent != guided:
        missing, extra = sorted(latent - guided), sorted(guided - latent)
        raise InferenceError(
            f"story and guide disagree: not in the guide {missing or 'none'}, not in the story {extra or 'none'}"
        )
    reached: frozenset[str] = frozenset()
    for _, site in _samples(model_trace):
        if site["is_observed"]:
            reached |= get_provenance(site["log_prob_sum"])
    lost = sorted(
        n for n in guided if not guide_trace.nodes[n]["fn"].has_rsample and n not in reached
    )
    if lost:
        raise InferenceError(
            f"no observed density depends on the discrete site(s) {lost}: the story may have taken the value out "
            "of the tensors (.item(), if z:, A[i] = z), and the gradient would be silently wrong"
        )
