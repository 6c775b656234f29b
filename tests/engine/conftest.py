"""Engine tests run in virtual time, on both backends: no test waits, and a deadlock is an error."""

from typing import Any

import pytest

from framepipe.testing._virtual import VirtualLoop


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Both backends, with clocks that jump."""
    if request.param == "asyncio":
        return "asyncio", {"loop_factory": VirtualLoop}
    from trio.testing import MockClock

    return "trio", {"clock": MockClock(autojump_threshold=0)}
