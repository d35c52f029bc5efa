"""The project's gradient estimator: TraceGraph_ELBO with the credit that a dyad owes to its two ends.

A discrete latent of node i touches only the dyads of i. Pyro's plates cannot say so: with the edges outside the node
plate every node is rewarded for the whole graph (unbiased, variance growing with N^2), with the edges in a plate of
rows half of a node's dyads is lost (biased). :class:`DyadicELBO` gives node i the learning signal
sum_j log p(A_ij | .), every dyad of i once and no other, which is unbiased and local.

Wherever q(x) and p(x) of a latent have a closed divergence, log p(x) - log q(x) is replaced by its expectation -KL,
which changes no expected gradient and removes its noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions.util import is_identically_zero, scale_and_mask
from pyro.infer import TraceGraph_ELBO
from pyro.infer.util import MultiFrameTensor
from pyro.ops.provenance import detach_provenance, get_provenance
from pyro.poutine import Trace
from torch import Tensor, nn
from torch.distributions import kl_divergence

from ..models.dyadic import DyadicBernoulli

__all__ = ["DecayingAverages", "DyadicELBO", "InferenceError"]


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
    """ELBO with dyadic credit, for stories whose ``edges`` are a :class:`~graphlore.models.DyadicBernoulli`.

    Use it as any Pyro ELBO: in ``SVI``, or as ``DyadicELBO()(story, guide)`` with ``torch.optim``. Baselines are
    asked for at the guide's sites as in Pyro (``infer={"baseline": ...}``); decaying averages live in
    :attr:`averages`, not in the global parameter store, and follow a graph of another size.

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
        self.last: dict[str, float] = {}
        self._checked = False

    def differentiable_loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        """-ELBO whose gradient is the estimator's: what ``ELBOModule`` and ``torch.optim`` need."""
        elbo, surrogate = self._loss_and_surrogate_loss(model, guide, args, kwargs)
        return -elbo.detach() + surrogate - surrogate.detach()

    def _loss_and_surrogate_loss_particle(
        self, model_trace: Trace, guide_trace: Trace
    ) -> tuple[Tensor, Tensor]:
        if not self._checked:
            check_sites(model_trace, guide_trace)
            self._checked = True

        elbo: Tensor | float = 0.0
        surrogate: Tensor | float = 0.0
        likelihood: Tensor | float = 0.0
        baseline_loss: Tensor | float = 0.0
        signals: dict[str, MultiFrameTensor] = {}

        def charge(cost: Tensor, frames: Any, provenance: frozenset[str]) -> None:
            for name in provenance:
                signals.setdefault(name, MultiFrameTensor()).add((frames, cost))

        for name, site in model_trace.nodes.items():
            if site["type"] != "sample" or name in guide_trace.nodes:
                continue
            elbo = elbo + site["log_prob_sum"]
            surrogate = surrogate + site["log_prob_sum"]
            likelihood = likelihood + site["log_prob_sum"]
            self._charge_observed(site, guide_trace, charge)

        for name, site in guide_trace.nodes.items():
            if site["type"] != "sample":
                continue
            model_site = model_trace.nodes[name]
            cost = self._negative_kl(model_site, site)
            if cost is not None:
                cost = self.kl_weight * cost
                elbo = elbo + cost.sum()
                surrogate = surrogate + cost.sum()
                charge(cost, site["cond_indep_stack"], get_provenance(cost))
                continue
            elbo = elbo + self.kl_weight * (model_site["log_prob_sum"] - site["log_prob_sum"])
            surrogate = surrogate + self.kl_weight * model_site["log_prob_sum"]
            entropy = site["score_parts"].entropy_term
            if not is_identically_zero(entropy):
                surrogate = surrogate - self.kl_weight * entropy.sum()
            cost = self.kl_weight * (model_site["log_prob"] - site["log_prob"])
            charge(cost, site["cond_indep_stack"], get_provenance(cost))

        for name, cost_by_frame in signals.items():
            site = guide_trace.nodes[name]
            signal = detach_provenance(cost_by_frame.sum_to(site["cond_indep_stack"])).detach()
            baseline, loss = self._baseline(name, site, signal)
            baseline_loss = baseline_loss + loss
            score = site["score_parts"].score_function
            surrogate = surrogate + (score * (signal - baseline)).sum()

        assert isinstance(elbo, Tensor)
        self.last = {"likelihood": float(likelihood), "kl": float(likelihood) - float(elbo)}
        return detach_provenance(elbo), detach_provenance(baseline_loss - surrogate)

    def _charge_observed(self, site: dict[str, Any], guide_trace: Trace, charge: Any) -> None:
        provenance = get_provenance(site["log_prob_sum"])
        if not self.local or not isinstance(site["fn"], DyadicBernoulli):
            charge(site["log_prob"], site["cond_indep_stack"], provenance)
            return
        incident = site["scale"] * site["fn"].incident_log_prob(site["value"])
        for name in provenance:
            # the frames of the node plate, if the site stands in it; a global site is charged the whole graph
            nodes = [f for f in guide_trace.nodes[name]["cond_indep_stack"] if f.name == "nodes"]
            if nodes:
                charge(incident, tuple(nodes), frozenset({name}))
            else:
                charge(site["log_prob"], site["cond_indep_stack"], frozenset({name}))

    def _negative_kl(self, p: dict[str, Any], q: dict[str, Any]) -> Tensor | None:
        if not self.analytic_kl:
            return None
        try:
            kl = kl_divergence(q["fn"], p["fn"])
        except NotImplementedError:
            return None
        return -scale_and_mask(kl, q["scale"], q["mask"])

    def _baseline(
        self, name: str, site: dict[str, Any], signal: Tensor
    ) -> tuple[Tensor | float, Tensor | float]:
        options = dict(site["infer"].get("baseline", {}))
        network, network_input = options.pop("nn_baseline", None), options.pop("nn_baseline_input", None)
        decaying, decay = options.pop("use_decaying_avg_baseline", False), options.pop("baseline_beta", 0.9)
        value = options.pop("baseline_value", None)
        if options:
            raise InferenceError(f"unknown baseline options at site {name!r}: {sorted(options)}")
        baseline: Tensor | float = 0.0
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


def check_sites(model_trace: Trace, guide_trace: Trace) -> None:
    """Refuse a pair of story and guide that Pyro would only warn about, or not even that.

    Raises:
        InferenceError: latent sites that differ; a discrete guide site that reaches no observed density (its value
            left the tensors that carry provenance, by ``.item()``, ``if z:``, ``A[i] = z`` and the like).
    """
    latent = {
        n
        for n, s in model_trace.nodes.items()
        if s["type"] == "sample" and not s["is_observed"] and type(s["fn"]).__name__ != "_Subsample"
    }
    guided = {
        n
        for n, s in guide_trace.nodes.items()
        if s["type"] == "sample" and not s["is_observed"] and type(s["fn"]).__name__ != "_Subsample"
        and not s["infer"].get("is_auxiliary")
    }
    if latent != guided:
        missing, extra = sorted(latent - guided), sorted(guided - latent)
        raise InferenceError(
            f"story and guide disagree: not in the guide {missing or 'none'}, not in the story {extra or 'none'}"
        )
    reached: frozenset[str] = frozenset()
    for site in model_trace.nodes.values():
        if site["type"] == "sample" and site["is_observed"]:
            reached |= get_provenance(site["log_prob_sum"])
    lost = sorted(n for n in guided if not guide_trace.nodes[n]["fn"].has_rsample and n not in reached)
    if lost:
        raise InferenceError(
            f"no observed density depends on the discrete site(s) {lost}: the story may have taken the value out "
            "of the tensors (.item(), if z:, A[i] = z), and the gradient would be silently wrong"
        )
