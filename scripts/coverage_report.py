"""Print the branch coverage of each package, and fail below the goal.

    coverage run -m pytest -q && python scripts/coverage_report.py

Reads ``.coverage``; ``make coverage`` does both.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

ROOT = Path(__file__).resolve().parents[1]

GOAL_PERCENT: Final = 95.0
"""Of the statements and branches of ``framepipe``, all packages together."""


def by_package(files: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Statements and branches that were reached, and all there are, of each package.

    Args:
        files: As in the JSON report of coverage, by path.
    """
    found: dict[str, tuple[int, int]] = {}
    for path, file in files.items():
        parts = [part for part in Path(path).parts if part != "processors"]
        package = ".".join(parts[:2]) if len(parts) > 2 else parts[0]
        summary = file["summary"]
        reached = summary["covered_lines"] + summary["covered_branches"]
        there = summary["num_statements"] + summary["num_branches"]
        before = found.get(package, (0, 0))
        found[package] = (before[0] + reached, before[1] + there)
    return found


def percent(reached: int, there: int) -> float:
    """In percent; of nothing, all was reached."""
    return 100.0 * reached / there if there else 100.0


def main() -> int:
    """Print the table; 1 below the goal."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        command = [sys.executable, "-m", "coverage", "json", "-q", "-o", str(report)]
        subprocess.run(command, check=True, cwd=ROOT)
        files: dict[str, Any] = json.loads(report.read_text("utf-8"))["files"]
    packages = by_package(files)
    for package, counts in sorted(packages.items()):
        sys.stdout.write(f"{package:32} {percent(*counts):6.1f} %\n")
    ours = [counts for name, counts in packages.items() if name.split(".")[0] == "framepipe"]
    total = percent(sum(r for r, _ in ours), sum(t for _, t in ours))
    sys.stdout.write(f"{'framepipe, all of it':32} {total:6.1f} %, at least {GOAL_PERCENT:g}\n")
    return 0 if total >= GOAL_PERCENT else 1


if __name__ == "__main__":
    raise SystemExit(main())
