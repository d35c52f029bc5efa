"""The command line: ``graphlore fit | evaluate | generate | predict | check | compare | report | data``.

One module a command. Torch and Pyro are loaded by the commands, never by ``--help`` or by tab completion.
"""

from __future__ import annotations

import logging
import warnings
from typing import Annotated

import typer
from rich.markup import escape

from . import check, compare, data, evaluate, fit, generate, predict, report
from .output import errors, fail, in_shell_words

__all__ = ["app", "main"]

app = typer.Typer(
    name="graphlore",
    help="Deep generative models of graphs: fit a story to a graph, look at its posterior, predict with it.",
    epilog="Exit codes: 0 done, 2 something that you can mend (one line on standard error says what), "
    "130 interrupted, 1 a bug of graphlore. "
    "With `--json`, standard output is one JSON value and nothing else; words go to standard error. "
    "`graphlore --install-completion` has the tab key complete commands, options, datasets and run folders.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for _command in (
    fit.fit,
    evaluate.evaluate,
    generate.generate,
    predict.predict,
    check.check,
    compare.compare,
    report.report,
    data.data,
):
    app.command()(_command)


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        print(f"graphlore {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; what a user can mend ends in one line on standard error and exit code 2."""
    logging.basicConfig(level=logging.WARNING, handlers=[_Lines()])
    warnings.showwarning = _show_warning
    try:
        app(prog_name="graphlore")
    except (ValueError, OSError) as error:
        fail(str(error))
    except RuntimeError as error:
        if type(error).__name__ != "InferenceError":
            raise
        fail(str(error))


class _Lines(logging.Handler):
    """Log messages on standard error, one line each however long."""

    def emit(self, record: logging.LogRecord) -> None:
        errors().print(
            f"[yellow]{record.levelname.lower()}:[/] {escape(in_shell_words(record.getMessage()))}"
        )


def _show_warning(
    message: Warning | str, category: type[Warning], *_: object, **__: object
) -> None:
    """Warnings of this package and of Python's users in one line; what libraries tell their developers is not shown."""
    if issubclass(category, UserWarning) and not issubclass(category, DeprecationWarning):
        errors().print(
            f"[yellow]warning:[/] {escape(in_shell_words(str(message).splitlines()[0]))}"
        )
