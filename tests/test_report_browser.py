"""The report of a run in a headless browser: it opens without the network, and nothing complains."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from graphlore.data import karate, random_split
from graphlore.inference import Recipe, fit_recipe
from graphlore.plots import write_results

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
    "--dump-dom",
]
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on the PATH")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    split = random_split(karate(), seed=1)
    recipe = Recipe.default("sbm", num_blocks=2, bias="node", likelihood="poisson")
    fitted = fit_recipe(recipe.override(fit={"steps": 40}), split)
    path, _, _ = write_results(
        fitted, folder, split=split, draws=100, reproduce="graphlore fit karate"
    )
    return path


def opened(page: Path, profile: Path) -> tuple[str, list[str]]:
    """(the page as the browser understood it, what its console said)."""
    done = subprocess.run(
        [
            str(BROWSER),
            *FLAGS,
            f"--user-data-dir={profile}",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            page.resolve().as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


@needs_browser
def test_the_report_opens_and_its_console_is_silent(page, tmp_path):
    dom, console = opened(page, tmp_path)
    assert console == []
    for words in (
        "In short",
        "SBM on karate",
        "Who is together",
        "Most surprising links",
        "k-hat",
        "Held-out pairs",
    ):
        assert words in dom
    # what the browser made of the file is whole, and it has dropped nothing of it
    written = page.read_text(encoding="utf-8")
    for element in ("<figure", "<table", "<h2", "<h3", "<img"):
        assert dom.count(element) == written.count(element) > 0


@needs_browser
def test_a_page_that_fetches_or_runs_something_is_noticed(page, tmp_path):
    """The console does tell, so that its silence above means something."""
    spoilt = tmp_path / "spoilt.html"
    text = page.read_text(encoding="utf-8")
    spoilt.write_text(
        text.replace("</main>", '<img src="https://graphlore.invalid/x.png"></main>'), "utf-8"
    )
    _, console = opened(spoilt, tmp_path / "profile")
    assert any("Content Security Policy" in line for line in console)


def test_the_report_names_no_place_to_load_from(page):
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    outside = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(
        r"(https?|ftp|file|ws)://|src=[\"'](?!data:|\")", outside.replace('src=""', "")
    )
    assert "<script" not in text


def test_the_report_says_in_short_what_was_found(page):
    text = page.read_text(encoding="utf-8")
    short = text.partition('id="summary"')[2].partition("</section>")[0]
    sentences = re.findall(r"<p>(.*?)</p>", short, re.DOTALL)
    assert len(sentences) == 2
    assert "34 nodes of karate" in sentences[0]
    assert "2 groups" in sentences[0]
    assert re.search(r"finds the linked one \d+% of the time", sentences[1])
    predictions = text.partition('id="predictions"')[2].partition("</section>")[0]
    names = set(re.findall(r'<th scope="row">(.*?)</th>', predictions))
    assert names <= set(karate().names)
    assert names
