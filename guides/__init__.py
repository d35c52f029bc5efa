"""Variational families: encoders, and the guides of the node-level stories."""

from .base import NodeGuide
from .categorical import AmortisedCategorical
from .destructor import Destructor, Reordered, removals
from .encoder import GCNEncoder, normalised_adjacency
from .free import FreeEncoder
from .kumaraswamy import Kumaraswamy
from .mean_field import MeanField, StructuredMeanField
from .normal import AmortisedNormal, AmortisedPoint
from .spectral import spectral_blocks

__all__ = [
    "AmortisedCategorical",
    "AmortisedNormal",
    "AmortisedPoint",
    "Destructor",
    "FreeEncoder",
    "GCNEncoder",
    "Kumaraswamy",
    "MeanField",
    "NodeGuide",
    "Reordered",
    "StructuredMeanField",
    "normalised_adjacency",
    "removals",
    "spectral_blocks",
]
