"""VGAE and GAE: densities by hand, labels that are partly known, draws from the prior, fits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from by_hand import edges_by_hand, planted, sites, small_graph, trace_at
from chance import LIMIT, largest
from pyro import poutine
from scipy import special, stats

from graphlore.guides import AmortisedNormal, AmortisedPoint
from graphlore.inference import DyadicELBO, Fit, fit
from graphlore.models import GAE, VGAE

N, D, C = 6, 2, 3
BIAS_SCALE = (1.5, 0.75)
LABELS = [0, 2, -1, 1, -1, 2]  # two nodes are unlabelled
OPTIONS = {
    "plain": {},
    "global bias": {"bias": "global"},
    "node bias": {"bias": "node"},
    "balanced": {"class_weight": "balanced"},
    "counts": {"likelihood": "poisson", "bias": "node"},
    "weights": {"likelihood": "normal", "bias": "global"},
    "labels": {"num_classes": C},
    "weighted labels": {"num_classes": C, "label_weight": 2.5, "bias": "global"},
}


def every(test):
    return pytest.mark.parametrize("name", OPTIONS)(test)


def a_story(name, kind=VGAE):
    torch.manual_seed(4)
    return kind(N, D, bias_scale=BIAS_SCALE, **OPTIONS[name]).double()


def a_graph(story):
    graph = small_graph("undirected", story.likelihood)
    return graph if story.num_classes is None else graph.with_labels(LABELS)


def some_values(story, seed=0):
    rng = np.random.default_rng(seed)
    found = {"embedding": rng.normal(size=(N, D))}
    if story.bias != "none":
        found["bias"] = np.array(-0.4)
    if story.bias == "node":
        found["node_bias"] = rng.normal(size=N)
    if story.likelihood == "normal":
        found["edge_scale"] = np.array(0.8)
    return found


def tensors(values):
    return {k: torch.as_tensor(v) for k, v in values.items()}


def by_hand(story, graph, values, prior=True):
    z = values["embedding"]
    total = stats.norm.logpdf(z).sum() if prior else 0.0
    c, e = values.get("bias", 0.0), values.get("node_bias", np.zeros(N))
    if "bias" in values:
        total += stats.norm(0, BIAS_SCALE[0]).logpdf(c)
    if "node_bias" in values:
        total += stats.norm(0, BIAS_SCALE[1]).logpdf(e).sum()
    tau = values.get("edge_scale")
    total += 0.0 if tau is None else stats.lognorm(1.0).logpdf(tau)
    if story.num_classes is not None:
        weight, bias = (p.detach().numpy() for p in (story.g.weight, story.g.bias))
        log_p = special.log_softmax(z @ weight.T + bias, axis=1)
        known = [n for n in range(N) if LABELS[n] >= 0]
        total += story.label_weight * sum(log_p[n, LABELS[n]] for n in known)
    w0 = w1 = 1.0
    if story.class_weight == "balanced":
        count, dyads = graph.num_edges, graph.num_dyads
        w0, w1 = dyads / (2 * (dyads - count)), dyads / (2 * count)
    s = lambda i, j: z[i] @ z[j] + c + e[i] + e[j]  # noqa: E731
    return total + edges_by_hand(graph, story.likelihood, s, tau, w1, w0)


@pytest.mark.parametrize("kind", [VGAE, GAE])
@every
def test_log_density(name, kind):
    """That of GAE leaves the embeddings' prior out, and nothing else."""
    story = a_story(name, kind)
    graph, values = a_graph(story), some_values(story)
    found = trace_at(story, graph, tensors(values)).log_prob_sum().item()
    assert found == pytest.approx(by_hand(story, graph, values, kind is VGAE), rel=1e-10)


@pytest.mark.parametrize("kind", [VGAE, GAE])
@every
def test_the_trace_holds_the_sites_of_the_docstring_and_no_others(name, kind):
    story = a_story(name, kind)
    latent = {k: v.shape for k, v in some_values(story).items()}
    expected = latent | {"edges": (N, N)} | ({"labels": (N,)} if story.num_classes else {})
    assert sites(story) == expected
    assert sites(story, a_graph(story)) == expected
    assert set(story.dims) == set(latent)
    names = {n for n, _ in story.named_parameters()}
    assert names == ({"g.weight", "g.bias"} if story.num_classes else set())
    words = story.equations()
    assert all(f"`{site}`" in words for site in expected)
    assert words.count("`") == 2 * len(expected)
    assert ("no prior counted" in words) == (kind is GAE)


def test_a_rotation_of_the_embedding_does_not_matter():
    story = a_story("plain")
    graph, values = a_graph(story), some_values(story)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    turned = {"embedding": values["embedding"] @ turn}
    a, b = (trace_at(story, graph, tensors(v)).log_prob_sum().item() for v in (values, turned))
    assert a == pytest.approx(b, rel=1e-12)


def test_the_label_of_an_unlabelled_node_moves_nothing():
    story = a_story("labels")
    values = tensors(some_values(story))
    z = values["embedding"].clone().requires_grad_()
    trace = trace_at(story, a_graph(story), values | {"embedding": z})
    (g,) = torch.autograd.grad(trace.nodes["labels"]["log_prob_sum"], z)
    unlabelled = torch.tensor(LABELS) < 0
    assert (g[unlabelled] == 0).all()
    assert (g[~unlabelled].abs().sum(1) > 0).all()


# -- draws from the prior ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [VGAE, GAE])
def test_moments_of_draws(kind):
    story = a_story("weighted labels", kind)
    nodes = [poutine.trace(story).get_trace().nodes for _ in range(500)]
    z = torch.stack([t["embedding"]["value"] for t in nodes])
    assert largest(z.mean() * z.numel() ** 0.5) < LIMIT
    assert largest((z.var() - 1) / (2 / z.numel()) ** 0.5) < LIMIT
    # edges and labels given the embeddings: sums of what is left have mean 0 and variance 1
    i, j = torch.triu_indices(N, N, 1)
    A = torch.stack([t["edges"]["value"] for t in nodes])
    assert torch.equal(A, A.mT)
    c = torch.stack([t["bias"]["value"] for t in nodes])
    p = torch.sigmoid((z[:, i] * z[:, j]).sum(-1) + c[:, None])
    u = (A[:, i, j] - p).sum(1) / (p * (1 - p)).sum(1).sqrt()
    assert largest(u.mean() * len(u) ** 0.5) < LIMIT
    assert largest((u.square().mean() - 1) / (u.square().std() / len(u) ** 0.5)) < LIMIT
    y = torch.stack([t["labels"]["value"] for t in nodes])
    p = torch.softmax(story.g(z), -1)[..., 0].detach()
    u = ((y == 0).double() - p).sum(1) / (p * (1 - p)).sum(1).sqrt()
    assert largest(u.mean() * len(u) ** 0.5) < LIMIT


# -- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimension": 0}, "dimension is the length of an embedding, at least 1, not 0"),
        ({"kind": "directed"}, "kind is one of 'undirected', not 'directed'"),
        ({"num_classes": 1}, "num_classes is None or at least 2, not 1"),
        ({"label_weight": 0.0}, "label_weight is a positive number, not 0"),
        ({"bias": "much"}, "bias is one of 'none', 'global', 'node', not 'much'"),
    ],
)
@pytest.mark.parametrize("kind", [VGAE, GAE])
def test_options_outside_of_what_is_listed(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(6, **options)


@pytest.mark.parametrize("kind", ["directed", "bipartite"])
def test_dyads_that_an_inner_product_cannot_tell(kind):
    with pytest.raises(ValueError, match=f"'graph' is {kind}.* use SBM or LFRM"):
        VGAE(6)(small_graph(kind))


def test_labels_that_are_not_there_or_too_many():
    with pytest.raises(ValueError, match="the story generates labels, but graph 'graph' has none"):
        VGAE(6, num_classes=3)(small_graph())
    with pytest.raises(ValueError, match="go up to 2, num_classes is 2"):
        VGAE(6, num_classes=2)(small_graph().with_labels(LABELS))


# -- fits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amortised", [True, False])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (VGAE, "node bias"),
        (VGAE, "weighted labels"),
        (VGAE, "weights"),
        (GAE, "global bias"),
        (GAE, "counts"),
    ],
)
def test_a_fit_from_end_to_end(kind, name, amortised, tmp_path):
    options = {k: v for k, v in OPTIONS[name].items() if k != "num_classes"}
    graph, z = planted("undirected", options.get("likelihood", "bernoulli"))
    if "num_classes" in OPTIONS[name]:
        graph, options = graph.with_labels(z).keep_labels(range(6)), options | {"num_classes": 2}
    torch.manual_seed(1)
    story = kind(30, D, **options)
    family = AmortisedNormal if kind is VGAE else AmortisedPoint
    encoder = {"hidden": (8,)} if amortised else {}
    guide = family(story, graph, amortised=amortised, **encoder)
    found = fit(story, guide, graph, steps=80, learning_rate=0.05, seed=2)
    elbo = np.array(found.history["elbo"])
    assert np.isfinite(elbo).all()
    assert elbo[-10:].mean() > elbo[:10].mean() + 5

    posterior = found.posterior(5)
    for site, dims in story.dims.items():
        assert posterior.posterior[site].dims == ("chain", "draw", *dims), site
    assert set(posterior.posterior.data_vars) == set(story.dims)
    again = Fit.load(found.save(tmp_path))
    nodes, same = found.encode(graph, draws=50), again.encode(graph, draws=50)
    torch.testing.assert_close(same.embedding, nodes.embedding)
    assert again.story.options == story.options
    spread = nodes.embedding_sd
    assert (spread > 0.02).all() if kind is VGAE else (spread < 1e-3).all()
    if story.num_classes:
        torch.testing.assert_close(same.labels, nodes.labels)
        torch.testing.assert_close(nodes.labels.sum(1), torch.ones(30))
        assert (nodes.labels.argmax(1)[:6].numpy() == z[:6]).all()
        assert (nodes.labels.argmax(1).numpy() == z).mean() > 0.8, "the other 24 by their edges"
    for source in ("posterior", "prior"):
        (drawn,) = found.generate(1, source)
        assert (drawn.weights is None) == (story.likelihood == "bernoulli")


def test_the_objective_of_gae_is_the_likelihood_alone():
    graph, _ = planted()
    story = GAE(30, D)
    guide = AmortisedPoint(story, graph, amortised=False)
    elbo = DyadicELBO()
    loss = elbo.differentiable_loss(story, guide, graph)
    z = guide.encoder.heads["embedding_loc"].detach().double().numpy()
    expected = edges_by_hand(graph, "bernoulli", lambda i, j: z[i] @ z[j])
    assert -loss.item() == pytest.approx(expected, rel=1e-5)
    assert elbo.last["kl"] == 0.0


def test_label_probabilities_are_the_average_of_the_decoder_s():
    """One dimension: E[softmax(g(z))] by quadrature, against encode."""
    graph = small_graph().with_labels(LABELS)
    torch.manual_seed(3)
    story = VGAE(N, 1, num_classes=C)
    guide = AmortisedNormal(story, graph, amortised=False)
    with torch.no_grad():
        guide.encoder.heads["embedding_log_scale"].fill_(0.3)
    found = fit(story, guide, graph, steps=1)
    heads = {k: v.detach().double().numpy()[:, 0] for k, v in guide.encoder.heads.items()}
    x, w = np.polynomial.hermite_e.hermegauss(40)
    z = heads["embedding_loc"][:, None] + np.exp(heads["embedding_log_scale"])[:, None] * x
    weight, bias = (p.detach().double().numpy() for p in (story.g.weight, story.g.bias))
    p = special.softmax(z[..., None] * weight[:, 0] + bias, axis=-1)
    exact = (p * w[:, None]).sum(1) / w.sum()
    second = (p**2 * w[:, None]).sum(1) / w.sum()
    error = np.sqrt((second - exact**2) / 4000)
    found = found.encode(graph, draws=4000).labels.double().numpy()
    assert largest((found - exact) / error) < LIMIT
