"""Break the code in small ways, and see whether the tests notice.

    python scripts/mutants.py                  every mutant of `mutant_table`, and its page
    python scripts/mutants.py --only NAME      those whose name holds NAME; no page is written
    python scripts/mutants.py --list           what there is

Each mutant is one replacement of text in one file, made in a copy of the tree; the tree itself is
never changed. Then the tests that should notice run in that copy until one fails. A mutant that
none of them notices *survives*: a test is missing. A text that is not found exactly once is an
error, and so are tests that fail without any change, because they would notice everything.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # run as a file, only its own folder is known
    sys.path.insert(0, str(ROOT))

from scripts.mutant_table import MUTANTS, Mutant  # noqa: E402 - needs the path above

PAGE = ROOT / "docs" / "explanation" / "mutants.md"

COPIED = ("framepipe", "processors", "tests", "examples", "scripts", "benchmarks", "docs")
COPIED_FILES = ("pyproject.toml", "README.md", "Makefile", "LICENSE", "constraints.txt")

LIMIT_S = 120.0
"""How long the tests of one mutant may take: one that hangs is noticed, too."""

BASELINE_LIMIT_S = 900.0
"""How long all of these tests may take without a change."""

_NOTICED_CODES = {1: "failed"}
"""Exit codes of pytest that mean that a test said no; all others but 0 are errors of the mutant."""


class MutantError(Exception):
    """The check itself does not work."""


@frozen
class Result:
    """What became of a mutant.

    Attributes:
        mutant: It.
        noticed_by: The first test that failed, or "a hang"; ``None``: it survived.
        took_s: How long that took, in seconds.
    """

    mutant: Mutant
    noticed_by: str | None
    took_s: float


def mutated(mutant: Mutant, source: str) -> str:
    """The source with the replacement made.

    Raises:
        MutantError: Its text does not stand there exactly once.
    """
    found = source.count(mutant.old)
    if found != 1:
        raise MutantError(
            f"{mutant.name}: its text stands {found} times in {mutant.file}; it must be once. "
            "The code has changed: change the mutant in scripts/mutant_table.py with it"
        )
    return source.replace(mutant.old, mutant.new)


def check(mutants: Iterable[Mutant], root: Path = ROOT) -> None:
    """Refuse a table that does not fit the code.

    Raises:
        MutantError: A text that is not found, tests that do not exist, a name that is used twice.
    """
    seen: set[str] = set()
    for mutant in mutants:
        if mutant.name in seen:
            raise MutantError(f"two mutants are named {mutant.name!r}; rename one")
        seen.add(mutant.name)
        mutated(mutant, (root / mutant.file).read_text("utf-8"))
        for test in mutant.tests:
            if not (root / test).is_file():
                raise MutantError(f"{mutant.name}: there is no {test}")


@contextmanager
def copy_of_the_tree() -> Iterator[Path]:
    """A temporary folder with all that the tests need."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder)
        for name in COPIED:
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        for name in COPIED_FILES:
            shutil.copy(ROOT / name, copy / name)
        yield copy


def run_tests(copy: Path, tests: Sequence[str], limit_s: float) -> tuple[int | None, str]:
    """Exit code of pytest in the copy, ``None`` when it took too long, and what it said."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=line"]
    # Tests of the tests hunt for a wrong double by chance; here the code itself is wrong.
    command += ["-p", "no:cacheprovider", "-k", "not is_noticed", *tests]
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join((str(copy), str(copy / "processors")))
    environment["FRAMEPIPE_EXAMPLES"] = "mutants"
    ran = subprocess.Popen(
        command,
        cwd=copy,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = ran.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        ran.kill()
        ran.communicate()
        return None, ""
    return ran.returncode, said


def check_baseline(copy: Path, mutants: Sequence[Mutant]) -> None:
    """See that the tests pass without a change.

    Raises:
        MutantError: They do not.
    """
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    code, said = run_tests(copy, tests, BASELINE_LIMIT_S)
    if code != 0:
        raise MutantError(f"the tests fail without any change:\n{said[-4_000:]}")


def try_one(mutant: Mutant, copy: Path, number: int) -> Result:
    """Break the copy, run the tests, mend the copy."""
    path = copy / mutant.file
    original = path.read_text("utf-8")
    path.write_text(mutated(mutant, original), "utf-8")
    # Compiled files are known by time (in seconds) and size of their source: make each unique.
    os.utime(path, (number, number))
    began = time.monotonic()
    try:
        code, said = run_tests(copy, mutant.tests, LIMIT_S)
    finally:
        path.write_text(original, "utf-8")
        os.utime(path, (0, 0))
    took_s = time.monotonic() - began
    if code is None:
        return Result(mutant, "a hang", took_s)
    if code == 0:
        return Result(mutant, None, took_s)
    if code not in _NOTICED_CODES:
        raise MutantError(f"{mutant.name}: pytest ended with code {code}:\n{said[-4_000:]}")
    return Result(mutant, _first_failure(said), took_s)


def _first_failure(said: str) -> str:
    found = re.search(r"^(?:FAILED|ERROR) (\S+?::[^\s\[]+)", said, re.M)
    return found[1] if found else "a test"


def table(results: Sequence[Result]) -> str:
    """The results as a Markdown table."""
    lines = ["| mutant | what is broken | in | noticed by |", "|---|---|---|---|"]
    for result in results:
        mutant = result.mutant
        by = "**nothing: it survives**"
        if result.noticed_by is not None:
            by = result.noticed_by.rpartition("::")[2].replace("_", " ")
        file = Path(mutant.file).name
        lines.append(f"| {mutant.name} | {mutant.breaks} | `{file}` | {by} |")
    return "\n".join(lines)


_INTRO = """\
<!-- Made by scripts/mutants.py (make mutants); change scripts/mutant_table.py, not this page. -->

# Mutants: do the tests notice?

A test suite that passes says little if it would also pass with the code broken. So `make mutants`
breaks the code in small ways, one at a time, in a copy: a check that is left out, two lanes that
are swapped, a deadline that is dropped, a count that is off by one. Each must make a test fail. One
that is not noticed *survives*, and the command fails until there is a test for it.

To try some of them: `python scripts/mutants.py --only clock`.
"""


def page(results: Sequence[Result]) -> str:
    """The page of the documentation."""
    survived = sum(result.noticed_by is None for result in results)
    verdict = f"{len(results)} mutants, {len(results) - survived} noticed, {survived} survived."
    return f"{_INTRO}\n{verdict}\n\n{table(results)}\n"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutants; 1 when one survives, 2 when the check itself does not work."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--only", metavar="NAME", action="append", help="those whose name holds NAME; repeatable"
    )
    parser.add_argument("--list", action="store_true", help="name them and do nothing")
    asked = parser.parse_args(arguments)
    only: list[str] | None = asked.only
    chosen = [m for m in MUTANTS if only is None or any(name in m.name for name in only)]
    if not chosen:
        sys.stderr.write(f"no mutant's name holds {only}; --list names them\n")
        return 2
    if asked.list:
        for mutant in chosen:
            _say(f"{mutant.name:40} {mutant.file}")
        return 0
    began = time.monotonic()
    results: list[Result] = []
    try:
        check(MUTANTS)
        with copy_of_the_tree() as copy:
            check_baseline(copy, chosen)
            _say(f"the tests pass without a change ({time.monotonic() - began:.0f} s)")
            for number, mutant in enumerate(chosen, 1):
                result = try_one(mutant, copy, number)
                results.append(result)
                by = result.noticed_by or "SURVIVES"
                _say(f"{mutant.name:40} {result.took_s:5.1f} s  {by}")
    except MutantError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    survivors = [result.mutant.name for result in results if result.noticed_by is None]
    _say(f"{len(results)} mutants in {time.monotonic() - began:.0f} s, survived: {survivors}")
    if only is None:
        PAGE.write_text(page(results), "utf-8")
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main())
