"""Variational families: the GCN encoder, the mean-field and structured mean-field guides."""

from .encoder import GCNEncoder, normalised_adjacency
from .kumaraswamy import Kumaraswamy
from .mean_field import MeanField, StructuredMeanField

__all__ = ["GCNEncoder", "Kumaraswamy", "MeanField", "StructuredMeanField", "normalised_adjacency"]
