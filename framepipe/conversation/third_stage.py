"""The third stage: what the text of an interruption says about it.

Takes the transcripts that pass and gives a `TranscriptVerdict` for each item of the user. What
it means depends on what the agent had said: after a question, "yeah" is an answer. The agent's
words run far ahead of its voice, so only the text *heard* counts; it comes as a `Transcript` of the
agent that is an estimate, whenever the agent was silenced.

Sans-IO: frames in, verdicts out.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

from framepipe.conversation.backchannels import Backchannels, Meaning
from framepipe.frames import Problem, Transcript

QUESTION_CHARACTERS: Final = 15
"""A question counts while no more than this has been heard after it: one second of speech, which a
listener needs to begin to answer and an agent that goes on uses to speak on."""

NO_TRANSCRIPT: Final = "transcription_failed"
"""Code of the `Problem` that says that an item's text will not come."""

_QUESTION: Final = re.compile(r"[?\uff1f\u061f][^?\uff1f\u061f]*$")


@frozen
class TranscriptVerdict:
    """What a transcript of user speech means for the agent's voice.

    Attributes:
        item_id: The user item.
        meaning: What it says; ``None``: there is no text and none will come.
        after_question: What the agent was heard to say ends in a question.
    """

    item_id: str
    meaning: Meaning | None
    after_question: bool = False


class ThirdStage:
    """Gives a verdict on each transcript of the user.

    Args:
        backchannels: Tells them from words.
    """

    def __init__(self, backchannels: Backchannels) -> None:
        self._backchannels = backchannels
        self._heard = ""

    def receive(self, frame: Transcript | Problem) -> TranscriptVerdict | None:
        """Take a frame; most of them give no verdict."""
        if isinstance(frame, Problem):
            if frame.code == NO_TRANSCRIPT and frame.item_id is not None:
                return self._verdict(frame.item_id, None)
        elif frame.who == "agent":
            if frame.estimate:
                self._heard = frame.text
        elif frame.final and not frame.typed:
            return self._verdict(frame.item_id, self._backchannels.meaning(frame.text))
        return None

    def _verdict(self, item_id: str, meaning: Meaning | None) -> TranscriptVerdict:
        return TranscriptVerdict(item_id, meaning, after_question=is_question(self._heard))


def is_question(heard: str) -> bool:
    """Whether a text ends in a question, or did so a moment ago."""
    last = _QUESTION.search(heard)
    return last is not None and len(heard) - last.start() - 1 <= QUESTION_CHARACTERS
