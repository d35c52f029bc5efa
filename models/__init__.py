"""Generative stories, one file each, and what they share: sticks, the dyadic likelihood, the relaxation."""

from .concrete import Concrete, LogitConcrete, StraightThrough, StraightThroughBernoulli
from .dglfrm import DGLFRM
from .dyadic import DyadicBernoulli, balanced_weights
from .features import BernoulliFeatures
from .sticks import activation_logits, activation_probabilities, expected_active
from .subsampled import NodeBlockDyads, SubsampledDyads

__all__ = [
    "DGLFRM",
    "BernoulliFeatures",
    "Concrete",
    "DyadicBernoulli",
    "LogitConcrete",
    "NodeBlockDyads",
    "StraightThrough",
    "StraightThroughBernoulli",
    "SubsampledDyads",
    "activation_logits",
    "activation_probabilities",
    "balanced_weights",
    "expected_active",
]
