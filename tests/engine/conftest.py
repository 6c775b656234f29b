"""Engine tests run in virtual time, on both backends: no test waits, and a deadlock is an error."""

from typing import Any

import pytest

from framepipe.testing import virtual_backend
from framepipe.testing.virtual_time import Backend


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Both backends, with clocks that jump."""
    backend: Backend = request.param
    return virtual_backend(backend)
