"""A finished fit: what was fitted, how, and everything that can be asked of the posterior."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from ..data import Graph, Split
from . import classify, generate, predict
from . import evaluate as evaluation
from .draws import chunk_size, evaluation_mode, posterior_traces
from .elbo import InferenceError
from .groups import Unit, check_unit
from .memory import check_dense_memory, check_posterior_memory
from .numbering import fit_numbering, order_in_words
from .posterior import as_attribute, environment, posterior_data, predictive_number
from .recipe import Recipe
from .relaxation import exact_memberships
from .run_files import put_weights, read_run, told, weights_of, write_run
from .seeds import seeded
from .settings import FitSettings

__all__ = ["Fit", "NodePosterior"]


@dataclass(frozen=True)
class NodePosterior:
    """Posterior of nodes under a guide, averaged over draws; None for what the story does not have.

    Attributes:
        memberships: P(b_nk = 1), or P(z_n = k) of a block model, (N, K).
        embedding: E[z_n], (N, K).
        embedding_sd: posterior standard deviation of z_n, (N, K).
        labels: P(y_n = c) of the label decoder, (N, C).
    """

    memberships: Tensor | None = None
    embedding: Tensor | None = None
    embedding_sd: Tensor | None = None
    labels: Tensor | None = None


@dataclass
class Fit:
    """The result of :func:`~graphlore.inference.fit`.

    Attributes:
        story, guide: the fitted modules, on the device of the fit.
        graph: what was observed, held-out dyads missing.
        settings: how it was fitted.
        history: lists by step: ``step``, ``objective`` (what was maximised), ``elbo`` = likelihood - ``kl`` with the
            divergence at full weight whatever the warm-up (nats), ``active_communities`` (memberships of a node),
            ``seconds``; by validation: ``val_step``, and ``val_auc``, ``val_ap`` of links or
            ``val_accuracy`` of labels.
        best_step: the step whose state validation chose; None: the last one.
        environment: versions of what it was fitted with.
    """

    story: Any
    guide: Any
    graph: Graph
    settings: FitSettings
    history: dict[str, list[float]]
    best_step: int | None = None
    environment: dict[str, str] = field(default_factory=environment)

    def posterior(
        self,
        draws: int = 500,
        predictive_draws: int | None = None,
        seed: int | None = None,
        *,
        unit: Unit = "auto",
        prior: int = 0,
        progress: bool | None = None,
    ) -> Any:
        """The posterior as ArviZ data; see :func:`~graphlore.inference.posterior.posterior_data` for its groups.

        Arguments:
            draws: posterior draws.
            predictive_draws: how many of them draw a graph too: all, or 100 on graphs of over 1,000 nodes, and fewer
                on those of over 200 million dyads.
            seed: of the draws; that of the fit if None.
            unit: what the log-likelihood is kept by: "dyad", "node", a number of random dyads, or "none", without it;
                "auto" is by dyad up to 50,000 observed ones, by node up to 500 million, else none.
            prior: so many draws from the prior too, with the fitted weights of networks: groups ``prior`` and
                ``prior_predictive``.
            progress: show a bar; None: on a terminal.

        Raises:
            ValueError: numbers of draws or a unit out of range.
            InferenceError: draws that take more memory than there is.
        """
        if draws < 1:
            raise ValueError(f"draws must be at least 1, not {draws}")
        if isinstance(prior, bool) or prior < 0:
            raise ValueError(f"prior is a number of draws, 0 or more, not {prior}")
        wanted = predictive_number(self.graph, draws, predictive_draws)
        check_unit(unit, self.graph, draws)
        check_posterior_memory(self.story, self.graph, draws, wanted, unit)
        numbering = fit_numbering(self.story, self.guide, self.graph)
        own = {
            "inference": "variational",
            "communities_order": order_in_words(self.story, "fit"),
            "draw_seed": self.settings.seed if seed is None else seed,
        }
        if numbering is not None:
            own["communities_of_guide"] = json.dumps(numbering.tolist())
        with self._seeded(seed):
            return posterior_data(
                self.story,
                self.guide,
                self.graph,
                draws,
                wanted,
                {**self.attributes(), **own},
                unit=unit,
                prior=prior,
                numbering=numbering,
                progress=progress,
            )

    def link_probabilities(
        self, pairs: Any = None, draws: int = 200, seed: int | None = None
    ) -> Tensor:
        """Posterior mean link probabilities: (P,) of the given dyads (2, P), or all as (N, N), zero diagonal.

        Raises:
            ValueError: pairs that are no dyads of the graph.
            InferenceError: (N, N) probabilities that take more memory than there is.
        """
        with self._seeded(seed):
            if pairs is not None:
                return predict.link_probabilities(
                    self.story, self.guide, self.graph, torch.as_tensor(pairs), draws
                )
            check_dense_memory(self.story, self.graph, draws, self.settings.device)
            rows = [
                p for _, p in predict.probability_rows(self.story, self.guide, self.graph, draws)
            ]
            return torch.cat(rows)

    def expected_values(self, pairs: Any, draws: int = 200, seed: int | None = None) -> Tensor:
        """Posterior mean of the values of given dyads (2, P): probability, expected count or mean weight, (P,)."""
        with self._seeded(seed):
            return predict.expected_values(
                self.story, self.guide, self.graph, torch.as_tensor(pairs), draws
            )

    def top_links(
        self, k: int, among: str = "missing", draws: int = 200, seed: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """The k most probable dyads "missing", "absent" or of "all": (pairs (2, k), probabilities (k,))."""
        with self._seeded(seed):
            return predict.top_links(self.story, self.guide, self.graph, k, draws, among=among)

    def evaluate(
        self,
        split: Split,
        part: Literal["val", "test"] = "test",
        draws: int = 100,
        seed: int | None = None,
    ) -> evaluation.Evaluation:
        """Ranking and calibration on the held-out pairs of the split that was fitted."""
        with self._seeded(seed):
            return evaluation.evaluate(self.story, self.guide, split, part, draws)

    def label_probabilities(self, draws: int = 200, seed: int | None = None) -> Tensor:
        """Posterior mean class probabilities of all nodes under the label decoder, (N, C).

        Raises:
            ValueError: a story without a label decoder.
        """
        with self._seeded(seed):
            return classify.label_probabilities(self.story, self.guide, self.graph, draws)

    def classification(
        self, nodes: Any, labels: Any, draws: int = 200, seed: int | None = None
    ) -> classify.Classification:
        """How well held-out nodes (P,) are classified, given their true classes (P,).

        Raises:
            ValueError: a story without a label decoder; nodes whose labels were fitted; ids or classes out of range.
        """
        with self._seeded(seed):
            return classify.classification(self.story, self.guide, self.graph, nodes, labels, draws)

    def active_communities(
        self, draws: int = 200, seed: int | None = None
    ) -> evaluation.ActiveCommunities | None:
        """Communities of a node: posterior mean and 90 % interval."""
        with self._seeded(seed):
            return evaluation.active_communities(self.story, self.guide, self.graph, draws)

    def generate(
        self, count: int = 1, source: str = "posterior", seed: int | None = None
    ) -> list[Graph]:
        """Graphs from the "posterior" predictive or from the "prior" (with the fitted weights)."""
        if source not in ("posterior", "prior"):
            raise ValueError(f"source is 'posterior' or 'prior', not {source!r}")
        with self._seeded(seed):
            if source == "prior":
                return generate.generate_prior(self.story, count, self.graph.num_nodes)
            return generate.generate_posterior(self.story, self.guide, self.graph, count)

    def encode(self, graph: Graph, draws: int = 200, seed: int | None = None) -> NodePosterior:
        """Posterior of the nodes of another graph, through the same encoder; its nodes need not have been seen.

        Communities have the numbers that they have in :meth:`posterior`.

        Raises:
            ValueError: the encoder has one-hot inputs, or other features than the graph.
        """
        graph = graph.to(self.settings.device)
        sums: dict[str, Any] = {}
        numbering = fit_numbering(self.story, self.guide, self.graph)
        with self._seeded(seed), evaluation_mode(self.story, self.guide):
            chunk = chunk_size(graph, self.story.width, draws)
            for trace in posterior_traces(self.story, self.guide, graph, draws, chunk):
                for name, value in _of_nodes(self.story, trace).items():
                    # a small variance is the difference of two large means: float64
                    sums[name] = sums.get(name, 0.0) + value.sum(0, dtype=torch.float64)
        means = {name: total / draws for name, total in sums.items()}
        if numbering is not None:
            means["memberships"] = means["memberships"][:, numbering]
        if "square" in means:
            variance = means.pop("square") - means["embedding"] ** 2
            means["embedding_sd"] = variance.clamp(min=0).sqrt()
        return NodePosterior(**{name: mean.float() for name, mean in means.items()})

    @property
    def tempered(self) -> str:
        """ "no", or what keeps the fit from being the posterior of the story."""
        reasons = list(self.story.tempered_by)
        if self.settings.kl_weight != 1.0:
            reasons.append(f"kl_weight={self.settings.kl_weight}")
        return "yes: " + ", ".join(reasons) if reasons else "no"

    def attributes(self) -> dict[str, Any]:
        """How this was made, as netCDF can hold it."""
        found = {
            "story": type(self.story).__name__,
            "guide": type(self.guide).__name__,
            "graph": self.graph.title,
            "graph_fingerprint": self.graph.fingerprint(),
            "tempered": self.tempered,
            "objective": "ELBO" if self.tempered == "no" else "tempered ELBO",
            "story_options": self.story.options,
            "guide_options": self.guide.options,
            "best_step": -1 if self.best_step is None else self.best_step,
            **self.settings.to_dict(),
        }
        for name in ("alpha", "truncation"):
            if name in self.story.options:
                found[name] = self.story.options[name]
        return {k: as_attribute(v) for k, v in found.items()}

    def save(self, folder: str | Path) -> Path:
        """Write settings.json, weights.safetensors, history.json, graph.npz: all of them, or none.

        Raises:
            InferenceError: the folder cannot be written to, or another process writes there.
        """
        settings = {
            "story": {"name": type(self.story).__name__, **self.story.options},
            "guide": {"name": type(self.guide).__name__, **self.guide.options},
            "fit": self.settings.to_dict(),
            "best_step": self.best_step,
            "tempered": self.tempered,
            "graph": {"title": self.graph.title, "fingerprint": self.graph.fingerprint()},
            "environment": self.environment,
        }
        return write_run(
            folder,
            settings,
            weights_of({"story": self.story, "guide": self.guide}),
            self.history,
            self.graph,
        )

    @classmethod
    def load(
        cls, folder: str | Path, *, story: nn.Module | None = None, guide: nn.Module | None = None
    ) -> Self:
        """Read back what :meth:`save` wrote; nothing in the folder is executed or unpickled.

        Arguments:
            story, guide: modules made as for the fit, which the saved weights are put into. Needed (both) where the
                story or the guide is a class of your own: a run keeps no code.

        Raises:
            InferenceError: a file is missing or damaged, or not of the same save as the others, or of another story or
                guide.
            ValueError: one of story and guide without the other.
        """
        if (story is None) != (guide is None):
            raise ValueError("give both story and guide, made as for the fit, or neither")
        folder = Path(folder)
        settings, tensors, history, graph = read_run(folder)
        try:
            kinds = {name: settings[name]["name"] for name in ("story", "guide")}
            given = FitSettings.from_dict(settings["fit"])
            best_step, used = settings["best_step"], settings["environment"]
            if story is None:
                tables = {name: settings[name] for name in ("story", "guide", "fit")}
                story, guide = Recipe(**tables).restore(graph)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            own = "there is no" in str(error)  # in the list of stories or guides
            hint = ". For classes of your own give story= and guide=, made as for the fit" * own
            raise InferenceError(
                f"{folder / 'settings.json'} does not describe a fit: {told(error)}{hint}"
            ) from None
        made = {"story": type(story).__name__, "guide": type(guide).__name__}
        if made != kinds:
            raise InferenceError(f"{folder} is a fit of {kinds}, not of {made}")
        assert story is not None
        assert guide is not None
        put_weights({"story": story, "guide": guide}, tensors, folder)
        return cls(story, guide, graph, given, history, best_step, used)

    @contextmanager
    def _seeded(self, seed: int | None) -> Iterator[None]:
        """Every question to the posterior is asked with its own seed, and of exact memberships."""
        with (
            seeded(self.settings.seed if seed is None else seed, self.settings.device),
            exact_memberships(self.story, self.guide),
        ):
            yield


def _of_nodes(story: Any, trace: Any) -> dict[str, Tensor]:
    """What :class:`NodePosterior` averages, of one pass of draws: (draws, N, ...) each."""
    found: dict[str, Tensor] = {}
    if "membership" in trace.nodes:
        z = trace.nodes["membership"]["value"]
        found["memberships"] = torch.nn.functional.one_hot(z, story.num_blocks).float()
    if "memberships" in trace.nodes:
        found["memberships"] = trace.nodes["memberships"]["value"].float()
    if "embedding" in trace.nodes:
        z = trace.nodes["embedding"]["value"]
        found |= {"embedding": z, "square": z.double() ** 2}
        if story.num_classes is not None:
            found["labels"] = torch.softmax(story.g(z), -1)
    return found
