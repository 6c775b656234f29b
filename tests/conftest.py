"""What every test shares: both backends, bounded properties, and where the recordings are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

SHARED = Path(__file__).parents[1] / ".." / "shared"

settings.register_profile(
    "default",
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
# A mutant is noticed by any example; nobody reads the smallest one.
settings.register_profile(
    "mutants",
    parent=settings.get_profile("default"),
    phases=(Phase.explicit, Phase.generate),
    derandomize=True,  # a mutant falls or survives the same way each time
)
# "default", "mutants", or the number of examples that `make prove` asks for.
ASKED = os.environ.get("FRAMEPIPE_EXAMPLES", "default")
if ASKED.isdigit():
    settings.register_profile(
        ASKED, parent=settings.get_profile("default"), max_examples=int(ASKED)
    )
settings.load_profile(ASKED)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Every async test runs on both backends."""
    return str(request.param)


def _shared(folder: str) -> Path:
    path = SHARED / folder
    if not path.is_dir():
        pytest.skip(f"needs the folder {folder!r} of recordings beside the project; CI has it")
    return path.resolve()


@pytest.fixture
def audio_dir() -> Path:
    """Labelled recordings of speech, sneezes, coughs and noise."""
    return _shared("audio")


@pytest.fixture
def golden_dir() -> Path:
    """Recordings of the real service."""
    return _shared("golden")
