"""After an undo the voice goes on behind its truncate, and the service is told what was heard."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from framepipe.frames import Problem
from framepipe.realtime import events as wire
from framepipe.realtime.client_outputs import Output
from tests.realtime.test_client_protocol import (
    Call,
    answering_call,
    created,
    delta,
    done,
    heard,
    sent,
)

WORDS = "one two three four five six seven eight nine ten"


def spoken_call(*, killed: bool = False) -> Call:
    """A1 of 2 s is there, with its words; it is done unless it shall be killed."""
    call = answering_call()
    call.receive(
        delta("R1", 1_600),
        wire.ResponseOutputAudioTranscriptDone(response_id="R1", item_id="A1", transcript=WORDS),
    )
    if not killed:
        call.receive(done("R1"))
    return call


def cut_at(call: Call, ms: int, *, turn: int | None = None) -> list[Output]:
    return call.cut(3_000, heard(ms * 24, 48_000), turn=turn)


def undo(call: Call) -> list[str]:
    call.turn += 1  # the remainder goes on as a turn of its own
    outputs = call.protocol.undo(call.now_ms * 1_000_000)
    return [output.code for output in outputs if isinstance(output, Problem)]


def told(outputs: list[Output]) -> list[tuple[str | None, str]]:
    """Items made by the client: behind which, with which words."""
    made = [e for e in sent(outputs) if isinstance(e, wire.ConversationItemCreate)]
    texts: list[tuple[str | None, str]] = []
    for event in made:
        assert event.item.role == "assistant"
        assert isinstance(event.item.content, list)
        (part,) = event.item.content
        assert part.type == "output_text"
        texts.append((event.previous_item_id, str(part.text)))
    return texts


def test_a_remainder_that_was_heard_to_its_end_is_told_behind_the_truncated_item() -> None:
    call = spoken_call()
    cut_at(call, 1_000)
    undo(call)

    outputs = call.protocol.settle(heard(48_000, 48_000, complete=True), 0)

    assert told(outputs) == [("A1", "six seven eight nine ten")]
    assert not any(isinstance(e, wire.ConversationItemTruncate) for e in sent(outputs))


def test_a_remainder_that_is_cut_is_told_as_far_as_it_was_heard_and_not_truncated() -> None:
    call = spoken_call()
    cut_at(call, 1_000)
    undo(call)

    outputs = cut_at(call, 1_500)

    assert told(outputs) == [("A1", "six seven")]
    assert not any(isinstance(e, wire.ConversationItemTruncate) for e in sent(outputs))


def test_a_remainder_of_a_remainder_stands_behind_it() -> None:
    call = spoken_call()
    cut_at(call, 1_000)
    undo(call)
    first = cut_at(call, 1_500)
    undo(call)
    second = call.protocol.settle(heard(48_000, 48_000, complete=True), 0)

    made = sent(first)[-1]
    assert isinstance(made, wire.ConversationItemCreate)
    assert told(second) == [(made.item.id, "eight nine ten")]


def test_without_an_undo_nothing_is_told_and_nothing_twice() -> None:
    call = spoken_call()
    assert told(cut_at(call, 1_000)) == []
    assert told(call.protocol.settle(heard(30_000, 48_000), 0)) == []
    undo(call)
    assert told(call.protocol.settle(heard(30_000, 48_000, final=False), 0)) == []
    last = heard(48_000, 48_000, complete=True)
    assert len(told(call.protocol.settle(last, 0))) == 1
    assert told(call.protocol.settle(last, 0)) == []


def test_of_a_response_that_was_cancelled_the_words_are_an_estimate_by_time() -> None:
    call = spoken_call(killed=True)
    cut_at(call, 1_000)
    call.receive(done("R1", "cancelled"))
    undo(call)

    outputs = call.protocol.settle(heard(48_000, 48_000), 0)

    # 15 characters a second until this voice is known: 15 were heard, then 30.
    assert told(outputs) == [("A1", "four five six")]


def test_an_answer_that_goes_on_without_its_end_says_so() -> None:
    whole, broken = spoken_call(), spoken_call(killed=True)
    for call in (whole, broken):
        cut_at(call, 1_000)

    assert undo(whole) == []
    assert undo(broken) == ["answer_incomplete"]


def test_when_the_item_goes_what_was_told_behind_it_goes_first() -> None:
    call = spoken_call()
    cut_at(call, 1_000)
    undo(call)
    (made,) = sent(cut_at(call, 1_500))
    assert isinstance(made, wire.ConversationItemCreate)

    gone = sent(call.protocol.delete("A1"))

    assert gone == [
        wire.ConversationItemDelete(item_id=str(made.item.id)),
        wire.ConversationItemDelete(item_id="A1"),
    ]


def test_the_backchannel_goes_with_its_answer_and_prefixes_nothing() -> None:
    call = spoken_call()
    cut_at(call, 1_000)
    call.user_turn("hm", 3_000, 3_300)
    call.receive(created("R2"))

    begun = call.protocol.swallow("hm", call.now_ms * 1_000_000)
    undo(call)
    ended = call.receive(done("R2", "cancelled", [wire.Item(id="A2", type="message")]))
    told_now = call.protocol.settle(heard(48_000, 48_000, complete=True), 0)

    assert sent(begun) == [wire.ResponseCancel(event_id="cancel-1", response_id="R2")]
    assert sent(ended) == [
        wire.ConversationItemDelete(item_id="A2"),
        wire.ConversationItemDelete(item_id="hm"),
    ]
    assert told(told_now) == [("A1", "six seven eight nine ten")]
    assert call.protocol.settled
    assert [entry.item_id for entry in call.protocol.record.entries] == ["U1", "A1"]


def test_a_new_socket_is_told_of_it_as_one_item() -> None:
    call = spoken_call()
    cut_at(call, 1_000)
    undo(call)
    cut_at(call, 1_500)

    events, _ = (call.protocol.hand_over(0), call.protocol.record.seed(lambda start, end: None))[1]

    texts = [e.item.content[0].text for e in events if isinstance(e.item.content, list)]
    assert texts == ["one two three four five six seven"]


@given(cuts=st.lists(st.integers(0, 2_000), min_size=2, max_size=6))
def test_however_often_it_goes_on_each_word_is_told_at_most_once_and_in_order(
    cuts: list[int],
) -> None:
    call = spoken_call()
    record = call.protocol.record
    texts: list[str] = []
    n_truncates = 0
    for ms in sorted(cuts):
        outputs = cut_at(call, ms)
        n_truncates += sum(isinstance(e, wire.ConversationItemTruncate) for e in sent(outputs))
        if not texts:
            texts.append(record.heard_text(record.entries[-1]))
        texts += [text for _, text in told(outputs)]
        undo(call)
    texts += [t for _, t in told(call.protocol.settle(heard(48_000, 48_000, complete=True), 0))]

    assert n_truncates == 1
    assert " ".join(filter(None, texts)) == WORDS
    assert record.heard_text(record.entries[-1]) == WORDS
