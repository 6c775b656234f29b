"""Everything framepipe raises. Who must act decides the class.

A caller's bug, a graph that cannot run, a stage that failed, a frame that could not be
accepted, a peer that broke the protocol, a world that broke the socket: six situations, six
branches under one root.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from framepipe.frames import Frame


class FramepipeError(Exception):
    """The root: catch it to catch everything that framepipe raises by itself."""


class FrameError(FramepipeError, ValueError):
    """A frame breaks its own contract; the caller that made it must mend it."""


class WiringError(FramepipeError):
    """The graph cannot run. Raised before anything has started."""


class ProcessorError(FramepipeError):
    """A stage raised. The original exception is ``__cause__``.

    Attributes:
        stage: Name of the stage in the graph.
        frame: The frame it worked on, or ``None`` when its own ``run`` raised.
    """

    def __init__(self, stage: str, frame: Frame | None, why: str) -> None:
        work = "run" if frame is None else type(frame).__name__
        super().__init__(f"{stage} failed on {work}: {why}")
        self.stage = stage
        self.frame = frame


class EmitError(FramepipeError):
    """A frame was emitted where none may be: inside a plain handler, after ``End``, or stale."""


class MailboxFull(EmitError):
    """No room downstream. Nothing happened: no stage saw the frame, so it can be emitted again."""


class ProtocolError(FramepipeError):
    """One side of a protocol broke its rules."""


class LocalProtocolError(ProtocolError):
    """We were asked to do what the protocol does not allow; nothing was sent."""


class RemoteProtocolError(ProtocolError):
    """The peer did what the protocol does not allow."""


class TransportError(FramepipeError):
    """The connection is not there."""


class TransportClosed(TransportError):
    """We closed the connection ourselves."""


class TransportBroken(TransportError):
    """The peer, the network or the machine ended the connection."""


def only_error(error: Exception) -> Exception:
    """The error inside groups of one, as a stage's own task group makes them."""
    found: Exception = error
    while isinstance(found, ExceptionGroup):
        inner = cast("ExceptionGroup[Exception]", found).exceptions
        if len(inner) != 1:
            return error
        found = inner[0]
    return found
