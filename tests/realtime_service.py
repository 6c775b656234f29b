"""Calls against a scripted service, for the client: what it is told and what it says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from framepipe import Pipeline
from framepipe.frames import AudioOut, Frame, Heard, Hold, Interrupt
from framepipe.processor import on
from framepipe.realtime.session import SessionSettings
from framepipe.testing import Pause, ScriptedService, ScriptedUser, run_virtual
from framepipe_processors.realtime import Realtime

_Event = TypeVar("_Event")

Service = ScriptedService


class Mic(ScriptedUser):
    """``seconds`` of 20 ms blocks of silence, in time."""

    def __init__(self, seconds: float, *, lost: range = range(0), rate_hz: int = 24_000) -> None:
        super().__init__(Pause(round(seconds * 50) * 20), rate_hz=rate_hz, block_ms=20, lost=lost)


class Ear:
    """Keeps what arrives, and cuts the agent on the ``cut_at``-th piece of its audio."""

    def __init__(self, cut_at: int | None = None, onset_sample: int | None = None) -> None:
        self.frames: list[Frame] = []
        self.cut_at = cut_at
        self.onset_sample = onset_sample
        self.n_audio = 0

    @on(Frame)
    def keep(self, frame: Frame) -> list[Frame]:
        self.frames.append(frame)
        if not isinstance(frame, AudioOut):
            return []
        self.n_audio += 1
        if self.n_audio != self.cut_at:
            return []
        account = Heard(
            item_id=frame.item_id,
            content_index=0,
            heard_samples=frame.start_sample,
            received_samples=frame.start_sample + frame.n_samples,
            final=True,
        )
        cut = Interrupt(turn=frame.turn, onset_sample=self.onset_sample, heard=(account,))
        return [Hold(), cut]

    def of(self, kind: type[_Event]) -> list[_Event]:
        return [frame for frame in self.frames if isinstance(frame, kind)]


def call(
    script: Callable[[Service], Awaitable[None]],
    *,
    mic: Mic | None = None,
    ear: Ear | None = None,
    settings: SessionSettings | None = None,
    **options: Any,
) -> tuple[Service, Ear]:
    """One whole call in virtual time."""
    service, ear = Service(script), ear or Ear()
    stage = Realtime(
        settings or SessionSettings(), key="sk-secret", seed=1, connect=service.connect, **options
    )
    run_virtual(Pipeline(mic or Mic(3.0), stage, ear).run)
    return service, ear


async def one_turn(service: Service) -> None:
    await service.greet()
    await service.user_turn(500, 1_500)
    await service.begin("R1")
    await service.speak("R1")
    await service.finish("R1")
    await service.read_on()
