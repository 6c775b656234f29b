"""Run every benchmark: ``make bench``."""

from __future__ import annotations

from benchmarks import engine, imports
from benchmarks.measure import show

show("The engine", engine.figures())
show("The import", imports.figures())
