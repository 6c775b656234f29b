"""What ``import framepipe`` costs, beside the libraries that it cannot do without."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

from benchmarks.measure import Figure

_PROGRAM = """
import os, time
def resident_kb():
    # Not ru_maxrss: a child begins with its parent's. Where there is no /proc, no figure.
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024
    except OSError:
        return float("nan")
before_kb = resident_kb()
began = time.perf_counter()
import {modules}
print(time.perf_counter() - began, resident_kb() - before_kb)
"""


def _import_cost(modules: str, repeats: int = 9) -> tuple[float, float]:
    """Milliseconds and MB of an import, with compiled bytecode as an installed package has it."""
    times_s: list[float] = []
    grown_kb: list[float] = []
    with tempfile.TemporaryDirectory() as bytecode:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for _ in range(repeats + 1):  # the first one compiles
            output = subprocess.run(
                [sys.executable, "-c", _PROGRAM.format(modules=modules)],
                check=True,
                capture_output=True,
                text=True,
                env=environment,
            ).stdout.split()
            times_s.append(float(output[0]))
            grown_kb.append(float(output[1]))
    return statistics.median(times_s[1:]) * 1e3, statistics.median(grown_kb[1:]) / 1024


def figures() -> list[Figure]:
    """Measure the import."""
    floor_ms, floor_mb = _import_cost("anyio, attrs")
    import_ms, import_mb = _import_cost("framepipe")
    return [
        Figure("import anyio, attrs", floor_ms, "ms"),
        Figure("import framepipe", import_ms, "ms", 100.0),
        Figure("import anyio, attrs, memory", floor_mb, "MB"),
        Figure("import framepipe, memory", import_mb, "MB", 30.0),
    ]
