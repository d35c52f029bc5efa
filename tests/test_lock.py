"""One writer a run folder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from graphlore.data import karate
from graphlore.inference import Fit, InferenceError, Recipe, fit_recipe, lock, locked

KARATE = karate()
SMALL = Recipe.default("sbm", num_blocks=2).override(fit={"steps": 3})

HOLDER = """
import sys, time
from graphlore.inference import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def holder(folder):
    """A process that writes to the folder for the length of a block."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_second_of_two_processes_refuses_and_a_killed_one_bars_nobody(tmp_path, main):
    fitted = fit_recipe(SMALL, KARATE)
    fitted.save(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with holder(tmp_path) as process:
        says = rf"is being written to by process {process.pid} on \S+ since \d{{4}}-\d\d-\d\dT"
        for write in (
            lambda: fit_recipe(SMALL, KARATE, folder=tmp_path),
            lambda: fit_recipe(SMALL, KARATE, 2, folder=tmp_path),
            lambda: fitted.save(tmp_path),
        ):
            with pytest.raises(InferenceError, match=says):
                write()
        code, _, err = main("fit", "karate", "--out", tmp_path, "--quiet")
        assert code == 2
        assert re.search(says, err)
        assert main("report", tmp_path)[0] == 2
        assert Fit.load(tmp_path).settings == fitted.settings, "readers are not barred"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / lock.LOCK).exists(), "what a killed process leaves"
    now = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.name != lock.LOCK}
    assert now == before
    (tmp_path / ".weights.1.partial.safetensors").write_bytes(b"half")  # and perhaps this
    fitted.save(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == set(before)


def test_a_lock_is_of_its_thread_and_may_be_taken_again_within(tmp_path):
    def other():
        try:
            with locked(tmp_path):
                said.append("taken")
        except InferenceError as error:
            said.append(str(error))

    said: list[str] = []
    with locked(tmp_path):
        with locked(tmp_path / "."):
            assert json.loads((tmp_path / lock.LOCK).read_text())["pid"] == os.getpid()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "another thread" in said[0]
    assert not list(tmp_path.iterdir())
    other()
    assert said[1] == "taken"


def test_a_lock_that_was_removed_under_its_taker_is_taken_anew(tmp_path, monkeypatch):
    """Between opening the file and locking it, its holder ends and removes it."""
    flock, calls = lock.fcntl.flock, []

    def late(file, how):
        calls.append(file)
        if len(calls) == 1:
            (tmp_path / lock.LOCK).unlink()
        flock(file, how)

    monkeypatch.setattr(lock.fcntl, "flock", late)
    with locked(tmp_path):
        assert len(calls) == 2
        assert (tmp_path / lock.LOCK).exists()


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, caplog):
    def none(*_):
        raise OSError(lock.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", none)
    with locked(tmp_path):
        pass
    assert "has no locks" in caplog.text
    assert not list(tmp_path.iterdir())
