"""The pages say what happens: their code runs, their links lead somewhere, and no public name is left out."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
from pathlib import Path

import matplotlib
import pyro
import pytest

from graphlore import inference

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", DOCS / "index.md", *sorted((DOCS / "how_to").glob("*.md"))]
CODE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
STEPS = 12


@pytest.fixture
def few_steps(monkeypatch):
    """Every fit ends after a few steps, whatever the page says: its words are tried, not its results."""
    whole = inference.FitSettings.__post_init__

    def shortened(settings):
        for name, most in (("steps", STEPS), ("kl_warmup", 2), ("checkpoint_every", 5)):
            object.__setattr__(settings, name, min(getattr(settings, name), most))
        whole(settings)

    monkeypatch.setattr(inference.FitSettings, "__post_init__", shortened)


def blocks_of(page: Path) -> list[str]:
    return CODE.findall(page.read_text(encoding="utf-8"))


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("page", [p for p in PAGES if blocks_of(p)], ids=lambda page: page.stem)
def test_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with matplotlib.rc_context({"backend": "agg"}):
        names: dict = {"__name__": page.stem}
        for number, code in enumerate(blocks_of(page), 1):
            pyro.clear_param_store()
            exec(compile(code, f"{page.name}, block {number}", "exec"), names)
        matplotlib.pyplot.close("all")


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *patterns],
        cwd=ROOT, check=True, capture_output=True, encoding="utf-8",
    )  # fmt: skip
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).exists()]


def texts(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return [re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)]
    return ["".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "markdown"]


def test_relative_links_lead_to_files():
    dead, seen = [], 0
    for path in tracked("*.md", "*.ipynb"):
        for text in texts(path):
            for link in re.findall(r"\]\(<?([^)#\s>]+)[^)]*\)", text):
                if not re.match(r"[a-z]+:", link):
                    seen += 1
                    if not (path.parent / link).exists():
                        dead.append(f"{path.relative_to(ROOT)}: {link}")
    assert not dead
    assert seen > 20


@pytest.mark.parametrize("room", ["data", "models", "guides", "inference", "plots"])
def test_reference_has_every_public_name_once(room):
    page = (DOCS / "reference" / f"{room}.rst").read_text(encoding="utf-8")
    described = re.findall(r"^\.\. (?:auto\w+|data):: (\w+)$", page, re.MULTILINE)
    public = importlib.import_module(f"graphlore.{room}").__all__
    assert sorted(described) == sorted(public)
