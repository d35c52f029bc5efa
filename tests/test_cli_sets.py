"""The command line on sets of graphs."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest
from command_line import ok

from graphlore.data import (
    GraphSet,
    cycles,
    karate,
    read_graphset,
    write_graphset,
    write_npz,
)
from graphlore.data.fingerprint import fingerprint_of_set
from graphlore.inference import SequentialFit, evaluate_set

FEW = ["--epochs", "2", "--draws", "30"]


@pytest.fixture(scope="module", params=["sgvae", "sggn"])
def run(request, tmp_path_factory):
    """A run on rings of a file, and what it printed."""
    root = tmp_path_factory.mktemp("sets")
    file = write_graphset(cycles(10, [3, 4], seed=0), root / "rings.npz")
    # what an untrained story draws is large, and no two alike
    (root / "small.toml").write_text("[story]\nmax_nodes = 6\n")
    model = ["--model", request.param, "--recipe", root / "small.toml"]
    result = ok("fit", file, *model, "--out", root / "run", "--json", "--seed", "3", *FEW)
    return root / "run", result


def refused(found, *words):
    code, out, err = found
    assert (code, out, len(err.strip().splitlines())) == (2, "", 1), err
    for word in words:
        assert word in err


def test_a_fit_writes_all_files_of_a_run(run):
    folder, result = run
    written = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert written >= {
        "settings.json",
        "weights.safetensors",
        "history.json",
        "graphs.npz",
        "checkpoint.safetensors",
        "numbers.json",
        "report.html",
        "pictures/epochs.png",
        "pictures/generated_set.png",
        "pictures/graph_sizes.png",
    }
    assert len(result.stdout.strip().splitlines()) == 1
    told = json.loads(result.stdout)
    assert told["folder"] == str(folder)
    saved = json.loads((folder / "numbers.json").read_text())
    assert {k: told[k] for k in saved} == saved
    settings = json.loads((folder / "settings.json").read_text())
    assert (settings["fit"]["seed"], settings["fit"]["epochs"]) == (3, 2)


def test_a_run_that_is_done_resumes_to_itself(run):
    folder, _ = run
    before = (folder / "weights.safetensors").read_bytes()
    settings = json.loads((folder / "settings.json").read_text())
    options = ["--recipe", folder / "settings.json", "--out", folder, "--resume", "--json"]
    ok("fit", folder / "graphs.npz", *options, "--draws", "20")
    assert (folder / "weights.safetensors").read_bytes() == before
    assert json.loads((folder / "settings.json").read_text())["fit"] == settings["fit"]


def test_evaluate_and_report_have_the_numbers_of_the_evaluation(run):
    folder, _ = run
    told = json.loads(ok("evaluate", folder, "--draws", 25, "--json").stdout)
    found = evaluate_set(SequentialFit.load(folder), 25)[0].to_dict()
    assert told == json.loads(json.dumps(found))
    assert "valid" in ok("evaluate", folder, "--draws", 25).stdout
    (folder / "report.html").unlink()
    assert "report.html" in ok("report", folder, "--draws", 25).stdout.replace("\n", "")
    again = json.loads((folder / "numbers.json").read_text())["evaluation"]
    assert again == told


def test_generated_graphs_are_those_of_the_fit(run, tmp_path):
    folder, _ = run
    drawn = SequentialFit.load(folder).generate(5, seed=2)
    told = json.loads(
        ok("generate", folder, "--count", 5, "--seed", 2, "--out", tmp_path / "d", "--json").stdout
    )
    assert [r["nodes"] for r in told] == drawn.num_nodes.tolist()
    assert [r["edges"] for r in told] == drawn.edge_ptr.diff().tolist()
    for row, (start, end) in zip(told, pairwise(drawn.edge_ptr.tolist()), strict=True):
        with open(row["file"], encoding="utf-8") as file:
            lines = list(csv.reader(file))
        assert lines[0] == ["source", "target"]
        assert [[int(a), int(b)] for a, b in lines[1:]] == drawn.edge_index[:, start:end].T.tolist()
    one = ["generate", folder, "--count", 5, "--seed", 2, "--out", tmp_path / "d.npz", "--json"]
    assert json.loads(ok(*one).stdout)["graphs"] == 5
    assert fingerprint_of_set(read_graphset(tmp_path / "d.npz")) == fingerprint_of_set(drawn)


@pytest.mark.parametrize("command", ["predict", "check", "compare"])
def test_commands_for_one_graph_refuse_a_set(run, main, command):
    more = (run[0].parent,) if command == "compare" else ()
    refused(
        main(command, run[0], *more), "a fit to a set of graphs", "evaluate, generate and report"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("evaluate", "--part", "val"), ("--part", "held out")),
        (("generate", "--from", "posterior"), ("'prior'",)),
        (("generate", "--count", "0"), ("count is at least 1",)),
        (("report", "--draws", "0"), ("draws", "at least 1")),
    ],
)
def test_options_that_a_run_of_a_set_refuses(run, main, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    refused(main(arguments[0], run[0], *arguments[1:]), *words)
    assert not (tmp_path / "generated").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cycles",), ("cycles is a set of graphs", "dglfrm", "--model sgvae", "--model sggn")),
        (("set.npz", "--model", "sbm"), ("set.npz is a set of graphs", "sbm")),
        (("karate", "--model", "sgvae"), ("karate is one graph", "cycles, trees, grids")),
        (("one.npz", "--model", "sgvae"), ("one.npz lacks edge_ptr", "A set of graphs has")),
        (("e.csv", "--model", "sggn"), ("e.csv is no .npz file",)),
        (("cicles", "--model", "sggn"), ("'cicles'", "Did you mean 'cycles'?")),
        (("cycles", "--model", "sgvae", "--truncation", "3"), ("--truncation", "--epochs")),
        (("cycles", "--model", "sgvae", "--steps", "3"), ("--steps", "--epochs")),
        (("cycles", "--model", "sgvae", "--hold-out"), ("--hold-out",)),
        (("cycles", "--model", "sgvae", "--order", "random"), ("--order", "sggn")),
        (("cycles", "--model", "sgvae", "--epochs", "0"), ("epochs is at least 1",)),
        (("cycles", "--model", "sgvae", "--draws", "0"), ("--draws is at least 1",)),
        (("cycles", "--model", "sggn", "--device", "cuda:99"), ("device",)),
        (("cycles", "--model", "sggn", "--resume"), ("checkpoint.safetensors",)),
        (("cycles", "--model", "sggn", "--recipe", "r.toml"), ("r.toml", "sgvae", "sggn")),
        (("karate", "--epochs", "3"), ("--epochs", "--steps")),
        (("karate", "--order", "random"), ("--order", "sets of graphs")),
        (("set.npz", "--model", "sgvae", "--node-types", "atoms"), ("lacks atoms",)),
    ],
)
def test_what_fit_refuses(main, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    write_graphset(cycles(4, [3]), tmp_path / "set.npz")
    write_npz(karate(), tmp_path / "one.npz")
    (tmp_path / "e.csv").write_text("0,1\n")
    (tmp_path / "r.toml").write_text('[story]\nname = "SGVAE"\n')
    refused(main("fit", *arguments, "--quiet", "--out", tmp_path / "run"), *words)


def test_orders_and_types_reach_the_fit(tmp_path):
    import numpy as np

    arrays = {"num_nodes": [3, 3], "edge_index": [[0, 1] * 2, [1, 2] * 2], "edge_ptr": [0, 2, 4]}
    np.savez(tmp_path / "m.npz", **arrays, atoms=[6, 8, 6, 6, 6, 1], bonds=[1, 2, 2, 2])
    options = ["--node-types", "atoms", "--edge-types", "bonds", "--order", "random"]
    options += ["--batch-size", "2", "--out", tmp_path / "run", "--quiet", *FEW]
    (tmp_path / "small.toml").write_text("[story]\nmax_nodes = 6\n")
    options += ["--recipe", tmp_path / "small.toml"]
    ok("fit", tmp_path / "m.npz", "--model", "sggn", *options)
    fit = SequentialFit.load(tmp_path / "run")
    assert (fit.story.node_types, fit.story.edge_types) == (3, 2)
    assert (fit.settings.order, fit.settings.batch_size) == ("random", 2)
    assert fit.graphs.node_types.tolist() == [1, 2, 1, 1, 1, 0]
    folder = tmp_path / "drawn"
    ok("generate", tmp_path / "run", "--out", folder, "--count", "3")
    assert (folder / "graph_0000.csv").read_text().startswith("source,target")


def test_a_set_is_described(tmp_path):
    found = json.loads(ok("data", "cycles", "--json").stdout)
    assert (found["graphs"], found["all_graphs_are"]) == (100, "rings")
    assert [s["command"] for s in found["stories"]] == ["--model sgvae", "--model sggn"]
    assert "graphlore fit trees --model sgvae" in ok("data", "trees").stdout
    mixed = GraphSet([3, 4], [[0], [1]], [0, 0, 1], node_types=[0, 1, 1, 0, 2, 1, 1])
    file = write_graphset(mixed, tmp_path / "mixed.npz")
    found = json.loads(ok("data", file, "--json").stdout)
    assert (found["node_types"], found["all_graphs_are"]) == (3, "of no known family")


def test_options_of_data_are_for_one_or_for_many(main):
    refused(main("data", "cycles", "--directed"), "--directed", "one graph")
    refused(main("data", "karate", "--node-types", "x"), "--node-types", "sets of graphs")


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(tmp_path):
    running = subprocess.Popen(
        [sys.executable, "-m", "graphlore.cli", "fit", "cycles", "--model", "sgvae", "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    checkpoint = tmp_path / "runs" / "cycles" / "checkpoint.safetensors"
    try:
        deadline = time.monotonic() + 120
        while not checkpoint.exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130, err
    assert out == ""
    assert "--resume" in err
    assert "Traceback" not in err
    assert checkpoint.exists()


@pytest.mark.slow
def test_two_processes_of_torchrun_write_one_run(tmp_path):
    file = write_graphset(cycles(8, [3, 4], seed=0), tmp_path / "rings.npz")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    (tmp_path / "small.toml").write_text("[story]\nmax_nodes = 6\n")
    options = [
        "--model",
        "sggn",
        "--out",
        "run",
        "--batch-size",
        "4",
        "--recipe",
        "small.toml",
        *FEW,
    ]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "graphlore.cli", "fit", str(file), *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("report:") == 1
    assert done.stderr.count("epoch 2/2") == 1
    assert len(SequentialFit.load(tmp_path / "run").history["log_prob"]) == 2
