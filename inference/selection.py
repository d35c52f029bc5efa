"""How many communities: is the truncation large enough, and which story predicts a graph best?"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ._arviz import compare_posteriors
from .draws import chunk_size, evaluation_mode, posterior_traces
from .fitted import Fit
from .groups import Unit, chosen_unit
from .recipe import Recipe

__all__ = ["compare", "truncation_warning"]

_FIRST, _LARGEST = 4, 64  # communities that truncation="auto" tries first, and at most
_NEARLY_ALL = 0.75  # share of the communities that a node is in


def truncation_warning(fit: Fit, draws: int = 200) -> str | None:
    """A sentence if the truncation (or number of blocks) is too small for the posterior, else None.

    The rule: all K communities have a member with posterior probability above 1/2. Communities of an Indian buffet
    process that no removal moves were tried on keep members that the prior alone gives them; of those the smallest
    must also have more members than the prior expects of the last, N (alpha / (alpha + 1))^K. A block model is judged
    only with a sparse Dirichlet, alpha < 1: else its prior itself fills all blocks. Stories without communities have
    nothing to warn of. Where nodes are in more than three quarters of the communities, and have strengths in them, the
    sentence says that instead.
    """
    story, n = fit.story, fit.graph.num_nodes
    K = getattr(story, "num_blocks", getattr(story, "truncation", 1))
    if n <= K or (hasattr(story, "num_blocks") and float(story.alpha) >= 1.0):
        return None
    sizes = _sizes(fit, draws, K)
    if sizes is None:
        return None
    full = float((sizes > 0).all(-1).float().mean())
    if full <= 0.5:
        return None
    if hasattr(story, "truncation") and not fit.settings.remove_every:
        alpha = float(story.alpha)
        if float(sizes.mean(0).min()) <= n * (alpha / (alpha + 1.0)) ** K:
            return None
    option = "num_blocks" if hasattr(story, "num_blocks") else "truncation"
    each = float(sizes.mean(0).sum()) / n
    if getattr(story, "has_strengths", False) and each > _NEARLY_ALL * K:
        return (
            f"a node is in {each:.1f} of the {K} communities on average: memberships switch hardly any off, and nodes "
            "are told apart by their strengths: read the embedding, not who belongs where"
        )
    return (
        f"all {K} communities are in use with posterior probability {full:.2f}: the graph may have more than "
        f"{option}={K} allows; fit again with {option}={2 * K}, or {option}='auto'"
    )


def _sizes(fit: Fit, draws: int, K: int) -> torch.Tensor | None:
    """Members of every community, draw by draw, (draws, K)."""
    found = []
    with fit._seeded(None), evaluation_mode(fit.story, fit.guide):
        chunk = chunk_size(fit.graph, fit.story.width, draws)
        for trace in posterior_traces(fit.story, fit.guide, fit.graph, draws, chunk):
            if "membership" in trace.nodes:
                z = torch.nn.functional.one_hot(trace.nodes["membership"]["value"], K)
            elif "memberships" in trace.nodes:
                z = trace.nodes["memberships"]["value"] > 0.5
            else:
                return None
            found.append(z.sum(-2).float().cpu())
    return torch.cat(found)


def automatic_size(recipe: Recipe) -> str | None:
    """The story's option that is to be found, if it says "auto".

    Raises:
        ValueError: "auto" for a story without communities.
    """
    for name in ("truncation", "num_blocks"):
        if recipe.story.get(name) == "auto":
            return name
    if recipe.story.get("dimension") == "auto":
        raise ValueError(
            "dimension='auto' is not known: the number of dimensions is chosen by validation"
        )
    return None


def sizes_to_try(num_nodes: int) -> list[int]:
    """4, 8, ..., at most 64, and fewer than nodes."""
    found: list[int] = []
    k = _FIRST
    while k <= _LARGEST and (k < num_nodes or not found):
        found.append(k)
        k *= 2
    return found


def of_size(recipe: Recipe, option: str, size: int) -> Recipe:
    """The recipe with that many communities: a sparse Dirichlet of blocks, and removal moves where there can be any."""
    story: dict[str, Any] = {option: size}
    if option == "num_blocks":
        story["alpha"] = recipe.story.get("alpha", 0.1)
    free = recipe.guide.get("amortised") is False and recipe.story.get("name") in ("SBM", "LFRM")
    fit: dict[str, Any] = {}
    if free and "remove_every" not in recipe.fit:
        left = recipe.settings.steps - recipe.settings.warm_after
        fit["remove_every"] = max(1, min(100, left // 5))
    return recipe.override(story=story, fit=fit)


def compare(
    fits: Mapping[str, Fit], draws: int = 500, seed: int | None = None, *, unit: Unit = "auto"
) -> Any:
    """Rank stories of one graph by how well they predict its dyads: ArviZ's ``compare`` on leave-one-out densities.

    The unit that is left out is a dyad on graphs of up to 50,000 observed dyads, and a node (half of each of its dyads)
    above that: elpd of different graphs, or by different units, cannot be compared. Latents of a node are learned from
    all its dyads, so that importance weights of whole nodes are often unreliable: a k-hat above 0.7 is warned of. On a
    large graph a random sample of its dyads, the same for all fits, does better: elpd of the sample is scaled up to all
    observed dyads, and its standard error covers the choice of the sample too (Magnusson, Riis Andersen, Jonasson and
    Vehtari, *Bayesian leave-one-out cross-validation for large data*, ICML 2019, by simple random sampling).

    Arguments:
        fits: fits of the same graph, by name; two or more.
        draws: posterior draws of each.
        seed: of the draws.
        unit: "dyad", "node", or a number of random dyads; "auto" as said, up to 500 million dyads: beyond, say which.

    Returns:
        the table of ``az.compare``, best first.

    Raises:
        ValueError: fewer than two fits; fits of different graphs; counts or weights against presence of edges; a graph
            of more than 500 million dyads with unit="auto".
    """
    if len(fits) < 2:
        raise ValueError("compare needs two fits or more, by name")
    graphs = {name: fit.graph.fingerprint() for name, fit in fits.items()}
    if len(set(graphs.values())) > 1:
        told = ", ".join(f"{name}: {mark[:8]}" for name, mark in graphs.items())
        raise ValueError(
            f"these are fits of different graphs ({told}): fit all of them to the same graph, with the same dyads "
            "held out"
        )
    laws = {name: fit.story.likelihood for name, fit in fits.items()}
    if "normal" in laws.values() and len(set(laws.values())) > 1:
        raise ValueError(
            f"densities and probabilities cannot be compared: the likelihoods are {laws}"
        )
    graph = next(iter(fits.values())).graph
    if chosen_unit(graph, unit) == "none":
        raise ValueError(
            f"{graph.title} has {graph.num_dyads:,} dyads, whose densities take long: give a number of random ones "
            "(unit=20_000), or unit='node'"
        )
    posteriors = {name: fit.posterior(draws, 1, seed, unit=unit) for name, fit in fits.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # said in words below
        table, k_hats = compare_posteriors(posteriors)
    for name, k in k_hats.items():
        bad = float(np.mean(np.asarray(k) > 0.7))
        if bad > 0:
            of = posteriors[name].log_likelihood["edges"].dims[-1]
            warnings.warn(
                f"{name}: {bad:.1%} of the {of}s have a k-hat above 0.7: leaving one out changes the posterior more "
                "than its draws can say, and the elpd is not to be trusted; hold out dyads instead "
                "(data.random_split)",
                stacklevel=2,
            )
    return table
