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

from graphlore import inference, models

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    DOCS / "index.md",
    DOCS / "gallery.md",
    DOCS / "checking.md",
    *sorted((DOCS / "how_to").glob("*.md")),
]
CODE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
STEPS, DRAWS = 12, 30


@pytest.fixture
def few_steps(monkeypatch):
    """Few steps and draws, whatever the page says: its words are tried, not its results."""

    def shorten(settings, **most):
        whole = settings.__post_init__

        def shortened(self):
            for name, limit in most.items():
                object.__setattr__(self, name, min(getattr(self, name), limit))
            whole(self)

        monkeypatch.setattr(settings, "__post_init__", shortened)

    shorten(inference.FitSettings, steps=STEPS, kl_warmup=2, checkpoint_every=5)
    shorten(inference.SequentialSettings, epochs=1, warmup=0)
    sbc, posterior = inference.sbc, inference.Fit.posterior

    def few_simulations(*given, **options):
        return sbc(*given, **{**options, "simulations": 10})

    monkeypatch.setattr(inference, "sbc", few_simulations)

    def few_draws(fit, draws=500, *others, **options):
        return posterior(fit, min(draws, DRAWS), *others, **options)

    monkeypatch.setattr(inference.Fit, "posterior", few_draws)


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


def sites_of(symbol_rows: list[list[str]], story: str) -> set[str]:
    """Sites that docs/symbols.md says a story has, options or not."""
    found = set()
    for _, site, _, stories, _ in symbol_rows:
        says_all = stories.startswith("all")
        excluded = f"all but {story}" in stories
        named = re.search(rf"(?<!not )\b{story}\b(?!-)", stories.replace("all but SBM", ""))
        if (says_all and not excluded) or named:
            found.add(site.strip("`"))
    return found


def test_symbols_are_the_sites_of_the_stories():
    text = (DOCS / "symbols.md").read_text(encoding="utf-8").split("## Sequential")[0]
    lines = [line for line in text.splitlines() if line.startswith("| $")]
    table = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    N, K = 7, 3
    shapes = {row[1].strip("`"): row[4] for row in table}
    told = {"features": "normal", "num_features": 4, "num_classes": 2}
    many = {  # with the options under which the sites of the table appear
        "SBM": [{"likelihood": law, "bias": "node"} for law in ("bernoulli", "poisson", "normal")],
        "LFRM": [{"bias": "node"}, {"likelihood": "normal", "sticks": "local"}],
        "DGLFRM": [{"bias": "node", **told}, {"likelihood": "normal", "sticks": "local"}],
        "VGAE": [{"bias": "node", "num_classes": 2}, {"likelihood": "normal"}],
    }
    size = {"SBM": "num_blocks", "VGAE": "dimension"}
    words = {(K,): "(K,)", (N,): "(N,)", (N, K): "(N, K)", (N, N): "(N, N)", (): "()"}
    free = (K * (K + 1) // 2,)
    for name, options in many.items():
        seen = set()
        for chosen in options:
            story = getattr(models, name)(N, **{size.get(name, "truncation"): K}, **chosen)
            trace = pyro.poutine.trace(story).get_trace()
            for site, node in trace.nodes.items():
                if node["type"] != "sample" or site == "nodes":
                    continue
                seen.add(site)
                shape = tuple(node["value"].shape)
                if shape == free:
                    assert "free entries" in shapes[site] or shapes[site] == "the same"
                elif site == "features":
                    assert (shape, shapes[site]) == ((N, 4), "(N, D)")
                elif name == "VGAE" and site == "embedding":
                    assert shapes[site].startswith("(N, D)")
                else:
                    assert words[shape] in shapes[site], (name, site, shape)
        assert seen == sites_of(table, name), name
