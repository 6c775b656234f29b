"""Scripts, collectors, and users before a microphone."""

from __future__ import annotations

import pytest

from framepipe import (
    AudioIn,
    AudioOut,
    End,
    Frame,
    FrameError,
    Hold,
    Interrupt,
    Mute,
    Pipeline,
    ReplyPending,
    Say,
    TextIn,
    evolve,
    on,
)
from framepipe.audio import rms_dbfs
from framepipe.testing import (
    Collector,
    Cough,
    Pause,
    Recorded,
    Script,
    ScriptedUser,
    Speech,
    Step,
    Wait,
    collect,
    run_virtual,
)
from framepipe.testing.virtual_time import Backend

BOTH: tuple[Backend, ...] = ("asyncio", "trio")


class Shout:
    @on(TextIn)
    def shout(self, frame: TextIn) -> TextIn:
        return evolve(frame, text=frame.text.upper())


def piece(turn: int) -> AudioOut:
    return AudioOut(pcm=b"\1\0", rate_hz=24_000, turn=turn)


@pytest.mark.parametrize("backend", BOTH)
def test_what_goes_in_comes_out_in_order(backend: Backend) -> None:
    steps: list[Step] = [TextIn(text="a"), Say(text="b"), Wait(20), TextIn(text="c")]
    left = [TextIn(text="A"), Say(text="b"), TextIn(text="C")]
    assert collect(Shout(), steps=steps, backend=backend) == left


def test_turns_are_opened_as_the_frames_need_them_and_a_cut_leaves_at_the_head() -> None:
    left = collect(Shout(), steps=[piece(3), Wait(1), Interrupt(), piece(2), piece(4)])
    assert left == [piece(3), Interrupt(turn=3), piece(4)]


def test_urgent_frames_open_their_turns_too() -> None:
    assert collect(steps=[ReplyPending(turn=2), Interrupt(turn=2)]) == [
        ReplyPending(turn=2),
        Interrupt(turn=2),
    ]


def test_a_script_keeps_what_comes_up() -> None:
    class Up:
        @on(TextIn)
        def answer(self, frame: TextIn) -> list[Frame]:
            return [frame, Hold()]

    script, collector = Script(TextIn(text="x")), Collector()
    run_virtual(Pipeline(script, Up(), collector).run)
    assert script.up == [Hold()]
    assert collector.frames == [TextIn(text="x"), End()]
    assert collect(Up(), steps=[TextIn(text="x")]) == [Hold(), TextIn(text="x")]


def test_a_collector_knows_when_things_came() -> None:
    collector = Collector()
    run_virtual(Pipeline(Script(Wait(5), Mute(), Wait(7), Say(text="now")), collector).run)
    assert [at_ns // 1_000_000 for at_ns in collector.times_ns] == [5, 12, 12]
    assert collector.of(Mute) == [Mute()]


def test_time_goes_forward_only() -> None:
    with pytest.raises(FrameError, match=r"Wait\(-1\); time goes forward only"):
        Wait(-1)


def heard(user: ScriptedUser) -> tuple[list[AudioIn], list[int]]:
    collector = Collector()
    run_virtual(Pipeline(user, collector).run)
    return collector.of(AudioIn), [at_ns // 1_000_000 for at_ns in collector.times_ns[:-1]]


def test_a_user_is_a_microphone_in_time() -> None:
    frames, times_ms = heard(ScriptedUser(Pause(20), Speech(20), Cough(10), Recorded(b"\7\0")))
    assert times_ms == [10, 20, 30, 40, 50, 60]
    assert [frame.start_sample for frame in frames] == [0, 240, 480, 720, 960, 1_200]
    loud = [rms_dbfs(frame.pcm_bytes()) > -30 for frame in frames]
    assert loud == [False, False, True, True, False, False]
    assert rms_dbfs(frames[4].pcm_bytes()) == pytest.approx(-56, abs=1)
    assert frames[-1].pcm_bytes() == b"\7\0" + bytes(478)
    assert ScriptedUser(Pause(20), Recorded(b"\7\0")).length_ms == 21


def test_a_device_can_lose_blocks_and_its_clock_goes_on() -> None:
    frames, times_ms = heard(ScriptedUser(Pause(80), block_ms=20, lost={1, 2}))
    assert [frame.start_sample for frame in frames] == [0, 1_440]
    assert times_ms == [20, 80]


def test_a_user_says_the_same_every_time_and_never_twice_the_same() -> None:
    one, _ = heard(ScriptedUser(Speech(100), Pause(50), Speech(100)))
    two, _ = heard(ScriptedUser(Speech(100), Pause(50), Speech(100)))
    assert one == two
    assert one[0].pcm != one[15].pcm


def test_a_block_is_whole_samples() -> None:
    with pytest.raises(FrameError, match="1 ms at 11025 Hz is not one or more whole samples"):
        ScriptedUser(rate_hz=11_025, block_ms=1)
