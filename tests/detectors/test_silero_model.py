"""The model runs on one thread, and the environment is as it was."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import os
before = dict(os.environ)
from framepipe.realtime.window_detectors import SileroWindows
assert dict(os.environ) == before, "the environment changed"
windows = SileroWindows()
for _ in range(3):
    windows.probability(bytes(2 * 768))
print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_a_window_is_judged_without_threads_and_the_environment_is_left_alone() -> None:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("OMP_THREAD_LIMIT", None)
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, env=environment
    )
    assert done.stdout.split() == ["1"], done.stderr
