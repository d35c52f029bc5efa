"""From a story, a guide and a graph to a posterior: gradients, the SVI loop, predictions, checks, ArviZ."""

from ._arviz import from_netcdf
from .alignment import (
    align_draws,
    match_communities,
    matched_auc,
    overlap_with,
    relabel_draws,
)
from .classify import Classification
from .communities import (
    NumberOfCommunities,
    average_f1,
    disjoint_scores,
    number_of_communities,
    omega_index,
    overlapping_nmi,
)
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
from .selection import compare, truncation_warning
from .settings import FitSettings
from .training import fit

__all__ = [
    "ActiveCommunities",
    "Check",
    "Classification",
    "DisarmELBO",
    "DyadicELBO",
    "Enumeration",
    "Evaluation",
    "Fit",
    "FitSettings",
    "GibbsNUTS",
    "InferenceError",
    "NodePosterior",
    "NumberOfCommunities",
    "Recipe",
    "align_draws",
    "average_f1",
    "compare",
    "disjoint_scores",
    "enumerate_posterior",
    "fit",
    "fit_mcmc",
    "fit_recipe",
    "from_netcdf",
    "generate_prior",
    "geweke_test",
    "log_importance_weights",
    "match_communities",
    "matched_auc",
    "mcmc_diagnostics",
    "number_of_communities",
    "omega_index",
    "overlap_with",
    "overlapping_nmi",
    "posterior_predictive_check",
    "probability_rows",
    "relabel_draws",
    "seeded",
    "truncation_warning",
]
