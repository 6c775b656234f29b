"""Frames as short code, and the difference between two rows of them.

`written` leaves out what a frame has by default; `assert_same_frames` compares what came with what
should have come, frame by frame, and says where the two part, field by field. `golden` keeps such
a row in a file beside the tests: the file is text that is read in a review.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import attrs

from framepipe.frames import Frame
from framepipe.testing.script import Step

_LONGEST_BYTES = 12
"""Bytes that are written out; more are told by their number and their beginning."""

UPDATE_VARIABLE = "FRAMEPIPE_GOLDEN"
"""Set to "write" in the environment, `assert_golden` writes its files instead of comparing."""


def written(step: Step) -> str:
    """A frame, or a wait, as one line of code without what is there by default.

    Args:
        step: The frame or wait.

    Returns:
        For instance ``TextIn(text='no')``. Bytes longer than 12 are told by their number and
        their beginning.
    """
    if not isinstance(step, Frame):
        return f"Wait({step.ms})"
    told: list[str] = []
    for field in attrs.fields(type(step)):
        value = getattr(step, field.name)
        if field.name == "at_ns" or (field.default is not attrs.NOTHING and value == field.default):
            continue
        told.append(f"{field.name}={_value(value)}")
    return f"{type(step).__name__}({', '.join(told)})"


def _value(value: object) -> str:
    plain = repr(value)
    if isinstance(value, Frame):
        return written(value)
    if isinstance(value, tuple):
        inner = [_value(one) for one in cast("tuple[object, ...]", value)]
        return f"({', '.join(inner)}{',' if len(inner) == 1 else ''})"
    if isinstance(value, bytes) and len(value) > _LONGEST_BYTES:
        if value == value[:2] * (len(value) // 2):
            return f"{value[:2]!r} * {len(value) // 2}"
        return f"<{len(value)} bytes, {value[:4]!r}…>"
    return plain


def difference(expected: Iterable[Step], got: Iterable[Step]) -> str:
    """How two rows differ: ``-`` was expected and did not come, ``+`` came and was not expected.

    Returns:
        The lines around each difference, the first of which is named; empty if there is none.
        Frames that differ in the samples only are told apart by what `written` shows of them.
    """
    want, have = list(expected), list(got)
    if want == have:
        return ""
    place = next(
        (n for n, (a, b) in enumerate(zip(want, have, strict=False)) if a != b),
        min(len(want), len(have)),
    )
    lines = [f"the rows part at frame {place} (of {len(want)} expected, {len(have)} came)"]
    told = difflib.unified_diff(
        [written(step) for step in want], [written(step) for step in have], n=2, lineterm=""
    )
    lines += [line for line in told if not line.startswith(("---", "+++", "@@"))]
    if len(lines) == 1:  # written alike: long audio that differs after its beginning
        lines.append(f"- {want[place]!r}")
        lines.append(f"+ {have[place]!r}")
    return "\n".join(lines)


def assert_same_frames(got: Iterable[Step], expected: Iterable[Step]) -> None:
    """Fail with a readable difference unless two rows are equal.

    Args:
        got: What came.
        expected: What should have come.

    Raises:
        AssertionError: They differ; its message is the `difference`.
    """
    told = difference(expected, got)
    if told:
        raise AssertionError(told)


def assert_golden(path: Path | str, frames: Iterable[Step]) -> None:
    """Compare a row of frames with the one that is kept in a file, one frame a line.

    The file is written when ``FRAMEPIPE_GOLDEN=write`` is in the environment. Look at it before
    you commit it: from then on it is what is right.

    Args:
        path: The file. Frames are kept as `written` shows them, so long audio by its beginning.
        frames: What came.

    Raises:
        AssertionError: They differ, or there is no such file.
    """
    file, lines = Path(path), [written(frame) for frame in frames]
    if os.environ.get(UPDATE_VARIABLE) == "write":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        return
    way_out = f"{UPDATE_VARIABLE}=write writes it"
    if not file.is_file():
        raise AssertionError(f"there is no {file.name} yet; {way_out}")
    kept = file.read_text("utf-8").splitlines()
    told = [
        line
        for line in difflib.unified_diff(kept, lines, n=2, lineterm="")
        if not line.startswith(("---", "+++", "@@"))
    ]
    if told:
        raise AssertionError(
            "\n".join([f"not as in {file.name} (if it is right, {way_out})", *told])
        )
