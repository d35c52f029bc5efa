"""Pictures of graphs, fits and posteriors, and the HTML report.

Every picture is one call, ``plots.x(data, ..., ax=None)``, that returns the matplotlib axes it drew
into; nothing is shown, and no global setting of matplotlib is changed.
"""

from __future__ import annotations

from .checks import (
    STATISTICS,
    degrees,
    p_value,
    posterior_predictive,
    verdict,
)
from .communities import communities
from .comparison import membership_comparison
from .embedding import embedding
from .film import film_strip
from .gallery import save_all
from .generated import generated, generated_set
from .graph_sets import graph_sizes, latent_map, steering
from .graphs import adjacency
from .held_out import (
    HeldOutPairs,
    Reliability,
    calibration,
    held_out,
    held_out_pairs,
    link_prediction,
    precision_recall,
    reliability,
    roc,
)
from .latents import memberships, sticks, strengths
from .maths import formula_html
from .model_comparison import comparison
from .ordering import Order, drawing_order, node_order, spectral_order
from .report import write_report
from .results import write_results
from .sbc import sbc
from .set_results import set_facts, write_set_results
from .training import active_communities, elbo, epochs, running_median

__all__ = [
    "STATISTICS",
    "HeldOutPairs",
    "Order",
    "Reliability",
    "active_communities",
    "adjacency",
    "calibration",
    "communities",
    "comparison",
    "degrees",
    "drawing_order",
    "elbo",
    "embedding",
    "epochs",
    "film_strip",
    "formula_html",
    "generated",
    "generated_set",
    "graph_sizes",
    "held_out",
    "held_out_pairs",
    "latent_map",
    "link_prediction",
    "membership_comparison",
    "memberships",
    "node_order",
    "p_value",
    "posterior_predictive",
    "precision_recall",
    "reliability",
    "roc",
    "running_median",
    "save_all",
    "sbc",
    "set_facts",
    "spectral_order",
    "steering",
    "sticks",
    "strengths",
    "verdict",
    "write_report",
    "write_results",
    "write_set_results",
]
