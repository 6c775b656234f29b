"""Who hears the user first, who decides, and what was heard by then: one timeline a test.

In each the user asks at 0.5 s and is answered from 1.5 s on. "Local" is the detector here, which
mutes; "yes" and "no" are the second stage's; "server" is the service's ear.
"""

from __future__ import annotations

import pytest

from framepipe.conversation.profiles import Profile, UseProfile
from framepipe.frames import (
    ConnectionState,
    Drained,
    Hold,
    Interrupt,
    InterruptionReport,
    Mute,
    Played,
    Problem,
    Release,
    SpeechConfirmed,
    TextIn,
    Unmute,
    evolve,
)
from framepipe.processor import on
from framepipe.realtime import events as wire
from framepipe_processors.bargein import BargeIn
from framepipe_processors.wav_sink import WavSink
from tests.interruption_call import (
    Ears,
    Outside,
    call,
    cancelled,
    commits,
    edge,
    first_turn,
    hears,
    no,
    quiet,
    writes,
    yes,
)
from tests.realtime_service import Service

R1 = 3_000 * 24


async def one_reply(service: Service) -> None:
    await first_turn(service)
    await service.read_on()


async def interrupted(service: Service, *, start_ms: int = 1_980, late_ms: int = 100) -> None:
    """It hears the user over its first answer, and gives another."""
    await first_turn(service)
    await hears(service, start_ms, "U2", late_ms=late_ms)
    await commits(service, start_ms + 900, "U2")
    await service.begin("R2")
    await writes(service, "U2", "no, the other one")
    await service.speak("R2", 500)
    await service.finish("R2")
    await service.read_on()


# --- the race -------------------------------------------------------------------------------------


def test_local_without_server_mutes_and_goes_on_at_the_very_next_sample() -> None:
    # 2,000 local: muted · 2,500 nobody confirmed: goes on
    held = call(one_reply, ears=Ears(edge(2_000), quiet(2_600)))
    assert held.when(Unmute) == [2_500]
    assert held.of(Interrupt) == []
    assert held.lossless("A-R1") == R1


def test_a_yes_without_the_server_cuts_and_the_next_reply_need_not_wait_for_it() -> None:
    # 2,180 cut · 2,500 quiet here; the server never hears it · 3,500 a reply that was asked for
    async def service(service: Service) -> None:
        await first_turn(service)
        await service.until(wire.ResponseCreate)
        await service.begin("R2", framepipe="create-1")
        await service.until(wire.InputAudioBufferAppend, audio_ms=3_500)
        await service.speak("R2", 500)
        await service.finish("R2")
        await service.read_on()

    held = call(
        service,
        ears=Ears(edge(2_000), yes(2_180, 1_980), quiet(2_500)),
        outside=Outside((3_000, TextIn(text="tell me more"))),
        seconds=7,
    )

    assert held.when(Interrupt) == [2_180]
    starts = [run.at_ns // 1_000_000 for run in held.heard if run.item_id == "A-R2"]
    assert [at in range(3_500, 3_520) for at in starts] == [True], (
        "it does not wait for a silence that nobody will tell of"
    )


def test_server_without_local_cuts_at_once_where_there_is_no_second_stage() -> None:
    held = call(interrupted, ears=Ears(two=False), seconds=5)
    assert held.when(Interrupt) == [2_080]
    (report,) = held.of(InterruptionReport)
    assert (report.cause, report.verdict, report.onset_to_mute_ns) == ("server", "cut", 100_000_000)
    assert report.audio_end_ms == held.lossless("A-R1") // 24


def test_server_without_local_only_mutes_where_there_is_a_second_stage() -> None:
    # 2,080 server: muted, evidence · 2,580 no yes: goes on
    async def cough(service: Service) -> None:
        await first_turn(service)
        await hears(service, 1_980, "U2")
        await commits(service, 2_200, "U2")
        await service.begin("R2")
        await writes(service, "U2", "")
        await cancelled(service, "R2")
        await service.read_on()

    held = call(cough, ears=Ears(), seconds=7)

    assert held.when(Mute) == [2_080]
    assert held.when(Unmute) == [2_580]
    assert held.of(Interrupt) == []
    assert held.lossless("A-R1") == R1


@pytest.mark.parametrize("round_trip_ms", [300, 400])
def test_with_the_server_alone_and_a_long_way_to_it_the_cut_is_late_and_still_exact(
    round_trip_ms: int,
) -> None:
    # Onset 1,980 · server: 100 ms of its own and the way there and back
    async def service(service: Service) -> None:
        await interrupted(service, late_ms=100 + round_trip_ms)

    held = call(service, ears=Ears(two=False), seconds=6)

    at_ms = 2_080 + round_trip_ms
    assert held.when(Interrupt) == [at_ms]
    heard = held.lossless("A-R1")
    assert heard in range((at_ms - 1_500) * 24, (at_ms - 1_500 + 20) * 24)
    (truncate,) = held.sent_of(wire.ConversationItemTruncate)
    assert truncate.audio_end_ms == heard // 24
    assert held.lossless("A-R2") == 500 * 24


def test_a_server_event_that_is_a_second_late_cuts_at_the_current_position() -> None:
    # 2,000 muted · 2,500 goes on · 2,980 server: cut where it is by then
    async def service(service: Service) -> None:
        await interrupted(service, late_ms=1_000)

    held = call(service, ears=Ears(edge(2_000), quiet(3_000), two=False), seconds=6)

    assert held.when(Unmute) == [2_500]
    assert held.when(Interrupt) == [2_980]
    assert held.lossless("A-R1") in range((500 + 480) * 24, (500 + 480 + 30) * 24)
    assert [report.wrong_undo for report in held.of(InterruptionReport)] == [False, True]


def test_after_late_servers_the_deadline_waits_for_them() -> None:
    core = BargeIn(two=False).core
    assert core.reject_ns(0) == 500_000_000
    barge_in = BargeIn(two=False)

    async def service(service: Service) -> None:
        await interrupted(service, late_ms=800)

    call(service, ears=Ears(edge(2_000), two=False), seconds=6, barge_in=barge_in)

    assert barge_in.core.reject_ns(0) == (780 + 60) * 1_000_000, "measured from the local edge"


def test_two_interruptions_50_ms_apart_cut_once() -> None:
    async def service(service: Service) -> None:
        await first_turn(service)
        await hears(service, 1_980, "U2", late_ms=20)
        await hears(service, 2_030, "U3", late_ms=20)
        await commits(service, 2_600, "U3")
        await service.begin("R2")
        await service.speak("R2", 500)
        await service.finish("R2")
        await service.read_on()

    held = call(service, ears=Ears(two=False), seconds=5)

    assert held.when(Interrupt) == [2_000]
    assert len(held.sent_of(wire.ConversationItemTruncate)) == 1
    assert held.lossless("A-R2") == 500 * 24


def test_speech_through_the_start_of_a_reply_holds_it_and_then_cuts_it() -> None:
    # 1,300 the user goes on, no new edge · 1,500 first sample: held · 2,300 over: cut unheard
    async def service(service: Service) -> None:
        await service.greet()
        await hears(service, 500, "U1")
        await commits(service, 700, "U1")
        await service.begin("R1")
        await hears(service, 1_300, "U2")
        await service.until(wire.InputAudioBufferAppend, audio_ms=1_500)
        await service.speak("R1", 2_000)
        await service.finish("R1")
        await commits(service, 1_800, "U2")
        await service.begin("R2")
        await service.speak("R2", 500)
        await service.finish("R2")
        await service.read_on()

    held = call(service, ears=Ears(edge(520), yes(700, 500)), seconds=5)

    assert held.of(Hold) == [] or held.of(Hold) == [Hold(audible=False)]
    assert held.samples("A-R1") == [], "not a sample over the user"
    assert held.lossless("A-R2") == 500 * 24


def test_an_interruption_during_the_first_100_ms_of_a_reply() -> None:
    # 1,500 first sample · 1,540 local · 1,720 yes
    async def service(service: Service) -> None:
        await interrupted(service, start_ms=1_520)

    held = call(service, ears=Ears(edge(1_540), yes(1_720, 1_520)), seconds=5)

    assert held.when(Mute) == [1_540]
    assert held.when(Interrupt) == [1_720]
    assert held.lossless("A-R1") in range(40 * 24, 70 * 24)
    assert held.lossless("A-R2") == 500 * 24


def test_an_interruption_before_the_first_delta_kills_the_answer_that_is_pending() -> None:
    # 1,400 response created · 1,440 the user goes on · 1,600 its audio comes, and is dropped
    async def service(service: Service) -> None:
        await service.greet()
        await hears(service, 500, "U1")
        await commits(service, 900, "U1")
        await service.begin("R1")
        await hears(service, 1_420, "U2", late_ms=40)
        await service.until(wire.InputAudioBufferAppend, audio_ms=1_600)
        await service.speak("R1", 2_000)
        await cancelled(service, "R1")
        await commits(service, 1_800, "U2")
        await service.begin("R2")
        await service.speak("R2", 500)
        await service.finish("R2")
        await service.read_on()

    held = call(service, ears=Ears(edge(1_440)), seconds=5)

    assert held.when(Interrupt) == [1_460]
    assert held.samples("A-R1") == []
    assert held.sent_of(wire.ConversationItemTruncate) == [], "never before a delta"
    assert held.lossless("A-R2") == 500 * 24


def test_a_ten_second_user_turn_does_not_disarm_the_mute_of_the_reply_after_it() -> None:
    # Twelve edges in ten seconds of speech; then an interruption 300 ms into the reply
    async def service(service: Service) -> None:
        await service.greet()
        await hears(service, 500, "U1")
        await commits(service, 10_500, "U1")
        await service.begin("R1")
        await service.speak("R1", 3_000)
        await service.finish("R1")
        await hears(service, 11_300, "U2")
        await commits(service, 11_900, "U2")
        await service.begin("R2")
        await service.speak("R2", 300)
        await service.finish("R2")
        await service.read_on()

    steps = [step for k in range(12) for step in (edge(520 + 800 * k), quiet(1_200 + 800 * k))]
    held = call(
        service,
        ears=Ears(*steps, yes(700, 500), edge(11_320), yes(11_500, 11_300)),
        seconds=14,
    )

    assert held.when(Mute) == [11_320]
    assert held.when(Interrupt) == [11_500]
    assert [problem.code for problem in held.of(Problem)] == []


def test_three_wrong_mutes_disarm_the_local_detector_and_it_says_so() -> None:
    # A keyboard: an edge every 600 ms, each rejected
    steps = [
        step
        for k in range(6)
        for step in (edge(1_700 + 600 * k), no(1_900 + 600 * k, 1_680 + 600 * k))
    ] + [quiet(2_100 + 600 * k) for k in range(6)]

    async def service(service: Service) -> None:
        await first_turn(service, reply_ms=6_000)
        await service.read_on()

    held = call(service, ears=Ears(*steps), seconds=9)

    assert held.when(Mute) == [1_700, 2_300, 2_900]
    (problem,) = held.of(Problem)
    assert (problem.where, problem.code) == ("BargeIn", "local_mutes_disarmed")
    assert held.lossless("A-R1") == 6_000 * 24
    assert held.barge_in.statistics().unarmed_edges == 3


def test_a_reject_while_the_servers_segment_is_open_goes_on_and_does_not_disarm() -> None:
    # 2,000 muted · 2,080 server · 2,200 no · 2,600 again · … four times in a segment
    async def service(service: Service) -> None:
        await first_turn(service, reply_ms=6_000)
        await hears(service, 1_980, "U2")
        await commits(service, 4_600, "U2")
        await writes(service, "U2", "")
        await service.read_on()

    steps = [
        step
        for k in range(4)
        for step in (edge(2_000 + 600 * k), no(2_200 + 600 * k, 1_980 + 600 * k))
    ] + [quiet(2_400 + 600 * k) for k in range(4)]
    held = call(service, ears=Ears(*steps), seconds=9)

    assert len(held.of(Mute)) == 4
    assert held.of(Problem) == []
    assert held.lossless("A-R1") == 6_000 * 24


# --- what was heard -------------------------------------------------------------------------------


class LosesReports:
    """A speaker whose reports get lost on the way."""

    @on(Played)
    def lose(self, frame: Played) -> Played | None:
        return frame if frame.final else None


@pytest.mark.parametrize("device_ms", [30, 200])
@pytest.mark.parametrize("lost", [False, True])
def test_a_cut_0_ms_after_the_mute_with_a_slow_device(device_ms: int, lost: bool) -> None:
    # 2,080 the server mutes and cuts in one breath
    held = call(
        interrupted,
        ears=Ears(two=False),
        device_ms=device_ms,
        stages=(LosesReports(),) if lost else (),
        seconds=5,
    )
    heard = held.lossless("A-R1")
    assert held.when(Interrupt) == [2_080]
    (truncate,) = held.sent_of(wire.ConversationItemTruncate)
    assert truncate.audio_end_ms == heard // 24, "the mute point rides on the interrupt itself"
    assert held.order(wire.ConversationItemTruncate, wire.ResponseCancel) == [
        "ConversationItemTruncate"
    ]


class CannotFreeze(WavSink):
    """A sink that knows of the mute only when its mark comes back, half a second later."""

    @on(Mute)
    def mute(self, frame: Mute) -> Played:
        return evolve(super().mute(frame), mute_point=None)

    @on(Interrupt)
    def cut(self, frame: Interrupt) -> Interrupt:
        return evolve(super().cut(frame), mute_point=None)


def test_a_sink_that_cannot_tell_the_mute_point_delays_the_truncate_and_not_the_cancel() -> None:
    # The reply is still being made when it is cut.
    async def service(service: Service) -> None:
        await first_turn(service, done=False)
        await hears(service, 1_980, "U2")
        await cancelled(service, "R1")
        await commits(service, 2_400, "U2")
        await service.read_on()

    held = call(service, ears=Ears(two=False), sink=CannotFreeze(), seconds=5)

    cancels = held.order(wire.ConversationItemTruncate, wire.ResponseCancel)
    assert cancels == ["ResponseCancel", "ConversationItemTruncate"]
    (truncate,) = held.sent_of(wire.ConversationItemTruncate)
    heard_ms = held.lossless("A-R1") // 24
    assert abs(truncate.audio_end_ms - heard_ms) <= 20, "an estimate"
    assert truncate.audio_end_ms <= 3_000


def test_an_underrun_at_the_cut_truncates_what_came_and_is_not_wholly_played() -> None:
    # 400 ms of the reply have come; it ran dry at 1,900; the cut is at 2,080
    async def service(service: Service) -> None:
        await first_turn(service, reply_ms=400, done=False)
        await hears(service, 1_980, "U2")
        await cancelled(service, "R1")
        await commits(service, 2_400, "U2")
        await service.read_on()

    held = call(service, ears=Ears(two=False), seconds=5)

    (truncate,) = held.sent_of(wire.ConversationItemTruncate)
    assert truncate.audio_end_ms == 400
    assert held.lossless("A-R1") == 400 * 24


@pytest.mark.parametrize("device_ms", [0, 30, 200])
def test_a_mute_within_the_last_30_ms_of_a_reply_ends_with_it(device_ms: int) -> None:
    async def service(service: Service) -> None:
        await first_turn(service, reply_ms=520)
        await service.until(wire.InputAudioBufferAppend, audio_ms=3_500)
        await hears(service, 3_500, "U2")
        await commits(service, 3_800, "U2")
        await service.begin("R2")
        await service.speak("R2", 300)
        await service.finish("R2")
        await service.read_on()

    held = call(service, ears=Ears(edge(2_000), quiet(2_100)), device_ms=device_ms, seconds=6)

    assert held.lossless("A-R1") == 520 * 24
    assert held.lossless("A-R2") == 300 * 24
    assert len(held.of(Mute)) == len(held.of(Unmute))
    assert len(held.of(Drained)) == 2


def test_speech_after_the_response_is_done_interrupts_what_still_plays() -> None:
    # 1,500 ten seconds come at once and the response is done · 6,000 the user speaks
    async def service(service: Service) -> None:
        await first_turn(service, reply_ms=10_000)
        await hears(service, 5_980, "U2")
        await commits(service, 6_500, "U2")
        await service.begin("R2")
        await service.speak("R2", 300)
        await service.finish("R2")
        await service.read_on()

    held = call(service, ears=Ears(edge(6_000), yes(6_180, 5_980)), seconds=9)

    assert held.sent_of(wire.ResponseCancel) == [], "there is nothing to cancel"
    (truncate,) = held.sent_of(wire.ConversationItemTruncate)
    assert truncate.audio_end_ms == held.lossless("A-R1") // 24
    assert held.lossless("A-R2") == 300 * 24


def test_200_s_of_a_reply_before_the_servers_speech_started_do_not_delay_it() -> None:
    async def service(service: Service) -> None:
        await first_turn(service, done=False)
        for _ in range(200):
            await service.speak("R1", 1_000)
        await service.finish("R1")
        await hears(service, 1_980, "U2")
        await commits(service, 2_400, "U2")
        await service.read_on()

    held = call(service, ears=Ears(two=False), seconds=5)

    assert held.when(Interrupt) == [2_080]
    assert held.lossless("A-R1") <= 620 * 24
    assert held.of(Problem) == []


# --- somebody else decides ------------------------------------------------------------------------


class Button:
    """Below the rest: somebody presses stop when the script says so."""

    @on(ConnectionState)
    def press(self, frame: ConnectionState) -> ConnectionState | Interrupt:
        return Interrupt(cause="button") if frame.reason == "button" else frame


def test_the_stop_button_without_speech_and_then_typed_text() -> None:
    # 2,200 stop: cut at once · 2,600 typed: answered
    async def service(service: Service) -> None:
        await first_turn(service)
        await service.until(wire.ResponseCreate)
        await service.begin("R2", framepipe="create-1")
        await service.speak("R2", 400)
        await service.finish("R2")
        await service.read_on()

    pressed = ConnectionState(state="open", reason="button", transcripts=True)
    held = call(
        service,
        outside=Outside((2_200, pressed), (2_600, TextIn(text="the price, please"))),
        stages=(Button(),),
        seconds=5,
    )

    assert held.when(Interrupt) == [2_200]
    (truncate,) = held.sent_of(wire.ConversationItemTruncate)
    assert truncate.audio_end_ms == held.lossless("A-R1") // 24
    assert held.lossless("A-R2") == 400 * 24
    (report,) = held.of(InterruptionReport)
    assert (report.cause, report.verdict, report.onset_sample) == ("button", "cut", None)


def test_a_rule_of_the_programs_own_confirms_beside_the_others() -> None:
    # 2,000 muted · 2,060 the program is sure: cut, and it could still be undone
    mine = (2_060, SpeechConfirmed(source="stop-word", onset_sample=1_980 * 24, probability=1.0))
    held = call(interrupted, ears=Ears(edge(2_000), mine, two=False), seconds=5)
    assert held.when(Interrupt) == [2_060]
    assert held.of(Interrupt)[0].cause == "stop-word"
    assert held.lossless("A-R2") == 500 * 24


def test_an_uninterruptible_stretch_is_neither_muted_nor_cut_and_counts_the_attempts() -> None:
    # 1,600 from here on nobody interrupts · 2,000 the user does not succeed
    profile = Profile(armed=False, interruptible=False)
    held = call(
        interrupted,
        ears=Ears((1_600, UseProfile(profile=profile)), edge(2_000), yes(2_180, 1_980)),
        seconds=7,
    )
    assert held.of(Mute) == []
    assert held.of(Interrupt) == []
    assert held.lossless("A-R1") == R1
    assert held.lossless("A-R2") == 500 * 24, "and is answered when it is over"
    assert held.barge_in.statistics().refused >= 1


def test_a_profile_holds_until_the_next_one() -> None:
    profile = Profile(armed=False, interruptible=False)
    held = call(
        interrupted,
        ears=Ears(
            (1_600, UseProfile(profile=profile)),
            (1_900, UseProfile(profile=None)),
            edge(2_000),
            yes(2_180, 1_980),
        ),
        seconds=5,
    )
    assert held.when(Interrupt) == [2_180]


def test_a_mute_of_a_reply_that_is_ducked_never_holds_it() -> None:
    held = call(
        one_reply,
        ears=Ears(edge(2_000), no(2_200, 1_980), quiet(2_400)),
        barge_in=BargeIn(suspect="duck"),
    )
    assert [mute.gain_db for mute in held.of(Mute)] == [-26.0]
    assert held.when(Unmute) == [2_200]
    assert held.of(Hold) == []
    assert held.of(Release) == []
    assert held.lossless("A-R1") == R1
    assert len(held.samples("A-R1")) == 1, "no pause"
