"""Frames and stages that the engine's tests share."""

from collections.abc import AsyncIterator, Callable, Iterable

import anyio
from attrs import frozen

from framepipe import Frame, Ordered, Pipeline, UrgentUp, on
from framepipe.testing import Collector
from framepipe.testing.strangers import Call as Call
from framepipe.testing.strangers import Nod as Nod
from framepipe.testing.strangers import Note as Note
from framepipe.testing.strangers import Piece as Piece


@frozen(kw_only=True)
class Other(Ordered):
    """Another ordered frame."""

    n: int = 0


class Sink(Collector):
    """Keeps what arrives, in order, and lets none of it on."""

    @property
    def got(self) -> list[Frame]:
        return self.frames


class Ups:
    """Keeps what comes up."""

    def __init__(self) -> None:
        self.got: list[Frame] = []

    @on(UrgentUp)
    def take(self, frame: UrgentUp) -> None:
        self.got.append(frame)


class Plain:
    """Passes notes and pieces through a function, inline."""

    def __init__(self, function: Callable[[Frame], Frame | Iterable[Frame] | None]) -> None:
        self.function = function

    @on(Note, Other, Piece)
    def handle(self, frame: Note | Other | Piece) -> Frame | Iterable[Frame] | None:
        return self.function(frame)


class Slow:
    """Takes its time over each frame, and keeps account of what it began and finished."""

    def __init__(self, delay_s: float = 0.0, capacity: int = 256) -> None:
        self.delay_s = delay_s
        self.mailbox_capacity = capacity
        self.began: list[Frame] = []
        self.finished: list[Frame] = []

    @on(Note, Other, Piece)
    async def handle(self, frame: Note | Other | Piece) -> Frame:
        self.began.append(frame)
        await anyio.sleep(self.delay_s)
        self.finished.append(frame)
        return frame


class SlowStream(Slow):
    """The same as an async generator that yields its frame twice, with a pause between."""

    @on(Note, Other, Piece)
    async def handle(self, frame: Note | Other | Piece) -> AsyncIterator[Frame]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        self.began.append(frame)
        yield frame
        await anyio.sleep(self.delay_s)
        self.finished.append(frame)
        yield frame


def notes(*numbers: int) -> list[Frame]:
    """Notes with these numbers."""
    return [Note(n=n) for n in numbers]


def dropped(pipeline: Pipeline, stage: str) -> dict[str, int]:
    """What a stage dropped, by reason."""
    return next(
        dict(found.dropped) for found in pipeline.statistics().stages if found.name == stage
    )
