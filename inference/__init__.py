"""From a story, a guide and a graph to a posterior: gradients, the SVI loop, predictions, checks, ArviZ."""

from ._arviz import from_netcdf
from .disarm import DisarmELBO
from .elbo import DyadicELBO, InferenceError
from .evaluate import ActiveCommunities, Evaluation
from .fitted import Fit, NodePosterior
from .generate import generate_prior
from .graph_metrics import isomorphism_classes, mmd, novelty, uniqueness, valid
from .latent_metrics import (
    MutualInformation,
    Steering,
    draw_graphs,
    mutual_information,
    principal_axis,
    steer,
)
from .ordered import fit_ordered, log_prob_ordered, marginal_over_orders
from .posterior import Check, posterior_predictive_check
from .predict import probability_rows
from .recipe import Recipe
from .restarts import fit_recipe
from .seeds import seeded
from .sequential import SequentialFit, SequentialSettings, fit_sequential
from .sequential_bounds import (
    LogLikelihood,
    exact_log_likelihood,
    importance_log_likelihood,
    log_automorphisms,
)
from .settings import FitSettings
from .training import fit

__all__ = [
    "ActiveCommunities",
    "Check",
    "DisarmELBO",
    "DyadicELBO",
    "Evaluation",
    "Fit",
    "FitSettings",
    "InferenceError",
    "LogLikelihood",
    "MutualInformation",
    "NodePosterior",
    "Recipe",
    "SequentialFit",
    "SequentialSettings",
    "Steering",
    "draw_graphs",
    "exact_log_likelihood",
    "fit",
    "fit_ordered",
    "fit_recipe",
    "fit_sequential",
    "from_netcdf",
    "generate_prior",
    "importance_log_likelihood",
    "isomorphism_classes",
    "log_automorphisms",
    "log_prob_ordered",
    "marginal_over_orders",
    "mmd",
    "mutual_information",
    "novelty",
    "posterior_predictive_check",
    "principal_axis",
    "probability_rows",
    "seeded",
    "steer",
    "uniqueness",
    "valid",
]
