"""``framepipe serve``: its options reach the server, and wrong ones are one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from framepipe.cli import app
from framepipe.errors import FramepipeError
from framepipe.realtime import server
from framepipe.realtime.booking import Booking
from framepipe.realtime.mind import Echo, Scripted, Talk


def serve(monkeypatch: pytest.MonkeyPatch, *options: str) -> server.ServerSettings:
    """The settings with which the command would have served."""
    asked: list[server.ServerSettings] = []

    async def listen(settings: server.ServerSettings, *, task_status: Any, **_where: Any) -> None:
        asked.append(settings)
        task_status.started(4_321)

    monkeypatch.setattr(server, "serve", listen)
    result = CliRunner().invoke(app, ["serve", *options], catch_exceptions=False)
    assert result.output == "ws://127.0.0.1:4321/v1/realtime  (Ctrl-C ends)\n"
    (settings,) = asked
    return settings


def test_every_fault_of_the_line_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = serve(
        monkeypatch,
        *("--delay-ms", "90", "--jitter-ms", "60", "--late-ms", "300", "--repeat"),
        *("--drop-after-s", "20", "--half-open-after-s", "30", "--close-after-events", "9"),
        *("--error-after-events", "7", "--error-code", "session_expired"),
        *("--refuse-status", "503", "--limit-s", "60", "--key", "sk-x"),
        *("--cancel-latency-ms", "600", "--no-late-deltas", "--generation-speed", "0.5"),
    )
    assert settings.faults == server.Faults(
        delay_to_server_ms=90,
        delay_to_client_ms=90,
        jitter_ms=60,
        late_ms=300,
        repeat=True,
        drop_after_s=20,
        half_open_after_s=30,
        close_after_events=9,
        error_after_events=7,
        error_code="session_expired",
        refuse_status=503,
    )
    assert (settings.limit_s, settings.key) == (60, "sk-x")
    assert settings.pace.generation_speed == (0.5, 0.5)
    assert (settings.pace.cancel_latency_ms, settings.pace.late_deltas) == (600, False)


@pytest.mark.parametrize(("name", "kind"), [("talk", Talk), ("echo", Echo), ("booking", Booking)])
def test_a_mind_is_chosen_by_name(monkeypatch: pytest.MonkeyPatch, name: str, kind: type) -> None:
    assert isinstance(serve(monkeypatch, "--mind", name).mind, kind)


def test_a_script_brings_answers_and_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "script.toml"
    path.write_text('heard = ["Hello?"]\nanswers = ["Hi."]\n', "utf-8")
    settings = serve(monkeypatch, "--mind", "scripted", "--script", str(path))
    assert isinstance(settings.mind, Scripted)
    assert settings.ears is not None
    assert settings.ears(0, b"") == "Hello?"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--mind", "scripted"], "belong together"),
        (["--jitter-ms", "-1"], "jitter_ms is -1.0; 0 or more is needed"),
        (["--limit-s", "0"], "limit_s is 0.0"),
        (["--cancel-latency-ms", "-1"], "cancel_latency_ms is -1"),
        (["--mind", "scripted", "--script", "none.toml"], "none.toml: No such file"),
        (["--trace", "none/wire.jsonl"], "none/wire.jsonl: No such file"),
    ],
)
def test_what_cannot_be_served_is_refused(options: list[str], why: str) -> None:
    with pytest.raises(FramepipeError, match=why):
        CliRunner().invoke(app, ["serve", "--port", "0", *options], catch_exceptions=False)
