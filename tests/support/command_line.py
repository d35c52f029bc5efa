"""Commands called within the process of a test."""

from __future__ import annotations

from typing import Any

from typer.testing import CliRunner

from graphlore import cli

RUN = CliRunner()


def ok(*arguments: object) -> Any:
    """What a command prints that has to succeed."""
    result = RUN.invoke(cli.app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result
