"""The tests of a processor: by hand, in virtual time, by the conformance suite, with a machine.

Run it with pytest or as a program. You will see which tests passed, and what the suite says of a
processor that forgets its last word.
"""

from collections.abc import Sequence

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from framepipe import TextIn, evolve, on
from framepipe.testing import Step, Wait, assert_same_frames, collect
from framepipe.testing.conformance import ConformanceError, check_processor
from framepipe.testing.machine import Draw, PipelineMachine
from framepipe.testing.strategies import schedules, text_in_frames


class Translator:
    """Translates what is typed; the dictionary takes ``delay_ms``."""

    def __init__(self, delay_ms: int = 40) -> None:
        self.delay_ms = delay_ms

    @on(TextIn)
    async def translate(self, frame: TextIn) -> TextIn:
        await anyio.sleep(self.delay_ms / 1000)
        return evolve(frame, text={"yes": "ja", "no": "nein"}.get(frame.text, frame.text))


class Forgetful:
    """Hands on each word when the next one comes."""

    def __init__(self) -> None:
        self.word: TextIn | None = None

    @on(TextIn)
    def remember(self, frame: TextIn) -> TextIn | list[TextIn]:
        last, self.word = self.word, frame
        return [] if last is None else last


def test_words_are_translated_in_order() -> None:
    left = collect(Translator(), steps=[TextIn(text="yes"), Wait(10), TextIn(text="no")])
    assert_same_frames(left, [TextIn(text="ja"), TextIn(text="nein")])


def test_it_keeps_every_clause() -> None:
    check_processor(Translator, max_examples=10)


@given(schedules(text_in_frames(), max_steps=8))
@settings(max_examples=10, deadline=None)
def test_as_many_words_leave_as_came(steps: tuple[Step, ...]) -> None:
    words = [step for step in steps if isinstance(step, TextIn)]
    left = [frame for frame in collect(Translator(), steps=steps) if isinstance(frame, TextIn)]
    assert len(left) == len(words)


class TranslatorMachine(PipelineMachine):
    """Any delay, and any call."""

    def stages(self, draw: Draw) -> Sequence[object]:
        return [Translator(delay_ms=draw(st.integers(0, 100)))]


TestTranslator = TranslatorMachine.TestCase
TestTranslator.settings = settings(max_examples=10, stateful_step_count=10)


def main() -> None:
    for test in (
        test_words_are_translated_in_order,
        test_it_keeps_every_clause,
        test_as_many_words_leave_as_came,
    ):
        test()
        print("passed:", test.__name__)
    try:
        check_processor(Forgetful)
    except ConformanceError as error:
        print(error)


if __name__ == "__main__":
    main()
