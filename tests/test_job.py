"""One fit in two processes: the sums over dyads are shared, the result is that of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).parent / "support" / "job_script.py"


def run(kind: str, folder: Path, processes: int = 1, *options: str) -> str:
    """Standard error of the script as so many processes."""
    folder.mkdir()
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), *options]
    done = subprocess.run(
        [*command, str(SCRIPT), kind, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def histories(*folders: Path) -> list[dict[str, list[float]]]:
    return [json.loads((f / "history.json").read_text()) for f in folders]


@pytest.mark.parametrize("kind", ["exact", "sampled", "priced"])
def test_two_processes_give_the_fit_of_one(kind: str, tmp_path: Path) -> None:
    run(kind, tmp_path / "one")
    run(kind, tmp_path / "two", 2)
    one, two = histories(tmp_path / "one", tmp_path / "two")
    np.testing.assert_allclose(one["elbo"], two["elbo"], rtol=1e-5)
    first, second = (load_file(tmp_path / "two" / f"weights_{r}.safetensors") for r in (0, 1))
    alone = load_file(tmp_path / "one" / "weights_0.safetensors")
    for name, weight in alone.items():
        assert torch.equal(first[name], second[name])
        assert float((weight - first[name]).abs().max()) < 1e-5


def test_processes_share_the_graphs_of_a_set(tmp_path: Path) -> None:
    run("graphs", tmp_path / "one")
    run("graphs", tmp_path / "two", 2)
    one, two = histories(tmp_path / "one", tmp_path / "two")
    np.testing.assert_allclose(one["log_prob"], two["log_prob"], rtol=1e-5)
    alone = load_file(tmp_path / "one" / "weights_0.safetensors")
    for rank in (0, 1):
        found = load_file(tmp_path / "two" / f"weights_{rank}.safetensors")
        for name, weight in alone.items():
            torch.testing.assert_close(found[name], weight, atol=1e-5, rtol=0.0)


def test_a_job_that_lost_a_process_is_started_anew_and_resumes(tmp_path: Path) -> None:
    told = run("killed", tmp_path / "two", 2, "--max-restarts=1")
    assert (tmp_path / "two" / "killed").exists()
    assert "exitcode: -9" in told
    run("exact", tmp_path / "one")
    one, two = histories(tmp_path / "one", tmp_path / "two")
    assert two["step"] == list(range(50))
    np.testing.assert_allclose(one["elbo"], two["elbo"], rtol=1e-5)
