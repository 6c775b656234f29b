"""Calls that block, noticed while a handler makes them.

The interpreter tells an audit hook of every call that matters here; the hook looks whether a
handler is among its callers.
"""

from __future__ import annotations

import inspect
import sys
import threading
import time
import types
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

_BLOCKS: Final = {
    "builtins.input": "waits for a person",
    "open": "opens a file",
    "os.system": "runs a command",
    "socket.connect": "connects a socket",
    "socket.getaddrinfo": "looks a host name up",
    "sqlite3.connect": "opens a database",
    "subprocess.Popen": "starts a process",
    "time.sleep": "sleeps",  # told to the hook since Python 3.13, to the profiler always
    "urllib.Request": "asks a web server",
}
"""Audit events of the interpreter that stand for a call that blocks."""

_Listener: TypeAlias = tuple[int, dict[types.CodeType, str], list[str]]
_listeners: list[_Listener] = []
_hooks: list[Callable[[str, Any], None]] = []


@contextmanager
def listening(codes: dict[types.CodeType, str]) -> Generator[list[str]]:
    """Collect what blocks in this thread, in words.

    Args:
        codes: The code of handlers, and their names.
    """
    if not _hooks:
        _hooks.append(_on_audit)
        sys.addaudithook(_on_audit)
    calls: list[str] = []
    listener = (threading.get_ident(), codes, calls)
    _listeners.append(listener)
    is_profiled = sys.getprofile() is not None  # by somebody else, who comes first
    if not is_profiled:
        sys.setprofile(_on_call)
    try:
        yield calls
    finally:
        if not is_profiled:
            sys.setprofile(None)
        _listeners.remove(listener)


def _on_call(_: object, event: str, called: object) -> None:
    if event == "c_call" and called is time.sleep:
        _on_audit("time.sleep", ())


def _on_audit(event: str, arguments: Any) -> None:
    if not _listeners or event not in _BLOCKS:
        return
    for ident, codes, calls in _listeners:
        if ident == threading.get_ident():
            where = _in_handler(codes)
            if where is not None:
                what = f"({arguments[0]!r})" if arguments else ""
                calls.append(f"{where} {_BLOCKS[event]}: {event}{what}")


def _in_handler(codes: dict[types.CodeType, str]) -> str | None:
    """The handler that is being called; none while a module is imported."""
    found = None
    here = inspect.currentframe()
    while here is not None:
        if here.f_code.co_filename.startswith("<frozen importlib"):
            return None
        found = found or codes.get(here.f_code)
        here = here.f_back
    return found
