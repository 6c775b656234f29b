"""What a new socket is told: the conversation as the user heard it."""

from __future__ import annotations

import pytest

from framepipe.frames import Heard
from framepipe.realtime import events as wire
from framepipe.realtime.conversation_record import REMEMBERED_ITEMS, ConversationRecord
from framepipe.realtime.items import function_output, system_text

WORDS = "one two three four five six seven eight nine ten"


def nothing(start_sample: int, end_sample: int) -> bytes | None:
    return None


def heard(samples: int, *, item_id: str = "A1", complete: bool = False) -> Heard:
    return Heard(
        item_id=item_id,
        content_index=0,
        heard_samples=samples,
        received_samples=48_000,
        final=True,
        complete=complete,
    )


def answered() -> ConversationRecord:
    record = ConversationRecord()
    record.user_said("U1", 100, 200)
    record.user_words("U1", "count to ten")
    record.agent_words("A1", WORDS, whole=True)
    record.agent_audio("A1", 0, 48_000, 24_000)
    record.agent_done("A1")
    return record


def told(record: ConversationRecord) -> list[tuple[str, str]]:
    record.socket_gone()
    seeds, _ = record.seed(nothing)
    found: list[tuple[str, str]] = []
    for seed in seeds:
        item = seed.item
        if isinstance(item.content, list):
            found.append((str(item.role), str(item.content[0].text)))
        else:
            found.append((item.type, str(item.call_id)))
    return found


def test_what_was_heard_to_its_end_is_told_whole() -> None:
    record = answered()
    record.heard(heard(48_000, complete=True))
    assert told(record) == [("user", "count to ten"), ("assistant", WORDS)]


def test_what_was_cut_is_told_to_the_last_whole_word_that_was_heard() -> None:
    record = answered()
    record.heard(heard(24_000))
    assert told(record)[1] == ("assistant", "one two three four five")


def test_what_was_never_heard_is_not_told() -> None:
    record = answered()
    record.heard(heard(0))
    assert told(record) == [("user", "count to ten")]


def test_of_an_answer_that_broke_off_the_received_audio_counts_and_not_the_text() -> None:
    record = ConversationRecord()
    record.agent_words("A1", WORDS, whole=False)
    record.agent_audio("A1", 0, 24_000, 24_000)  # 1 s: 15 characters
    assert told(record) == [("assistant", "one two three")]


def test_the_voices_own_speed_is_learned() -> None:
    record = ConversationRecord()
    for number in range(3):
        record.agent_words(f"A{number}", "x" * 20, whole=True)
        record.agent_audio(f"A{number}", 0, 48_000, 24_000)
        record.agent_done(f"A{number}")
    record.agent_words("B", "aaaa bbbb cccc dddd", whole=False)
    record.agent_audio("B", 0, 24_000, 24_000)
    assert told(record)[-1] == ("assistant", "aaaa bbbb")


def test_speech_without_text_is_told_as_audio_while_it_is_kept_and_counted_when_not() -> None:
    record = ConversationRecord()
    record.user_said("U1", 0, 100)
    record.user_said("U2", 200, 300)
    record.socket_gone()

    seeds, lost = record.seed(lambda start, end: b"\1\2" if start == 200 else None)

    (part,) = seeds[0].item.content or []
    assert (part.type, part.audio) == ("input_audio", wire.encode_audio(b"\1\2"))
    assert (len(seeds), lost) == (1, 1)


def test_items_keep_the_order_of_the_conversation_and_are_named_anew() -> None:
    record = answered()
    record.added(system_item("S1", "be brief"), after="root")
    record.added(system_item("S2", "be kind"), after="U1")
    assert told(record) == [
        ("system", "be brief"),
        ("user", "count to ten"),
        ("system", "be kind"),
        ("assistant", WORDS),
    ]
    first = [entry.wire_id for entry in record.entries]
    told(record)
    second = [entry.wire_id for entry in record.entries]
    assert len({*first, *second}) == 8
    assert record.wire_id("A1") == second[3]


def system_item(item_id: str, text: str) -> wire.Item:
    return wire.Item(type="message", role="system", id=item_id, content=system_text(text).content)


def test_a_call_is_told_with_its_output_and_an_output_never_without_its_call() -> None:
    record = ConversationRecord()
    call = wire.Item(
        type="function_call", id="F1", call_id="c1", name="f", arguments="{}", status="completed"
    )
    record.added(call)
    record.added(wire.Item(type="function_call_output", id="O1", call_id="c1", output="4"))
    record.added(wire.Item(type="function_call_output", id="O2", call_id="gone", output="5"))
    assert told(record) == [("function_call", "c1"), ("function_call_output", "c1")]
    assert function_output("c1", "4").type == "function_call_output"


def test_a_call_that_is_not_whole_is_not_told() -> None:
    record = ConversationRecord()
    record.added(wire.Item(type="function_call", id="F1", call_id="c1", status="incomplete"))
    assert told(record) == []


def test_what_turns_out_to_be_heard_less_is_told_again_in_its_place() -> None:
    record = answered()
    told(record)
    name = record.wire_id("A1")
    record.heard(heard(24_000))

    delete, create = record.corrected("A1")

    assert delete == wire.ConversationItemDelete(item_id=str(name))
    assert isinstance(create, wire.ConversationItemCreate)
    assert create.previous_item_id == record.wire_id("U1")
    assert record.corrected("A1") == []


def test_what_the_service_made_itself_is_not_told_again() -> None:
    record = answered()
    record.heard(heard(24_000))
    assert record.corrected("A1") == []


def test_what_was_deleted_is_forgotten() -> None:
    record = answered()
    record.removed("U1")
    assert told(record) == [("assistant", WORDS)]


def test_an_endless_conversation_is_forgotten_from_its_beginning() -> None:
    record = ConversationRecord()
    for number in range(REMEMBERED_ITEMS + 10):
        record.user_said(f"U{number}", 0, 1)
    assert len(record.entries) == REMEMBERED_ITEMS
    assert record.entries[0].item_id == "U10"


@pytest.mark.parametrize("words", ["", "a", "ab cd", "abcdefgh"])
@pytest.mark.parametrize("samples", [0, 1, 24_000, 47_999, 48_000])
def test_the_heard_text_is_always_a_beginning_that_ends_with_a_word(
    words: str, samples: int
) -> None:
    record = ConversationRecord()
    record.agent_words("A1", words, whole=True)
    record.agent_audio("A1", 0, 48_000, 24_000)
    record.agent_done("A1")
    record.heard(heard(samples))
    (entry,) = record.entries
    text = record.heard_text(entry)
    assert words.startswith(text)
    assert text == "" or text in (words, *words.split(" "))
