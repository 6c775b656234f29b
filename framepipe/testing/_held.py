"""How much memory hangs on an object, attribute by attribute."""

from __future__ import annotations

import gc
import sys
import types
from typing import Final


def sizes(processor: object) -> dict[str, int]:
    """Bytes that hang on each attribute, the engine's own left out."""
    gc.collect()
    names = {**getattr(processor, "__dict__", {})}
    for cls in type(processor).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(processor, name):
                names[name] = getattr(processor, name)
    return {name: _deep_size(value) for name, value in names.items()}


_ELSEWHERE: Final = (
    "anyio", "asyncio", "trio", "framepipe.engine", "framepipe.runner", "framepipe.pipeline",
    "framepipe.graph", "framepipe.clock", "framepipe.mailbox", "logging", "threading",
)  # fmt: skip
"""What a processor may reach and does not hold."""

_CODE: Final = (
    type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType,
    types.FrameType, types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType,
)  # fmt: skip


def _deep_size(root: object) -> int:
    seen: set[int] = set()
    waiting, total = [root], 0
    while waiting:
        value = waiting.pop()
        home = type(value).__module__
        if id(value) in seen or isinstance(value, _CODE) or home.startswith(_ELSEWHERE):
            continue
        seen.add(id(value))
        total += sys.getsizeof(value, 0)
        waiting += gc.get_referents(value)
    return total
