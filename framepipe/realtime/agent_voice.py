"""What the agent says, as frames: sound, written words, and the words of the sound.

Of a response that was killed nothing comes out, whatever still comes in. Each part is closed
once, so that whoever plays it can tell an end from a pause.

Sans-IO.
"""

from __future__ import annotations

from framepipe.errors import LocalProtocolError
from framepipe.frames import AudioDone, AudioOut, TextOut, Transcript
from framepipe.realtime import events as wire
from framepipe.realtime.agent_parts import AgentPart, AgentParts
from framepipe.realtime.answers import Answer, AnswerBook
from framepipe.realtime.beside import BesideBook
from framepipe.realtime.client_outputs import Output, problem
from framepipe.realtime.conversation_record import ConversationRecord
from framepipe.realtime.events import MalformedEventError


class AgentVoice:
    """Turns the deltas of responses into frames.

    Args:
        book: Knows which responses may be heard.
        parts: Keeps the account of what came.
        record: Remembers what was said.
        beside: Collects what is said beside the conversation.
    """

    def __init__(
        self, book: AnswerBook, parts: AgentParts, record: ConversationRecord, beside: BesideBook
    ) -> None:
        self._book = book
        self._parts = parts
        self._record = record
        self._beside = beside

    def audio(self, event: wire.ResponseOutputAudioDelta, at_ns: int) -> list[Output]:
        """A piece of its sound."""
        answer = self._book.answer(event.response_id)
        if answer is None or answer.done:
            return []
        part = self._part(event)
        start_sample = part.received
        try:
            pcm = self._parts.take(part, event.delta, wanted=not answer.killed)
        except MalformedEventError as error:
            return [problem(error.code, str(error), at_ns)]
        if not pcm:
            return []
        self._record.agent_audio(
            part.item_id, part.content_index, part.received, self._parts.rate_hz
        )
        return [
            AudioOut(
                pcm=pcm,
                rate_hz=self._parts.rate_hz,
                turn=_turn(answer),
                response_id=event.response_id,
                item_id=event.item_id,
                output_index=event.output_index,
                content_index=event.content_index,
                start_sample=start_sample,
                at_ns=at_ns,
            )
        ]

    def text(self, event: wire.ResponseOutputTextDelta, at_ns: int) -> list[Output]:
        """A piece of what it writes."""
        answer = self._book.answer(event.response_id)
        if answer is None:
            self._beside.said(event.response_id, event.delta)
        if answer is None or answer.done or answer.killed:
            return []
        part = self._part(event)
        part.shown = True
        self._record.agent_words(event.item_id, event.delta, whole=False)
        return [
            TextOut(
                turn=_turn(answer),
                text=event.delta,
                response_id=event.response_id,
                item_id=event.item_id,
                at_ns=at_ns,
            )
        ]

    def words(
        self,
        event: wire.ResponseOutputAudioTranscriptDelta | wire.ResponseOutputAudioTranscriptDone,
        text: str,
        *,
        final: bool,
        at_ns: int,
    ) -> list[Output]:
        """A piece of the words that it speaks, or all of them."""
        answer = self._book.answer(event.response_id)
        if answer is None and not final:
            self._beside.said(event.response_id, text)
        if answer is None or answer.done or answer.killed:
            return []
        self._record.agent_words(event.item_id, text, whole=final)
        return [Transcript(who="agent", text=text, final=final, item_id=event.item_id, at_ns=at_ns)]

    def close(self, answer: Answer, part: AgentPart, at_ns: int) -> list[Output]:
        """Nothing more will come of a part; of one that was killed, nobody is told."""
        if part.closed or part.response_id != answer.response_id:
            return []
        part.closed = True
        if answer.turn is None or answer.killed:
            return []
        return [
            AudioDone(
                turn=answer.turn,
                item_id=part.item_id,
                output_index=part.output_index,
                content_index=part.content_index,
                n_samples=part.received,
                at_ns=at_ns,
            )
        ]

    def close_all(self, answer: Answer, at_ns: int) -> list[Output]:
        """Nothing more will come of a response: whoever waits for it must know."""
        parts = self._parts.of_response(answer.response_id)
        spoken = [part for part in parts if not part.shown]
        outputs: list[Output] = []
        for part in spoken:
            outputs += self.close(answer, part, at_ns)
        if not spoken and answer.turn is not None:
            outputs.append(AudioDone(turn=answer.turn, at_ns=at_ns))
        return outputs

    def _part(
        self, event: wire.ResponseOutputAudioDelta | wire.ResponseOutputTextDelta
    ) -> AgentPart:
        return self._parts.part(
            event.response_id, event.item_id, event.output_index, event.content_index
        )


def _turn(answer: Answer) -> int:
    if answer.turn is None:
        raise LocalProtocolError(
            f"OpenTurn({answer.response_id!r}) was not answered; call turn_opened first"
        )
    return answer.turn
