"""predict, check, compare and data; what the tab key offers; what stands on which stream."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from command_line import ok

import graphlore
from graphlore import inference
from graphlore.data import Graph, karate, random_split, write_npz
from graphlore.inference import Fit, Recipe, fit_recipe


def told(*arguments):
    """What a command says with --json."""
    return json.loads(ok(*arguments, "--json").stdout)


def program(*arguments, cwd=None, **environment):
    """``graphlore ...`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "graphlore.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, **environment},
    )


def saved(folder, model, graph, fit=None, **story):
    """A short fit in a folder, without pictures."""
    steps = {"steps": 30, "kl_warmup": 0} if fit is None else fit
    fit_recipe(Recipe.default(model, **story).override(fit=steps), graph).save(folder)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Fits by name: two of one graph, and one with held-out pairs."""
    root = tmp_path_factory.mktemp("runs")
    split = random_split(karate(), seed=1)
    saved(root / "blocks", "sbm", karate(), num_blocks=2)
    saved(root / "one", "sbm", karate(), num_blocks=1)
    saved(root / "hidden", "sbm", split, num_blocks=2, bias="node", likelihood="poisson")
    write_npz(split.full, root / "hidden" / "full.npz")
    split.save(root / "hidden" / "split.npz")
    return root


# -- predict ----------------------------------------------------------------------------------------


def test_given_pairs_have_the_probabilities_of_the_fit(runs, tmp_path):
    (tmp_path / "p.csv").write_text("who,whom\nMr. Hi,Officer\nMember 3,Member 2\n")
    rows = told("predict", runs / "blocks", tmp_path / "p.csv", "--draws", 20)
    expected = Fit.load(runs / "blocks").link_probabilities([[0, 2], [33, 1]], 20)
    assert [r["probability"] for r in rows] == pytest.approx(expected.tolist(), rel=1e-6)
    assert [(r["source"], r["target"]) for r in rows] == [
        ("Mr. Hi", "Officer"),
        ("Member 3", "Member 2"),
    ]
    assert [r["observed"] for r in rows] == [0, 1]
    assert "expected" not in rows[0]


def test_top_links_are_ranked_and_of_the_kind_asked_for(runs):
    fitted = Fit.load(runs / "hidden")
    names = fitted.graph.names
    hidden = {frozenset((names[i], names[j])) for i, j in fitted.graph.missing.T.tolist()}
    rows = told("predict", runs / "hidden", "--top", 5, "--draws", 20)
    p = [r["probability"] for r in rows]
    assert len(rows) == 5
    assert p == sorted(p, reverse=True)
    assert {frozenset((r["source"], r["target"])) for r in rows} <= hidden
    assert all(r["observed"] is None and r["expected"] >= r["probability"] for r in rows)
    absent = told("predict", runs / "hidden", "--top", 3, "--among", "absent", "--draws", 20)
    assert [r["observed"] for r in absent] == [0, 0, 0]
    assert told("predict", runs / "blocks", "--top", 1)[0]["observed"] == 0, "none is missing"


def test_a_table_goes_to_a_file(runs, tmp_path):
    result = ok("predict", runs / "blocks", "--top", 4, "--out", tmp_path / "links.csv")
    assert "4 rows" in result.stdout
    with (tmp_path / "links.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["source", "target", "probability", "observed"]
    assert len(rows) == 4
    assert 0 < float(rows[0]["probability"]) < 1


def test_weights_are_predicted_as_such(tmp_path, main):
    graph = Graph(4, [[0, 1, 2], [1, 2, 3]], weights=[0.5, -1.5, 2.5], names=["a", "b", "c", "d"])
    saved(tmp_path / "w", "sbm", graph, num_blocks=1, likelihood="normal")
    (tmp_path / "p.csv").write_text("b,c\na,d\n")
    rows = told("predict", tmp_path / "w", tmp_path / "p.csv", "--draws", 10)
    expected = Fit.load(tmp_path / "w").expected_values([[1, 0], [2, 3]], 10).tolist()
    assert [r["expected"] for r in rows] == pytest.approx(expected, rel=1e-5)
    assert [r["observed"] for r in rows] == [-1.5, 0]
    assert "probability" not in rows[0]
    code, _, err = main("predict", tmp_path / "w", "--top", 3)
    assert (code, "give the pairs" in err) == (2, True)


def test_unseen_nodes_and_classes(tmp_path):
    """Another graph through the same encoder, and labels of a fit that generates them."""
    graph = karate().with_features(torch.eye(34)[:, :6] + 0.1 * torch.arange(6.0))
    short = {"steps": 5}
    saved(tmp_path / "v", "vgae", graph, short, dimension=3, num_classes=2)
    other = graph.subgraph(list(range(4, 20)))
    write_npz(other, tmp_path / "other.npz")
    rows = told("predict", tmp_path / "v", "--graph", tmp_path / "other.npz", "--top", 3)
    assert {r["source"] for r in rows} | {r["target"] for r in rows} <= set(other.names)
    classes = told("predict", tmp_path / "v", "--labels", "--draws", 30)
    p = Fit.load(tmp_path / "v").label_probabilities(30)
    assert [r["class"] for r in classes] == [graph.label_names[c] for c in p.argmax(-1).tolist()]
    assert [r["probability"] for r in classes] == pytest.approx(p.amax(-1).tolist(), rel=1e-5)
    assert classes[0]["observed"] == "Mr. Hi"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pairs.csv", "--top", "3"), ("exclude",)),
        (("--labels", "--top", "3"), ("classes of nodes",)),
        (("--top", "0"), ("at least 1",)),
        (("--among", "missing"), ("none missing", "--among absent")),
        (("--labels",), ("--classify",)),
        (("--graph", "karate"), ("encoder reads features",)),
        (("pairs.csv",), ("pairs.csv", "line 1", "'Oficer'", "Did you mean 'Officer'?")),
        (("none.csv",), ("No such file",)),
    ],
)
def test_what_cannot_be_predicted(main, runs, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.csv").write_text("Mr. Hi,Oficer\n")
    code, out, err = main("predict", runs / "blocks", *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    for word in words:
        assert word in err


# -- check and compare ------------------------------------------------------------------------------


def test_check_has_verdicts_calibration_and_the_guide(runs):
    found = told("check", runs / "hidden", "--draws", 100)
    assert set(found) == {"checks", "held_out", "guide", "warnings"}
    density = next(c for c in found["checks"] if c["statistic"] == "density")
    assert density["observed"] == pytest.approx(Fit.load(runs / "hidden").graph.density)
    assert all(c["verdict"] for c in found["checks"])
    evaluation = Fit.load(runs / "hidden").evaluate(random_split(karate(), seed=1), draws=100)
    assert found["held_out"]["ece"] == pytest.approx(evaluation.ece)
    quality = inference.guide_quality(Fit.load(runs / "hidden"), 1000)
    assert found["guide"]["k_hat"] == pytest.approx(quality.k_hat)
    text = ok("check", runs / "blocks", "--draws", 50).stdout
    for words in ("verdict", "triangles", "held-out pairs: none", "guide: k-hat"):
        assert words in text


def test_compare_ranks_by_the_names_of_the_folders(runs, tmp_path):
    picture = tmp_path / "comparison.png"
    found = told("compare", runs / "one", runs / "blocks", "--draws", 100, "--out", picture)
    assert found["picture"] == str(picture)
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    found = found["comparison"]
    assert {row["run"] for row in found} == {"one", "blocks"}
    assert found[0]["rank"] in (0, 1)
    fits = {name: Fit.load(runs / name) for name in ("one", "blocks")}
    assert [r["run"] for r in found] == list(inference.compare(fits, 100).index)
    assert "elpd" in ok("compare", runs / "one", runs / "blocks", "--draws", 50).stdout


def test_runs_that_cannot_be_compared(runs, main):
    for folders, word in (
        (("one",), "two fits or more"),
        (("one", "one"), "twice"),
        (("one", "hidden"), "different graphs"),
    ):
        code, out, err = main("compare", *(runs / f for f in folders), "--json")
        assert (code, out) == (2, "")
        assert word in err


# -- data -------------------------------------------------------------------------------------------


def test_the_known_datasets():
    rows = told("data")
    sets = ["cycles", "trees", "grids"]
    assert [r["name"] for r in rows] == ["karate", "cora", "citeseer", "pubmed", *sets]
    assert "embedded" in rows[0]["needs"]
    assert all(name in ok("data").stdout for name in ("karate", "2708", "PyTorch Geometric", *sets))


def test_a_known_graph_is_described():
    found = told("data", "karate")
    assert (found["nodes"], found["edges"], found["components"]) == (34, 78, 1)
    assert found["mean_degree"] == pytest.approx(156 / 34)
    assert found["largest_degrees"] == "Officer (17), Mr. Hi (16), Member 33 (12)"
    assert "Mr. Hi (17)" in found["labels"]
    assert [s["command"].split()[1] for s in found["stories"]] == ["sbm", "lfrm", "dglfrm", "vgae"]


def test_a_messy_file_is_described(tmp_path):
    path = tmp_path / "friends.csv"
    path.write_text("\ufeffAnn;Bob;2\nBob;Ann;1\n\nBob;Bob;1\nCy;Dee;3\n", encoding="utf-8")
    found = told("data", path)
    assert (found["nodes"], found["edges"], found["components"]) == (4, 2, 2)
    assert "semicolons" in found["read_as"]
    assert any("1 self-loops and 1 repeated" in n and "--clean" in n for n in found["notes"])
    assert any("--weights" in n for n in found["notes"])
    weighted = told("data", path, "--weights")
    assert weighted["weights"] == "counts, 3 to 3"
    assert all("--likelihood poisson" in s["command"] for s in weighted["stories"])


def test_a_header_can_be_said(tmp_path):
    path = tmp_path / "friends.csv"
    path.write_text("vorname,kennt\nAnn,Bob\nBob,Cy\n")
    assert told("data", path)["nodes"] == 5
    assert told("data", path, "--header")["nodes"] == 3


def test_what_is_no_graph(main, tmp_path):
    (tmp_path / "bad.csv").write_text("Ann,Bob\nCy\n")
    for name, words in (
        ("karat", ("'karat'", "Did you mean 'karate'?")),
        (tmp_path / "bad.csv", ("bad.csv", "line 2")),
        (tmp_path / "none.csv", ("No such file",)),
    ):
        code, out, err = main("data", name)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert all(word in err for word in words)


def test_what_is_wrong_is_said_in_words_of_the_shell(main, tmp_path):
    (tmp_path / "friends.csv").write_text("Ann,Bob,2\nBob,Ann,1\nBob,Cy,3\n")
    code, out, err = main("fit", tmp_path / "friends.csv", "--quiet")
    assert (code, out) == (2, "")
    assert "--clean drops them" in err
    assert "line 2" in err
    assert "clean=True" not in err


# -- streams, completion, exit codes ----------------------------------------------------------------


def test_the_version():
    assert ok("--version").stdout == f"graphlore {graphlore.__version__}\n"


def test_help_says_the_exit_codes():
    text = " ".join(ok("--help").stdout.split())
    assert "0 done" in text
    assert "130 interrupted" in text


def completed(line, cwd):
    """What the tab key offers at the end of a line, through the mechanism that the shells call."""
    words = line.split(" ")
    done = program(
        cwd=cwd,
        _GRAPHLORE_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD=str(len(words) - 1),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_tab_key(tmp_path):
    for run in ("runs/a", "runs/b", "other"):
        (tmp_path / run).mkdir(parents=True)
    for run in ("runs/a", "runs/b"):
        (tmp_path / run / "settings.json").write_text("{}")
    assert completed("graphlore fit ka", tmp_path) == ["karate"]
    assert completed("graphlore data c", tmp_path) == ["cora", "citeseer", "cycles"]
    assert completed("graphlore report ", tmp_path) == ["runs/a", "runs/b"]
    assert completed("graphlore compare runs/a runs/b", tmp_path) == ["runs/b"]
    assert completed("graphlore fit karate --model dg", tmp_path) == ["dglfrm", "dglfrm-b"]
    assert completed("graphlore fit karate --gradient di", tmp_path) == ["disarm"]
    assert "predict" in completed("graphlore p", tmp_path)


def test_completion_does_not_load_torch():
    code = (
        "import sys\nfrom graphlore.cli import options\n"
        "assert options.complete_graph('c') == ['cora', 'citeseer', 'cycles']\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_in_a_pipe_json_is_alone_and_progress_is_ten_lines(tmp_path):
    """Warnings and progress go to standard error, one line each however narrow the terminal claims to be."""
    (tmp_path / "friends of mine.csv").write_text("Ann,Bob,2\nBob,Cy,1\nCy,Dee,1\nDee,Ann,5\n")
    code = (
        "import sys, json\n"
        "from graphlore import cli, plots\n"
        "def write(fit, folder, **_):\n"
        "    (folder / 'numbers.json').write_text('{\"numbers\": {\"x\": NaN}}')\n"
        "    return folder / 'report.html', None, None\n"
        "plots.write_results = write\n"
        "cli.main()\n"
    )

    def fit(*options):
        return subprocess.run(
            [
                sys.executable,
                "-c",
                code,
                "fit",
                "friends of mine.csv",
                "--model",
                "sbm",
                "--steps",
                "33",
                *options,
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "40"},
        )

    alone = fit("--json", "--truncation", "2")
    assert alone.returncode == 0, alone.stderr
    found = json.loads(alone.stdout)
    assert found["numbers"] == {"x": None}, "NaN is no JSON"
    assert len(alone.stdout.splitlines()) == 1
    warning = [line for line in alone.stderr.splitlines() if "ignored" in line]
    assert len(warning) == 1
    assert "friends of mine.csv" in warning[0]
    shown = fit("--truncation", "2")
    steps = [line for line in shown.stderr.splitlines() if line.startswith("step ")]
    assert len(steps) == 10
    assert steps[-1].startswith("step 33/33")
    assert "\x1b" not in shown.stderr + shown.stdout


def test_an_interrupted_program_ends_with_130(tmp_path):
    """Control-C while fitting, as a shell sends it."""
    running = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "graphlore.cli",
            "fit",
            "karate",
            "--model",
            "sbm",
            "--steps",
            "1000000",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        text=True,
        # a suite that runs in the background of a shell was told to ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "runs").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(1.0)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130, err
    assert out == ""
    assert "--resume" in err
    assert "Traceback" not in err
