"""Scripts of the embedded server, and ears that are not there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from framepipe.realtime.ears import EarsError, GrammarEars, booking_grammar, read_grammar
from framepipe.realtime.mind import Question, TalkFor, ToolUse, Words
from framepipe.realtime.script_file import ScriptError, read_script
from framepipe.realtime.voice import Espeak
from framepipe.realtime.wire_trace import WireTrace

TOML = """
heard = ["What is the weather?"]
answers = [
  [{ say = "Let me look." }, { call = "get_weather", arguments = { city = "Oslo" } }],
  "It is foggy.",
  3000,
]
"""


def script(folder: Path, text: str, name: str = "script.toml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_a_script_gives_its_answers_in_order_and_its_words_to_the_ears(tmp_path: Path) -> None:
    read = read_script(script(tmp_path, TOML))
    assert [list(read.mind.answer(Question(answered=n))) for n in range(4)] == [
        [Words(text="Let me look."), ToolUse(name="get_weather", arguments='{"city": "Oslo"}')],
        [Words(text="It is foggy.")],
        [TalkFor(duration_ms=3_000)],
        [TalkFor(duration_ms=3_000)],
    ]
    assert read.ears is not None
    assert [read.ears(n, b"") for n in range(2)] == ["What is the weather?", None]


def test_json_says_the_same(tmp_path: Path) -> None:
    read = read_script(script(tmp_path, json.dumps({"answers": [{"say": "Hi"}]}), "script.json"))
    assert list(read.mind.answer(Question())) == [Words(text="Hi")]
    assert read.ears is None


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("answers = [", "is not TOML"),
        ("heard = []", "a list 'answers'"),
        ("answers = []\nanswer = 1", "no 'answer'"),
        ("answers = [true]", "answer 1 is True; write a text"),
        ("answers = ['a', [{ sing = 'la' }]]", "answer 2 is"),
        ("answers = [-1]", "milliseconds up to 600000"),
        ("answers = []\nheard = [1]", "'heard' is a list of texts"),
    ],
)
def test_what_is_no_script_is_refused_with_the_rule(tmp_path: Path, text: str, rule: str) -> None:
    with pytest.raises(ScriptError, match=rule) as caught:
        read_script(script(tmp_path, text))
    assert "script.toml" in str(caught.value)


def test_a_script_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="No such file"):
        read_script(tmp_path / "none.toml")


def test_ears_without_pocketsphinx_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(EarsError, match=r"framepipe\[ears\]"):
        GrammarEars("")


def test_ears_with_a_grammar_hear_the_flight_desks_user(tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx", reason="needs the extra: pip install 'framepipe[ears]'")
    ears = read_grammar(script(tmp_path, booking_grammar(), "booking.jsgf"))
    assert ears(0, Espeak().speak("from oslo to rome on friday")) == "from oslo to rome on friday"
    with pytest.raises(EarsError, match="the grammar cannot be used"):
        GrammarEars("nonsense")


def test_a_trace_holds_every_message_without_audio(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    with WireTrace(path) as trace:
        trace("sess_1", "client", '{"type": "input_audio_buffer.append", "audio": "AAAA"}')
        trace("sess_1", "client", "nonsense")
    lines: list[Any] = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert lines[0]["event"]["audio"] == "(4 characters of base64)"
    assert (lines[1]["dir"], lines[1]["event"]) == ("client", "nonsense")
