"""Run every benchmark: ``make bench``."""

from __future__ import annotations

from benchmarks import codec, detectors, engine, imports, page, sessions, tool_wait
from benchmarks.measure import show

show("The engine", engine.figures())
show("The import", imports.figures())
show("The codec", codec.figures())
show("The detectors, 20 ms of 24 kHz", detectors.figures())
show("The page: 8 ms of fade included (needs chromium)", page.figures())
show("A tool with effects waits for its turn", tool_wait.figures())
show("200 sessions at the speed of speech", sessions.figures())
