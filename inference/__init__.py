"""From a story, a guide and a graph to a posterior: gradients, the SVI loop, predictions, checks, ArviZ."""

from ._arviz import from_netcdf
from .classify import Classification
from .disarm import DisarmELBO
from .elbo import DyadicELBO, InferenceError
from .evaluate import ActiveCommunities, Evaluation
from .fitted import Fit, NodePosterior
from .generate import generate_prior
from .posterior import Check, posterior_predictive_check
from .predict import probability_rows
from .recipe import Recipe
from .restarts import fit_recipe
from .seeds import seeded
from .settings import FitSettings
from .training import fit

__all__ = [
    "ActiveCommunities",
    "Check",
    "Classification",
    "DisarmELBO",
    "DyadicELBO",
    "Evaluation",
    "Fit",
    "FitSettings",
    "InferenceError",
    "NodePosterior",
    "Recipe",
    "fit",
    "fit_recipe",
    "from_netcdf",
    "generate_prior",
    "posterior_predictive_check",
    "probability_rows",
    "seeded",
]
