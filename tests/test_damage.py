"""Full disks, folders that may not be written to, damaged files, paths that lead elsewhere."""

from __future__ import annotations

import ast
import json
import os
import re
import zipfile
from functools import partial
from pathlib import Path

import arviz as az
import numpy as np
import pytest
import torch
from proof import damage
from safetensors.torch import load_file, save_file

import graphlore
from graphlore.cli.runs import run_name
from graphlore.data import Graph, GraphError, karate, load, read_graph, write_npz
from graphlore.data.atomic import replacing, write_text
from graphlore.inference import Fit, InferenceError, from_netcdf, tensor_files, to_netcdf

QUICK = ["checkpoint", "saved fit", "graph", "split", "posterior", "graphlore generate --out"]


@pytest.mark.parametrize("name", QUICK)
def test_a_full_disk_is_one_error_and_what_stood_there_is_as_it_was(name, tmp_path):
    assert damage.try_writer(name, tmp_path, partial(damage.short_files, 300)) == "refused"
    assert damage.try_writer(name, tmp_path, partial(damage.short_files, 10_000_000)) == "written"


def test_a_disk_that_is_really_full_or_read_only():
    with damage.small_disk() as disk:
        if disk is None:
            pytest.skip("no disk may be mounted here")
        for name in ("saved fit", "checkpoint"):
            for room in (partial(damage.full, disk, 0), partial(damage.read_only, disk, True)):
                with damage._place(disk) as place:
                    assert damage.try_writer(name, place, room) == "refused"


def test_a_folder_without_the_right_to_write(tmp_path):
    if os.getuid() == 0:
        pytest.skip("root may write anywhere")
    room = partial(damage.read_only, tmp_path, False)
    assert damage.try_writer("saved fit", tmp_path, room) == "refused"


# a posterior takes a third of a second to read: `make proof` damages it as often as the others
@pytest.mark.parametrize("name", [name for name in damage.READERS if name != "posterior.nc"])
def test_a_damaged_file_is_refused_by_name_or_read_as_what_it_was(name):
    counts = damage.damage(name, 6, 20)
    assert set(counts) <= {"refused", "the same"}
    assert counts["refused"] >= 5


def test_an_archive_that_has_lost_an_entry_of_its_contents_is_refused(tmp_path):
    """A changed length in the table of contents swallows what follows; what is left has its check sums."""
    path = write_npz(Graph(3, [[0], [1]], names=list("abc"), labels=[0, 1, 0]), tmp_path / "g.npz")
    whole = path.read_bytes()
    entries = [m.start() for m in re.finditer(rb"PK\x01\x02", whole)]
    for at in (entries[-2] + 32, entries[-2] + 33):  # the length of its comment
        spoilt = bytearray(whole)
        spoilt[at] ^= 0x80
        path.write_bytes(spoilt)
        with zipfile.ZipFile(path) as archive:
            assert len(archive.infolist()) == len(entries) - 1, "and zipfile says nothing"
        with pytest.raises(GraphError, match=r"g\.npz: the archive is said to hold"):
            read_graph(path)


def test_files_of_versions_without_check_sums_still_load(tmp_path):
    found = damage.fitted(0)
    found.save(tmp_path)
    settings = json.loads((tmp_path / "settings.json").read_text())
    for key in ("sha256", "files"):
        del settings[key]
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    weights = tmp_path / "weights.safetensors"
    save_file(load_file(weights), weights)
    assert damage.state(Fit.load(tmp_path)) == damage.state(found)


def test_files_of_two_saves_are_not_mixed(tmp_path):
    """As a process leaves them that is killed between two moves."""
    for seed in (0, 1):
        damage.fitted(seed).save(tmp_path / str(seed))
    (tmp_path / "0" / "history.json").replace(tmp_path / "1" / "history.json")
    with pytest.raises(InferenceError, match=r"history.json is damaged, or of another save"):
        Fit.load(tmp_path / "1")


def test_a_check_sum_is_of_every_tensor_and_of_the_words(tmp_path):
    file = tmp_path / "t.safetensors"
    tensors = {"a": torch.arange(3.0), "b": torch.zeros(()), "c": torch.ones(2, 0).bool()}
    tensor_files.write_tensors(file, tensors, {"run": "1"})
    found, told = tensor_files.read_tensors(file)
    assert told == {"run": "1"}
    assert all(torch.equal(found[k], v) for k, v in tensors.items())
    whole = file.read_bytes()
    at = whole.index(b'"run":"1"') + 7
    file.write_bytes(whole[:at] + b"2" + whole[at + 1 :])
    with pytest.raises(InferenceError, match=r"t.safetensors is damaged: .*check sum"):
        tensor_files.read_tensors(file)


def test_a_posterior_is_written_whole_and_a_damaged_one_is_named(tmp_path):
    posterior = damage.fitted(0).posterior(5)
    path = to_netcdf(posterior, tmp_path / "p.nc")
    again = from_netcdf(path).posterior["block_probs"].values
    assert np.array_equal(again, posterior.posterior["block_probs"].values)
    changed = az.from_netcdf(str(path))
    changed["posterior"].load()
    changed["posterior"]["block_probs"].values[0, 0, 0] += 1e-3
    changed.to_netcdf(str(tmp_path / "changed.nc"))
    with pytest.raises(InferenceError, match=r"changed.nc is damaged: .* check sum"):
        from_netcdf(tmp_path / "changed.nc")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InferenceError, match=r"p.nc is damaged"):
        from_netcdf(path)
    with pytest.raises(InferenceError, match="no file"):
        from_netcdf(tmp_path / "none.nc")


# -- writing ------------------------------------------------------------------------------------------


def test_a_link_is_replaced_and_what_it_stands_for_is_left_alone(tmp_path):
    """A folder from elsewhere may hold links to files of the reader."""
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine.txt")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / "link").read_text() == "new"
    partial_name = tmp_path / f".other.{os.getpid()}.partial.txt"
    partial_name.symlink_to(tmp_path / "mine.txt")
    write_text(tmp_path / "other.txt", "new")
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_after_an_error_nothing_is_left(tmp_path):
    (tmp_path / "a").write_text("old")

    def stopped():
        with replacing(tmp_path / "a") as place:
            place.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_device_is_written_to_as_it_is(main, tmp_path):
    before = os.stat("/dev/null")
    write_text("/dev/null", "words")
    damage.fitted(0).save(tmp_path)
    code, out, _ = main("predict", tmp_path, "--top", 3, "--draws", 5, "--out", "/dev/null")
    assert (code, os.path.samestat(before, os.stat("/dev/null"))) == (None, True) or code == 0
    assert "3 rows" in out


# -- paths and archives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../up", "/tmp/graphlore_absolute", "a/../../up"])
def test_members_of_an_archive_lead_nowhere(name, tmp_path):
    """Nothing is unpacked: such a member is an array by that name, and of no use."""
    folder = tmp_path / "in" / "side"
    folder.mkdir(parents=True)
    path = write_npz(karate(), folder / "g.npz")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{name}.npy", archive.read("num_nodes.npy"))
    assert read_graph(path).fingerprint() == karate().fingerprint()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
    assert not Path(f"{name}.npy").exists()


@pytest.mark.parametrize("title", ["../../up", "/tmp/absolute", "..", "a\\b", "C:x", " . ", "a\nb"])
def test_a_title_from_a_file_names_a_folder_below_runs(title, tmp_path, monkeypatch, main):
    name = run_name(title)
    assert name
    assert Path("runs", name).parent == Path("runs")
    assert name not in (".", "..")
    graph = karate()
    hostile = Graph(34, graph.edge_index, title=title)
    monkeypatch.chdir(tmp_path)
    write_npz(hostile, tmp_path / "g.npz")
    if title == "../../up":  # once, through all of it but the pictures

        def nothing(_, folder, **__):
            write_text(folder / "numbers.json", '{"numbers": {}}')
            return folder, None, None

        monkeypatch.setattr(graphlore.plots, "write_results", nothing)
        code, _, err = main("fit", "g.npz", "--model", "sbm", "--steps", 2, "--draws", 9, "--quiet")
        assert code in (0, None), err
        assert {p.name for p in tmp_path.iterdir()} == {"g.npz", "runs"}
        assert not (tmp_path.parent / "up").exists()


@pytest.mark.parametrize("name", ["../karate", "karate/../cora", "/karate", "cora/..", "..", ""])
def test_a_dataset_by_a_name_with_slashes_is_a_path_and_none(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GraphError):
        load(name)
    assert not list(tmp_path.iterdir())


def test_a_link_or_a_device_in_a_run_folder_does_no_harm(tmp_path):
    """settings.json names no other file; one in its place that never ends is not read."""
    found = damage.fitted(0)
    found.save(tmp_path)
    elsewhere = tmp_path / "elsewhere.txt"
    elsewhere.write_text("mine")
    for name, names in (("settings.json", "/dev/zero"), ("weights.safetensors", "/dev/zero")):
        kept = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to(names)
        with pytest.raises(InferenceError, match=name):
            Fit.load(tmp_path)
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(kept)
    (tmp_path / "history.json").unlink()
    (tmp_path / "history.json").symlink_to(elsewhere)
    found.save(tmp_path)
    assert elsewhere.read_text() == "mine"
    assert damage.state(Fit.load(tmp_path)) == damage.state(found)


#: call: keyword that has to be given as False, or None where the call may not be made at all
UNPICKLERS = {
    r"(np|numpy)\.(load|lib\.npyio\.NpzFile)": "allow_pickle",
    r"(np|numpy)\.(fromfile|memmap)": None,
    r"torch\.(load|jit\.load|package\..*)": None,
    r"(pd|pandas)\.read_(pickle|hdf)": None,
    r"(nx|networkx)\.(read_gpickle|read_sparse6_pickle)": None,
    r"yaml\.(load|full_load|unsafe_load)": None,
    r"joblib\.load|shelve\.open|marshal\.loads?|(c?[pP]ickle|dill|cloudpickle)\.\w+": None,
    r"exec|eval|compile|__import__|os\.system|os\.popen|subprocess\.\w+|runpy\.\w+": None,
    r"(scipy\.io|sio)\.(loadmat|readsav)|scipy\.sparse\.load_npz|sp\.load_npz": "in data/files.py",
    r".*\.(extract|extractall|unpack_archive)": None,
}


def test_no_source_file_unpickles_runs_or_unpacks_what_it_reads():
    """Every call of the package, by its name: also those of NumPy, torch, pandas, NetworkX and YAML."""
    folder = Path(graphlore.__file__).parent
    files = [p for r in (*graphlore._ROOMS, "cli") for p in (folder / r).glob("*.py")]
    assert len(files) > 100
    found = []
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
                if {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"} & set(names):
                    found.append(f"{path.name}: import of {names}")
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            for pattern, allowed in UNPICKLERS.items():
                if not re.fullmatch(pattern, name):
                    continue
                given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                if allowed == "allow_pickle" and given.get(allowed) == "False":
                    continue
                if allowed == "in data/files.py" and path.name == "files.py":
                    continue
                found.append(f"{path.name}: {name}")
    assert found == []


def test_a_pickle_in_an_archive_is_not_run(tmp_path):
    """SciPy's own reader of sparse matrices takes no pickles either."""

    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "mark",)

    trap = np.array([Trap()], dtype=object)
    matrix = {"format": np.array(b"csr"), "shape": np.array([2, 2]), "data": trap}
    arrays = (
        {"num_nodes": np.array(3), "edge_index": trap},
        {**matrix, "indices": np.array([0]), "indptr": np.array([0, 1, 1])},
    )
    for given in arrays:
        np.savez(tmp_path / "g.npz", **given)
        with pytest.raises(GraphError, match=r"g\.npz"):
            read_graph(tmp_path / "g.npz")
    np.save(tmp_path / "g.npy", trap)
    with pytest.raises(GraphError, match=r"g\.npy"):
        read_graph(tmp_path / "g.npy")
    assert not (tmp_path / "mark").exists()
