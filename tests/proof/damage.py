"""Full disks, folders that may not be written to, and damaged files: what is said, and what is left."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from graphlore import cli
from graphlore.data import (
    Graph,
    GraphError,
    cycles,
    given_split,
    karate,
    random_split,
    read_graph,
    read_graphset,
    write_npz,
)
from graphlore.inference import (
    Fit,
    InferenceError,
    Recipe,
    fit,
    fit_recipe,
    from_netcdf,
    to_netcdf,
)
from graphlore.inference.checkpoint import CHECKPOINT
from graphlore.plots import write_results

__all__ = ["READERS", "WRITERS", "damage", "prove", "read_only", "small_disk", "try_writer"]

KARATE = karate()
SPLIT = random_split(KARATE, val=0.1, test=0.1, seed=1)
RECIPE = Recipe.default("sbm", num_blocks=2).override(fit={"steps": 8, "checkpoint_every": 2})


@cache
def fitted(seed: int) -> Fit:
    return fit_recipe(RECIPE.override(fit={"seed": seed}), SPLIT.train)


def state(found: Fit) -> Any:
    """Everything that a fit in a folder says, to compare."""
    parts = {"story": found.story, "guide": found.guide}
    weights = {f"{n}.{k}": v.tolist() for n, m in parts.items() for k, v in m.state_dict().items()}
    told = (
        found.settings,
        found.best_step,
        found.environment,
        found.graph.title,
        found.attributes(),
    )
    return repr((sorted(weights.items()), found.history, told, found.graph.fingerprint()))


def pictured(path: Path) -> int:
    """A picture is whole if it can be drawn again."""
    from PIL import Image

    with Image.open(path) as image:
        image.load()
        return int(np.asarray(image).sum())


# -- writers ------------------------------------------------------------------------------------------


def _resumed(folder: Path) -> str:
    story, guide = RECIPE.build(KARATE)
    return state(fit(story, guide, KARATE, RECIPE.settings, folder=folder, resume=True))


def _command(*words: Any) -> None:
    cli.app([str(word) for word in words], standalone_mode=False)


def _run_of(seed: int) -> Path:
    """A saved run outside of the place that is written to."""
    place = Path(tempfile.gettempdir()) / f"graphlore_damage_{os.getpid()}_{seed}"
    if not place.exists():
        fitted(seed).save(place)
    return place


def _posterior(path: Path) -> str:
    return str(from_netcdf(path).posterior["block_probs"].values.tolist())


def _graphs(seed: int) -> Graph:
    return KARATE.hide([[0, 1 + seed], [1, 9]]) if seed else KARATE


#: name: (write something that depends on a seed into a folder, read it back)
WRITERS: dict[str, tuple[Callable[[Path, int], Any], Callable[[Path], Any]]] = {
    "checkpoint": (
        lambda place, _: fit(*RECIPE.build(KARATE), KARATE, RECIPE.settings, folder=place),
        _resumed,
    ),
    "saved fit": (lambda place, seed: fitted(seed).save(place), lambda p: state(Fit.load(p))),
    "graph": (
        lambda place, seed: write_npz(_graphs(seed), place / "g.npz"),
        lambda place: read_graph(place / "g.npz").fingerprint(),
    ),
    "split": (
        lambda place, seed: random_split(KARATE, seed=seed).save(place / "s.npz"),
        lambda place: given_split(KARATE, place / "s.npz").train.fingerprint(),
    ),
    "posterior": (
        lambda place, seed: to_netcdf(fitted(0).posterior(20, seed=seed), place / "p.nc"),
        lambda place: _posterior(place / "p.nc"),
    ),
    "report and pictures": (
        lambda place, seed: write_results(fitted(seed), place, draws=20),
        lambda place: (
            (place / "report.html").read_text("utf-8").rstrip().endswith("</html>"),
            json.loads((place / "numbers.json").read_text("utf-8")).keys(),
            [pictured(p) > 0 for p in sorted((place / "pictures").glob("*.png"))],
        ),
    ),
    "graphlore predict --out": (
        lambda place, s: _command("predict", _run_of(0), "--draws", 5, "--seed", s, "--out", place / "p.csv"),
        lambda place: (place / "p.csv").read_text("utf-8"),
    ),
    "graphlore generate --out": (
        lambda place, s: _command("generate", _run_of(0), "--count", 1, "--seed", s, "--out", place),
        lambda place: (place / "graph_0000.csv").read_text("utf-8"),
    ),
    "graphlore compare --out": (
        lambda place, s: _command("compare", _run_of(0), _run_of(1), "--seed", s, "--out", place / "c.png"),
        lambda place: pictured(place / "c.png"),
    ),
}  # fmt: skip


def try_writer(name: str, place: Path, room: Callable[[], Any]) -> str:
    """Write twice, the second time with the ``room`` that is given: "written", "refused", or what went wrong.

    Arguments:
        room: a context manager within which there is little room, or none.
    """
    write, read = WRITERS[name]
    with warnings.catch_warnings(), _silence():
        warnings.simplefilter("ignore")
        write(place, 0)
        before, files = read(place), _files(place)
        try:
            with room():
                write(place, 1)
            ended = "written"
        except (InferenceError, GraphError, OSError) as error:
            ended = "refused"
            if isinstance(error, OSError) and not name.startswith("graphlore"):
                return f"{type(error).__name__}: {error}"  # the command line makes one line of it
        except BaseException as error:
            return f"{type(error).__name__}: {error}"
        if left := [p for p in _files(place) if p.rsplit("/", 1)[-1].startswith(".")]:
            return f"left behind: {', '.join(left)}"
        try:
            now = read(place)
        except Exception as error:
            return f"what stood there is gone: {type(error).__name__}: {error}"
        if ended == "refused" and (now != before or set(files) != set(_files(place))):
            return "what stood there has changed"
    return ended


def _files(place: Path) -> list[str]:
    return sorted(str(p.relative_to(place)) for p in place.rglob("*") if p.name != "ballast")


@contextmanager
def _silence() -> Iterator[None]:
    """Commands print tables, which nobody reads here."""
    out, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115
    try:
        yield
    finally:
        sys.stdout.close()
        sys.stdout = out


# -- disks --------------------------------------------------------------------------------------------


@contextmanager
def small_disk(size: int = 8 << 20) -> Iterator[Path | None]:
    """A disk of so many bytes; None where none may be mounted."""
    place = Path(tempfile.mkdtemp())
    options = ["-o", f"size={size}", "tmpfs", str(place)]
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", *options], capture_output=True)
        mounted = done.returncode == 0
    except OSError:
        mounted = False
    try:
        yield place if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)
        place.rmdir()


@contextmanager
def full(place: Path, left: int) -> Iterator[None]:
    """A disk on which so many bytes are left."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    free = shutil.disk_usage(place).free
    if left > free:
        os.truncate(ballast, ballast.stat().st_size - (left - free))
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def short_files(largest: int) -> Iterator[None]:
    """No file may become larger: the way that works without a disk to mount."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only(place: Path, mounted: bool) -> Iterator[None]:
    """A disk that may be read alone, or a folder, which root would write to all the same."""
    if mounted:
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    else:
        place.chmod(0o500)
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
        else:
            place.chmod(0o700)


# -- damaged files ------------------------------------------------------------------------------------


def _make_run(place: Path) -> None:
    fitted(0).save(place)


def _make_checkpoint(place: Path) -> None:
    fit(*RECIPE.build(KARATE), KARATE, RECIPE.settings, folder=place)


def _load_checkpoint(place: Path) -> str:
    """Story and guide stay as they are where the file is refused."""
    story, guide = RECIPE.build(KARATE)
    before = {k: v.clone() for m in (story, guide) for k, v in m.state_dict().items()}
    try:
        return state(fit(story, guide, KARATE, RECIPE.settings, folder=place, resume=True))
    except InferenceError:
        after = {k: v for m in (story, guide) for k, v in m.state_dict().items()}
        if any(not torch.equal(before[k], after[k]) for k in before):
            raise AssertionError("half-loaded") from None
        raise


def _make_graph(place: Path) -> None:
    rng = np.random.default_rng(0)
    graph = Graph(
        6,
        [[0, 1, 2, 3], [1, 2, 3, 4]],
        weights=[1.0, 2.0, 0.5, 3.0],
        missing=[[0], [5]],
        labels=[0, 1, 0, 1, 0, -1],
        label_names=["a", "b"],
        names=list("uvwxyz"),
        features=rng.random((6, 3)),
        title="small",
    )
    write_npz(graph, place / "graph.npz")


def _load_graph(place: Path) -> str:
    graph = read_graph(place / "graph.npz")
    return graph.fingerprint() + graph.title


def _make_set(place: Path) -> None:
    graphs = cycles(6, [3, 5], seed=0)
    arrays = {k: getattr(graphs, k).numpy() for k in ("num_nodes", "edge_index", "edge_ptr")}
    np.savez_compressed(place / "set.npz", allow_pickle=False, **arrays)


def _load_set(place: Path) -> str:
    found = read_graphset(place / "set.npz")
    return repr([found.num_nodes.tolist(), found.edge_index.tolist(), found.edge_ptr.tolist()])


def _load_posterior(place: Path) -> str:
    found = from_netcdf(place / "posterior.nc")
    names = found.children if hasattr(found, "children") else found.groups()
    told = {n: {v: x.values.tolist() for v, x in found[n].variables.items()} for n in sorted(names)}
    return repr((told, sorted((k, str(v)) for k, v in found.attrs.items())))


#: file: (write it and what belongs to it into a folder, read all of it back, as something to compare)
READERS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]] = {
    **{
        name: (_make_run, lambda place: state(Fit.load(place)))
        for name in ("settings.json", "history.json", "weights.safetensors", "graph.npz")
    },
    CHECKPOINT: (_make_checkpoint, _load_checkpoint),
    "graph.npz, of everything a graph has": (_make_graph, _load_graph),
    "split.npz": (
        lambda place: SPLIT.save(place / "split.npz"),
        lambda place: given_split(KARATE, place / "split.npz").train.fingerprint(),
    ),
    "set.npz": (_make_set, _load_set),
    "posterior.nc": (
        lambda place: to_netcdf(fitted(0).posterior(5), place / "posterior.nc"),
        _load_posterior,
    ),
}


def damage(name: str, truncations: int, flips: int, seed: int = 0) -> Counter[str]:
    """Damage a file in so many ways: how often it was "refused" by name or read as "the same", or what went wrong."""
    make, read = READERS[name]
    rng = np.random.default_rng([seed, *name.encode()])
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make(place)
        path = place / name.split(",")[0]
        whole, expected = path.read_bytes(), read(place)
        cuts = np.unique(np.linspace(0, len(whole) - 1, truncations).astype(int))
        for cut in cuts:
            path.write_bytes(whole[:cut])
            counts[_outcome(read, place, path.name, expected)] += 1
        for _ in range(flips):
            spoilt = bytearray(whole)
            spoilt[rng.integers(len(whole))] ^= int(rng.integers(1, 256))
            path.write_bytes(spoilt)
            counts[_outcome(read, place, path.name, expected)] += 1
    return counts


def _outcome(read: Callable[[Path], Any], place: Path, name: str, expected: Any) -> str:
    try:
        found = read(place)
    except (InferenceError, GraphError) as error:
        return "refused" if name in str(error) else f"refused without its name: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "the same" if found == expected else "read as something else"


# -- the report -----------------------------------------------------------------------------------------

ROOMS = (0, 4096, 16384, 65536, 262144, 2_000_000)


def prove(docs: Path, truncations: int = 150, flips: int = 600) -> bool:
    """Every writer on full and read-only disks, every file damaged in many ways; writes docs/proof/damage.md."""
    started = time.process_time()
    written: dict[str, Counter[str]] = {}
    with small_disk() as disk:
        for name in track(WRITERS, description="disks"):
            written[name] = counts = Counter()
            for room in ROOMS:
                with _place(disk) as place:
                    way = partial(full, disk, room) if disk else partial(short_files, room)
                    counts[try_writer(name, place, way)] += 1
            if disk or os.getuid():
                with _place(disk) as place:
                    way = partial(read_only, disk or place, bool(disk))
                    counts[try_writer(name, place, way)] += 1
    read = {n: damage(n, truncations, flips) for n in track(READERS, description="damage")}
    wrong = [
        f"{name}: {what}"
        for table in (written, read)
        for name, counts in table.items()
        for what in counts
        if what not in ("written", "refused", "the same")
    ]
    told = _report(written, read, wrong, disk is not None, time.process_time() - started)
    (docs / "proof").mkdir(parents=True, exist_ok=True)
    (docs / "proof" / "damage.md").write_text(told, encoding="utf-8")
    return not wrong


@contextmanager
def _place(disk: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=disk) as place:
        yield Path(place)


def _report(
    written: dict[str, Counter[str]],
    read: dict[str, Counter[str]],
    wrong: list[str],
    disk: bool,
    seconds: float,
) -> str:
    rooms = ", ".join(f"{room:,}" for room in ROOMS)
    where = "a disk of 8 MiB that was filled up" if disk else "a limit on the size of files"
    lines = [
        f"Every writer wrote a second time over what it had written, with {rooms} bytes left ({where}), and where "
        "nothing may be written at all. It has to say so in one error, leave what stood there as it was and readable, "
        "and nothing half-written beside it; or, where there was room enough, have written.",
        "",
        "| writer | refused | written, there was room |",
        "|---|---|---|",
        *(f"| {name} | {c['refused']} | {c['written']} |" for name, c in written.items()),
        "",
        "Every file was cut off at many places, and single bytes in it were changed (seed 0). It has to be refused by "
        "its name, or to be read as exactly what it was (a byte that says nothing, as in the padding of an archive).",
        "",
        "| file | cuts and changed bytes | refused by name | read as what it was |",
        "|---|---|---|---|",
        *(
            f"| {name} | {sum(c.values()):,} | {c['refused']:,} | {c['the same']:,} |"
            for name, c in read.items()
        ),
        "",
        *(f"- **{one}**" for one in wrong),
        f"{'Nothing else happened.' if not wrong else '**Something else happened.**'} {seconds:.0f} CPU-seconds.",
        "",
    ]
    return "\n".join(lines)
