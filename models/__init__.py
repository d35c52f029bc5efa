"""Generative stories, one file each, and what they share: sticks, the dyadic likelihood, the relaxation."""

from .base import NodeStory
from .blocks import BlockBernoulli, BlockNormal, BlockPoisson
from .concrete import Concrete, LogitConcrete, StraightThrough, StraightThroughBernoulli
from .dglfrm import DGLFRM
from .dyadic import Dyadic
from .features import BernoulliFeatures
from .laws import DyadicBernoulli, DyadicNormal, DyadicPoisson, balanced_weights
from .lfrm import LFRM
from .message_passing import Arcs, GatedSum, PairScore, Propagation
from .sbm import SBM
from .sggn import SGGN
from .sgvae import SGVAE
from .sticks import activation_logits, activation_probabilities, expected_active
from .subsampled import BatchDyads, NodeBlockDyads, SubsampledDyads
from .vgae import GAE, VGAE

__all__ = [
    "DGLFRM",
    "GAE",
    "LFRM",
    "SBM",
    "SGGN",
    "SGVAE",
    "VGAE",
    "Arcs",
    "BatchDyads",
    "BernoulliFeatures",
    "BlockBernoulli",
    "BlockNormal",
    "BlockPoisson",
    "Concrete",
    "Dyadic",
    "DyadicBernoulli",
    "DyadicNormal",
    "DyadicPoisson",
    "GatedSum",
    "LogitConcrete",
    "NodeBlockDyads",
    "NodeStory",
    "PairScore",
    "Propagation",
    "StraightThrough",
    "StraightThroughBernoulli",
    "SubsampledDyads",
    "activation_logits",
    "activation_probabilities",
    "balanced_weights",
    "expected_active",
]
