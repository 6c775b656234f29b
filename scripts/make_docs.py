"""Write the pages that are made from the code, and refresh the code that pages include.

    python scripts/make_docs.py            write what is stale
    python scripts/make_docs.py --check    change nothing; exit 1 and name what is stale

Nothing of this is done by hand:

- ``docs/reference/frames.md`` from the frame classes;
- the other pages of `PAGES` from the docstrings of public names;
- a fenced block below ``<!-- include: examples/x.py -->`` becomes the text of that file, and below
  ``<!-- include: examples/x.py#name -->`` the text of one class or function in it; what stands
  between ``<!-- table: barge-in -->`` and ``<!-- end -->`` becomes the table of `BargeInCore`, and
  with ``turns`` in that place the one of `TurnCore`.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

_MADE = "<!-- Made by scripts/make_docs.py: change the docstrings, not this page. -->"


class DocsError(Exception):
    """A page asks for something that is not there."""


# --- what is on which page --------------------------------------------------------------------

_ENGINE_INTRO = """\
# The engine

Everything is imported from `framepipe`. Why it behaves as it does:
[The engine](../explanation/the-engine.md)."""

_PROCESSORS_INTRO = """\
# The processors

Imported from `framepipe_processors`; each is registered in the entry-point group
`framepipe.processors`. In a call they stand in this order: a source, `LocalVad`, for a
loudspeaker `MicGate`, `Realtime`, `Playout`, `BargeIn`, a speaker. Keywords of a constructor are
also the settings of a [policy file](../how-to/policy-file.md)."""

_REALTIME_INTRO = """\
# The Realtime protocol

What a session is asked to be, the embedded server and its minds, and the way to the socket. The
wire as the client relies on it: [The service](../explanation/the-service.md)."""

_TRANSPORTS_INTRO = """\
# Live audio

A browser page or a sound card as the first and the last stage of a pipeline, and the server of the
page ([Talk with an agent](../how-to/talk.md))."""

_AUDIO_INTRO = """\
# Audio and recordings

Samples as `bytes`: signed 16-bit little-endian, channels interleaved."""

_TESTING_INTRO = """\
# The test kit

What framepipe is tested with, for your tests. The first five groups, and `memory_pair`,
`server_in_process` and `ServerSettings` ([Realtime](realtime.md)), are imported from
`framepipe.testing`; what needs hypothesis from its own module:
`pip install 'framepipe[testing]'`."""

_CORES_INTRO = """\
# The decisions inside

What the processors decide with: objects without tasks, clocks and sockets. Facts go in with their
time, orders come out ([Interruption](../explanation/interruption.md))."""

_ENGINE_MODULES = (
    ("Assemble a graph", ("framepipe.pipeline", "framepipe.graph", "framepipe.policy")),
    ("Write a stage", ("framepipe.processor",)),
    ("Look inside", ("framepipe.mailbox",)),
    ("Frames", ("framepipe.frames",)),
    ("Errors", ("framepipe.errors",)),
)
"""Headings of the engine's page, and the modules whose exported names stand under them."""

PAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "processors.md": (_PROCESSORS_INTRO, ("framepipe_processors.*",)),
    "realtime.md": (
        _REALTIME_INTRO,
        (
            "framepipe.realtime.session",
            "framepipe.realtime.server",
            "framepipe.realtime.limits",
            "framepipe.realtime.server_faults",
            "framepipe.realtime.mind",
            "framepipe.realtime.booking",
            "framepipe.realtime.script_file",
            "framepipe.realtime.ears",
            "framepipe.realtime.speech",
            "framepipe.realtime.voice",
            "framepipe.realtime.tools",
            "framepipe.realtime.connection",
        ),
    ),
    "transports.md": (
        _TRANSPORTS_INTRO,
        (
            "framepipe_processors.transports.browser",
            "framepipe_processors.transports.sound_card",
            "framepipe.talk.app",
            "framepipe.talk.assembly",
        ),
    ),
    "audio.md": (_AUDIO_INTRO, ("framepipe.audio", "framepipe.wav")),
    "testing.md": (
        _TESTING_INTRO,
        (
            "framepipe.testing.virtual_time",
            "framepipe.testing.script",
            "framepipe.testing.people",
            "framepipe.testing.service",
            "framepipe.testing.conversation",
            "framepipe.testing.written",
            "framepipe.testing.strategies",
            "framepipe.testing.graphs",
            "framepipe.testing.conformance",
            "framepipe.testing.machine",
            "framepipe.testing.strangers",
            "framepipe.testing.pytest_plugin",
        ),
    ),
    "cores.md": (
        _CORES_INTRO,
        (
            "framepipe.conversation.bargein",
            "framepipe.conversation.profiles",
            "framepipe.conversation.backchannels",
            "framepipe.conversation.third_stage",
            "framepipe.conversation.turns",
            "framepipe.conversation.objections",
            "framepipe.conversation.fallback",
            "framepipe.conversation.idle",
            "framepipe.conversation.playout",
            "framepipe.conversation.speaker",
            "framepipe.conversation.repair",
            "framepipe.conversation.rough_copy",
            "framepipe.conversation.relations",
            "framepipe.conversation.endpointing",
            "framepipe.conversation.wordlists",
            "framepipe.conversation.playback_tap",
            "framepipe.conversation.mic_gate",
            "framepipe.detectors.level_gate",
            "framepipe.detectors.echo_level",
            "framepipe.conversation.remote_speaker",
        ),
    ),
}
"""Reference pages made from all public classes and functions of modules, beside the engine's."""


# --- docstrings to Markdown -------------------------------------------------------------------

_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields|Source):[ ]*(.*)$")
_ENTRY = re.compile(r"^(\*{0,2}\w[\w., ]*): (.*)$")
_TITLES = {"Args": "Parameters"}


def markdown(docstring: str | None) -> str:
    """A docstring as Markdown: sections become lists, double backticks single ones."""
    lines = inspect.cleandoc(docstring or "").replace("``", "`").splitlines()
    made: list[str] = []
    index = 0
    while index < len(lines):
        heading = _SECTION.match(lines[index])
        if heading is None:
            made.append(lines[index])
            index += 1
            continue
        body = [heading[2]] if heading[2] else []
        index += 1
        while index < len(lines) and (not lines[index] or lines[index].startswith(" ")):
            body.append(lines[index])
            index += 1
        made += [f"**{_TITLES.get(heading[1], heading[1])}**", "", *_listed(heading[1], body), ""]
    return "\n".join(made).strip()


def _listed(section: str, body: list[str]) -> Iterator[str]:
    text = textwrap.dedent("\n".join(body)).strip("\n")
    for line in text.splitlines():
        entry = _ENTRY.match(line)
        if section in ("Returns", "Yields", "Source"):
            yield line
        elif entry is not None and not line.startswith(" "):
            yield f"- `{entry[1]}`: {entry[2]}"
        else:
            yield f"  {line.strip()}" if line.strip() else line


def attribute_meanings(cls: type) -> dict[str, str]:
    """What the docstrings of a class and its bases say of each attribute, on one line."""
    found: dict[str, str] = {}
    for base in cls.__mro__:
        doc = inspect.cleandoc(vars(base).get("__doc__") or "").replace("``", "`")
        _, _, section = doc.partition("Attributes:\n")
        name = ""
        for line in section.splitlines():
            entry = _ENTRY.match(line[4:]) if re.match(r" {4}\S", line) else None
            if entry is not None and entry[1] not in found:
                name = entry[1]
                found[name] = entry[2]
            elif name and line.startswith(" " * 8):
                found[name] += f" {line.strip()}"
            else:
                name = ""
                if line and not line.startswith(" "):
                    break
    return found


def member_meanings(cls: type[Enum]) -> dict[str, str]:
    """The docstring under each member of an enumeration, on one line."""
    found: dict[str, str] = {}
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(node, ast.ClassDef), "the source of a class is a class"
    for member, below in zip(node.body, [*node.body[1:], ast.Pass()], strict=True):
        match member, below:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(ast.Constant(value=str(said))):
                found[name] = re.sub(r"\s+", " ", said).strip().replace("``", "`")
            case _:
                pass
    return found


# --- the frames -------------------------------------------------------------------------------

_FRAMES_INTRO = """\
# The frames

Every frame is a frozen value. Its base class says how it travels, and nothing else does.

| base | direction | lane | an interruption |
|---|---|---|---|
| `Ordered` | down | ordered | never drops it |
| `Interruptible`, an `Ordered` with a `turn` | down | ordered | drops it when its turn is cut |
| `UrgentDown` | down | urgent | passes it by |
| `UrgentUp` | up | urgent | passes it by |

All four derive from `Frame`; derive your own frames from them in the same way. `turn` is always the
agent's turn, a number from the engine; the user's is called *user turn*. Three coordinate systems
are never mixed: the *capture clock*, *item samples* and the *sink line* ([glossary](glossary.md)).

Every frame has `at_ns: int = 0`: engine time in nanoseconds at which the content came to be, 0
unless the source stamped it. It is not part of equality. All fields are given by keyword."""


def frames_page() -> str:
    """The page of all frames, in the order and under the headings of the module."""
    module = importlib.import_module("framepipe.frames")
    made = [_MADE, _FRAMES_INTRO]
    for line in Path(str(module.__file__)).read_text("utf-8").splitlines():
        heading = re.match(r"# --- (.+?) -+$", line)
        if heading is not None:
            made.append(f"## {heading[1].capitalize()}")
        named = re.match(r"class (\w+)\(", line)
        cls = getattr(module, named[1]) if named is not None else None
        if isinstance(cls, type) and issubclass(cls, module.Frame) and not _is_base(cls):
            made.append(_frame(cls))
    return "\n\n".join(made) + "\n"


def _is_base(cls: type) -> bool:
    # Frames that others derive, in a test for instance, make no base of a frame of ours.
    below: list[type] = cls.__subclasses__()
    return any(derived.__module__ == cls.__module__ for derived in below)


def _frame(cls: type[Any]) -> str:
    base = cls.__mro__[1].__name__
    doc = inspect.cleandoc(cls.__doc__ or "").replace("``", "`")
    said = re.split(r"^(?:Attributes|Raises):", doc, flags=re.MULTILINE)[0].strip()
    made = [f"### {cls.__name__}", f"`{base}`. {said}"]
    fields = [field for field in attrs.fields(cls) if field.name != "at_ns"]
    if fields:
        meanings = attribute_meanings(cls)
        rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
        for field in fields:
            default = "" if field.default is attrs.NOTHING else f"`{field.default!r}`"
            kind = str(field.type).replace("|", r"\|")
            rows.append(f"| `{field.name}` | `{kind}` | {default} | {meanings[field.name]} |")
        made.append("\n".join(rows))
    raises = re.search(r"^Raises:\n((?: .*\n?)+)", doc, re.MULTILINE)
    if raises is not None:
        error, _, why = re.sub(r"\s+", " ", raises[1].strip()).partition(": ")
        made.append(f"Raises `{error}`: {why}")
    return "\n\n".join(made)


# --- the names --------------------------------------------------------------------------------


def engine_page() -> str:
    """Everything that `framepipe` exports, frames by name only."""
    package = importlib.import_module("framepipe")
    made = [_MADE, _ENGINE_INTRO]
    left = {name: value for name, value in vars(package).items() if is_own(name, value)}
    left.pop("evolve")  # from attrs, which renames it after a class on Python 3.13
    for heading, modules in _ENGINE_MODULES:
        made.append(f"## {heading}")
        here = [n for n in left if origin(left[n]) in modules]
        if heading == "Frames":
            made.append(
                "The bases, all frames and `evolve(frame, **changes)`, which makes a changed copy, "
                "are on [a page of their own](frames.md)."
            )
        for name in here:
            value = left.pop(name)
            if heading != "Frames" or name == "Sound":
                made.append(name_section(name, value))
    if left:
        raise DocsError(f"{', '.join(left)}: exported by framepipe, and on no reference page")
    return "\n\n".join(made) + "\n"


def is_own(name: str, value: object) -> bool:
    """Whether a name of a package is public, not a module, and not called by pytest only."""
    return not name.startswith(("_", "pytest_")) and not isinstance(value, ModuleType)


def origin(value: object) -> str:
    """The module in which a public value is at home."""
    module = str(getattr(value, "__module__", ""))
    return "framepipe.frames" if module.startswith("attr") else module


def modules_page(intro: str, names: tuple[str, ...]) -> str:
    """All public classes and functions that are defined in some modules."""
    made = [_MADE, intro]
    for name in modules(names):
        module = importlib.import_module(name)
        public = [
            (key, value)
            for key, value in vars(module).items()
            if is_own(key, value)
            and getattr(value, "__module__", "") == name
            # Not constants and aliases: those are explained where they are used.
            and (inspect.isclass(value) or inspect.isfunction(value))
        ]
        if not public:
            continue
        made += [f"## {name}", markdown(module.__doc__)]
        made += [name_section(key, value) for key, value in public]
    return "\n\n".join(made) + "\n"


def modules(names: tuple[str, ...]) -> Iterator[str]:
    """Names of modules; ``package.*`` stands for all in it."""
    for name in names:
        if not name.endswith(".*"):
            yield name
            continue
        package = importlib.import_module(name.removesuffix(".*"))
        for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda found: found.name):
            yield f"{package.__name__}.{found.name}"


def name_section(name: str, value: Any) -> str:
    """A public name: heading, signature, docstring, and its methods."""
    doc = _doc(value)
    made = [f"### {name}", _signature(name, value), markdown(doc)]
    if inspect.isclass(value) and issubclass(value, Enum):
        made.append("\n".join(f"- `{key}`: {said}" for key, said in member_meanings(value).items()))
    elif inspect.isclass(value):
        made += [
            f"#### {name}.{key}\n\n{_signature(key, _plain(member))}\n\n{markdown(_doc(member))}"
            for key, member in vars(value).items()
            if not key.startswith("_") and _is_method(member) and _doc(member)
        ]
        call = vars(value).get("__call__")
        if getattr(value, "_is_protocol", False) and inspect.isfunction(call):
            made.append(f"#### {name}(…)\n\n{_signature(name, call)}\n\n{markdown(_doc(call))}")
    return "\n\n".join(part for part in made if part)


def _doc(value: Any) -> str:
    # attrs and enums make docstrings of their own where there is none.
    return str(value.__doc__ or "")


def _is_method(member: object) -> bool:
    return inspect.isfunction(member) or isinstance(member, classmethod | staticmethod | property)


def _plain(member: Any) -> Any:
    return getattr(member, "__func__", member)


def _signature(name: str, value: Any) -> str:
    if isinstance(value, property):
        hint = inspect.signature(value.fget).return_annotation if value.fget else ""
        return f"`{name}`: `{_named(hint)}`"
    if inspect.isclass(value):
        if issubclass(value, BaseException) or getattr(value, "_is_protocol", False):
            bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
            return f"```python\nclass {name}({bases})\n```"
        if not attrs.has(value) and "__init__" not in vars(value):
            return ""  # made for you, or by a class method
    text = _written(name, value)
    is_async = inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value)
    return f"```python\n{'async ' if is_async else ''}{text}\n```"


def _written(name: str, value: Any) -> str:
    signature = inspect.signature(value)
    parameters = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    signature = signature.replace(
        parameters=[
            p.replace(annotation=_named(p.annotation), default=_default(p.default))
            for p in parameters
        ],
        return_annotation=(
            inspect.Signature.empty
            if inspect.isclass(value)
            else _named(signature.return_annotation)
        ),
    )
    line = f"{name}{signature}"
    if len(line) <= 92 or not parameters:
        return line
    inner, _, after = line.removeprefix(f"{name}(").rpartition(")")
    split = ",\n".join(f"    {part}" for part in _top_level_parts(inner))
    return f"{name}(\n{split},\n){after}"


class _Shown(str):
    """Prints itself without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _named(hint: Any) -> Any:
    if hint is inspect.Signature.empty:
        return hint
    return _Shown(hint if isinstance(hint, str) else getattr(hint, "__name__", hint))


def _default(value: Any) -> Any:
    """A default as a reader would write it: no addresses, no factories, no long values."""
    if value is inspect.Signature.empty:
        return value
    if inspect.isfunction(value) or inspect.isclass(value):
        return _Shown(value.__name__)
    if value is attrs.NOTHING:
        return _Shown("…")
    is_long = hasattr(value, "__attrs_attrs__") or " at 0x" in repr(value)
    return _Shown(f"{value.__class__.__name__}()") if is_long else value


def _top_level_parts(text: str) -> list[str]:
    parts: list[str] = []
    depth = start = 0
    for index, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    return [*parts, text[start:].strip()]


# --- included code ----------------------------------------------------------------------------

_INCLUDE = re.compile(r"(<!-- include: (\S+?)(?:#(\w+))? -->\n+```)\w*\n.*?^```$", re.S | re.M)
_LANGUAGES = {".py": "python", ".toml": "toml"}


def with_code(page: str, origin: str) -> str:
    """A page with every included block as its file is now.

    Raises:
        DocsError: A file or a name is not there.
    """

    def block(match: re.Match[str]) -> str:
        fence, path, name = match[1], ROOT / match[2], match[3]
        if not path.is_file():
            raise DocsError(f"{origin}: includes {match[2]}, and there is no such file")
        text = path.read_text("utf-8")
        if name is not None:
            text = one_of(text, name, f"{origin}: {match[2]}")
        return f"{fence}{_LANGUAGES.get(path.suffix, 'text')}\n{text.rstrip()}\n```"

    return _INCLUDE.sub(block, page)


def one_of(source: str, name: str, where: str) -> str:
    """The text of one class or function, decorators included.

    Raises:
        DocsError: It is not there.
    """
    for node in ast.parse(source).body:
        if getattr(node, "name", None) == name:
            lines = source.splitlines()
            decorators: list[ast.expr] = getattr(node, "decorator_list", [])
            first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
            return "\n".join(lines[first - 1 : node.end_lineno])
    raise DocsError(f"{where} has no class or function {name}")


# --- the tables of the decisions -------------------------------------------------------------

_TABLE = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.S)

_TABLES = {
    "barge-in": "framepipe.conversation.bargein_table",
    "turns": "framepipe.conversation.turns",
}


def decision_table(name: str) -> str:
    """What a core does in each state, and what the words in its cells mean."""
    core = importlib.import_module(_TABLES[name])
    table: Mapping[Any, Mapping[Any, Any]] = core.TABLE
    states = list(core.State)
    made = [
        "| what happens | " + " | ".join(state.name for state in states) + " |",
        "|---" * (len(states) + 1) + "|",
    ]
    for event, row in table.items():
        cells = [_cell(row.get(state)) for state in states]
        made.append(f"| {_words(event)} | " + " | ".join(cells) + " |")
    for title, kind in (("States", core.State), ("Events", core.Event), ("Orders", core.Do)):
        said = member_meanings(kind)
        made += ["", f"**{title}**", ""]
        made += [
            f"- {key if kind is core.State else _words(kind[key])}: {meaning}"
            for key, meaning in said.items()
        ]
    return "\n".join(made)


def _words(member: Enum) -> str:
    return member.name.lower().replace("_", " ")


def _cell(cell: Any) -> str:
    if cell is None:
        return "–"
    orders = ", ".join(_words(do) for do in cell.actions)
    return " ".join(part for part in (orders, f"→ {cell.to.name}" if cell.to else "") if part)


# --- the table of the protocol's events --------------------------------------------------------

_EVENTS_INTRO = """\
# The events of the protocol

Made from the code and the tests. *client*: framepipe's client sends it, or acts on it; all others
are decoded and handed on. *server*: the embedded server understands it, or sends it. *shown by*: a
test with the event in it."""

_ANY_EVENT = "tests/realtime/test_event_table.py"
"""Where every event is decoded and encoded: shown when no other test has it."""


def events_page() -> str:
    """Every event, which half has it, and the test that shows it."""
    wire = importlib.import_module("framepipe.realtime.events")
    client, server = _source(server=False), _source(server=True)
    tests = _tests_with_source()
    made = [_MADE, "", _EVENTS_INTRO]
    for title, union, by_client, by_server in (
        ("Client events", wire.KnownClientEvent, "sends", "understands"),
        ("Server events", wire.KnownServerEvent, "acts on", "sends"),
    ):
        made += [
            "",
            f"## {title}",
            "",
            "| event | client | server | shown by |",
            "|---|---|---|---|",
        ]
        for event in union.__args__:
            kind = str(event.__struct_config__.tag)
            word = re.compile(rf"\b{event.__name__}\b")
            cells = (
                f"`{kind}`",
                by_client if word.search(client) else "–",
                by_server if word.search(server) else "–",
                _shown_by(kind, tests),
            )
            made.append("| " + " | ".join(cells) + " |")
    return "\n".join(made) + "\n"


def _source(*, server: bool) -> str:
    """The code of one half of the protocol, imports left out: a name in it is a use."""
    paths = [
        path
        for path in (ROOT / "framepipe" / "realtime").glob("*.py")
        if path.name.startswith("server") is server and path.name != "events.py"
    ]
    if not server:
        paths += (ROOT / "processors" / "framepipe_processors").glob("realtime*.py")
    imports = re.compile(r"^from .*? import (\(.*?\)|.*?$)", re.MULTILINE | re.DOTALL)
    return "\n".join(imports.sub("", path.read_text("utf-8")) for path in sorted(paths))


def _tests_with_source() -> list[tuple[str, str, str]]:
    """File, name and text of every test of the protocol."""
    found: list[tuple[str, str, str]] = []
    for path in sorted((ROOT / "tests" / "realtime").glob("test_*.py")):
        text = path.read_text("utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name[:4] == "test":
                where = path.relative_to(ROOT).as_posix()
                found.append((where, node.name, ast.get_source_segment(text, node) or ""))
    return found


def _shown_by(kind: str, tests: list[tuple[str, str, str]]) -> str:
    named = [
        (where, name) for where, name, text in tests if f'"{kind}"' in text and where != _ANY_EVENT
    ]
    # The server's own scripts are the plainest.
    named.sort(key=lambda one: "test_server" not in one[0])
    where, name = named[0] if named else (_ANY_EVENT, _first_test(tests))
    return f"[{name}](../../{where})"


def _first_test(tests: list[tuple[str, str, str]]) -> str:
    return next(name for where, name, _ in tests if where == _ANY_EVENT)


# --- all pages --------------------------------------------------------------------------------


def pages() -> dict[Path, str]:
    """Every page of the docs, and the README, as it should be."""
    made = {
        DOCS / "reference" / "frames.md": frames_page(),
        DOCS / "reference" / "engine.md": engine_page(),
        DOCS / "reference" / "realtime-events.md": events_page(),
    }
    for name, (intro, modules) in PAGES.items():
        made[DOCS / "reference" / name] = modules_page(intro, modules)
    for path in (ROOT / "README.md", *sorted(DOCS.rglob("*.md"))):
        if path not in made:
            page = with_code(path.read_text("utf-8"), path.relative_to(ROOT).as_posix())
            made[path] = _TABLE.sub(lambda m: f"{m[1]}\n{decision_table(m[2])}\n\n{m[3]}", page)
    return made


def stale_pages() -> dict[Path, str]:
    """The pages that are not as they should be."""
    return {
        path: text
        for path, text in pages().items()
        if not path.is_file() or path.read_text("utf-8") != text
    }


def main(arguments: list[str]) -> int:
    """Write the stale pages, or with ``--check`` name them."""
    stale = stale_pages()
    check = "--check" in arguments
    for path, text in stale.items():
        sys.stdout.write(f"{path.relative_to(ROOT)}{' is stale' if check else ''}\n")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    if check and stale:
        sys.stdout.write("say: python scripts/make_docs.py\n")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
