"""The command line: what it writes, what it prints, and how it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from command_line import ok

from graphlore import cli, inference, plots
from graphlore.data import karate, random_split, read_graph, write_npz
from graphlore.inference import Fit, from_netcdf

FEW = ["--steps", "4", "--draws", "12", "--truncation", "4"]
KNOWN = "karate, cora, citeseer, pubmed"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on karate with held-out pairs, and what it printed."""
    folder = tmp_path_factory.mktemp("runs") / "karate"
    result = ok("fit", "karate", "--out", folder, "--hold-out", "--json", "--seed", "3", *FEW)
    return folder, result


@pytest.fixture
def light(monkeypatch):
    """No posterior, pictures or report: what a test is not about, and takes seconds."""

    def write(fit, folder, **_):
        (folder / "numbers.json").write_text(json.dumps({"numbers": {}, "checks": []}))
        return folder / "report.html", None, None

    monkeypatch.setattr(plots, "write_results", write)


def assert_one_line(found, *words):
    """Exit code 2, nothing on standard output, one line on standard error with these words."""
    code, out, err = found
    assert code == 2
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("graphlore: ")
    for word in words:
        assert word in lines[0]


# -- fit --------------------------------------------------------------------------------------------


def test_a_fit_writes_all_files_of_a_run(run):
    folder, _ = run
    written = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert written >= {
        "settings.json",
        "weights.safetensors",
        "history.json",
        "graph.npz",
        "posterior.nc",
        "numbers.json",
        "report.html",
        "full.npz",
        "split.npz",
        "pictures/elbo.png",
        "pictures/memberships.png",
        "pictures/adjacency.png",
        "pictures/posterior_predictive.png",
        "pictures/degrees.png",
        "pictures/generated.png",
    }
    assert not [w for w in written if w.endswith(".partial")]
    for picture in (folder / "pictures").glob("*.png"):
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["fit"]["steps"] == 4
    assert settings["fit"]["seed"] == 3
    assert settings["story"]["truncation"] == 4
    history = json.loads((folder / "history.json").read_text())
    assert history["step"] == [0, 1, 2, 3]
    posterior = from_netcdf(folder / "posterior.nc")
    assert posterior.posterior.sizes["draw"] == posterior.prior.sizes["draw"] == 12
    assert posterior.attrs["seed"] == 3
    posterior.close()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "DGLFRM on karate" in page
    assert page.count("data:image/png;base64,") == len(list((folder / "pictures").glob("*.png")))


def test_json_is_one_object_and_nothing_else(run):
    folder, result = run
    assert len(result.stdout.strip().splitlines()) == 1
    found = json.loads(result.stdout)
    assert found["folder"] == str(folder)
    assert found["report"] == str(folder / "report.html")
    assert found["numbers"]["steps"] == 4
    assert {c["statistic"] for c in found["checks"]} >= {"density", "triangles"}
    saved = json.loads((folder / "numbers.json").read_text())
    assert found["evaluation"] == saved["evaluation"]
    assert 0 <= found["evaluation"]["auc"] <= 1


def test_the_held_out_pairs_are_those_of_the_seed(run):
    folder, _ = run
    fitted = Fit.load(folder)
    expected = random_split(karate(), seed=3)
    assert fitted.graph.fingerprint() == expected.train.fingerprint()
    assert read_graph(folder / "full.npz").fingerprint() == karate().fingerprint()


def test_the_numbers_on_the_page_are_those_of_the_fit(run):
    folder, result = run
    found = json.loads(result.stdout)["numbers"]
    history = json.loads((folder / "history.json").read_text())
    assert found["ELBO"] == pytest.approx(history["elbo"][-1], abs=0.051)
    assert found["KL"] == pytest.approx(history["kl"][-1], abs=0.051)


def test_without_json_a_table_and_the_place_of_the_report(tmp_path):
    result = ok("fit", "karate", "--out", tmp_path, "--quiet", *FEW)
    assert "ELBO" in result.stdout
    assert "report:" in result.stdout
    assert "report.html" in result.stdout.replace("\n", "")
    assert not (tmp_path / "split.npz").exists()


@pytest.mark.usefixtures("light")
def test_a_csv_file_is_an_input(tmp_path):
    path = tmp_path / "friends.csv"
    path.write_text("a,b\nAnn,Bob\nBob,Cy\nCy,Ann\nCy,Dee\nDee,Eve\n")
    result = ok("fit", path, "--out", tmp_path / "run", "--json", *FEW)
    graph = Fit.load(json.loads(result.stdout)["folder"]).graph
    assert graph.names == ("Ann", "Bob", "Cy", "Dee", "Eve")
    assert (graph.num_nodes, graph.num_edges, graph.title) == (5, 5, "friends")


@pytest.mark.usefixtures("light")
def test_options_reach_story_guide_and_settings(tmp_path):
    options = "--model dglfrm-b --guide mean-field --alpha 1.5 --bias global --gradient reinforce"
    ok("fit", "karate", "--out", tmp_path, "--json", *FEW, *options.split(), "--learning-rate", 0.2)
    settings = json.loads((tmp_path / "settings.json").read_text())
    story, guide, chosen = (settings[n] for n in ("story", "guide", "fit"))
    assert (story["strengths"], story["sticks"], story["alpha"]) == (False, "local", 1.5)
    assert (story["bias"], guide["name"]) == ("global", "MeanField")
    assert (chosen["gradient"], chosen["learning_rate"]) == ("reinforce", 0.2)


@pytest.mark.usefixtures("light")
def test_options_go_before_the_recipe(tmp_path):
    (tmp_path / "r.toml").write_text('[story]\nbias = "node"\n[fit]\nsteps = 9\nseed = 4\n')
    ok("fit", "karate", "--out", tmp_path / "run", "--recipe", tmp_path / "r.toml", "--json", *FEW)
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["story"]["bias"] == "node"
    assert (settings["fit"]["steps"], settings["fit"]["seed"]) == (4, 4)


@pytest.mark.usefixtures("light")
def test_features_of_the_graph_are_generated_when_asked_for(tmp_path):
    graph = karate().with_features((torch.arange(34 * 3).reshape(34, 3) % 2).float())
    path = write_npz(graph, tmp_path / "g.npz")
    ok("fit", path, "--out", tmp_path / "run", "--features", "bernoulli", "--json", *FEW)
    fitted = Fit.load(tmp_path / "run")
    assert fitted.story.options["num_features"] == 3
    assert fitted.guide.options["inputs"] == "features"


@pytest.mark.usefixtures("light")
def test_loops_and_repeats_go_with_clean(tmp_path, main):
    (tmp_path / "g.csv").write_text("0,1\n1,0\n1,2\n2,2\n2,3\n")
    assert_one_line(main("fit", tmp_path / "g.csv"), "self-loop", "clean")
    ok("fit", tmp_path / "g.csv", "--clean", "--out", tmp_path / "run", "--json", *FEW)
    assert Fit.load(tmp_path / "run").graph.num_edges == 3


@pytest.mark.usefixtures("light")
def test_a_given_split_is_used(tmp_path):
    split = random_split(karate(), val=0.1, test=0.2, seed=8)
    split.save(tmp_path / "s.npz")
    ok("fit", "karate", "--split", tmp_path / "s.npz", "--out", tmp_path / "r", "--json", *FEW)
    assert Fit.load(tmp_path / "r").graph.fingerprint() == split.train.fingerprint()


@pytest.mark.usefixtures("light")
def test_resume_goes_on_from_the_checkpoint(tmp_path):
    """A run that is done resumes to itself, from its own checkpoint."""
    (tmp_path / "r.toml").write_text("[fit]\ncheckpoint_every = 2\n")
    options = ["karate", "--out", tmp_path / "run", "--recipe", tmp_path / "r.toml", "--json", *FEW]
    ok("fit", *options)
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    before = json.loads((tmp_path / "run" / "history.json").read_text())
    stamp = checkpoint.stat().st_mtime_ns
    ok("fit", *options, "--resume")
    after = json.loads((tmp_path / "run" / "history.json").read_text())
    assert after["elbo"] == before["elbo"]
    assert after["seconds"] == before["seconds"], "no step was done again"
    assert checkpoint.stat().st_mtime_ns == stamp


# -- evaluate, generate, report ---------------------------------------------------------------------


@pytest.mark.parametrize("part", ["test", "val"])
def test_evaluate_scores_the_held_out_pairs(run, part):
    folder, _ = run
    result = ok("evaluate", folder, "--part", part, "--draws", "30", "--json")
    found = json.loads(result.stdout)
    expected = Fit.load(folder).evaluate(random_split(karate(), seed=3), part, draws=30)
    assert found == json.loads(json.dumps(expected.to_dict()))


def test_evaluate_prints_a_table(run):
    result = ok("evaluate", run[0], "--draws", "5")
    for word in ("auc", "log_loss", "hits@10", "expected_edges", "active communities, mean"):
        assert word in result.stdout


@pytest.mark.usefixtures("light")
def test_evaluate_needs_held_out_pairs(tmp_path, main):
    ok("fit", "karate", "--out", tmp_path, "--json", *FEW)
    assert_one_line(main("evaluate", tmp_path), "holds no split", "--hold-out")


@pytest.mark.usefixtures("light")
def test_evaluate_takes_a_split_for_a_run_that_has_none(tmp_path):
    """What ``--split`` of evaluate is for, in the words of its help: "if the run has none"."""
    split = random_split(karate(), seed=1)
    split.save(tmp_path / "s.npz")
    ok("fit", "karate", "--out", tmp_path / "run", "--json", *FEW)
    result = ok("evaluate", tmp_path / "run", "--split", tmp_path / "s.npz", "--json")
    assert 0 <= json.loads(result.stdout)["auc"] <= 1


def test_evaluate_names_the_parts(run, main):
    code, out, err = main("evaluate", run[0], "--part", "train")
    assert (code, out) == (2, "")
    assert all(word in err for word in ("'train'", "'val'", "'test'"))


def named_edges(graph):
    names = graph.names or range(graph.num_nodes)
    return {frozenset(str(names[i]) for i in edge) for edge in graph.edge_index.T.tolist()}


@pytest.mark.parametrize("source", ["posterior", "prior"])
def test_generated_files_read_back(run, source, tmp_path):
    result = ok(
        "generate", run[0], "--out", tmp_path, "--count", 3, "--from", source, "--seed", 6, "--json"
    )
    rows = json.loads(result.stdout)
    assert [r["file"] for r in rows] == [str(tmp_path / f"graph_000{i}.csv") for i in range(3)]
    graphs = Fit.load(run[0]).generate(3, source, seed=6)
    for row, graph in zip(rows, graphs, strict=True):
        assert (
            (row["nodes"], row["edges"]) == (graph.num_nodes, graph.num_edges) == (34, row["edges"])
        )
        if graph.num_edges:
            assert named_edges(read_graph(row["file"])) == named_edges(graph)


def test_generate_refuses_another_source(run, main, tmp_path):
    found = main("generate", run[0], "--out", tmp_path / "new", "--from", "data")
    assert_one_line(found, "'posterior' or 'prior'", "'data'")
    assert not (tmp_path / "new").exists()


def test_a_report_is_written_anew(run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run[0], folder)
    for name in ("report.html", "posterior.nc", "numbers.json", "pictures/elbo.png"):
        (folder / name).unlink()
    result = ok("report", folder, "--draws", 9)
    assert "report.html" in result.stdout.replace("\n", "")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "9 posterior draws" in page
    assert "test AUC" in page, "the held-out pairs of the run are evaluated again"
    posterior = from_netcdf(folder / "posterior.nc")
    assert posterior.posterior.sizes["draw"] == 9
    posterior.close()
    assert (folder / "pictures" / "elbo.png").stat().st_size > 1000
    weights = (folder / "weights.safetensors").read_bytes()
    assert weights == (run[0] / "weights.safetensors").read_bytes()


# -- help and refusals ------------------------------------------------------------------------------


def test_help_mentions_every_command():
    text = ok("--help").stdout
    commands = {c.callback.__name__ for c in cli.app.registered_commands}
    assert commands == {
        "fit",
        "evaluate",
        "generate",
        "predict",
        "check",
        "compare",
        "report",
        "data",
    }
    for command in commands:
        assert re.search(rf"\b{command}\b +\S", text), command
        assert "Usage" in ok(command, "--help").stdout


def test_help_does_not_load_torch():
    code = (
        "import sys; sys.argv = ['graphlore', '--help']\n"
        "from graphlore import cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'pyro' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_installed_program_refuses_in_one_line_and_code_two():
    """The one test through a process of its own: the same main() is called in this one below."""
    done = subprocess.run(
        [sys.executable, "-m", "graphlore.cli", "fit", "karat"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "60"},
    )
    found = done.returncode, done.stdout, done.stderr
    assert_one_line(found, "'karat'", KNOWN, "Did you mean 'karate'?")


def test_an_unknown_dataset(main):
    assert_one_line(main("fit", "nosuch"), "'nosuch'", KNOWN)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("bad.csv", "0,1\n1,2\n3\n", ("bad.csv", "line 3", "two columns")),
        ("bad.npz", "noise", ("bad.npz",)),
        ("empty.csv", "", ("empty.csv", "no edges")),
        ("g.xyz", "0 1", ("g.xyz", ".csv", ".npz", ".graphml")),
        ("loops.csv", "0,0\n0,1\n", ("loops.csv", "self-loop")),
    ],
)
def test_a_bad_file(main, tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    assert_one_line(main("fit", tmp_path / name), *words)


def test_no_file(main, tmp_path):
    assert_one_line(main("fit", tmp_path / "none.csv"), "No such file", "none.csv")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--gradient", "magic"), ("gradient", "'dyadic'", "'local_expectation'", "'magic'")),
        (("--bias", "some"), ("bias", "'none', 'global', 'node'", "'some'")),
        (("--features", "poisson"), ("features", "'bernoulli', 'normal'", "'poisson'")),
        (("--steps", "0"), ("steps", "at least 1")),
        (("--truncation", "0"), ("truncation", "at least 1")),
        (("--alpha", "-1"), ("alpha", "positive")),
        (("--learning-rate", "0"), ("learning_rate", "positive")),
        (("--seed", "-1"), ("seed",)),
        (("--recipe", "nowhere.toml"), ("nowhere.toml",)),
        (("--split", "nowhere.npz"), ("nowhere.npz",)),
        (("--draws", "0", "--steps", "1"), ("draws", "at least 1")),
        (("--resume",), ("checkpoint.safetensors",)),
    ],
)
def test_a_bad_option(main, tmp_path, options, words):
    assert_one_line(main("fit", "karate", "--quiet", "--out", tmp_path / "r", *options), *words)


def test_a_bad_option_of_a_known_choice_names_the_choices(main):
    for option, word in (("--model", "dglfrm-b"), ("--guide", "mean-field")):
        code, out, err = main("fit", "karate", option, "oracle")
        assert (code, out) == (2, "")
        assert word in err
        assert "oracle" in err


def test_an_unknown_option_and_an_unknown_command(main):
    cases = ((("fit", "karate", "--stepz", "3"), "--stepz"), (("fitt", "karate"), "fitt"))
    for arguments, word in cases:
        code, out, err = main(*arguments)
        assert (code, out) == (2, "")
        assert word in err


def test_restarts_are_an_option_of_fit_alone(main, run, tmp_path):
    code, _, err = main("generate", run[0], "--out", tmp_path / "g", "--restarts", "3")
    assert code == 2
    assert "--restarts" in err
    assert_one_line(main("fit", "karate", "--restarts", "0", "--out", tmp_path), "at least 1")


@pytest.mark.usefixtures("light")
def test_of_several_starts_the_seed_of_the_best_is_recorded(tmp_path):
    ok("fit", "karate", "--restarts", 3, "--seed", 5, "--out", tmp_path, "--json", *FEW)
    seeds = {}
    for seed in (5, 6, 7):
        ok("fit", "karate", "--seed", seed, "--out", tmp_path / str(seed), "--json", *FEW)
        seeds[seed] = Fit.load(tmp_path / str(seed)).history["elbo"][-1]
    assert Fit.load(tmp_path).settings.seed == max(seeds, key=seeds.get)


@pytest.mark.parametrize("command", ["evaluate", "generate", "report", "predict", "check"])
def test_a_folder_that_is_no_run(main, tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_one_line(main(command, tmp_path / "nothing"), "nothing")


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("option", ["--directed", "--clean"])
def test_an_option_for_files_with_a_known_dataset_is_no_traceback(main, tmp_path, option):
    code, _, err = main("fit", "karate", option, "--quiet", "--out", tmp_path, *FEW)
    assert code in (0, 2)
    assert "Traceback" not in err


def test_a_directed_file_is_refused_by_the_story(main, tmp_path):
    (tmp_path / "g.csv").write_text("0,1\n1,2\n2,0\n")
    found = main("fit", tmp_path / "g.csv", "--directed", "--quiet", "--out", tmp_path / "r", *FEW)
    assert_one_line(found, "directed")


@pytest.mark.parametrize("device", ["banana", "cuda:99"])
def test_a_device_that_is_not_there_is_one_line(main, tmp_path, device):
    found = main("fit", "karate", "--device", device, "--quiet", "--out", tmp_path, *FEW)
    assert_one_line(found, "device")


@pytest.mark.parametrize(
    "text", ['[fit]\nsteps = "many"\n', '[story]\ntruncation = "six"\n', "fit = 3\n"]
)
def test_a_recipe_with_a_value_of_a_wrong_kind_is_one_line(main, tmp_path, text):
    (tmp_path / "r.toml").write_text(text)
    found = main("fit", "karate", "--recipe", tmp_path / "r.toml", "--out", tmp_path / "run")
    assert_one_line(found)


@pytest.mark.parametrize("name", ["friends[old].csv", "[b]friends[/b].csv"])
def test_brackets_in_a_name_are_no_markup(main, tmp_path, name):
    assert_one_line(main("fit", name), name)


def test_a_file_in_place_of_the_folder_is_one_line(main, tmp_path):
    (tmp_path / "run").write_text("a file")
    found = main("fit", "karate", "--quiet", "--out", tmp_path / "run", *FEW)
    assert_one_line(found, "run")


def test_weights_that_do_not_fit_are_one_line(main, run, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(run[0], folder)
    settings = json.loads((folder / "settings.json").read_text())
    settings["story"]["truncation"] = 5
    del settings["sha256"]
    (folder / "settings.json").write_text(json.dumps(settings))
    assert_one_line(main("evaluate", folder), "weights.safetensors")


def test_stopping_says_how_to_go_on(main, monkeypatch, tmp_path):
    def stop(*_, **__):
        raise KeyboardInterrupt

    for name in ("fit", "fit_recipe"):
        monkeypatch.setattr(inference, name, stop, raising=False)
    code, _, err = main("fit", "karate", "--quiet", "--out", tmp_path, *FEW)
    assert code == 130
    assert "--resume" in err


@pytest.mark.usefixtures("light")
def test_two_runs_with_one_seed_have_the_same_numbers(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        ok("fit", "karate", "--out", tmp_path / name, "--json", "--seed", seed, *FEW)
    one, two, other = (Fit.load(tmp_path / name) for name in "abc")
    assert one.history["elbo"] == two.history["elbo"] != other.history["elbo"]
    p, q, r = (f.link_probabilities(draws=5, seed=0) for f in (one, two, other))
    assert torch.equal(p, q)
    assert not torch.equal(p, r)
