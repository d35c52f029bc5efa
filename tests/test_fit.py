"""The SVI loop: what a fit promises about its result, its randomness, and what it leaves behind."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from unittest import mock

import numpy as np
import pyro
import pytest
import torch

from graphlore.data import Graph, Split, karate, random_split
from graphlore.guides import AmortisedNormal, MeanField, StructuredMeanField
from graphlore.inference import FitSettings, InferenceError, fit
from graphlore.inference import held_out as held_out_module
from graphlore.inference import training as training_module
from graphlore.inference.local_expectation import LocalExpectationELBO
from graphlore.models import DGLFRM, VGAE, Concrete

KARATE = karate()


def a_pair(graph=KARATE, seed=3, dropout=0.0, **story_options):
    """A small story and guide whose weights are those of the seed."""
    torch.manual_seed(seed)
    options = {"decoder": (), "bias": "global", **story_options}
    story = DGLFRM(graph.num_nodes, 4, **options)
    relaxation = options.get("relaxation")
    return story, StructuredMeanField(
        story, graph, hidden=(8,), dropout=dropout, relaxation=relaxation
    )


def weights(story, guide):
    parts = (("story", story), ("guide", guide))
    return {f"{n}.{k}": v.clone() for n, m in parts for k, v in m.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def without_seconds(history):
    return {k: v for k, v in history.items() if k != "seconds"}


def a_fit(graph=KARATE, pair=None, **options):
    story, guide = a_pair(graph if isinstance(graph, Graph) else graph.train, **(pair or {}))
    return fit(story, guide, graph, **options)


@pytest.fixture(scope="module")
def split():
    return random_split(KARATE, val=0.1, test=0.1, seed=1)


# -- what it does -----------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", ["dyadic", "local_expectation", "reinforce", "concrete"])
def test_a_fit_raises_the_elbo_on_karate(gradient):
    found = a_fit(steps=150, learning_rate=0.03, gradient=gradient)
    elbo = found.history["elbo"]
    assert len(elbo) == 150
    # karate: the start costs about 440 nats, a fitted bound about 230
    assert np.mean(elbo[-20:]) > np.mean(elbo[:5]) + 80.0
    story, guide = a_pair()
    before = a_fit(steps=1, gradient=gradient)
    assert not same(weights(story, guide), weights(before.story, before.guide))


@pytest.mark.parametrize(
    ("gradient", "name"),
    [
        ("local_expectation", "LocalExpectationELBO"),
        ("dyadic", "DyadicELBO"),
        ("disarm", "DisarmELBO"),
    ],
)
def test_the_gradient_asked_for_is_the_one_that_is_used(gradient, name):
    """The estimator of the run is of the class that the setting names."""
    seen = []
    start = training_module.Run.start.__func__

    def spy(cls, story, guide, elbo, settings):
        seen.append(elbo)
        return start(cls, story, guide, elbo, settings)

    with mock.patch.object(training_module.Run, "start", classmethod(spy)):
        a_fit(steps=1, gradient=gradient, expectation_columns=5)
    assert [type(e).__name__ for e in seen] == [name]
    if gradient == "local_expectation":
        assert seen[0].columns == 5


def test_local_expectations_inside_a_fit_price_the_flips():
    """Same seed, same first ELBO (the weights are the same), another gradient: another path."""
    calls = []
    price = LocalExpectationELBO._change

    def counted(self, *arguments):
        calls.append(1)
        return price(self, *arguments)

    with mock.patch.object(LocalExpectationELBO, "_change", counted):
        local = a_fit(steps=8, gradient="local_expectation", expectation_columns=10)
    dyadic = a_fit(steps=8, gradient="dyadic")
    assert len(calls) == 8
    one, two = np.array(local.history["elbo"]), np.array(dyadic.history["elbo"])
    assert one[0] == pytest.approx(two[0], rel=1e-6)
    assert np.abs(one[2:] - two[2:]).max() > 1e-2


def test_the_history_tells_every_step():
    found = a_fit(steps=7)
    assert found.history["step"] == list(range(7))
    assert {len(found.history[n]) for n in ("objective", "elbo", "kl", "active_communities")} == {7}
    assert found.history["seconds"] == sorted(found.history["seconds"])
    assert all(0 <= a <= 4 for a in found.history["active_communities"])
    assert found.history["val_step"] == []
    assert found.best_step is None
    assert not found.story.training
    assert not found.guide.training


def test_callbacks_are_called_after_every_step():
    seen = []
    found = a_fit(
        steps=6, settle=2, callbacks=[lambda step, h: seen.append((step, h["elbo"][-1], len(h)))]
    )
    assert [s for s, _, _ in seen] == list(range(8))
    assert [e for _, e, _ in seen] == found.history["elbo"]


def test_several_callbacks_in_their_order():
    seen = []
    a_fit(steps=2, callbacks=[lambda s, _: seen.append(("a", s)), lambda s, _: seen.append("b")])
    assert seen == [("a", 0), "b", ("a", 1), "b"]


# -- randomness and isolation -----------------------------------------------------------------------


def test_the_same_seed_gives_the_same_fit_and_another_seed_another():
    one, two = a_fit(steps=12, seed=4), a_fit(steps=12, seed=4)
    assert without_seconds(one.history) == without_seconds(two.history)
    assert same(weights(one.story, one.guide), weights(two.story, two.guide))
    other = a_fit(steps=12, seed=5)
    assert other.history["elbo"] != one.history["elbo"]
    assert not same(weights(one.story, one.guide), weights(other.story, other.guide))


def test_the_state_of_the_generators_before_does_not_matter():
    one = a_fit(steps=5)
    story, guide = a_pair()
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    random.seed(99)
    two = fit(story, guide, KARATE, steps=5)
    assert one.history["elbo"] == two.history["elbo"]


def test_fits_in_sequence_equal_a_fit_alone_and_the_global_store_stays_empty(split):
    options = {"steps": 10, "averaging": 0.9, "settle": 3}
    alone = a_fit(steps=10, seed=2)
    assert list(pyro.get_param_store().keys()) == []
    a_fit(split, validate_every=3, **options)
    second = a_fit(steps=10, seed=2)
    assert without_seconds(second.history) == without_seconds(alone.history)
    assert same(weights(second.story, second.guide), weights(alone.story, alone.guide))
    assert list(pyro.get_param_store().keys()) == []


def test_what_is_in_the_global_store_neither_enters_nor_changes():
    alone = a_fit(steps=4)
    pyro.clear_param_store()
    try:
        # the names that the modules' own parameters have in Pyro
        for name in ("guide.bias_loc", "guide$$$bias_loc", "bias_loc"):
            pyro.param(name, torch.tensor(7.0))
        among = a_fit(steps=4)
        assert among.history["elbo"] == alone.history["elbo"]
        assert {k: v.item() for k, v in pyro.get_param_store().items()} == {
            "guide.bias_loc": 7.0,
            "guide$$$bias_loc": 7.0,
            "bias_loc": 7.0,
        }
    finally:
        pyro.clear_param_store()


def test_a_fit_within_a_fit_touches_neither():
    alone, inner_alone = a_fit(steps=6, seed=1), a_fit(steps=4, seed=8)
    inner, pair = [], a_pair()

    def nested(step, _):
        if step == 2:
            inner.append(fit(*pair, KARATE, steps=4, seed=8))

    story, guide = a_pair()
    outer = fit(story, guide, KARATE, steps=6, seed=1, callbacks=[nested])
    assert without_seconds(outer.history) == without_seconds(alone.history)
    assert without_seconds(inner[0].history) == without_seconds(inner_alone.history)
    assert same(weights(outer.story, outer.guide), weights(alone.story, alone.guide))


def test_generators_and_settings_are_as_before(split):
    torch.manual_seed(1234)
    np.random.seed(1234)  # noqa: NPY002
    random.seed(1234)

    def state():
        numpy_state = np.random.get_state()  # noqa: NPY002
        return (
            torch.get_rng_state().tolist(),
            [numpy_state[0], numpy_state[1].tolist(), *numpy_state[2:]],
            random.getstate(),
            pyro.settings.get(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.get_num_threads(),
            torch.distributions.Distribution._validate_args,
        )

    before = state()
    story, guide = a_pair(split.train)
    torch.manual_seed(1234)  # the weights of the pair took some
    found = fit(story, guide, split, steps=4, validate_every=2, settle=1)
    assert state() == before, "fit"
    found.posterior(3)
    assert state() == before, "posterior"
    found.generate(2)
    found.generate(2, source="prior")
    assert state() == before, "generate"
    found.link_probabilities(draws=2)
    found.top_links(2, draws=2)
    found.evaluate(split, draws=2)
    found.active_communities(draws=2)
    found.encode(KARATE, draws=2)
    assert state() == before, "predictions"


def test_generators_and_settings_are_as_before_when_a_fit_is_interrupted():
    before, settings, threads = (
        torch.get_rng_state(),
        pyro.settings.get(),
        torch.get_num_threads(),
    )

    def stop(step, _):
        raise KeyboardInterrupt

    story, guide = a_pair()
    torch.set_rng_state(before)
    with pytest.raises(KeyboardInterrupt):
        fit(story, guide, KARATE, steps=3, callbacks=[stop])
    assert torch.equal(torch.get_rng_state(), before)
    assert pyro.settings.get() == settings
    assert torch.get_num_threads() == threads
    assert list(pyro.get_param_store().keys()) == []
    assert all(p.requires_grad for p in guide.parameters())


# -- validation, averaging, warm-up, settling -------------------------------------------------------


def _scores(found, split, draws):
    from sklearn.metrics import average_precision_score, roc_auc_score

    pairs, truth = split.pairs("val")
    p = found.link_probabilities(pairs, draws=draws, seed=found.settings.seed).numpy()
    return roc_auc_score(truth, p), average_precision_score(truth, p)


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_the_state_that_validation_chose_is_the_one_restored(split, averaging):
    found = a_fit(
        split,
        steps=40,
        learning_rate=0.1,
        validate_every=4,
        validation_draws=7,
        averaging=averaging,
    )
    history = found.history
    assert history["val_step"] == list(range(3, 40, 4))
    score = 0.5 * (np.array(history["val_auc"]) + np.array(history["val_ap"]))
    best = int(score.argmax())
    assert best < len(score) - 1, "the test needs a best state before the last one"
    assert found.best_step == history["val_step"][best]
    assert _scores(found, split, 7) == (history["val_auc"][best], history["val_ap"][best])


def test_validation_does_not_change_the_path_of_the_weights(split):
    plain = a_fit(split.train, steps=12)
    validated = a_fit(split, steps=12, validate_every=3)
    assert plain.history["elbo"] == validated.history["elbo"]


def test_the_last_step_is_validated_whatever_the_stride(split):
    found = a_fit(split, steps=10, validate_every=4)
    assert found.history["val_step"] == [3, 7, 9]


def test_pairs_for_validation_can_be_given_outright(split):
    found = a_fit(split.train, steps=6, validate_every=3, validation=split.pairs("val"))
    as_split = a_fit(split, steps=6, validate_every=3)
    assert without_seconds(found.history) == without_seconds(as_split.history)
    assert found.best_step == as_split.best_step


def test_no_state_before_the_warm_up_ends_is_the_best(split):
    options = {"steps": 24, "learning_rate": 0.1, "validate_every": 2, "kl_warmup": 10}
    found = a_fit(split, kl_hold=4, **options)
    score = 0.5 * (np.array(found.history["val_auc"]) + np.array(found.history["val_ap"]))
    step = np.array(found.history["val_step"])
    late = step >= 13  # the divergence of step 13 is the first with full weight
    assert found.best_step == step[late][score[late].argmax()]
    never = a_fit(split, kl_hold=20, **options)
    assert never.best_step is None
    assert len(never.history["val_step"]) == 12
    assert never.settings.warm_after == 30


def test_early_states_do_not_win_even_with_better_scores(split):
    """Scores that fall from step to step: the best state is the first one after the warm-up."""
    falling = iter(np.linspace(0.9, 0.1, 50))

    def score(p, truth):
        s = float(next(falling))
        return s, s

    with mock.patch.object(held_out_module, "ranking_scores", score):
        found = a_fit(split, steps=20, validate_every=2, kl_warmup=8)
    assert found.best_step == 7
    assert max(found.history["val_auc"]) == found.history["val_auc"][0] == 0.9


def test_patience_stops_early_and_counts_from_the_best(split):
    scores = iter([0.5, 0.6, 0.55, 0.7, 0.6, 0.7, 0.69, *[0.9] * 100])

    def score(p, truth):
        s = next(scores)
        return s, s

    with mock.patch.object(held_out_module, "ranking_scores", score):
        found = a_fit(split, steps=100, validate_every=2, patience=3)
    # best at the fourth validation (step 7); an equal score is not a better one
    assert found.best_step == 7
    assert found.history["val_step"] == [1, 3, 5, 7, 9, 11, 13]
    assert len(found.history["step"]) == 14


def test_patience_does_not_run_during_the_warm_up(split):
    def score(p, truth):
        return 0.5, 0.5

    with mock.patch.object(held_out_module, "ranking_scores", score):
        found = a_fit(split, steps=40, validate_every=2, patience=2, kl_warmup=12)
    assert found.best_step == 11
    assert found.history["step"][-1] == 15


def test_patience_is_followed_by_settling(split):
    def score(p, truth):
        return 0.5, 0.5

    with mock.patch.object(held_out_module, "ranking_scores", score):
        found = a_fit(split, steps=40, validate_every=2, patience=1, settle=5)
    assert len(found.history["step"]) == 4 + 5


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {0: 1.0, 7: 1.0}),
        ({"kl_weight": 0.3}, {0: 0.3, 99: 0.3}),
        ({"kl_warmup": 10}, {0: 0.1, 4: 0.5, 9: 1.0, 10: 1.0, 500: 1.0}),
        ({"kl_warmup": 400}, {0: 0.01, 3: 0.01, 4: 0.0125, 199: 0.5}),
        ({"kl_warmup": 4, "kl_hold": 3}, {0: 0.01, 2: 0.01, 3: 0.25, 4: 0.5, 6: 1.0, 7: 1.0}),
        ({"kl_warmup": 4, "kl_weight": 2.0}, {0: 0.5, 1: 1.0, 3: 2.0, 9: 2.0}),
        ({"kl_hold": 5}, {0: 1.0, 4: 1.0}),
    ],
)
def test_the_weight_of_the_divergence_by_step(options, expected):
    settings = FitSettings(**options)
    assert {s: settings.kl_weight_at(s) for s in expected} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("options", "after"),
    [({}, 0), ({"kl_hold": 5}, 0), ({"kl_warmup": 4}, 4), ({"kl_warmup": 4, "kl_hold": 3}, 7)],
)
def test_the_warm_up_is_over_when_the_weight_is_full(options, after):
    settings = FitSettings(**options)
    assert settings.warm_after == after
    if after:
        assert settings.kl_weight_at(after - 1) == 1.0
        assert settings.kl_weight_at(after - 2) < 1.0


def test_the_warm_up_enters_the_objective_and_not_the_elbo():
    """One draw at the same weights: the objective is likelihood - w KL, the ELBO has w = 1."""
    full, warm = (a_fit(steps=1, **o).history for o in ({}, {"kl_warmup": 4}))
    kl, likelihood = full["kl"][0], full["elbo"][0] + full["kl"][0]
    assert kl > 1.0
    assert full["objective"][0] == pytest.approx(full["elbo"][0], rel=1e-5)
    assert warm["elbo"][0] == pytest.approx(full["elbo"][0], rel=1e-5)
    assert warm["kl"][0] == pytest.approx(kl, rel=1e-5)
    assert warm["objective"][0] == pytest.approx(likelihood - 0.25 * kl, rel=1e-5)


def test_in_the_settle_phase_the_divergence_has_its_full_weight():
    found = a_fit(steps=2, settle=1, kl_warmup=1000).history
    elbo, objective, kl = (np.array(found[name]) for name in ("elbo", "objective", "kl"))
    np.testing.assert_allclose(objective - elbo, [0.99 * kl[0], 0.99 * kl[1], 0.0], atol=2e-3)
    assert kl.min() > 1.0


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_schedule_of_the_learning_rate(schedule):
    rates = []
    step = torch.optim.AdamW.step

    def spy(self, *arguments, **options):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments, **options)

    with mock.patch.object(torch.optim.AdamW, "step", spy):
        a_fit(steps=4, settle=2, learning_rate=0.5, schedule=schedule)
    half = math.sqrt(0.5) / 2
    cosine = [0.5 * (0.01 + 0.99 * f) for f in (1.0, 0.5 + half, 0.5, 0.5 - half)]
    expected = cosine if schedule == "cosine" else [0.5] * 4
    assert rates == pytest.approx([*expected, 0.1, 0.1], rel=1e-12)


def test_averaging_gives_the_average_of_the_path():
    decay, steps = 0.3, 6  # 0.3 < (1 + t) / (10 + t) from the third step on
    path = []
    story, guide = a_pair()
    average = weights(story, guide)
    found = fit(
        story,
        guide,
        KARATE,
        steps=steps,
        averaging=decay,
        callbacks=[lambda *_: path.append(weights(story, guide))],
    )
    for t, now in enumerate(path, start=1):
        d = min(decay, (1 + t) / (10 + t))
        average = {k: d * average[k] + (1 - d) * now[k] for k in now}
    got = weights(found.story, found.guide)
    for k, v in average.items():
        torch.testing.assert_close(got[k], v, rtol=1e-5, atol=1e-6)
    assert not same(got, path[-1])


def test_averaging_does_not_change_the_path():
    assert a_fit(steps=5, averaging=0.9).history["elbo"] == a_fit(steps=5).history["elbo"]


def test_settling_rests_the_encoder_and_moves_the_rest():
    path = []
    story, guide = a_pair(dropout=0.5, decoder=(3,))
    found = fit(
        story,
        guide,
        KARATE,
        steps=5,
        settle=4,
        weight_decay=0.1,
        callbacks=[lambda *_: path.append((guide.training, weights(story, guide)))],
    )
    assert [training for training, _ in path] == [True] * 5 + [False] * 4
    chosen, settled = path[4][1], path[-1][1]
    moved = {k for k in chosen if not torch.equal(chosen[k], settled[k])}
    resting = {k for k in chosen if k.startswith("guide.encoder.")}
    assert resting
    assert not moved & resting
    buffers = {"story.alpha", "story.bias_scale"}
    assert moved == set(chosen) - resting - buffers
    assert same(settled, weights(found.story, found.guide))
    # and the encoder can be trained again afterwards
    assert all(p.requires_grad for p in guide.parameters())
    assert found.history["step"] == list(range(9))


def test_settling_starts_from_the_chosen_state(split):
    path = {}
    story, guide = a_pair(split.train)
    found = fit(
        story,
        guide,
        split,
        steps=40,
        learning_rate=0.1,
        validate_every=4,
        settle=1,
        callbacks=[lambda s, _: path.update({s: weights(story, guide)})],
    )
    encoder = [k for k in path[0] if k.startswith("guide.encoder.")]
    assert found.best_step != 39
    assert all(torch.equal(path[40][k], path[found.best_step][k]) for k in encoder)
    assert not all(torch.equal(path[40][k], path[39][k]) for k in encoder)


def test_what_was_frozen_before_a_fit_is_frozen_after_it():
    story, guide = a_pair()
    guide.stick_c_raw.requires_grad_(False)
    before = guide.stick_c_raw.clone()
    fit(story, guide, KARATE, steps=3, settle=1)
    assert torch.equal(guide.stick_c_raw, before)
    assert not guide.stick_c_raw.requires_grad


# -- clipping and breaking down ---------------------------------------------------------------------


@pytest.mark.parametrize(("clip", "bites"), [(0.01, True), (1e6, False), (None, False)])
def test_the_gradient_is_clipped_to_nats_a_node(clip, bites):
    norms = []
    step = torch.optim.AdamW.step

    def spy(self, *arguments, **options):
        grads = [p.grad for g in self.param_groups for p in g["params"] if p.grad is not None]
        norms.append(float(torch.cat([g.flatten() for g in grads]).norm()))
        return step(self, *arguments, **options)

    with mock.patch.object(torch.optim.AdamW, "step", spy):
        a_fit(steps=3, clip=clip)
    limit = 0.01 * KARATE.num_nodes
    if bites:
        assert norms == pytest.approx([limit] * 3, rel=1e-4)
    else:
        assert min(norms) > 3 * limit


def _finite(*modules):
    return all(bool(torch.isfinite(v).all()) for m in modules for v in m.state_dict().values())


def test_a_learning_rate_that_explodes_names_the_step_and_leaves_finite_weights():
    story, guide = a_pair()
    with pytest.raises(InferenceError, match=r"step \d+: the objective is .* learning_rate") as e:
        fit(story, guide, KARATE, steps=30, learning_rate=1e6)
    assert "last good state" in str(e.value)
    assert _finite(story, guide)


def test_a_poisoned_weight_names_the_step_and_the_last_good_state_comes_back():
    story, guide = a_pair()
    kept = {}

    def poison(step, _):
        if step == 3:
            kept.update(weights(story, guide))  # after the fourth step, when it is kept
        if step == 6:
            with torch.no_grad():
                guide.bias_loc.fill_(math.nan)

    with pytest.raises(InferenceError, match="step 7: the objective is nan"):
        fit(story, guide, KARATE, steps=30, checkpoint_every=4, callbacks=[poison])
    assert same(weights(story, guide), kept)
    assert not guide.training
    assert list(pyro.get_param_store().keys()) == []


def test_an_infinite_gradient_with_a_finite_objective_is_refused_too():
    story, guide = a_pair()

    def poison(step, _):
        if step == 1:
            guide.bias_loc.register_hook(lambda g: g * math.inf)

    with pytest.raises(InferenceError, match=r"step 2: the objective is -\d.* gradient (inf|nan)"):
        fit(story, guide, KARATE, steps=5, callbacks=[poison])
    assert _finite(story, guide)


def test_the_last_good_state_is_one_whose_objective_is_finite():
    """With a state kept at every step too: weights after an exploded step were never found good."""
    story, guide = a_pair()
    with pytest.raises(InferenceError):
        fit(story, guide, KARATE, steps=30, learning_rate=1e6, checkpoint_every=1)
    one = fit(story, guide, KARATE, steps=1, learning_rate=1e-9)
    assert math.isfinite(one.history["elbo"][0])


def test_a_poisoned_state_is_never_kept_as_a_good_one(tmp_path):
    story, guide = a_pair()

    def poison(step, _):
        if step == 3:
            with torch.no_grad():
                guide.bias_loc.fill_(math.nan)

    with pytest.raises(InferenceError, match="step 4"):
        fit(story, guide, KARATE, steps=9, checkpoint_every=2, folder=tmp_path, callbacks=[poison])
    assert _finite(story, guide)


def test_weights_that_explode_before_a_validation_are_an_inference_error(split):
    story, guide = a_pair(split.train)
    with pytest.raises(InferenceError, match=r"step \d+"):
        fit(story, guide, split, steps=30, learning_rate=1e6, validate_every=1)
    assert _finite(story, guide)


# -- relaxations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [None, Concrete(0.9)])
def test_a_concrete_gradient_leaves_the_relaxation_as_it_was(before):
    story, guide = a_pair(relaxation=before)
    seen = []

    def look(step, _):
        seen.append((story.relaxation, guide.relaxation))
        if step == 1:
            raise RuntimeError("stop")

    options = {"gradient": "concrete", "concrete_temperatures": (0.3, 0.7)}
    with pytest.raises(RuntimeError, match="stop"):
        fit(story, guide, KARATE, steps=5, callbacks=[look], **options)
    assert seen == [(Concrete(0.3), Concrete(0.7))] * 2
    assert (story.relaxation, guide.relaxation) == (before, before)
    fit(story, guide, KARATE, steps=2, **options)
    assert (story.relaxation, guide.relaxation) == (before, before)


def test_validation_of_a_relaxed_fit_is_with_exact_memberships(split):
    seen = []
    score = held_out_module.expected_values

    def spy(story, guide, *arguments, **options):
        seen.append((story.relaxation, guide.relaxation))
        return score(story, guide, *arguments, **options)

    with mock.patch.object(held_out_module, "expected_values", spy):
        a_fit(split, steps=4, validate_every=2, gradient="concrete")
    assert seen == [(None, None)] * 2


@pytest.mark.parametrize("gradient", ["dyadic", "local_expectation", "reinforce", "disarm"])
def test_an_exact_gradient_refuses_a_relaxed_story(gradient):
    story, guide = a_pair(relaxation=Concrete(0.5))
    before = weights(story, guide)
    with pytest.raises(ValueError, match=rf"gradient='{gradient}' is for exact .*'concrete'"):
        fit(story, guide, KARATE, steps=2, gradient=gradient)
    assert same(weights(story, guide), before)


# -- refusals ---------------------------------------------------------------------------------------


def test_a_directed_graph_is_refused_by_its_title():
    arcs = Graph(4, [[0, 1, 2], [1, 2, 3]], directed=True, title="follows")
    story, guide = a_pair(Graph(4, [[0, 1, 2], [1, 2, 3]]))
    with pytest.raises(ValueError, match="'follows' is directed"):
        fit(story, guide, arcs, steps=1)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("steps", 0, "at least 1"),
        ("num_particles", 0, "at least 1"),
        ("validate_every", 0, "at least 1"),
        ("validation_draws", -1, "at least 1"),
        ("checkpoint_every", 0, "at least 1"),
        ("learning_rate", 0.0, "positive"),
        ("learning_rate", math.nan, "positive"),
        ("kl_weight", -1.0, "positive"),
        ("weight_decay", -0.1, "not negative"),
        ("kl_warmup", -1, "not negative"),
        ("kl_hold", -1, "not negative"),
        ("settle", -1, "not negative"),
        ("seed", -1, "not negative"),
        ("clip", 0.0, "positive or None"),
        ("averaging", 1.0, r"in \[0, 1\)"),
        ("averaging", -0.1, r"in \[0, 1\)"),
        ("patience", 0, "at least 1 or None"),
        ("concrete_temperatures", (0.5, 0.0), "positive"),
        ("schedule", "linear", "one of .*'constant', 'cosine'"),
        ("gradient", "relax", "one of .*'dyadic', 'local_expectation', 'reinforce', 'concrete'"),
    ],
)
def test_bad_settings_are_named_with_what_is_allowed(name, value, allowed):
    with pytest.raises(ValueError, match=rf"^{name} must be {allowed}.*, not "):
        FitSettings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("expectation_columns", 0),
        ("steps", 2.5),
        ("steps", "many"),
        ("learning_rate", math.inf),
        ("learning_rate", "fast"),
        ("concrete_temperatures", (0.5,)),
        ("concrete_temperatures", 0.5),
        ("device", "banana"),
    ],
)
def test_settings_of_a_wrong_kind_or_range_are_a_value_error_that_names_them(name, value):
    with pytest.raises(ValueError, match=name):
        FitSettings(**{name: value})


def test_settings_go_through_json_and_back():
    settings = FitSettings(
        steps=7,
        learning_rate=0.2,
        schedule="constant",
        weight_decay=0.1,
        clip=None,
        gradient="concrete",
        concrete_temperatures=(0.2, 0.3),
        expectation_columns=9,
        batch_edges=10,
        batch_nodes=11,
        batch_neighbours=12,
        num_particles=2,
        kl_weight=0.5,
        kl_warmup=3,
        kl_hold=1,
        settle=4,
        remove_every=5,
        averaging=0.9,
        validate_every=2,
        validation_draws=3,
        patience=5,
        seed=6,
        device="cpu",
        matmul_precision="high",
        checkpoint_every=8,
    )
    defaults = FitSettings().to_dict()
    changed = {k for k, v in settings.to_dict().items() if v != defaults[k]}
    assert changed == set(defaults) - {"device"}, "every field takes part"
    assert FitSettings.from_dict(settings.to_dict()) == settings
    assert FitSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert FitSettings.from_dict({}) == FitSettings()


def test_an_unknown_key_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"\(s\) stepz; known are .*, steps,"):
        FitSettings.from_dict({"steps": 3, "stepz": 4})


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FitSettings().steps = 3


def test_unknown_options_and_contradictions_are_refused():
    story, guide = a_pair()
    with pytest.raises(TypeError, match="stepz"):
        fit(story, guide, KARATE, stepz=3)
    with pytest.raises(ValueError, match=r"settings or options, not both: \['seed', 'steps'\]"):
        fit(story, guide, KARATE, FitSettings(), steps=3, seed=1)
    with pytest.raises(ValueError, match="resume=True needs the folder"):
        fit(story, guide, KARATE, steps=1, resume=True)


def test_settings_and_options_mean_the_same():
    story, guide = a_pair()
    given = fit(story, guide, KARATE, FitSettings(steps=4, seed=3))
    assert given.history["elbo"] == a_fit(steps=4, seed=3).history["elbo"]


# -- held-out dyads ---------------------------------------------------------------------------------


def _other_truth(split):
    """The graph with every test pair's truth flipped, split in the same way."""
    n = KARATE.num_nodes
    keys = KARATE.edge_index[0] * n + KARATE.edge_index[1]
    gone = split.test_edges[0] * n + split.test_edges[1]
    kept = KARATE.edge_index[:, ~torch.isin(keys, gone)]
    flipped = Graph(n, torch.cat((kept, split.test_non_edges), 1))
    hidden = torch.cat(
        (split.val_edges, split.val_non_edges, split.test_edges, split.test_non_edges), 1
    )
    return Split(
        full=flipped,
        train=flipped.hide(hidden),
        val_edges=split.val_edges,
        val_non_edges=split.val_non_edges,
        test_edges=split.test_non_edges,
        test_non_edges=split.test_edges,
    )


def test_the_truth_of_held_out_dyads_has_no_influence(split):
    other = _other_truth(split)
    assert other.full.fingerprint() != split.full.fingerprint()
    found = [a_fit(s, steps=12, validate_every=4, averaging=0.9, settle=2) for s in (split, other)]
    assert without_seconds(found[0].history) == without_seconds(found[1].history)
    assert same(*(weights(f.story, f.guide) for f in found))
    test_pairs, _ = split.pairs("test")
    p, q = (f.link_probabilities(test_pairs, draws=5) for f in found)
    assert torch.equal(p, q)


def test_the_truth_of_validation_pairs_chooses_but_does_not_train(split):
    pairs, truth = split.pairs("val")
    options = {"steps": 12, "validate_every": 4}
    one = a_fit(split.train, validation=(pairs, truth), **options)
    two = a_fit(split.train, validation=(pairs, 1.0 - truth), **options)
    assert one.history["elbo"] == two.history["elbo"]
    sums = np.array(one.history["val_auc"]) + np.array(two.history["val_auc"])
    np.testing.assert_allclose(sums, 1.0, atol=1e-9)


def test_observed_dyads_do_have_influence(split):
    n, i = KARATE.num_nodes, split.train.edge_index
    without_one = Graph(n, i[:, 1:], missing=split.train.missing)
    assert (
        a_fit(split.train, steps=3).history["elbo"] != a_fit(without_one, steps=3).history["elbo"]
    )


def test_a_mean_field_guide_with_local_sticks_can_be_fitted():
    torch.manual_seed(0)
    story = DGLFRM(34, 4, decoder=(), bias="node", sticks="local", strengths=False)
    guide = MeanField(story, KARATE, hidden=(8,), baseline="neural")
    found = fit(story, guide, KARATE, steps=120, learning_rate=0.03)
    assert np.mean(found.history["elbo"][-20:]) > np.mean(found.history["elbo"][:5]) + 50.0


def test_progress_writes_lines_in_a_pipe_and_nothing_unless_asked(capfd):
    a_fit(steps=20, progress=None)
    assert capfd.readouterr() == ("", "")
    a_fit(steps=20, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("step 2/20  ELBO -")
    assert lines[-1].startswith("step 20/20")


def test_lower_precision_is_for_training_alone():
    split = random_split(KARATE, 0.1, 0.1)
    story = VGAE(34, 2)
    guide = AmortisedNormal(story, split.train, hidden=(4,))
    seen = {True: set(), False: set()}
    story.register_forward_hook(
        lambda module, *_: seen[module.training].add(torch.get_float32_matmul_precision())
    )
    fit(story, guide, split, steps=4, validate_every=2, matmul_precision="medium")
    assert seen == {True: {"medium"}, False: {"highest"}}
    assert torch.get_float32_matmul_precision() == "highest"
