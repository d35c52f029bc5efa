"""The examples in docstrings say what happens."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import graphlore


def test_examples_in_docstrings():
    found = pkgutil.walk_packages(graphlore.__path__, "graphlore.")
    rooms = ("data", "models", "guides", "inference", "plots", "cli")
    names = [m.name for m in found if m.name.split(".")[1] in rooms]
    assert len(names) > 30
    results = {n: doctest.testmod(importlib.import_module(n)) for n in ["graphlore", *names]}
    assert {n: r.failed for n, r in results.items() if r.failed} == {}
