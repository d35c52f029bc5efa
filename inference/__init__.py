"""From a story, a guide and a graph to a posterior: gradients, the SVI loop, predictions, checks, ArviZ."""

from ._arviz import from_netcdf, to_netcdf
from .alignment import (
    align_draws,
    match_communities,
    matched_auc,
    overlap_with,
    relabel_draws,
)
from .checkpoint import has_checkpoint
from .checks import Check, Checks, posterior_predictive_check
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
from .fit_set import fit_set
from .fitted import Fit, NodePosterior
from .generate import generate_prior
from .geweke import geweke_test
from .graph_metrics import (
    family_of,
    isomorphism_classes,
    mmd,
    novelty,
    orbit_counts,
    uniqueness,
    valid,
)
from .guide_quality import GuideQuality, guide_quality
from .heap import keep_freed_memory
from .importance import log_importance_weights
from .job import join_job
from .kernel import GibbsNUTS
from .latent_metrics import (
    MutualInformation,
    Steering,
    draw_graphs,
    encode_graphs,
    mutual_information,
    principal_axis,
    steer,
)
from .lock import locked
from .mcmc import fit_mcmc
from .molecules import smiles
from .numbering import align_posterior
from .ordered import fit_ordered, log_prob_ordered, marginal_over_orders
from .posterior import prior_predictive
from .predict import probability_rows
from .prior import prior_draw
from .recipe import Recipe
from .restarts import fit_recipe
from .sbc import SBC, sbc, sbc_fit, sbc_mcmc
from .sbc_statistics import sbc_statistics
from .seeds import seeded
from .selection import compare, truncation_warning
from .sequential import fit_sequential
from .sequential_bounds import (
    LogLikelihood,
    exact_log_likelihood,
    importance_log_likelihood,
    log_automorphisms,
)
from .sequential_fit import SequentialFit
from .sequential_settings import OrderedSettings, SequentialSettings
from .set_evaluation import SetEvaluation, evaluate_set
from .set_recipe import SetRecipe
from .settings import FitSettings
from .training import fit

__all__ = [
    "SBC",
    "ActiveCommunities",
    "Check",
    "Checks",
    "Classification",
    "DisarmELBO",
    "DyadicELBO",
    "Enumeration",
    "Evaluation",
    "Fit",
    "FitSettings",
    "GibbsNUTS",
    "GuideQuality",
    "InferenceError",
    "LogLikelihood",
    "MutualInformation",
    "NodePosterior",
    "NumberOfCommunities",
    "OrderedSettings",
    "Recipe",
    "SequentialFit",
    "SequentialSettings",
    "SetEvaluation",
    "SetRecipe",
    "Steering",
    "align_draws",
    "align_posterior",
    "average_f1",
    "compare",
    "disjoint_scores",
    "draw_graphs",
    "encode_graphs",
    "enumerate_posterior",
    "evaluate_set",
    "exact_log_likelihood",
    "family_of",
    "fit",
    "fit_mcmc",
    "fit_ordered",
    "fit_recipe",
    "fit_sequential",
    "fit_set",
    "from_netcdf",
    "generate_prior",
    "geweke_test",
    "guide_quality",
    "has_checkpoint",
    "importance_log_likelihood",
    "isomorphism_classes",
    "join_job",
    "keep_freed_memory",
    "locked",
    "log_automorphisms",
    "log_importance_weights",
    "log_prob_ordered",
    "marginal_over_orders",
    "match_communities",
    "matched_auc",
    "mcmc_diagnostics",
    "mmd",
    "mutual_information",
    "novelty",
    "number_of_communities",
    "omega_index",
    "orbit_counts",
    "overlap_with",
    "overlapping_nmi",
    "posterior_predictive_check",
    "principal_axis",
    "prior_draw",
    "prior_predictive",
    "probability_rows",
    "relabel_draws",
    "sbc",
    "sbc_fit",
    "sbc_mcmc",
    "sbc_statistics",
    "seeded",
    "smiles",
    "steer",
    "to_netcdf",
    "truncation_warning",
    "uniqueness",
    "valid",
]
