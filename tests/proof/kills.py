"""Fits that are killed (SIGKILL) at random moments and resumed, against the same fits that ran through.

Every attempt is a process of its own, forked from one that has imported the library. It is killed by a clock, or kills
itself at a write: with half of the new file written, before the move that puts it in place, or right after it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from graphlore import cli
from graphlore.data import cycles, karate, planted_partition, random_split
from graphlore.guides import Destructor
from graphlore.inference import (
    Fit,
    Recipe,
    SequentialSettings,
    fit,
    fit_ordered,
    fit_recipe,
    fit_sequential,
    seeded,
)
from graphlore.inference.checkpoint import CHECKPOINT
from graphlore.inference.tensor_files import read_tensors, write_tensors
from graphlore.models import SGGN, SGVAE

__all__ = ["CASES", "Outcome", "killed_and_resumed", "prove", "rounds"]

ROOT = Path(__file__).resolve().parents[2]
STEPS = {"steps": 60, "checkpoint_every": 7, "seed": 5}
_TRIES = 3
WRITES = ("half a file", "before the move", "after the move")
RESULT = "result.safetensors"


# -- what is fitted -----------------------------------------------------------------------------------


def _node_story(model: str, *, held_out: bool = False, **tables: Any) -> Callable[[Path], None]:
    """A recipe fitted by :func:`fit` and saved, to go on from its checkpoint where there is one."""

    def run(folder: Path) -> None:
        tables_of = {**tables, "fit": {**STEPS, **tables.get("fit", {})}}
        recipe = Recipe.default(model, **tables_of.pop("story", {}))
        recipe = recipe.override(fit={"kl_warmup": 0}).override(**tables_of)
        if recipe.guide.get("amortised") is False:
            recipe = recipe.without("guide", "hidden")
        graph: Any = karate()
        graph = random_split(graph, val=0.1, test=0.1, seed=1) if held_out else graph
        story, guide = recipe.build(graph.train if held_out else graph)
        resume = (folder / CHECKPOINT).exists()
        fit(story, guide, graph, recipe.settings, folder=folder, resume=resume).save(folder)

    return run


def _labels(folder: Path) -> None:
    whole = karate()
    hidden = torch.tensor([3, 9, 20, 30])
    labels = whole.labels.clone()
    labels[hidden] = -1
    graph = whole.with_labels(labels)
    options = {"num_classes": 2}
    recipe = Recipe.default("vgae", **options).override(fit={**STEPS, "validate_every": 5})
    resume = (folder / CHECKPOINT).exists()
    told = (hidden, whole.labels[hidden])
    story, guide = recipe.build(graph)
    found = fit(
        story, guide, graph, recipe.settings, label_validation=told, folder=folder, resume=resume
    )
    found.save(folder)


def _starts(folder: Path) -> None:
    recipe = Recipe.default("sbm", num_blocks=3).override(fit={**STEPS, "gradient": "disarm"})
    resume = any(folder.glob(f"starts/*/{CHECKPOINT}"))
    fit_recipe(recipe, karate(), 3, folder=folder, resume=resume).save(folder)


def _automatic(folder: Path) -> None:
    graph = planted_partition([12] * 3, 0.05 + 0.6 * torch.eye(3).numpy(), seed=0)
    recipe = Recipe.default("sbm", num_blocks="auto").override(fit=STEPS)
    resume = any(folder.glob(f"starts/*/{CHECKPOINT}"))
    fit_recipe(recipe, graph, folder=folder, resume=resume).save(folder)


def _command(folder: Path) -> None:
    """The command line, of several starts, with pairs held out."""
    (folder.parent / "recipe.toml").write_text("[fit]\ncheckpoint_every = 7\nkl_warmup = 10\n")
    words = "fit karate --hold-out --restarts 2 --draws 20 --steps 40 --truncation 3 --json"
    given = [*words.split(), "--recipe", str(folder.parent / "recipe.toml"), "--out", str(folder)]
    if any(folder.glob(f"starts/*/{CHECKPOINT}")):
        given.append("--resume")
    cli.app(given, standalone_mode=False)


def _sequential(folder: Path) -> None:
    settings = SequentialSettings(epochs=12, batch_size=4, orders=2, warmup=4, seed=2)
    with seeded(0):
        story = SGVAE(hidden=6, rounds=1)
        guide = Destructor(story)
    resume = (folder / CHECKPOINT).exists()
    graphs = cycles(10, [3, 4], seed=0)
    options: dict[str, Any] = {"folder": folder, "resume": resume, "checkpoint_every": 2}
    found = fit_sequential(story, guide, graphs, settings, **options)
    _keep(folder, found.pair, found.history)


def _ordered(folder: Path) -> None:
    with seeded(0):
        story = SGGN(6, rounds=1)
    resume = (folder / CHECKPOINT).exists()
    graphs = cycles(10, [3, 4], seed=0)
    options: dict[str, Any] = {"folder": folder, "resume": resume, "checkpoint_every": 3}
    found = fit_ordered(story, graphs, "random", epochs=25, batch_size=4, **options)
    _keep(folder, story, found.history)


def _keep(folder: Path, module: torch.nn.Module, history: dict[str, list[float]]) -> None:
    told = {"history": json.dumps(history)}
    write_tensors(folder / RESULT, module.state_dict(), told)


CASES: dict[str, Callable[[Path], None]] = {
    "dyadic credit, averaged weights, validation by links, settle phase": _node_story(
        "dglfrm",
        held_out=True,
        guide={"dropout": 0.3},
        fit={
            "gradient": "dyadic",
            "averaging": 0.9,
            "validate_every": 4,
            "validation_draws": 3,
            "settle": 15,
            "weight_decay": 0.01,
        },
    ),
    "local expectations of some columns, warm-up": _node_story(
        "dglfrm", fit={"expectation_columns": 9, "kl_warmup": 20, "kl_hold": 5}
    ),
    "Concrete, settle phase": _node_story("dglfrm", fit={"gradient": "concrete", "settle": 10}),
    "REINFORCE of two particles": _node_story(
        "dglfrm", fit={"gradient": "reinforce", "num_particles": 2}
    ),
    "DisARM, mean field": _node_story(
        "dglfrm-b",
        story={"sticks": "local"},
        guide={"name": "MeanField"},
        fit={"gradient": "disarm"},
    ),
    "straight-through, patience": _node_story(
        "dglfrm",
        held_out=True,
        fit={"gradient": "straight_through", "patience": 3, "validate_every": 3},
    ),
    "subsampled absent dyads, neural baseline": _node_story(
        "dglfrm",
        story={"absent_sample": 60},
        guide={"baseline": "neural"},
        fit={"gradient": "dyadic"},
    ),
    "blocks summed out, removal moves": _node_story(
        "sbm", story={"num_blocks": 6, "alpha": 0.1}, fit={"remove_every": 10}
    ),
    "free guide of an LFRM, removal moves": _node_story(
        "lfrm", story={"truncation": 5}, fit={"remove_every": 15}
    ),
    "validation by labels": _labels,
    "three starts": _starts,
    "a number of blocks that is searched for": _automatic,
    "the command line, two starts": _command,
    "SGVAE": _sequential,
    "SGGN": _ordered,
}


# -- processes that end ---------------------------------------------------------------------------------


def _attempt(run: Callable[[Path], None], folder: Path, after: float | None, write: Any) -> str:
    """One process: "done", "killed by the clock", "killed at a write", or how else it ended."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            out = os.open(folder.parent / "said.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(out, 1)
            os.dup2(out, 2)
            if write is not None:
                _die_at(*write)
            run(folder)
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    end = None if after is None else time.monotonic() + after
    by_clock = False
    while True:
        found, status = os.waitpid(child, 0 if end is None or by_clock else os.WNOHANG)
        if found:
            break
        if end is not None and time.monotonic() >= end:
            os.kill(child, signal.SIGKILL)
            by_clock = True
        time.sleep(0.001)
    if os.WIFEXITED(status):
        return "done" if os.WEXITSTATUS(status) == 0 else "failed"
    return "the clock" if by_clock else write[1]


def _die_at(number: int, how: str, share: float) -> None:
    """Have this process kill itself at its ``number``-th move of a finished file to its name."""
    move, moves = os.replace, []

    def replace(source: Any, target: Any) -> None:
        moves.append(target)
        if len(moves) == number:
            if how == WRITES[0]:
                os.truncate(source, int(share * os.path.getsize(source)))
            elif how == WRITES[2]:
                move(source, target)
            os.kill(os.getpid(), signal.SIGKILL)
        move(source, target)

    os.replace = replace  # type: ignore[assignment]


# -- a run and its outcome ------------------------------------------------------------------------------


@dataclass
class Outcome:
    """A run that was killed and resumed.

    Attributes:
        case: its name.
        kills: what killed each attempt but the last.
        differs: what is not the same as in the run that was left alone; empty if all is.
        resumed: how many attempts found a checkpoint.
    """

    case: str
    kills: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    resumed: int = 0


def killed_and_resumed(case: str, runs: int, seed: int, kills: int = 3) -> list[Outcome]:
    """Run a case through once, then ``runs`` times with up to ``kills`` kills each, all of them seeded."""
    run, rng = CASES[case], random.Random(f"{case} {seed}")
    torch.set_num_threads(1)
    found = []
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place) / "whole" / "run"
        whole.mkdir(parents=True)
        started = time.monotonic()
        if _attempt(run, whole, None, None) != "done":
            raise RuntimeError((whole.parent / "said.txt").read_text())
        seconds = time.monotonic() - started
        for number in range(runs):
            folder = Path(place) / str(number) / "run"
            folder.mkdir(parents=True)
            found.append(_one(case, folder, whole, seconds, rng, 1 + (number + seed) % kills))
            shutil.rmtree(folder.parent)
    return found


def _one(
    case: str, folder: Path, whole: Path, seconds: float, rng: random.Random, kills: int
) -> Outcome:
    found = Outcome(case)
    while True:
        found.resumed += any(folder.rglob(CHECKPOINT))
        after, write = None, None
        if len(found.kills) < kills:
            if rng.random() < 0.5:
                after = rng.uniform(0.02, 0.9) * seconds / (1 + len(found.kills))
            else:
                write = (rng.randint(1, 8), rng.choice(WRITES), rng.random())
        ended = _attempt(CASES[case], folder, after, write)
        if ended == "failed":
            found.differs.append((folder.parent / "said.txt").read_text().strip().splitlines()[-1])
            return found
        if ended == "done":
            found.differs += differences(whole, folder)
            return found
        found.kills.append(ended)


def differences(one: Path, two: Path) -> list[str]:
    """What two finished runs do not have in common, to the last bit."""
    found = [f"left behind: {p.name}" for p in two.rglob(".*")]
    files = {p.relative_to(one) for p in one.rglob("*")} ^ {
        p.relative_to(two) for p in two.rglob("*")
    }
    found += [f"in one folder alone: {p}" for p in sorted(files)]
    if (one / RESULT).exists():
        (a, told_a), (b, told_b) = read_tensors(one / RESULT), read_tensors(two / RESULT)
        histories = [json.loads(told["history"]) for told in (told_a, told_b)]
    else:
        fits = [Fit.load(folder) for folder in (one, two)]
        a, b = (
            {
                f"{n}.{k}": v
                for n in ("story", "guide")
                for k, v in getattr(f, n).state_dict().items()
            }
            for f in fits
        )
        histories = [f.history for f in fits]
        told = [(f.settings, f.best_step, f.graph.fingerprint()) for f in fits]
        found += [] if told[0] == told[1] else ["settings, best step or graph"]
    found += [f"weights {k}" for k in a.keys() | b.keys() if not torch.equal(a[k], b[k])]
    found += [
        f"history {k}"
        for k in histories[0].keys() | histories[1].keys()
        if k != "seconds" and repr(histories[0].get(k)) != repr(histories[1].get(k))
    ]
    lengths = {len(h["seconds"]) for h in histories}
    return found + ([] if len(lengths) == 1 else ["history seconds"])


def rounds(case: str, runs: int, seed: int) -> list[Outcome]:
    """The same in a process without threads of its own, from which others may be forked."""
    command = [sys.executable, "-m", "proof.kills", case, str(runs), str(seed)]
    path = os.pathsep.join([str(ROOT / "tests"), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return [Outcome(**told) for told in json.loads(done.stdout.splitlines()[-1])]


# -- the report -----------------------------------------------------------------------------------------


def prove(docs: Path, runs: int = 2, seed: int = 1) -> bool:
    """Two runs of each case, 30 in all; writes docs/proof/kills.md."""
    before = os.times()
    found: list[Outcome] = []
    for case in track(CASES, description="kills"):
        mine: list[Outcome] = []
        for again in range(_TRIES):
            # a fit that was done before it was due to be killed shows nothing: again, at other moments
            tried = rounds(case, runs - len(mine), seed + 100 * again)
            mine += [one for one in tried if one.kills or one.differs]
            if len(mine) == runs:
                break
        found += mine
    after = os.times()
    spent = sum(after[:4]) - sum(before[:4])
    held = len(found) == runs * len(CASES) and not any(one.differs for one in found)
    (docs / "proof").mkdir(parents=True, exist_ok=True)
    (docs / "proof" / "kills.md").write_text(_report(found, held, spent, seed), encoding="utf-8")
    return held


def _report(found: Sequence[Outcome], held: bool, spent: float, seed: int) -> str:
    kills = [kill for one in found for kill in one.kills]
    counts = {how: kills.count(how) for how in ("the clock", *WRITES)}
    lines = [
        f"{len(found)} fits were killed with SIGKILL {len(kills)} times, and resumed "
        f"{sum(one.resumed for one in found)} times from a checkpoint (the others had not come to one). "
        f"Killed by the clock at a random moment: {counts['the clock']}; at a write, with half of the new file there: "
        f"{counts[WRITES[0]]}, before the move that puts it in place: {counts[WRITES[1]]}, right after it: "
        f"{counts[WRITES[2]]}. Compared with the same fit left alone, to the last bit: all weights, all columns of the "
        "history but the seconds, settings, best step and graph; and nothing half-written is left in the folder. "
        f"Seed {seed}; {spent:.0f} CPU-seconds.",
        "",
        "| fit | kills of each run | to the last bit the same |",
        "|---|---|---|",
    ]
    for case in dict.fromkeys(one.case for one in found):
        mine = [one for one in found if one.case == case]
        wrong = "; ".join(d for one in mine for d in one.differs[:3])
        times = " and ".join(str(len(one.kills)) for one in mine)
        lines.append(f"| {case} | {times} | {'no: ' + wrong if wrong else 'yes'} |")
    verdict = "All of them resumed to the same bits." if held else "**Not all of them did.**"
    return "\n".join([*lines, "", verdict, ""])


if __name__ == "__main__":
    outcomes = killed_and_resumed(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps([asdict(one) for one in outcomes]))
