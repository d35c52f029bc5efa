"""Generative stories, one file each, and what they share: sticks, the dyadic likelihood, the relaxation."""

from .base import NodeStory
from .blocks import BlockBernoulli, BlockNormal, BlockPoisson
from .concrete import Concrete, LogitConcrete, StraightThrough, StraightThroughBernoulli
from .dglfrm import DGLFRM
from .dyadic import Dyadic
from .features import BernoulliFeatures
from .laws import DyadicBernoulli, DyadicNormal, DyadicPoisson, balanced_weights
from .lfrm import LFRM
from .sbm import SBM
from .sticks import activation_logits, activation_probabilities, expected_active
from .subsampled import NodeBlockDyads, SubsampledDyads
from .vgae import GAE, VGAE

__all__ = [
    "DGLFRM",
    "GAE",
    "LFRM",
    "SBM",
    "VGAE",
    "BernoulliFeatures",
    "BlockBernoulli",
    "BlockNormal",
    "BlockPoisson",
    "Concrete",
    "Dyadic",
    "DyadicBernoulli",
    "DyadicNormal",
    "DyadicPoisson",
    "LogitConcrete",
    "NodeBlockDyads",
    "NodeStory",
    "StraightThrough",
    "StraightThroughBernoulli",
    "SubsampledDyads",
    "activation_logits",
    "activation_probabilities",
    "balanced_weights",
    "expected_active",
]
