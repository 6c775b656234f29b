"""Virtual time and seeds for pytest.

One line in your ``conftest.py`` switches it on:

    pytest_plugins = ["framepipe.testing.pytest_plugin"]

It is no entry point, so that framepipe does nothing to the tests of those who do not ask for it:
an entry point is imported by every run of pytest in the environment, before coverage begins.

- ``@pytest.mark.virtual_time`` runs an ``async def`` test in virtual time, on asyncio and, where
  it is installed, on trio. ``@pytest.mark.virtual_time("asyncio")`` names the backends.
- The fixture ``virtual_run`` is `run_virtual` for tests that are no coroutines, on both.
- The fixture ``seed`` is a number for whatever is drawn by chance. It is the same for a test in
  every run, is printed when the test fails, and ``--framepipe-seed`` sets it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from functools import partial
from importlib.util import find_spec
from typing import Any, cast
from zlib import crc32

import pytest

from framepipe.testing.virtual_time import Backend, run_virtual

BACKENDS: tuple[Backend, ...] = (
    ("asyncio", "trio") if find_spec("trio") is not None else ("asyncio",)
)
"""Where a test runs unless its marker says otherwise."""

_BACKEND = "_virtual_backend"
_SEED = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--framepipe-seed``."""
    parser.getgroup("framepipe").addoption(
        "--framepipe-seed",
        type=int,
        default=None,
        metavar="N",
        help="what the fixture `seed` returns; without it, each test has a seed of its own",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "virtual_time(*backends): run an async test in virtual time, on each backend",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a marked test once for each backend."""
    marker = metafunc.definition.get_closest_marker("virtual_time")
    if marker is None or not inspect.iscoroutinefunction(metafunc.function):
        return
    for backend in marker.args:
        if backend not in ("asyncio", "trio"):
            raise pytest.UsageError(f"virtual_time({backend!r}): it is 'asyncio' or 'trio'")
    metafunc.fixturenames.append(_BACKEND)
    metafunc.parametrize(_BACKEND, marker.args or BACKENDS, indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a marked coroutine in virtual time."""
    call = getattr(pyfuncitem, "callspec", None)
    backend = cast("Backend | None", None if call is None else call.params.get(_BACKEND))
    if backend is None:
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    run_virtual(partial(pyfuncitem.obj, **arguments), backend=backend)
    return True


@pytest.fixture(params=BACKENDS)
def virtual_run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`run_virtual`, once for each backend."""
    return partial(run_virtual, backend=request.param)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A number for whatever is drawn by chance; printed when the test fails."""
    given: int | None = request.config.getoption("--framepipe-seed")
    chosen = crc32(request.node.nodeid.encode()) if given is None else given
    request.node.stash[_SEED] = chosen
    return chosen


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Print the seed of a test that failed."""
    report = yield
    chosen = item.stash.get(_SEED, None)
    if report.failed and chosen is not None:
        report.sections.append(
            ("framepipe seed", f"{chosen}: run it again with --framepipe-seed={chosen}")
        )
    return report
