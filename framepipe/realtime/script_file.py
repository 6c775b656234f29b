"""A script for the embedded server, read from a file.

TOML or JSON, by the name's ending. ``answers`` are given one a response, the last one again when
they run out; ``heard`` are the user's words, one for each spoken turn:

    heard = ["What is the weather in Oslo?"]
    answers = [
      [{ say = "Let me look." }, { call = "get_weather", arguments = { city = "Oslo" } }],
      "It is foggy.",
      3000,
    ]

An answer is a text to say, a number of milliseconds to talk, or a list of output items: ``say``,
``talk_ms``, or ``call`` with ``arguments``.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from attrs import frozen

from framepipe.errors import FramepipeError
from framepipe.realtime.mind import (
    Ears,
    Output,
    Scripted,
    TalkFor,
    ToolUse,
    Words,
    given_words,
)


class ScriptError(FramepipeError, ValueError):
    """A script that cannot be used; the message names the file and the rule."""


@frozen(kw_only=True)
class Script:
    """What a script says.

    Attributes:
        mind: Its answers.
        ears: The user's words; ``None`` when the script has none.
    """

    mind: Scripted
    ears: Ears | None


def read_script(path: Path) -> Script:
    """Read a script.

    Args:
        path: A ``.toml`` or ``.json`` file.

    Raises:
        ScriptError: It cannot be read, or is no script.
    """
    try:
        text = path.read_text("utf-8")
        raw: Any = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ScriptError(f"{path}: {error.strerror}; give a file that can be read") from error
    except (UnicodeDecodeError, ValueError) as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise ScriptError(f"{path} is not {kind}: {error}") from error
    found = cast("dict[str, Any]", raw) if isinstance(raw, dict) else {}
    unknown = sorted(found.keys() - {"answers", "heard"})
    if unknown or not isinstance(found.get("answers"), list):
        raise ScriptError(
            f"{path}: a script has a list 'answers' and perhaps a list 'heard'"
            + (f", and no {unknown[0]!r}" if unknown else "")
        )
    heard = found.get("heard")
    if heard is not None and not _all_text(heard):
        raise ScriptError(f"{path}: 'heard' is a list of texts, one for each spoken turn")
    answers = [
        _answer(answer, f"{path}: answer {n}") for n, answer in enumerate(found["answers"], 1)
    ]
    return Script(mind=Scripted(answers), ears=None if heard is None else given_words(heard))


def _answer(raw: Any, where: str) -> Sequence[Output]:
    if isinstance(raw, list):
        return [_output(one, where) for one in cast("Sequence[Any]", raw)]
    if isinstance(raw, str):
        return [Words(text=raw)]
    if isinstance(raw, int) and not isinstance(raw, bool):
        return [_output({"talk_ms": raw}, where)]
    return [_output(raw, where)]


def _output(raw: Any, where: str) -> Output:
    match raw:
        case {"say": str(text), **rest} if not rest:
            return Words(text=text)
        case {"talk_ms": int(duration_ms), **rest} if not rest and 0 <= duration_ms <= 600_000:
            return TalkFor(duration_ms=duration_ms)
        case {"call": str(name), **rest} if not rest.keys() - {"arguments"}:
            return ToolUse(name=name, arguments=json.dumps(rest.get("arguments", {})))
        case _:
            raise ScriptError(
                f"{where} is {raw!r}; write a text, milliseconds up to 600000, or a list of "
                "{say = …}, {talk_ms = …} and {call = …, arguments = {…}}"
            )


def _all_text(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, str) for one in cast("Sequence[Any]", value)
    )
