"""The processors that come with framepipe keep every clause of the conformance suite.

What is declared for one of them is what its page says of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import field, frozen
from hypothesis import strategies as st

from framepipe import (
    AudioDone,
    AudioOut,
    Frame,
    Hold,
    Played,
    Release,
    SpeechStarted,
    TextOut,
)
from framepipe.testing import ScriptedService
from framepipe.testing.conformance import Clause, check_processor
from framepipe.testing.strategies import audio_in_frames, audio_out_frames, frames
from framepipe.testing.virtual_time import Backend
from framepipe_processors import (
    BargeIn,
    LocalVad,
    MicGate,
    Playout,
    Realtime,
    Resample,
    Turns,
    WavSink,
)


@frozen(kw_only=True)
class Case:
    """How one of ours is made, and what it declares."""

    make: Callable[[], object]
    declared: dict[str, Any] = field(factory=dict[str, Any])


def one_format(*others: type[Frame]) -> st.SearchStrategy[Frame]:
    """Audio as the service has it, beside other frames."""
    return st.one_of(
        audio_in_frames(rate_hz=24_000, channels=1),
        audio_out_frames(rate_hz=24_000, channels=1),
        frames(*others),
    )


def connected() -> Realtime:
    """A client of a service that agrees to everything and never says a word."""

    async def script(service: ScriptedService) -> None:
        await service.greet()
        while True:
            await service.connection.receive()

    return Realtime(url="ws://127.0.0.1/v1/realtime", connect=ScriptedService(script).connect)


OWN: dict[str, Case] = {
    "BargeIn": Case(make=BargeIn),
    "LocalVad": Case(
        make=lambda: LocalVad(second_stage=False), declared={"frames": one_format(SpeechStarted)}
    ),
    "MicGate": Case(make=MicGate, declared={"frames": one_format(Played)}),
    "Playout": Case(
        make=Playout,
        # It hands on pieces of 20 ms, when they are due.
        declared={
            "frames": one_format(AudioDone, Hold, Release),
            "repeats": (AudioOut,),
            "holds_frames": 200,
        },
    ),
    # What is typed and answered is the conversation, which a client keeps while the call lasts.
    "Realtime": Case(
        make=connected,
        declared={
            "frames": st.one_of(
                audio_in_frames(rate_hz=24_000, channels=1), frames(SpeechStarted, Hold, Release)
            )
        },
    ),
    # Audio too short for a sample of the other rate comes later; so does the last of a part.
    "Resample": Case(
        make=lambda: Resample(16_000), declared={"drops": (AudioOut,), "repeats": (AudioOut,)}
    ),
    # It holds answers for a while, keeps back what is void, and remembers 16 replies.
    "Turns": Case(
        make=Turns,
        declared={
            "drops": (AudioOut, AudioDone, TextOut),
            "delays": (AudioOut, AudioDone, TextOut),
            "holds_frames": 200,
        },
    ),
    "WavSink": Case(make=WavSink),
}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_our_own_keep_every_clause(name: str, backend: Backend) -> None:
    case = OWN[name]
    if backend == "asyncio":
        check_processor(case.make, max_examples=5, **case.declared)
    else:  # what blocks and what grows is the same there
        without = [Clause.BLOCKING, Clause.GROWTH]
        check_processor(
            case.make, backend=backend, max_examples=3, without=without, **case.declared
        )
