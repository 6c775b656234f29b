"""A trace: one JSON line for everything that happened in a pipeline.

Attach it as an observer::

    with Trace("call.jsonl", now_ns) as trace:
        pipeline.observe(trace)

Audio is not written, only its length. A line is
``{"at_ns": …, "what": …, "stage": …, "frame": …, fields…}``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import attrs

from framepipe.errors import FramepipeError
from framepipe.frames import Frame

WRITTEN = frozenset({"emitted", "dropped", "cut"})
"""What is worth a line: "handled" and "decided" can be told from what is emitted."""


class TraceError(FramepipeError):
    """The trace cannot be written."""


class Trace:
    """An observer that writes JSON lines.

    Args:
        path: The file; overwritten.
        now_ns: Tells the engine's time in nanoseconds.

    Raises:
        TraceError: The file cannot be opened.
    """

    def __init__(self, path: str | Path, now_ns: Callable[[], int]) -> None:
        self._path = path
        self._now_ns = now_ns
        self._began_ns: int | None = None
        try:
            self._file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115 closed by close()
        except OSError as error:
            raise TraceError(f"{path}: {error.strerror}; choose another file") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __call__(self, what: str, stage: str, frame: Frame) -> None:
        """Write one line."""
        if what not in WRITTEN:
            return
        now_ns = self._now_ns()
        if self._began_ns is None:
            self._began_ns = now_ns
        line = {
            "at_ns": now_ns - self._began_ns,
            "what": what,
            "stage": stage,
            "frame": type(frame).__name__,
            **_fields(frame),
        }
        try:
            self._file.write(json.dumps(line, default=str) + "\n")
        except OSError as error:
            raise TraceError(f"{self._path}: {error.strerror}; the trace ends here") from error

    def close(self) -> None:
        """Write what is left. Closing twice does nothing.

        Raises:
            TraceError: The disk is full, for example. The file is closed all the same.
        """
        try:
            self._file.close()
        except OSError as error:
            raise TraceError(f"{self._path}: {error.strerror}; its end is missing") from error


def _fields(frame: Frame) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for attribute in attrs.fields(type(frame)):
        value: Any = getattr(frame, attribute.name)
        if attribute.name == "at_ns":
            continue
        if attribute.name == "pcm":
            fields["n_samples"] = getattr(frame, "n_samples", None)
        elif isinstance(value, float) and math.isinf(value):
            fields[attribute.name] = None  # JSON has no infinity: full silence
        elif isinstance(value, tuple):
            parts = cast("tuple[object, ...]", value)
            fields[attribute.name] = [_fields(p) if isinstance(p, Frame) else p for p in parts]
        else:
            fields[attribute.name] = value
    return fields
