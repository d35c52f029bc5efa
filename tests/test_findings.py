"""What the report says in words, against the fit it speaks of."""

from __future__ import annotations

import dataclasses

import pytest

from graphlore.data import karate, random_split
from graphlore.inference import Check, Recipe, fit_recipe
from graphlore.plots import findings

SPLIT = random_split(karate(), seed=2)


@pytest.fixture(scope="module")
def fitted():
    recipe = Recipe.default("sbm", num_blocks=2, bias="node", likelihood="poisson")
    return fit_recipe(recipe.override(fit={"steps": 60}), SPLIT)


def check(statistic, p):
    return Check(statistic, f"meaning of {statistic}", 1.0, 1.0, 0.0, 2.0, p, 200)


def test_surprising_edges_have_the_least_probability(fitted):
    found = findings.surprising_edges(fitted, 5, draws=20)
    edges = fitted.graph.edge_index
    p = fitted.link_probabilities(edges, 20)
    assert [e.probability for e in found] == pytest.approx(sorted(p.tolist())[:5])
    names = fitted.graph.names
    ends = {(names[i], names[j]) for i, j in edges.T.tolist()}
    assert {(e.source, e.target) for e in found} <= ends


def test_likely_links_are_missing_pairs(fitted):
    among, found = findings.likely_links(fitted, 4, draws=20)
    p = fitted.link_probabilities(fitted.graph.missing, 20)
    assert among == "missing"
    assert [e.probability for e in found] == pytest.approx(sorted(p.tolist(), reverse=True)[:4])


def test_communities_are_those_of_the_posterior(fitted):
    posterior = fitted.posterior(30, 1)
    found = findings.communities_found(posterior, fitted.graph)
    assert sum(c.size for c in found) == pytest.approx(34.0)
    assert [c.size for c in found] == sorted((c.size for c in found), reverse=True)
    labels = posterior.posterior["membership"].values[0]
    for community in found:
        for name, p in community.leading:
            drawn = labels[:, fitted.graph.names.index(name)] == int(community.name)
            assert p == pytest.approx(drawn.mean())


def test_what_misfits_is_named_worst_first(fitted):
    checks = [check("triangles", 0.04), check("density", 0.5), check("isolated", 0.999)]
    text = findings.summary(fitted, fitted.posterior(5, 1), [], checks, None)[1]
    assert text == (
        "It was not tested on pairs hidden from it; graphs that it generates look like the real one in 1 of 3 respects "
        "checked, but overstate the number of isolated nodes and understate the number of triangles."
    )


def test_communities_of_nearly_all_nodes_are_counted_not_listed(fitted):
    posterior = fitted.posterior(5, 1)
    leading = [("Mr. Hi", 1.0)]
    everywhere = [findings.Community(str(k), 34.0, leading) for k in range(3)]
    some = findings.Community("3", 9.0, [("Officer", 1.0), ("Node 3", 1.0)])
    assert findings.telling([*everywhere, some], 34) == [some]
    assert findings.telling([everywhere[0], some], 34) == [everywhere[0], some]
    text = findings.summary(fitted, posterior, [*everywhere, some], [], None)[0]
    assert text.endswith(": 3 of nearly all nodes and 9 around Officer and Node 3.")
    text = findings.summary(fitted, posterior, everywhere, [], None)[0]
    assert text.endswith(": 3 of nearly all nodes.")
    text = findings.summary(fitted, posterior, [everywhere[0], some], [], None)[0]
    assert text.endswith(": one of nearly all nodes and 9 around Officer and Node 3.")


@pytest.mark.parametrize(("auc", "share"), [(0.994, "99%"), (0.9963, "over 99%"), (1.0, "100%")])
def test_a_share_below_one_is_not_rounded_to_all(fitted, auc, share):
    evaluation = dataclasses.replace(fitted.evaluate(SPLIT, draws=5), auc=auc)
    text = findings.summary(fitted, fitted.posterior(5, 1), [], [], evaluation)[1]
    assert f"finds the linked one {share} of the time" in text
