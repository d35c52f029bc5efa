"""Every reader and every value against bad input: it is read and then sound, or refused in one clear sentence."""

from __future__ import annotations

import itertools
import logging
import re
import resource
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from tqdm import tqdm

from .ways_in import Reader, fit_files, odd_folder, readers

SECONDS = 5.0  # of one input; the slowest honest one takes a tenth of a second
LEAST = 10_000  # inputs that have to be refused in all
MEGABYTES = 400  # that one input may add to what the process ever held

# -- the property ---------------------------------------------------------------------------------------

#: words of the insides of Python and of libraries, which say nothing to a user
_INSIDES = re.compile(
    r"Traceback|KeyError|IndexError|AttributeError|AssertionError|MemoryError|RecursionError|OverflowError|"
    r"TypeError|UnboundLocal|Unable to allocate|\baten::|TORCH_CHECK|c10::|"
    r"not subscriptable|has no attribute|positional argument|keyword argument|"
    r"ambiguous|codec can't encode|list index|invalid literal"
)


@dataclass
class Tally:
    """What became of the inputs of one reader."""

    read: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    messages: Counter[str] = field(default_factory=Counter)


class _Notes(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def assert_clear(error: Exception, name: str | None) -> None:
    """An error reads as a sentence for its reader, and names the file."""
    told = str(error)
    assert len(told.split()) >= 3, f"no sentence: {told!r}"
    assert len(told) < 2000, f"{len(told)} characters: {told[:200]!r}"
    found = _INSIDES.search(told)
    assert found is None, f"insides ({found and found[0]}): {told!r}"
    assert name is None or name in told, f"does not name {name}: {told!r}"


def try_one(reader: Reader, given: Any, tally: Tally, number: int) -> None:
    """Feed one input to a reader, and hold what it does against the property."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        name = None
        call = (given,)
        if reader.name == "Fit.load":
            name = given[0]
            call = (odd_folder(fit_files(), *given, folder),)
        elif reader.file:
            (suffix, content), options = given
            path = folder / f"given{number}{suffix}"
            path.write_bytes(content)
            name, call = path.name, (path, options)
        before = sorted(folder.iterdir())
        notes = _Notes()
        logger = logging.getLogger("graphlore")
        logger.addHandler(notes)
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        try:
            with warnings.catch_warnings(record=True) as spoken:
                warnings.simplefilter("always")
                try:
                    found = reader.read(*call)
                except reader.refuses as error:
                    assert_clear(error, name)
                    tally.refused += 1
                    told = str(error).replace(str(folder), "").replace(name or "", "")
                    tally.messages[re.sub(r"[\d']+", "", told)[:60]] += 1
                else:
                    tally.read += 1
                    reader.sound(found, folder)
        finally:
            logger.removeHandler(notes)
        took = time.process_time() - started
        tally.seconds += took
        tally.slowest = max(tally.slowest, took)
        assert took < SECONDS, f"took {took:.1f} s"
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held
        assert grown < 1024 * MEGABYTES, f"took {grown / 1024:.0f} MB"
        assert not spoken, f"warned: {spoken[0].category.__name__}: {spoken[0].message}"
        assert len(notes.lines) <= 4, notes.lines
        assert sorted(folder.iterdir()) == before, "left a file behind"


def fuzz(reader: Reader, examples: int) -> Tally:
    """Feed a reader; raises (with the smallest inputs found) where the property does not hold."""
    tally = Tally()
    numbers = itertools.count()

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
        print_blob=False,
    )
    @given(reader.inputs)
    def run(made: Any) -> None:
        try_one(reader, made, tally, next(numbers))

    run()
    return tally


# -- the proof ------------------------------------------------------------------------------------------


def prove(docs: Path, examples: int = 1000) -> bool:
    """Feed every reader ``examples`` inputs times its share; write docs/proof/fuzz.md. True if the property held."""
    started = time.process_time()
    rows, faults = [], []
    with tempfile.TemporaryDirectory() as run:
        for reader in tqdm(readers(Path(run)), desc="fuzz"):
            try:
                tally = fuzz(reader, round(examples * reader.share))
            except BaseExceptionGroup as group:
                faults += [f"{reader.name}: {e!r:.300}" for e in group.exceptions]
            except Exception as error:
                faults.append(f"{reader.name}: {error!r:.300}")
            else:
                rows.append((reader.name, tally))
    refused = sum(t.refused for _, t in rows)
    held = not faults and refused >= LEAST
    (docs / "proof").mkdir(parents=True, exist_ok=True)
    text = _report(rows, faults, time.process_time() - started)
    (docs / "proof" / "fuzz.md").write_text(text, encoding="utf-8")
    return held


def _report(rows: list[tuple[str, Tally]], faults: list[str], seconds: float) -> str:
    read, refused = (sum(getattr(t, n) for _, t in rows) for n in ("read", "refused"))
    lines = [
        f"{read + refused:,} damaged or nonsensical inputs went into {len(rows) + len(faults)} readers and "
        f"constructors. {refused:,} of them were bad, and each was refused with one error of the documented class, in "
        f"a sentence that names the file; the other {read:,} were still well-formed (a swapped line, a changed "
        "number) and were read: the result then had every invariant that its class states, and came back the same "
        "from a file of its own.",
        "",
        f"None took longer than {SECONDS:.0f} s of CPU or added {MEGABYTES} MB to the process, warned through Python, "
        "or left a file behind. Among the inputs are archives whose headers claim terabytes, entities that grow "
        "exponentially, 200,000 elements within each other, pickles, and text in other encodings. Inputs are made by "
        "Hypothesis, derandomised.",
        "",
        "| reader | inputs | read | refused | different refusals | slowest (s) |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, t in rows:
        lines.append(
            f"| {name} | {t.read + t.refused:,} | {t.read:,} | {t.refused:,} | {len(t.messages)} | {t.slowest:.2f} |"
        )
    verdict = "The property held." if not faults else "The property did not hold:"
    return "\n".join(
        [*lines, "", verdict, *(f"- {f}" for f in faults), "", f"{seconds:.0f} CPU-seconds.", ""]
    )
