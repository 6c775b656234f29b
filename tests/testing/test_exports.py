"""The kit's public names: documented, typed, and there without the extra where they can be."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest
from attrs import evolve

import framepipe.testing

MODULES = [
    f"framepipe.testing.{found.name}"
    for found in pkgutil.iter_modules(framepipe.testing.__path__)
    if not found.name.startswith("_")
]

WITHOUT = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("hypothesis", "pytest", "trio"):
            raise ImportError(f"no {name} here")

sys.meta_path.insert(0, Without())
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_virtual_time_needs_none_of_the_extra() -> None:
    ran = run(
        "import anyio; from framepipe.testing import *; "
        "from framepipe.testing import run_virtual, collect, Wait; from framepipe import TextIn; "
        "run_virtual(anyio.sleep, 3600); print(collect(steps=[TextIn(text='a'), Wait(5)]))"
    )
    assert ran.stdout.startswith("[TextIn("), ran.stderr


@pytest.mark.parametrize("name", ["strategies", "conformance", "machine", "graphs"])
def test_what_needs_hypothesis_names_the_extra(name: str) -> None:
    ran = run(f"import framepipe.testing.{name}")
    assert "needs hypothesis: pip install 'framepipe[testing]'" in ran.stderr


def public() -> Iterator[tuple[str, Any]]:
    for module in map(importlib.import_module, MODULES):
        for name, value in vars(module).items():
            if (
                name.startswith(("_", "pytest_"))
                or getattr(value, "__module__", "") != module.__name__
                or value is evolve  # from Python 3.13 on it says that it is from everywhere
            ):
                continue
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{module.__name__}.{name}", value


PUBLIC = dict(public())


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented_and_typed(name: str) -> None:
    value = PUBLIC[name]
    text = value.__doc__ or ""
    assert text.strip(), f"{name} has no docstring"
    first = text.strip().splitlines()[0]
    assert first.endswith((".", ":")), f"{name}: a first line is a sentence"
    if inspect.isfunction(value):
        parameters = inspect.signature(value).parameters
        assert {*parameters, "return"} <= set(get_type_hints(value)), name
