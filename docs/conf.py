"""Sphinx: ``make docs`` renders this folder, the notebooks and the docstrings to docs/_build."""

from __future__ import annotations

import sys
from pathlib import Path

import graphlore

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "Graphlore"
author = "The Graphlore authors"
project_copyright = author
version = release = graphlore.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "crossrefs",
    "docstrings",
    "gathered",
    "mathml",
]
exclude_patterns = ["_build", "_extensions", "reference/_*"]
default_role = "literal"
nitpicky = True  # every cross-reference has to lead somewhere
# how signatures call the objects of other libraries; what can be imported needs no entry (crossrefs)
nitpick_ignore_regex = [
    ("py:.*", r"(np|nn|dist|nx|sp|pd|az)\..*"),
    ("py:.*", r"(collections\.abc\.)?(dict|Mapping)\[str"),  # Sphinx splits a type at its comma
    ("py:.*", r"Tensor|Data|Axes|Figure|Path|Kind|Callback"),
]

# -- pages and notebooks ---------------------------------------------------------------------------
myst_enable_extensions = ["attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks/execute.py has executed them, outputs and all
nb_merge_streams = True
suppress_warnings = ["misc.highlighting_failure"]  # shell lines of notebooks that go on below
nb_execution_cache_path = str(Path(__file__).parent / "_build" / "notebooks")
copybutton_prompt_text = r">>> |\$ "
copybutton_prompt_is_regexp = True

# -- docstrings ------------------------------------------------------------------------------------
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autosummary_generate = False
napoleon_numpy_docstring = False
napoleon_use_param = napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]
maximum_signature_line_length = 90
python_use_unqualified_type_names = True

# -- pages to look at ------------------------------------------------------------------------------
html_theme = "furo"
html_title = f"Graphlore {release}"
html_static_path = ["_static"]
html_css_files = ["graphlore.css"]
html_math_renderer = "mathml"
html_copy_source = html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0072b2", "color-brand-content": "#0072b2"},
    "dark_css_variables": {"color-brand-primary": "#56b4e9", "color-brand-content": "#56b4e9"},
}
pygments_style, pygments_dark_style = "tango", "github-dark"
