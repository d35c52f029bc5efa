"""Semi-supervised classification: the label site, labels that validate a fit, and the scores."""

from __future__ import annotations

import json
import math
from unittest import mock

import numpy as np
import pytest
import torch
from pyro import poutine

from graphlore.data import karate, random_split
from graphlore.guides import AmortisedNormal, AmortisedPoint, StructuredMeanField
from graphlore.inference import Fit, InferenceError, fit
from graphlore.inference import held_out as held_out_module
from graphlore.inference.classify import label_probabilities
from graphlore.inference.held_out import chosen_by
from graphlore.inference.metrics import classification_scores
from graphlore.inference.tensor_files import read_tensors, write_tensors
from graphlore.models import DGLFRM, GAE, VGAE

FULL = karate()
KNOWN = torch.tensor([0, 1, 32, 33])
KARATE = FULL.keep_labels(KNOWN)
HELD_OUT = torch.tensor([3, 7, 9, 13, 20, 23, 27, 30])
TRUTH = FULL.labels[HELD_OUT]


def a_pair(graph=KARATE, story=VGAE, **options):
    torch.manual_seed(3)
    told = {"bias": "global", "num_classes": 2, **options}
    if story is DGLFRM:
        model = DGLFRM(graph.num_nodes, 4, decoder=(), **told)
        return model, StructuredMeanField(model, graph, hidden=(8,))
    model = story(graph.num_nodes, 4, **told)
    guide = AmortisedPoint if story is GAE else AmortisedNormal
    return model, guide(model, graph, hidden=(8,))


def a_fit(graph=KARATE, pair=None, **options):
    settings = {"label_validation": (HELD_OUT, TRUTH), "validation_draws": 4, **options}
    return fit(*a_pair(graph, **(pair or {})), graph, **settings)


def weights(found):
    parts = (("story", found.story), ("guide", found.guide))
    return {f"{n}.{k}": v for n, m in parts for k, v in m.state_dict().items()}


# -- the scores --------------------------------------------------------------------------------------


def test_classification_scores_by_hand():
    """Predicted 0 0 1 2 1 of true 0 1 1 2 2: F1 is 2/3 for each class."""
    p = torch.tensor(
        [[0.5, 0.3, 0.2], [0.6, 0.4, 0.0], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0], [0.3, 0.5, 0.2]]
    )
    found = classification_scores(p, torch.tensor([0, 1, 1, 2, 2]))
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 2 / 3) / 3)
    loss = -sum(math.log(x) for x in (0.5, 0.4, 0.8, 1.0, 0.2)) / 5
    assert found["log_loss"] == pytest.approx(loss, rel=1e-6)


def test_macro_f1_counts_a_class_that_is_only_predicted_and_not_one_that_never_occurs():
    """Predicted 0 1, true 0 0, of four classes: F1 2/3 for class 0, 0 for class 1."""
    p = [[0.9, 0.1, 0.0, 0.0], [0.2, 0.8, 0.0, 0.0]]
    assert classification_scores(p, [0, 0])["macro_f1"] == pytest.approx(1 / 3)


def test_a_tie_goes_to_the_first_class_and_no_probability_costs_a_bounded_loss():
    found = classification_scores([[0.5, 0.5], [1.0, 0.0]], [0, 1])
    assert found["accuracy"] == 0.5
    assert found["log_loss"] == pytest.approx(-(math.log(0.5) + math.log(1e-12)) / 2)


def test_probabilities_that_are_not_numbers_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        classification_scores([[math.nan, 0.5]], [0])


# -- the label site ----------------------------------------------------------------------------------


def label_density(graph, z, weight=1.0):
    story, _ = a_pair(graph, label_weight=weight)
    told = poutine.condition(story, {"embedding": z, "bias": torch.tensor(-1.0)})
    trace = poutine.trace(told).get_trace(graph)
    trace.compute_log_prob()
    return story, trace.nodes["labels"]["log_prob_sum"]


@pytest.mark.parametrize("weight", [1.0, 40.0])
def test_the_label_density_is_that_of_the_labelled_nodes(weight):
    z = torch.randn(34, 4)
    story, density = label_density(KARATE, z, weight)
    by_hand = torch.log_softmax(z[KNOWN] @ story.g.weight.T + story.g.bias, -1)
    expected = weight * by_hand[range(4), FULL.labels[KNOWN]].sum()
    assert density.item() == pytest.approx(expected.item(), rel=1e-5)


def test_unlabelled_nodes_get_no_gradient_from_the_labels():
    z = torch.randn(34, 4, requires_grad=True)
    label_density(KARATE, z)[1].backward()
    reached = (z.grad != 0).any(-1).nonzero()[:, 0]
    assert torch.equal(reached, KNOWN)


def test_a_graph_without_any_known_label_fits_as_if_the_story_had_none():
    """No label known: the path of all weights but the decoder's is that of the plain story."""
    hidden = FULL.with_labels(torch.full((34,), -1))
    told = fit(*a_pair(hidden), hidden, steps=4)
    before = a_pair(hidden)[0].g.weight
    assert torch.equal(told.story.g.weight, before)
    story, guide = a_pair(hidden)
    story.g = story.num_classes = None
    assert fit(story, guide, hidden, steps=4).history["elbo"] == told.history["elbo"]


# -- class probabilities -----------------------------------------------------------------------------


def test_a_point_guide_gives_the_decoder_of_its_point():
    story, guide = a_pair(story=GAE)
    p = label_probabilities(story, guide, KARATE, draws=3)
    guide.eval()
    mu = guide.encoder(KARATE)[0]["embedding_loc"]
    assert torch.allclose(p, torch.softmax(story.g(mu), -1), atol=1e-6)


def test_class_probabilities_average_over_draws():
    """One latent, a decoder with logits (0, z): P(1) = E sigmoid(z), z Normal(mu, s), by quadrature."""
    torch.manual_seed(0)
    story = VGAE(34, 1, bias="global", num_classes=2)
    guide = AmortisedNormal(story, KARATE, hidden=(8,))
    with torch.no_grad():
        story.g.weight.copy_(torch.tensor([[0.0], [3.0]]))
        story.g.bias.zero_()
    p = label_probabilities(story, guide, KARATE, draws=4000)
    q = guide.embedding(guide.encoder(KARATE)[0]).base_dist
    x, w = np.polynomial.hermite_e.hermegauss(80)
    z = q.loc.detach().numpy() + q.scale.detach().numpy() * x
    expected = (1 / (1 + np.exp(-3 * z))) @ (w / w.sum())
    square = (1 / (1 + np.exp(-3 * z))) ** 2 @ (w / w.sum())
    error = np.sqrt((square - expected**2) / 4000)
    assert np.abs((p[:, 1].numpy() - expected) / error).max() < 5.5  # 34 nodes, false alarm 1e-6
    assert torch.allclose(p.sum(1), torch.ones(34), atol=1e-5)


@pytest.mark.parametrize("story", [VGAE, GAE, DGLFRM])
def test_every_story_with_an_embedding_classifies_and_agrees_with_encode(story):
    found = a_fit(steps=3, pair={"story": story})
    p = found.label_probabilities(draws=7, seed=5)
    assert p.shape == (34, 2)
    assert torch.allclose(p, found.encode(KARATE, draws=7, seed=5).labels, atol=1e-6)
    scores = found.classification(HELD_OUT, TRUTH, draws=7, seed=5)
    assert (scores.nodes, scores.draws) == (8, 7)
    assert scores.accuracy == (p[HELD_OUT].argmax(1) == TRUTH).float().mean().item()


def test_four_labels_and_the_edges_tell_the_factions_of_karate():
    """Zachary's two factions from two labelled members each."""
    found = a_fit(steps=300, learning_rate=0.03, label_validation=None)
    rest = torch.tensor([n for n in range(34) if n not in KNOWN])
    assert found.classification(rest, FULL.labels[rest]).accuracy >= 0.9


# -- labels that validate ----------------------------------------------------------------------------


def test_the_state_with_the_best_accuracy_is_the_one_restored():
    accuracies = iter([0.5, 0.7, 0.6, 0.7, 0.65])

    def score(p, truth):
        assert torch.equal(truth, TRUTH)
        return {"accuracy": next(accuracies)}

    states = {}
    story, guide = a_pair()

    def keep(step, _):
        states[step] = {k: v.clone() for k, v in guide.state_dict().items()}

    with mock.patch.object(held_out_module, "classification_scores", score):
        found = fit(
            story,
            guide,
            KARATE,
            steps=10,
            validate_every=2,
            label_validation=(HELD_OUT, TRUTH),
            callbacks=[keep],
        )
    assert found.history["val_accuracy"] == [0.5, 0.7, 0.6, 0.7, 0.65]
    assert found.history["val_auc"] == found.history["val_ap"] == []
    assert found.best_step == 3  # the first of equals
    assert all(torch.equal(v, states[3][k]) for k, v in guide.state_dict().items())
    assert [chosen_by(found.history, i) for i in range(5)] == found.history["val_accuracy"]


def test_the_accuracy_in_the_history_is_that_of_the_chosen_state():
    found = a_fit(steps=30, validate_every=3, averaging=0.8, learning_rate=0.05)
    at = found.history["val_step"].index(found.best_step)
    assert found.history["val_accuracy"][at] == max(found.history["val_accuracy"])
    again = found.classification(HELD_OUT, TRUTH, draws=4)
    assert again.accuracy == found.history["val_accuracy"][at]


def test_held_out_labels_choose_but_do_not_train():
    plain = a_fit(steps=12, label_validation=None)
    one = a_fit(steps=12, validate_every=3)
    two = a_fit(steps=12, validate_every=3, label_validation=(HELD_OUT, 1 - TRUTH))
    assert plain.history["elbo"] == one.history["elbo"] == two.history["elbo"]
    sums = np.array(one.history["val_accuracy"]) + np.array(two.history["val_accuracy"])
    assert np.allclose(sums, 1.0)


def test_labels_replace_the_pairs_of_a_split():
    split = random_split(KARATE, val=0.1, test=0.1, seed=1)
    found = fit(*a_pair(split.train), split, steps=2, label_validation=(HELD_OUT, TRUTH))
    assert found.history["val_auc"] == []
    assert len(found.history["val_accuracy"]) == 1


# -- checkpoints -------------------------------------------------------------------------------------

OPTIONS = {
    "steps": 13,
    "checkpoint_every": 4,
    "validate_every": 3,
    "validation_draws": 3,
    "averaging": 0.9,
    "settle": 3,
    "learning_rate": 0.05,
}


class Stop(Exception):
    pass


def interrupted(folder, at, **options):
    def stop(step, _):
        if step == at:
            raise Stop

    with pytest.raises(Stop):
        a_fit(folder=folder, callbacks=[stop], **{**OPTIONS, **options})


def assert_same_fit(one, two):
    a, b = weights(one), weights(two)
    assert [k for k in a if not torch.equal(a[k], b[k])] == []
    assert one.best_step == two.best_step
    one.history.pop("seconds"), two.history.pop("seconds")
    np.testing.assert_equal(one.history, two.history)  # NaN equals NaN


@pytest.mark.parametrize("at", [4, 9, 14])
@pytest.mark.parametrize("story", [VGAE, DGLFRM])
def test_interrupted_and_resumed_is_bit_for_bit_the_fit_that_ran_through(story, at, tmp_path):
    whole = a_fit(pair={"story": story}, **OPTIONS)
    assert whole.best_step is not None
    interrupted(tmp_path, at, pair={"story": story})
    torch.manual_seed(at)
    assert_same_fit(whole, a_fit(pair={"story": story}, folder=tmp_path, resume=True, **OPTIONS))


def test_a_run_is_not_resumed_with_another_validation(tmp_path):
    interrupted(tmp_path, 9)
    others = {"label_validation": (HELD_OUT, 1 - TRUTH)}, {"label_validation": None}
    for other in others:
        with pytest.raises(InferenceError, match="of another validation"):
            a_fit(folder=tmp_path, resume=True, **{**OPTIONS, **other})


def test_a_checkpoint_from_before_labels_validated_resumes(tmp_path):
    """Without what later versions added: the fingerprint of the validation, and a column of the history."""
    options = {**OPTIONS, "label_validation": None}
    whole = a_fit(**options)
    interrupted(tmp_path, 9, label_validation=None)
    file = tmp_path / "checkpoint.safetensors"
    tensors, metadata = read_tensors(file)
    plain = json.loads(metadata["run"])
    del plain["identity"]["validation"], plain["history"]["val_accuracy"]
    write_tensors(file, tensors, {"run": json.dumps(plain)})
    assert_same_fit(whole, a_fit(folder=tmp_path, resume=True, **options))


def test_a_saved_fit_classifies_as_before(tmp_path):
    found = a_fit(steps=6, validate_every=3)
    again = Fit.load(found.save(tmp_path / "run"))
    np.testing.assert_equal(again.history, found.history)
    assert torch.equal(again.label_probabilities(draws=5), found.label_probabilities(draws=5))


# -- bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "labels", "message"),
    [
        ([3, 7], [0], "pair up and are not empty; got 2 and 1"),
        (torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64), "not empty"),
        ([3, 34], [0, 1], r"outside of 0\.\.33"),
        ([-1, 3], [0, 1], r"outside of 0\.\.33"),
        ([3, 3], [0, 0], "more than once"),
        ([3, 7], [0, 2], r"true classes are outside of 0\.\.1"),
        ([3, 7], [0, -1], "leave out nodes whose class is not known"),
        ([0, 3], [0, 0], "holds labels of nodes to classify.*keep_labels"),
        ([3.0, 7.0], [0, 0], "nodes to classify are a vector of integers"),
        ([3, 7], [[0, 0]], "labels to classify are a vector of integers"),
        ([True, False], [0, 0], "nodes to classify are a vector of integers"),
    ],
)
def test_bad_held_out_labels_are_refused_before_any_work(nodes, labels, message):
    steps = []
    with pytest.raises(ValueError, match=message):
        a_fit(steps=1, label_validation=(nodes, labels), callbacks=[lambda *a: steps.append(a)])
    assert not steps
    with pytest.raises(ValueError, match=message):
        a_fit(steps=1, label_validation=None).classification(nodes, labels)


def test_a_story_without_labels_does_not_classify():
    options = {"pair": {"num_classes": None}, "steps": 1}
    with pytest.raises(ValueError, match="tell it with num_classes=C"):
        a_fit(**options)
    found = a_fit(label_validation=None, **options)
    with pytest.raises(ValueError, match="tell it with num_classes=C"):
        found.label_probabilities()


def test_a_state_is_chosen_by_links_or_by_labels():
    pairs = torch.tensor([[0, 0], [1, 20]]), torch.tensor([1.0, 0.0])
    with pytest.raises(ValueError, match="validation or label_validation, not both"):
        a_fit(steps=1, validation=pairs)


def test_weights_that_explode_before_a_label_validation_are_an_inference_error():
    story, guide = a_pair()

    def poison(step, _):
        if step == 2:
            with torch.no_grad():
                story.g.weight.fill_(math.nan)

    with pytest.raises(InferenceError, match=r"step 3: .*(validation failed|objective is)"):
        fit(
            story,
            guide,
            KARATE,
            steps=6,
            validate_every=4,
            label_validation=(HELD_OUT, TRUTH),
            callbacks=[poison],
        )
