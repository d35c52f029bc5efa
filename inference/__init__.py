"""From a story, a guide and a graph to a posterior: gradients, the SVI loop, predictions, checks, ArviZ."""

from ._arviz import from_netcdf
from .diagnostics import mcmc_diagnostics
from .disarm import DisarmELBO
from .elbo import DyadicELBO, InferenceError
from .enumeration import Enumeration, enumerate_posterior
from .evaluate import ActiveCommunities, Evaluation
from .fitted import Fit, NodePosterior
from .generate import generate_prior
from .geweke import geweke_test
from .importance import log_importance_weights
from .kernel import GibbsNUTS
from .mcmc import fit_mcmc
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
    "DisarmELBO",
    "DyadicELBO",
    "Enumeration",
    "Evaluation",
    "Fit",
    "FitSettings",
    "GibbsNUTS",
    "InferenceError",
    "NodePosterior",
    "Recipe",
    "enumerate_posterior",
    "fit",
    "fit_mcmc",
    "fit_recipe",
    "from_netcdf",
    "generate_prior",
    "geweke_test",
    "log_importance_weights",
    "mcmc_diagnostics",
    "posterior_predictive_check",
    "probability_rows",
    "seeded",
]
