"""The user's side of a session of the embedded server: audio comes in, turns come out.

It runs on *audio time*: milliseconds appended in this session, whenever they arrived. What was
appended is kept until nothing can need it any more. A segment of speech that ends, a commit by
hand, and a user who says nothing for too long each become a user item; whoever owns this is told
by two calls that speech began and that a turn wants its answer.

Sans-IO. What a client asks for and cannot have raises `RefusedError`.

Source: realtime reference, sections 1.3 and 3.2.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from framepipe.realtime.answer_plan import word_pieces
from framepipe.realtime.events import (
    ConversationItemAdded,
    ConversationItemDone,
    InputAudioBufferAppend,
    InputAudioBufferCleared,
    InputAudioBufferCommitted,
    InputAudioBufferSpeechStarted,
    InputAudioBufferSpeechStopped,
    InputAudioBufferTimeoutTriggered,
    InputAudioTranscriptionCompleted,
    InputAudioTranscriptionDelta,
    Item,
    Part,
    Session,
    TranscriptionUsage,
)
from framepipe.realtime.mind import Ears
from framepipe.realtime.refusals import buffer_too_small, invalid_value
from framepipe.realtime.semantic_end import silence_ms
from framepipe.realtime.server_agenda import MS, Agenda, padding
from framepipe.realtime.server_audio import Incoming
from framepipe.realtime.server_conversation import (
    BYTES_PER_MS,
    Held,
    ServerConversation,
    audio_bytes,
)
from framepipe.realtime.server_session import (
    idle_timeout_ms,
    input_format,
    turn_detection,
    vad_settings,
    wants_transcripts,
)
from framepipe.realtime.server_vad import (
    WINDOW_SAMPLES,
    SegmentClosed,
    SegmentOpened,
    ServerVad,
    SpeechDetector,
)

_LEAST_COMMIT_MS = 100
"""The service refuses to commit less."""

_LONGEST_APPEND = 20 * 1024 * 1024
"""Characters of base64 in one append: the service's 15 MiB of audio."""

_KEPT_BEFORE_SPEECH_MS = 500
"""Silence kept beyond the prefix while the server waits for speech."""

_LONGEST_BUFFER_MS = 600_000
"""Uncommitted audio kept when turns are the client's affair: ten minutes, then the oldest goes."""

_UNHEARD = "[speech]"
"""Transcript of what the ears could not make out."""

_TRANSCRIPT_AFTER_MS = (120, 300)
"""From the commit to the first transcript event: in recordings it lags the response slightly."""

_TRANSCRIPT_WORD_MS = 40

_IDLE_PROMPT = "The user has not spoken for a while. Ask whether they are still there."
"""What the service tells its model when the idle timeout fires; the wording is ours."""


class ServerHearing:
    """Finds the user's turns in the audio that a client appends.

    Args:
        agenda: The session's.
        conversation: Where the user's items go.
        detector: Judges the audio, 32 ms at a time.
        ears: The user's words.
        session: The settings.
        speech_began: Called when speech begins.
        turn_ended: Called when a turn has ended that the service is to answer.
    """

    def __init__(
        self,
        agenda: Agenda,
        conversation: ServerConversation,
        detector: SpeechDetector,
        ears: Ears | None,
        session: Session,
        *,
        speech_began: Callable[[], None],
        turn_ended: Callable[[], None],
    ) -> None:
        self._agenda = agenda
        self._conversation = conversation
        self._ears = ears
        self._session = session
        self._speech_began = speech_began
        self._turn_ended = turn_ended
        self._vad = ServerVad(detector, self._silence_wanted_ms)
        self._vad.configure(vad_settings(session))
        self._incoming = Incoming(input_format(session))
        self._buffer = bytearray()
        self._buffer_start = 0  # sample of the session at which the buffer begins
        self._committed_until = 0  # sample up to which audio was committed or cleared
        self._segment_item_id = ""
        self._segment_start = 0
        self._idle_since: int | None = None  # sample at which the wait for the user began
        self._waits = 0
        self._audio_items = 0

    @property
    def appended_ms(self) -> float:
        """Audio appended in this session, in milliseconds: the clock of the speech events."""
        return self._vad.appended_samples * 1000 / 24_000

    @property
    def coding(self) -> str:
        """How the client's audio is coded."""
        return self._incoming.kind

    def configure(self, session: Session) -> None:
        """Go by these settings from now on."""
        self._session = session
        self._vad.configure(vad_settings(session))
        if self._incoming.kind != input_format(session):
            self._incoming = Incoming(input_format(session))

    def append(self, event: InputAudioBufferAppend) -> None:
        """Take audio.

        Raises:
            RefusedError: It is too long, or no audio.
        """
        if len(event.audio) > _LONGEST_APPEND:
            raise invalid_value(
                f"Invalid 'audio': {len(event.audio)} characters of base64. Expected at most "
                "15 MiB of audio.",
                "audio",
            )
        pcm = self._incoming.pcm(audio_bytes(event.audio, "audio", self._incoming.sample_bytes))
        self._buffer += pcm
        for edge in self._vad.receive(pcm):
            match edge:
                case SegmentOpened(detected_sample=detected):
                    self._speech_started(detected)
                case SegmentClosed(end_sample=end):
                    self._speech_stopped(end)
        self._trim()

    def _speech_started(self, detected_sample: int) -> None:
        turns = turn_detection(self._session)
        settings = self._vad.settings
        if turns is None or settings is None:
            return
        self.stop_waiting()
        self._segment_item_id = self._agenda.new_id("item")
        self._segment_start = max(
            self._buffer_start, detected_sample - settings.prefix_padding_ms * 24
        )
        self._agenda.send(
            InputAudioBufferSpeechStarted(
                audio_start_ms=max(0, detected_sample // 24 - settings.prefix_padding_ms),
                item_id=self._segment_item_id,
            )
        )
        if turns.interrupt_response is True:
            self._speech_began()

    def _speech_stopped(self, end_sample: int) -> None:
        turns = turn_detection(self._session)
        item_id = self._segment_item_id
        self._agenda.send(
            InputAudioBufferSpeechStopped(audio_end_ms=end_sample // 24, item_id=item_id)
        )
        self._commit(item_id, self._segment_start, end_sample)
        if turns is not None and turns.create_response is True:
            self._turn_ended()

    def _silence_wanted_ms(self, silent_sample: int) -> int:
        """By the words of the segment that is open, as far as the ears make them out."""
        turns = turn_detection(self._session)
        eagerness = "auto" if turns is None else str(turns.eagerness)
        start = 2 * (self._segment_start - self._buffer_start)
        spoken = bytes(self._buffer[start : 2 * (silent_sample - self._buffer_start)])
        words = self._ears(self._audio_items, spoken) if self._ears else None
        return silence_ms(words, eagerness)

    def commit(self) -> None:
        """The client says that a turn has ended.

        Raises:
            RefusedError: There is too little audio.
        """
        start = max(self._buffer_start, self._committed_until)
        buffered_ms = (self._vad.appended_samples - start) / 24
        if buffered_ms < _LEAST_COMMIT_MS:
            raise buffer_too_small(buffered_ms)
        self._vad.forget()
        self._commit(self._agenda.new_id("item"), start, self._vad.appended_samples)
        self._trim()

    def _commit(
        self, item_id: str, start_sample: int, end_sample: int, *, silent: bool = False
    ) -> None:
        pcm = bytes(
            self._buffer[
                2 * (start_sample - self._buffer_start) : 2 * (end_sample - self._buffer_start)
            ]
        )
        self._committed_until = end_sample
        item = Item(
            id=item_id,
            type="message",
            status="completed",
            role="user",
            content=[Part(type="input_audio", transcript=None)],
        )
        held = Held(item, pcm=pcm, audio_bytes=len(pcm))
        if silent:
            held.heard = ""
        else:
            held.heard = self._ears(self._audio_items, pcm) if self._ears else None
            self._audio_items += 1
        previous = self._conversation.append(held)
        self._agenda.send(InputAudioBufferCommitted(previous_item_id=previous, item_id=item_id))
        self._agenda.send(ConversationItemAdded(previous_item_id=previous, item=item))
        self._agenda.send(ConversationItemDone(previous_item_id=previous, item=item))
        if wants_transcripts(self._session):
            self._transcribe(held)

    def _transcribe(self, held: Held) -> None:
        text = _UNHEARD if held.heard is None else held.heard
        at_ns = self._agenda.now_ns + self._agenda.drawn_ns(_TRANSCRIPT_AFTER_MS)
        for word in word_pieces(text):
            delta = InputAudioTranscriptionDelta(
                item_id=held.item_id, delta=word, obfuscation=padding(word)
            )
            self._agenda.send_later(at_ns, delta)
            at_ns += _TRANSCRIPT_WORD_MS * MS

        def complete() -> None:
            if isinstance(held.item.content, list):
                part = replace(held.item.content[0], transcript=text)
                held.item = replace(held.item, content=[part])
            self._agenda.send(
                InputAudioTranscriptionCompleted(
                    item_id=held.item_id,
                    transcript=text,
                    usage=TranscriptionUsage(
                        type="duration", seconds=-(-held.audio_bytes // (1000 * BYTES_PER_MS))
                    ),
                )
            )

        self._agenda.plan(at_ns + _TRANSCRIPT_WORD_MS * MS, complete)

    def clear(self) -> None:
        """Forget what was not committed."""
        self._vad.forget()
        self._buffer.clear()
        self._buffer_start = self._committed_until = self._vad.appended_samples
        self._agenda.send(InputAudioBufferCleared())

    def _trim(self) -> None:
        """Let go of audio that nothing can need any more."""
        keep_from = self._vad.appended_samples - _LONGEST_BUFFER_MS * 24
        if self._vad.settings is not None and not self._vad.speaking:
            kept_ms = self._vad.settings.prefix_padding_ms + _KEPT_BEFORE_SPEECH_MS
            keep_from = max(keep_from, self._vad.appended_samples - kept_ms * 24)
            if self._idle_since is not None:
                keep_from = min(keep_from, self._idle_since)
        if keep_from > self._buffer_start:
            del self._buffer[: 2 * (keep_from - self._buffer_start)]
            self._buffer_start = keep_from
            self._segment_start = max(self._segment_start, keep_from)

    # --- the user who says nothing ----------------------------------------------------------

    def wait_for_user(self, heard_ms: int) -> None:
        """Begin to wait when the answer has been played, which the server can only guess."""
        self.stop_waiting()
        timeout_ms = idle_timeout_ms(self._session)
        if timeout_ms is None:
            return
        wait = self._waits

        def begin() -> None:
            if wait == self._waits:
                self._idle_since = self._judged_samples
                self._agenda.plan(self._agenda.now_ns + timeout_ms * MS, end)

        def end() -> None:
            if wait == self._waits and self._idle_since is not None:
                self._speak_up(self._idle_since, self._judged_samples)

        self._agenda.plan(self._agenda.now_ns + heard_ms * MS, begin)

    def stop_waiting(self) -> None:
        """Something happens: nobody is idle."""
        self._waits += 1
        self._idle_since = None

    @property
    def _judged_samples(self) -> int:
        return self._vad.appended_samples - self._vad.appended_samples % WINDOW_SAMPLES

    def _speak_up(self, start_sample: int, end_sample: int) -> None:
        """The idle timeout: a turn of silence, and an answer to it."""
        start_sample = max(start_sample, self._buffer_start)
        if end_sample <= start_sample:
            return  # a client that sends no audio is not idle, it is absent
        item_id = self._agenda.new_id("item")
        self._agenda.send(
            InputAudioBufferTimeoutTriggered(
                item_id=item_id, audio_start_ms=start_sample // 24, audio_end_ms=end_sample // 24
            )
        )
        prompt = Item(
            id=self._agenda.new_id("item"),
            type="message",
            status="completed",
            role="system",
            content=[Part(type="input_text", text=_IDLE_PROMPT)],
        )
        previous = self._conversation.append(Held(prompt))
        self._agenda.send(ConversationItemAdded(previous_item_id=previous, item=prompt))
        self._agenda.send(ConversationItemDone(previous_item_id=previous, item=prompt))
        self._commit(item_id, start_sample, end_sample, silent=True)
        self._trim()
        self._turn_ended()
