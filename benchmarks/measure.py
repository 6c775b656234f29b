"""How the benchmarks measure: the best of several runs, and a table that shows the floor."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable

import anyio
from attrs import frozen
from rich.console import Console
from rich.table import Table


@frozen
class Figure:
    """One measured figure.

    Attributes:
        name: What was measured.
        value: The figure.
        unit: Its unit.
        goal: The figure it should not exceed, or ``None`` where it is a floor or a report.
    """

    name: str
    value: float
    unit: str
    goal: float | None = None


def best_of(function: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of the fastest of several calls: the least disturbed by others."""
    times: list[float] = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def run_async(function: Callable[[], Awaitable[float]], backend: str = "asyncio") -> float:
    """Run a benchmark that measures itself."""
    return anyio.run(function, backend=backend)


def medians(function: Callable[[], Awaitable[float]], repeats: int, backend: str) -> float:
    """The median of what several runs of a benchmark measured."""
    return statistics.median(run_async(function, backend) for _ in range(repeats))


def show(title: str, figures: list[Figure]) -> None:
    """Print figures as a table."""
    table = Table(title=title, title_justify="left")
    for column, justify in (("what", "left"), ("measured", "right"), ("goal", "right")):
        table.add_column(column, justify="right" if justify == "right" else "left")
    for figure in figures:
        met = figure.goal is None or figure.value <= figure.goal
        goal = "" if figure.goal is None else f"≤ {figure.goal:g} {figure.unit}"
        shown = f"{figure.value:.3g} {figure.unit}"
        table.add_row(figure.name, shown if met else f"[bold red]{shown}[/]", goal)
    Console().print(table)
