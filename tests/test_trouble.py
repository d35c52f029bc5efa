"""A few of the troubles that ``make proof`` meets, and what they found."""

from __future__ import annotations

import re

import pytest
import torch
from proof.trouble import COMBINATIONS, meet

from graphlore.data import karate
from graphlore.guides import AmortisedCategorical
from graphlore.inference import Fit, InferenceError, fit
from graphlore.models import SBM

FINITE = [
    ("SBM, free, expectation", "no edges"),
    ("SBM, free, expectation", "counts of a million"),
    ("SBM, encoder, dyadic", "K > N"),
    ("DGLFRM, StructuredMeanField, local_expectation", "two nodes"),
    ("DGLFRM, StructuredMeanField, disarm", "all edges"),
    ("DGLFRM, MeanField, concrete", "temperatures 0.01"),
    ("LFRM, free, local_expectation", "alpha 1e6"),
    ("VGAE, encoder", "constant features"),
    ("GAE, encoder", "held-out pairs"),
]
REFUSED = [
    ("SBM, free, expectation", "one node", "at least two nodes"),
    ("VGAE, free", "no dyad observed", "hides everything"),
    ("VGAE, encoder", "arcs", "is a story of undirected graphs"),
    ("VGAE, encoder", "features of 1e30", "step 0: .*Nothing is learnt yet, so look for features"),
    # once torch's words on a Bernoulli draw
    (
        "LFRM, free, local_expectation",
        "learning rate 1000",
        "is not a number.*A smaller learning_rate",
    ),
    # once Pyro's, with the tensor
    ("LFRM, encoder, dyadic", "features of 1e30", "step 0: a parameter of a site is not a number"),
]


@pytest.mark.parametrize(("combination", "trouble"), FINITE)
def test_a_finite_result(combination, trouble):
    found = meet(COMBINATIONS[combination], trouble, steps=6)
    assert (found.verdict, found.told) == ("finite", "")


@pytest.mark.parametrize(("combination", "trouble", "words"), REFUSED)
def test_one_clear_message(combination, trouble, words):
    found = meet(COMBINATIONS[combination], trouble, steps=6)
    assert found.verdict == "refused", found
    assert re.search(words, found.told), found.told


# -- a story of one's own ------------------------------------------------------------------------------


class Mine(SBM):
    """A story that no recipe knows."""


def modules():
    torch.manual_seed(0)
    story = Mine(34, 2)
    return story, AmortisedCategorical(story, karate(), amortised=False)


def test_a_fit_of_a_story_of_ones_own_is_loaded_into_it(tmp_path):
    done = fit(*modules(), karate(), steps=3, gradient="expectation")
    done.save(tmp_path)
    with pytest.raises(InferenceError, match=r"no story 'Mine'.*give story= and guide="):
        Fit.load(tmp_path)
    story, guide = modules()
    back = Fit.load(tmp_path, story=story, guide=guide)
    assert back.story is story
    pairs = karate().edge_index
    assert torch.equal(back.link_probabilities(pairs), done.link_probabilities(pairs))
    with pytest.raises(ValueError, match="both story and guide"):
        Fit.load(tmp_path, story=story)
    other = SBM(34, 2)
    with pytest.raises(InferenceError, match=r"a fit of .*Mine.*not of .*SBM"):
        Fit.load(tmp_path, story=other, guide=AmortisedCategorical(other, karate()))
    wrong = Mine(34, 3)
    with pytest.raises(InferenceError, match="does not fit settings"):
        Fit.load(
            tmp_path, story=wrong, guide=AmortisedCategorical(wrong, karate(), amortised=False)
        )
