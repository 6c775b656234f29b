"""Python functions that the model may call.

    @tool(time_limit_s=5)
    async def weather(city: str, days: int = 1) -> str:
        '''Tell the weather forecast.

Args:
            city: Where.
            days: How many days ahead, 1 to 7.
        '''

The signature becomes the schema, the docstring the description; the model's arguments are checked
against the signature before the function sees them. Whatever goes wrong (arguments that do not
fit, an exception, too much time) is told to the model as text, because the model is who can do
something about it.

A tool that changes something in the world is marked ``effects=True``: where `Turns` keeps the
user's turns it is called only when the turn that wants it is committed. What takes long and
changes nothing, a quote or a hold that lapses, can be done meanwhile (`Tool.prepare`).

An ``async`` function runs in the event loop. A plain function runs in a worker thread, so that it
may block; one that never blocks can be marked ``inline=True`` and is then called in the loop,
where it holds up everything else and no time limit can stop it. Threads and virtual time do not
go together: in virtual time use ``async`` or inline functions.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    ParamSpec,
    TypeVar,
    cast,
    get_type_hints,
    overload,
)

import msgspec

from framepipe.errors import LocalProtocolError

_P = ParamSpec("_P")
_R = TypeVar("_R")

TIME_LIMIT_S: Final = 10.0
"""How long a tool may take unless it says otherwise; people hang up after that."""

PREPARED: Final = "prepared"
"""Name of the parameter for what `Tool.prepare` returned."""

MAX_NAME_CHARACTERS: Final = 64
"""Longest name of a function that the service takes."""


class ToolError(Exception):
    """What a tool tells the model instead of a result. Raise it in a tool."""


class Tool(Generic[_P, _R]):
    """A function with what the model must know of it. Made by `tool`; call it as before.

    Attributes:
        name: The function's.
        description: What the docstring says before ``Args:``.
        schema: JSON schema of the arguments.
        function: The function itself.
        is_async: It is ``async def``.
        inline: It is plain, and called in the event loop.
        effects: It changes something in the world.
        time_limit_s: Seconds after which the model is told that it took too long.
    """

    def __init__(
        self,
        function: Callable[_P, _R],
        *,
        effects: bool = False,
        time_limit_s: float = TIME_LIMIT_S,
        inline: bool = False,
    ) -> None:
        self.function = function
        self.name: str = getattr(function, "__name__", "")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", self.name):
            raise LocalProtocolError(
                f"a tool is named {self.name!r}; the service takes 1 to {MAX_NAME_CHARACTERS} "
                "letters, digits, _ and -: define it with def"
            )
        if not time_limit_s > 0:
            raise LocalProtocolError(
                f"{self.name}: time_limit_s is {time_limit_s}; it must be more than 0"
            )
        self.is_async = inspect.iscoroutinefunction(function)
        self.inline = inline and not self.is_async
        self.effects = effects
        self.time_limit_s = time_limit_s
        doc = inspect.getdoc(function) or ""
        self.description = re.split(r"^(?:Args|Returns|Raises|Yields):", doc, flags=re.M)[0].strip()
        if not self.description:
            raise LocalProtocolError(
                f"{self.name} has no docstring; it tells the model when to call the tool"
            )
        self._arguments = _struct(self.name, function, _argument_meanings(doc))
        self.schema = _schema(self.name, self._arguments)
        self._decoder = msgspec.json.Decoder(self._arguments)
        self._prepare: Callable[..., Any] | None = None

    def __repr__(self) -> str:
        return f"<tool {self.name}{inspect.signature(self.function)}>"

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call the function itself."""
        return self.function(*args, **kwargs)

    @property
    def wire(self) -> dict[str, Any]:
        """The tool as a session declares it."""
        return {
            "type": "function",
            "name": self.name,
            "description": self.description,
            "parameters": self.schema,
        }

    def prepare(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Mark what is called as soon as the model asks, before the user's turn is committed.

        It takes the same arguments, runs as the tool does (``async`` or plain), and changes
        nothing that lasts: when the turn is revoked it is cancelled, or its result thrown away.
        The tool finds the result in its parameter ``prepared``, of which the model knows nothing.

        Args:
            function: What prepares.

        Raises:
            LocalProtocolError: The tool has no parameter ``prepared``, or is prepared already.
        """
        if not self.takes_prepared:
            raise LocalProtocolError(
                f"{self.name} has no parameter {PREPARED!r}, which gets what {function!r} returns"
            )
        if self._prepare is not None:
            raise LocalProtocolError(f"{self.name} is prepared by {self._prepare!r} already")
        self._prepare = function
        return function

    @property
    def is_prepared(self) -> bool:
        """Something is called before it; see `prepare`."""
        return self._prepare is not None

    @property
    def takes_prepared(self) -> bool:
        """The function has a parameter for what was prepared."""
        return PREPARED in inspect.signature(self.function).parameters

    def bind(self, arguments: str) -> Callable[[], _R]:
        """The function with the model's arguments; not for one that is prepared.

        Args:
            arguments: JSON text; empty stands for no arguments.

        Raises:
            ToolError: They do not fit the signature; the message is for the model.
        """
        return partial(self.function, **self._named(arguments))

    def bind_prepare(self, arguments: str) -> Callable[[], Any] | None:
        """What prepares, with the model's arguments; ``None``: nothing does.

        Args:
            arguments: JSON text; empty stands for no arguments.

        Raises:
            ToolError: As `bind`.
        """
        named = self._named(arguments)
        return None if self._prepare is None else partial(self._prepare, **named)

    def _named(self, arguments: str) -> dict[str, Any]:
        try:
            checked = self._decoder.decode(arguments or "{}")
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise ToolError(f"the arguments of {self.name} are wrong: {error}") from error
        return {field: getattr(checked, field) for field in self._arguments.__struct_fields__}


@overload
def tool(function: Callable[_P, _R], /) -> Tool[_P, _R]: ...
@overload
def tool(
    *, effects: bool = False, time_limit_s: float = TIME_LIMIT_S, inline: bool = False
) -> Callable[[Callable[_P, _R]], Tool[_P, _R]]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    effects: bool = False,
    time_limit_s: float = TIME_LIMIT_S,
    inline: bool = False,
) -> Any:
    """Make a function a tool of the model.

    Args:
        function: With a typed signature and a docstring.
        effects: It changes something in the world: a booking, not a look-up.
        time_limit_s: Seconds it may take.
        inline: A plain function that never blocks: no thread is made for it.

    Raises:
        LocalProtocolError: A parameter has no type or is of a kind that JSON cannot name, the
            type has no JSON schema, there is no docstring, or a setting makes no sense.
    """
    if function is None:
        return partial(Tool, effects=effects, time_limit_s=time_limit_s, inline=inline)
    return Tool(function)


def output_text(result: object) -> str:
    """What the model reads of a result: text as it is, all else as JSON, ``None`` as "done"."""
    if isinstance(result, str):
        return result
    if result is None:
        return "done"
    try:
        return msgspec.json.encode(result).decode()
    except (TypeError, ValueError, msgspec.MsgspecError):
        return str(result)


def by_name(tools: tuple[Tool[..., Any], ...]) -> Mapping[str, Tool[..., Any]]:
    """The tools of a session under their names.

    Raises:
        LocalProtocolError: Something is no tool, or two have one name.
    """
    named: dict[str, Tool[..., Any]] = {}
    for one in tools:
        if not isinstance(one, Tool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise LocalProtocolError(f"{one!r} is no tool; mark the function with @tool")
        if one.takes_prepared and not one.is_prepared:
            raise LocalProtocolError(
                f"{one.name} has a parameter {PREPARED!r} and nothing prepares it; mark a function "
                f"with @{one.name}.prepare"
            )
        if one.name in named:
            raise LocalProtocolError(f"two tools are named {one.name!r}; rename one")
        named[one.name] = one
    return named


def _struct(
    name: str, function: Callable[..., Any], meanings: Mapping[str, str]
) -> type[msgspec.Struct]:
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as error:
        raise LocalProtocolError(
            f"{name}: {error}; a type in a tool's signature must be known where it is defined"
        ) from error
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for key, parameter in inspect.signature(function).parameters.items():
        if key == PREPARED:
            continue
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise LocalProtocolError(
                f"{name}: {parameter} cannot be named in JSON; give each argument a name of its own"
            )
        if key not in hints:
            raise LocalProtocolError(f"{name}: {key} has no type; write {key}: str, for example")
        hint: Any = hints[key]
        if key in meanings:
            hint = Annotated[hint, msgspec.Meta(description=meanings[key])]
        if parameter.default is parameter.empty:
            fields.append((key, hint))
        else:
            fields.append((key, hint, _default(parameter.default)))
    try:
        return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)
    except TypeError as error:
        raise LocalProtocolError(f"{name}: {error}") from error


def _default(value: Any) -> Any:
    if isinstance(value, list | dict | set):
        return msgspec.field(default_factory=partial(copy, cast("object", value)))
    return value


def _schema(name: str, struct: type[msgspec.Struct]) -> dict[str, Any]:
    try:
        (schema,), parts = msgspec.json.schema_components([struct], ref_template="#/$defs/{name}")
        msgspec.json.Decoder(struct)
    except TypeError as error:
        raise LocalProtocolError(f"{name}: a type has no JSON schema: {error}") from error
    own = dict(parts.pop(str(schema["$ref"]).rpartition("/")[2]))
    own.pop("title", None)
    return {**own, "$defs": parts} if parts else own


def _argument_meanings(doc: str) -> dict[str, str]:
    """What the docstring says of each argument."""
    section = re.search(r"^Args:\n((?:(?: .*)?\n?)+)", doc, re.M)
    if section is None:
        return {}
    meanings: dict[str, str] = {}
    for part in re.split(r"^ {4}(?=\w)", section[1], flags=re.M):
        name, colon, said = part.partition(":")
        if colon:
            meanings[name.split("(")[0].strip()] = " ".join(said.split())
    return meanings
