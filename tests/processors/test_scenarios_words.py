"""Interruptions that the words decide: timelines of whole calls, one a test.

In each the user asks at 0.5 s and is answered from 1.5 s on.
"""

from __future__ import annotations

import pytest

from framepipe.frames import (
    DropParked,
    Hold,
    Interrupt,
    InterruptionReport,
    InterruptionTotals,
    Mute,
    Release,
    Swallow,
    TextIn,
    Undo,
    Unmute,
    Withdrawn,
)
from framepipe.realtime import events as wire
from framepipe_processors.bargein import BargeIn
from tests.interruption_call import (
    Call,
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
    says,
    writes,
    yes,
)
from tests.realtime_service import Service

ORDERS = (
    wire.ConversationItemTruncate,
    wire.ResponseCancel,
    wire.ConversationItemDelete,
    wire.ConversationItemCreate,
    wire.ResponseCreate,
)

MM_HM = Ears(edge(2_000), yes(2_180, 1_980), quiet(2_500))


def ears() -> Ears:
    """Over the reply: heard at 2,000, confirmed at 2,180, over at 2,300."""
    return Ears(edge(2_000), yes(2_180, 1_980), quiet(2_500))


async def interruption(service: Service, text: str | None, *, answer: str | None = "R2") -> None:
    """The service hears it, answers it, and 60 ms after that knows its words."""
    await hears(service, 1_980, "U2")
    await commits(service, 2_300, "U2")
    if answer is not None:
        await service.begin(answer)
    await service.until(wire.InputAudioBufferAppend, audio_ms=2_860)
    if text is not None:
        await writes(service, "U2", text)


def test_mm_hm_over_a_reply_is_undone_and_not_one_sample_is_lost() -> None:
    # 1,500 reply · 2,000 muted · 2,180 cut · 2,860 "mm-hm": the rest goes on
    async def service(service: Service) -> None:
        await first_turn(service)
        await interruption(service, "Mm-hm.")
        await cancelled(service, "R2")
        await service.read_on()

    held = call(service, ears=ears(), seconds=7)

    assert held.when(Mute) == [2_000]
    assert held.when(Interrupt) == [2_180]
    assert held.when(Undo) == [2_860]
    assert held.lossless("A-R1") == 3_000 * 24
    assert [run.turn for run in held.heard] == [1, 3]
    assert held.heard[1].at_ns // 1_000_000 in range(2_860, 2_900)
    (report,) = held.of(InterruptionReport)
    assert (report.verdict, report.false_alarm, report.wrong_undo) == ("undone", True, False)
    assert held.of(InterruptionTotals)[0].undone == 1


def test_mm_hm_is_taken_out_of_the_conversation_with_its_answer_and_in_this_order() -> None:
    async def service(service: Service) -> None:
        await first_turn(service, done=False)
        await says(service, "R1", "It leaves at nine. The next one is at ten.")
        await service.finish("R1")
        await interruption(service, "Mm-hm.")
        await cancelled(service, "R2")
        await service.read_on()

    held = call(service, ears=ears(), seconds=7)

    assert held.order(*ORDERS) == [
        "ConversationItemTruncate",
        "ResponseCancel",
        "ConversationItemDelete",
        # What was heard of the rest, since a truncate cannot be taken back.
        "ConversationItemCreate",
    ]
    (deleted,) = held.sent_of(wire.ConversationItemDelete)
    assert deleted.item_id == "U2"
    (cancel,) = held.sent_of(wire.ResponseCancel)
    assert cancel.response_id == "R2"
    assert held.sent_of(wire.ResponseCreate) == [], "nobody is owed an answer to mm-hm"


def test_mm_hm_does_not_prefix_the_next_turn() -> None:
    async def service(service: Service) -> None:
        await first_turn(service)
        await interruption(service, "Mm-hm.")
        await cancelled(service, "R2")
        await hears(service, 6_000, "U3")
        await commits(service, 6_400, "U3")
        await service.begin("R3")
        await writes(service, "U3", "and the price?")
        await service.speak("R3", 500)
        await service.finish("R3")
        await service.read_on()

    held = call(service, ears=ears(), seconds=9)

    deletes = [event.item_id for event in held.sent_of(wire.ConversationItemDelete)]
    assert deletes == ["U2"], "the next turn stays"
    assert held.lossless("A-R3") == 500 * 24
    assert len(held.sent_of(wire.ResponseCancel)) == 1


def test_a_cough_that_the_second_stage_believed_in_is_undone_for_want_of_words() -> None:
    async def service(service: Service) -> None:
        await first_turn(service)
        await interruption(service, "")
        await cancelled(service, "R2")
        await service.read_on()

    held = call(service, ears=ears(), seconds=7)

    assert held.of(Undo) != []
    assert held.lossless("A-R1") == 3_000 * 24


def test_words_make_the_cut_final_and_are_answered() -> None:
    async def service(service: Service) -> None:
        await first_turn(service)
        await interruption(service, "No, the other one.")
        await service.speak("R2", 500)
        await service.finish("R2")
        await service.read_on()

    held = call(service, ears=ears(), seconds=6)

    assert held.of(Undo) == []
    assert held.of(Swallow) == []
    assert held.when(DropParked) == [2_860]
    assert held.lossless("A-R2") == 500 * 24
    (report,) = held.of(InterruptionReport)
    assert report.verdict == "cut"
    assert report.heard_ms == held.lossless("A-R1") / 24


@pytest.mark.parametrize(
    ("begins", "is_answer"), [("Shall I book it?", True), ("I can book it.", False)]
)
def test_yeah_after_the_agents_question_is_an_answer(begins: str, is_answer: bool) -> None:
    # Of 3 s and 96 characters the user has heard half a second and 16 at 2,000.
    async def service(service: Service) -> None:
        await first_turn(service, done=False)
        await says(service, "R1", f"{begins} It leaves at nine.".ljust(96, "."))
        await service.finish("R1")
        await interruption(service, "Yeah.")
        await service.speak("R2", 500)
        if not is_answer:
            await cancelled(service, "R2")
        else:
            await service.finish("R2")
        await service.read_on()

    held = call(service, ears=ears(), seconds=7)

    assert (held.of(Undo) == []) is is_answer
    assert (held.lossless("A-R2") == 500 * 24) is is_answer
    assert (held.lossless("A-R1") == 3_000 * 24) is not is_answer


def test_the_first_audio_of_the_new_answer_waits_for_the_verdict_on_a_short_word() -> None:
    # 2,800 committed · 2,820 first audio, held · 2,860 "okay": it is withdrawn, and never heard
    async def service(service: Service) -> None:
        await first_turn(service)
        await hears(service, 1_980, "U2")
        await commits(service, 2_300, "U2")
        await service.begin("R2")
        await service.speak("R2", 2_000)
        await service.until(wire.InputAudioBufferAppend, audio_ms=2_860)
        await writes(service, "U2", "okay")
        await cancelled(service, "R2")
        await service.read_on()

    held = call(service, ears=ears(), seconds=7)

    assert held.of(Hold)[-1] == Hold(audible=False)
    assert held.of(Withdrawn) == [Withdrawn(turn=2)]
    assert held.samples("A-R2") == []
    assert held.lossless("A-R1") == 3_000 * 24


def test_the_new_answer_waits_for_the_words_no_longer_than_300_ms() -> None:
    async def service(service: Service) -> None:
        await first_turn(service)
        await hears(service, 1_980, "U2")
        await commits(service, 2_300, "U2")
        await service.begin("R2")
        await service.speak("R2", 1_000)
        await service.finish("R2")
        await service.until(wire.InputAudioBufferAppend, audio_ms=3_500)
        await writes(service, "U2", "okay")
        await service.read_on()

    held = call(service, ears=ears(), seconds=7)

    assert held.when(Release) == [3_100]
    assert held.lossless("A-R2") == 1_000 * 24
    assert held.of(Undo) == [], "too late: something newer is heard"
    assert held.of(Swallow) == [], "what is heard is not swallowed"


def test_the_answer_to_a_long_sentence_waits_for_nothing() -> None:
    async def service(service: Service) -> None:
        await first_turn(service)
        await hears(service, 1_980, "U2")
        await commits(service, 3_400, "U2")
        await service.begin("R2")
        await service.speak("R2", 1_000)
        await service.finish("R2")
        await service.read_on()

    held = call(service, ears=ears(), seconds=7)

    assert held.of(Release) == []
    assert held.lossless("A-R2") == 1_000 * 24


@pytest.mark.parametrize("transcripts", [True, False])
def test_without_a_verdict_there_is_no_undo(transcripts: bool) -> None:
    async def service(service: Service) -> None:
        await first_turn(service, words=transcripts)
        await interruption(service, None)
        if transcripts:
            await service.send(
                wire.InputAudioTranscriptionFailed(item_id="U2", error=wire.FailureDetail())
            )
        await service.speak("R2", 500)
        await service.finish("R2")
        await service.read_on()

    held = call(service, ears=ears(), seconds=6, transcripts=transcripts)

    assert held.of(Undo) == []
    assert held.lossless("A-R2") == 500 * 24
    assert held.of(InterruptionReport)[0].verdict == "cut"


def test_a_second_barge_in_during_an_undone_remainder_cuts_it_where_it_was_heard() -> None:
    # 2,860 undone · 3,200 muted again · 3,380 cut
    async def service(service: Service) -> None:
        await first_turn(service)
        await interruption(service, "Mm-hm.")
        await cancelled(service, "R2")
        await hears(service, 3_180, "U3")
        await commits(service, 3_600, "U3")
        await service.begin("R3")
        await writes(service, "U3", "stop that")
        await service.speak("R3", 300)
        await service.finish("R3")
        await service.read_on()

    held = call(
        service,
        ears=Ears(*MM_HM.steps, edge(3_200), yes(3_380, 3_180), quiet(3_800)),
        seconds=7,
    )

    assert held.when(Interrupt) == [2_180, 3_380]
    heard = held.lossless("A-R1")
    first, second = held.samples("A-R1")
    assert first[1] == second[0]
    assert 300 * 24 <= second[1] - second[0] <= 400 * 24
    truncates = held.sent_of(wire.ConversationItemTruncate)
    assert [event.audio_end_ms for event in truncates] == [first[1] // 24], "truncated once"
    assert [report.verdict for report in held.of(InterruptionReport)] == ["undone", "cut"]
    assert heard < 3_000 * 24
    assert held.lossless("A-R3") == 300 * 24


def test_two_mm_hms_in_a_row_are_undone_twice() -> None:
    async def service(service: Service) -> None:
        await first_turn(service)
        await interruption(service, "Mm-hm.")
        await cancelled(service, "R2")
        await hears(service, 3_180, "U3")
        await commits(service, 3_400, "U3")
        await writes(service, "U3", "yeah")
        await service.read_on()

    held = call(
        service,
        ears=Ears(*MM_HM.steps, edge(3_200), yes(3_380, 3_180), quiet(3_600)),
        seconds=8,
    )

    assert held.lossless("A-R1") == 3_000 * 24
    assert [run.turn for run in held.heard if run.item_id == "A-R1"] == [1, 3, 4]
    assert held.of(InterruptionTotals)[0].undone == 2


def test_an_answer_that_mm_hm_cut_before_it_was_heard_is_asked_for_again() -> None:
    # 1,500 the reply · 1,700 typed words are answered behind it · 2,180 both are cut · 2,860 undone
    async def service(service: Service) -> None:
        await first_turn(service)
        await service.until(wire.ResponseCreate)
        await service.begin("R2", framepipe="create-1")
        await service.speak("R2", 200)
        await hears(service, 1_980, "U2")
        await cancelled(service, "R2")
        await commits(service, 2_300, "U2")
        await service.begin("R3")
        await writes(service, "U2", "mm-hm")
        await cancelled(service, "R3")
        again = await service.until(wire.ResponseCreate)
        await service.begin("R4", framepipe=str(again.event_id))
        await service.speak("R4", 400)
        await service.finish("R4")
        await service.read_on()

    held = call(
        service,
        ears=ears(),
        outside=Outside((1_700, TextIn(text="and the price?"))),
        seconds=8,
    )

    assert held.lossless("A-R1") == 3_000 * 24
    assert held.samples("A-R2") == held.samples("A-R3") == []
    assert held.lossless("A-R4") == 400 * 24, "the typed words are answered after all"
    assert len(held.sent_of(wire.ResponseCreate)) == 2


def rejected(held: Call) -> None:
    """The voice went on by itself, and nothing of the turn is left."""
    assert held.of(Interrupt) == []
    assert held.lossless("A-R1") == 3_000 * 24
    assert held.samples("A-R2") == []
    (cancel,) = held.sent_of(wire.ResponseCancel)
    assert cancel.response_id == "R2"
    assert [event.item_id for event in held.sent_of(wire.ConversationItemDelete)] == ["U2"]


@pytest.mark.parametrize("transcripts", [True, False])
def test_a_turn_that_the_service_commits_and_the_client_rejected_is_swallowed(
    transcripts: bool,
) -> None:
    # 2,000 muted · 2,080 the service believes in it · 2,200 rejected: the voice goes on
    async def service(service: Service) -> None:
        await first_turn(service, words=transcripts)
        await interruption(service, "" if transcripts else None)
        await cancelled(service, "R2")
        await service.read_on()

    held = call(
        service,
        ears=Ears(edge(2_000), no(2_200, 1_980), quiet(2_500)),
        seconds=7,
        transcripts=transcripts,
    )

    assert held.when(Unmute) == [2_200]
    rejected(held)
    assert [report.verdict for report in held.of(InterruptionReport)] == ["rejected"]


def test_words_that_the_second_stage_missed_still_cut_when_their_text_comes() -> None:
    # "No." too soft for the model: resumed at 2,200, cut by its text at 2,860
    async def service(service: Service) -> None:
        await first_turn(service)
        await interruption(service, "No.")
        await service.speak("R2", 500)
        await service.finish("R2")
        await service.read_on()

    held = call(service, ears=Ears(edge(2_000), no(2_200, 1_980), quiet(2_500)), seconds=6)

    assert held.when(Interrupt) == [2_860]
    assert held.of(Interrupt)[0].cause == "transcript"
    assert held.lossless("A-R2") == 500 * 24
    assert [report.wrong_undo for report in held.of(InterruptionReport)] == [False, True]
    assert held.of(InterruptionTotals)[0].wrong_undos == 1


def test_a_backchannel_over_a_ducked_agent_is_undone_as_well() -> None:
    async def service(service: Service) -> None:
        await first_turn(service)
        await interruption(service, "Mm-hm.")
        await cancelled(service, "R2")
        await service.read_on()

    held = call(service, ears=ears(), seconds=7, barge_in=BargeIn(suspect="duck"))

    assert [mute.gain_db for mute in held.of(Mute)] == [-26.0]
    assert held.of(Hold) == [], "the agent goes on"
    first, _ = held.samples("A-R1")
    assert first[1] >= (2_180 - 1_500) * 24, "what was said quietly counts as heard"
    assert held.lossless("A-R1") == 3_000 * 24
