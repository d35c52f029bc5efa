"""Fixtures for all tests."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from chance import FAMILY, account
from torch.distributions import Distribution


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Every test starts from the same random state, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - for libraries that draw from the global state
    torch.manual_seed(0)


def _global_settings() -> dict[str, Any]:
    return {
        **pyro.settings.get(),
        "torch validates arguments": Distribution._validate_args,
        "handlers left on Pyro's stack": len(pyro.poutine.runtime._PYRO_STACK),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "anomaly detection": torch.is_anomaly_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
    }


@pytest.fixture(autouse=True)
def _global_state() -> Iterator[None]:
    """A test has a parameter store of its own, and fails if it leaves a global setting changed."""
    before = _global_settings()
    with pyro.get_param_store().scope():
        yield
    after = _global_settings()
    assert after == before, f"changed: {[name for name in after if after[name] != before[name]]}"


@pytest.fixture
def pictures_closed() -> Iterator[None]:
    """Figures are closed behind a test, which fails if it changes a setting of matplotlib."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    before = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == before, "a picture changed rcParams"


@pytest.fixture
def main(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[Any, str, str]]:
    """``graphlore ...`` as the installed script runs it: (exit code, stdout, stderr)."""
    from graphlore import cli

    def call(*arguments: object) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["graphlore", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return call


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public graphs that lies beside the checkout, where there is one."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the public graphs (../shared/data beside the checkout) are not here")
    return folder


# -- failures by chance: an account over all tests, and over the processes of pytest-xdist -------------------------


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of pytest-xdist hands over its account; the others fail if the suite would fail by chance too often."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["chance"] = (account.scores, account.p_values)
    elif account.chance > FAMILY:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    account.add(*getattr(node, "workeroutput", {}).get("chance", (0, 0)))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if account.chance > 0.0:
        too_often = (
            "" if account.chance <= FAMILY else f", which is above {FAMILY:g}: see chance.py"
        )
        terminalreporter.write_line(f"{account}{too_often}")
