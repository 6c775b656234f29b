"""The frames: everything that stages say to one another.

A frame is a frozen value. Its base class says how it travels, and nothing else does:

================  =========  =======  ===============================
base              direction  lane     an interruption
================  =========  =======  ===============================
``Ordered``       down       ordered  never drops it
``Interruptible`` down       ordered  drops it when its turn is cut
``UrgentDown``    down       urgent   passes it by
``UrgentUp``      up         urgent   passes it by
================  =========  =======  ===============================

Derive your own frames from these four in the same way. ``turn`` is always the agent's turn, a
number from the engine; the user's is always called *user turn*.

Three coordinate systems, never mixed:

- *Capture clock*: microphone samples since the call began, at the stream's ``rate_hz``.
- *Item samples*: samples since the start of one content part of one item of the agent.
- *Sink line*: samples of ``AudioOut`` handed to the speaker since the call began.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol

from attrs import evolve as evolve
from attrs import field, frozen

from framepipe.errors import FrameError

NS_PER_S = 1_000_000_000
"""Engine time is integer nanoseconds, so that two drivers agree to the last bit."""

SAMPLE_BYTES = 2
"""All audio inside framepipe is signed 16-bit little-endian."""


class Sound(Protocol):
    """Audio that is not bytes yet: a run-length signal, as simulations use.

    Attributes:
        n_samples: Samples per channel.
    """

    @property
    def n_samples(self) -> int:
        """Samples per channel."""
        ...

    def pcm_bytes(self) -> bytes:
        """The samples, signed 16-bit little-endian, channels interleaved."""
        ...


@frozen(kw_only=True)
class Frame:
    """What all frames have in common.

    Attributes:
        at_ns: Engine time in nanoseconds at which the content came to be; 0 unless the source
            stamped it with ``emit.now_ns()``. Not part of equality; ``evolve`` keeps it.
    """

    at_ns: int = field(default=0, eq=False)


@frozen(kw_only=True)
class Ordered(Frame):
    """Goes down, waits its turn, is never dropped."""


@frozen(kw_only=True)
class Interruptible(Ordered):
    """Goes down in order, and is dropped when its turn is cut.

    Attributes:
        turn: The agent's turn it belongs to, from ``emit.new_turn()``.
    """

    turn: int


@frozen(kw_only=True)
class UrgentDown(Frame):
    """Goes down past everything that waits."""


@frozen(kw_only=True)
class UrgentUp(Frame):
    """Goes up past everything that waits."""


# --- audio ------------------------------------------------------------------------------------


def _check_audio(pcm: bytes | Sound, rate_hz: int, channels: int) -> None:
    if channels not in (1, 2):
        raise FrameError(f"channels is {channels}; audio is mono (1) or stereo (2)")
    if rate_hz <= 0:
        raise FrameError(f"rate_hz is {rate_hz}; it must be positive")
    if isinstance(pcm, bytes) and len(pcm) % (SAMPLE_BYTES * channels):
        raise FrameError(f"{len(pcm)} bytes is not whole {channels}-channel 16-bit samples")


def _n_samples(pcm: bytes | Sound, channels: int) -> int:
    return len(pcm) // (SAMPLE_BYTES * channels) if isinstance(pcm, bytes) else pcm.n_samples


def _pcm_bytes(pcm: bytes | Sound) -> bytes:
    return pcm if isinstance(pcm, bytes) else pcm.pcm_bytes()


@frozen(kw_only=True)
class AudioIn(Ordered):
    """A run of microphone audio, of any length.

    Attributes:
        pcm: Signed 16-bit little-endian samples, channels interleaved;
            ``len(pcm) == 2 * channels * n_samples``. Read it through ``pcm_bytes()``.
        rate_hz: Samples per second in each channel.
        channels: 1 for mono, 2 for stereo.
        start_sample: Position of the first sample on the capture clock. A gap after the frame
            before means that audio was shed or withheld.

    Raises:
        FrameError: ``pcm`` ends in the middle of a sample, or a number makes no sense.
    """

    pcm: bytes | Sound
    rate_hz: int
    channels: int = 1
    start_sample: int = 0

    def __attrs_post_init__(self) -> None:
        _check_audio(self.pcm, self.rate_hz, self.channels)

    @property
    def n_samples(self) -> int:
        """Samples per channel."""
        return _n_samples(self.pcm, self.channels)

    @property
    def duration_ns(self) -> int:
        """Length in nanoseconds, rounded down."""
        return self.n_samples * NS_PER_S // self.rate_hz

    def pcm_bytes(self) -> bytes:
        """The samples, signed 16-bit little-endian, channels interleaved."""
        return _pcm_bytes(self.pcm)


@frozen(kw_only=True)
class AudioOut(Interruptible):
    """A run of the agent's audio.

    Attributes:
        pcm: As in ``AudioIn``.
        rate_hz: Samples per second in each channel.
        channels: 1 for mono, 2 for stereo.
        response_id: The service's response, or ``None`` for local audio.
        item_id: The service's item; ``None`` is local audio such as a fallback clip, which is
            never truncated on the server.
        output_index: Place of the item within its response.
        content_index: Place of the part within its item.
        start_sample: Position of the first sample in the part's own samples.

    Raises:
        FrameError: ``pcm`` ends in the middle of a sample, or a number makes no sense.
    """

    pcm: bytes | Sound
    rate_hz: int
    channels: int = 1
    response_id: str | None = None
    item_id: str | None = None
    output_index: int = 0
    content_index: int = 0
    start_sample: int = 0

    def __attrs_post_init__(self) -> None:
        _check_audio(self.pcm, self.rate_hz, self.channels)

    @property
    def n_samples(self) -> int:
        """Samples per channel."""
        return _n_samples(self.pcm, self.channels)

    @property
    def duration_ns(self) -> int:
        """Length in nanoseconds, rounded down."""
        return self.n_samples * NS_PER_S // self.rate_hz

    def pcm_bytes(self) -> bytes:
        """The samples, signed 16-bit little-endian, channels interleaved."""
        return _pcm_bytes(self.pcm)


@frozen(kw_only=True)
class AudioDone(Interruptible):
    """Nothing more of this part will come, so silence after it is not an underrun.

    Attributes:
        item_id: The item, ``None`` for local audio.
        output_index: Place of the item within its response.
        content_index: Place of the part within its item.
        n_samples: Length of the whole part in its own samples.
    """

    item_id: str | None = None
    output_index: int = 0
    content_index: int = 0
    n_samples: int = 0


# --- words ------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Transcript(Ordered):
    """What somebody said, as text.

    Attributes:
        who: Whose words they are.
        text: A piece if not ``final``, else the whole.
        final: Nothing more of this item will come.
        item_id: The item of the conversation.
        estimate: The text is our guess of what was heard, not the service's word.
        typed: The user typed the words, and waits for an answer.
    """

    who: Literal["user", "agent"]
    text: str
    final: bool
    item_id: str
    estimate: bool = False
    typed: bool = False


@frozen(kw_only=True)
class TextIn(Ordered):
    """Typed words of the user.

    Those that shall be answered come back as a `Transcript` and are a turn of the user like spoken
    ones. They do not silence the agent, unless they take back what it answers.

    Attributes:
        text: The words.
        respond: Whether the agent shall answer now; otherwise they are a note for the model.
    """

    text: str
    respond: bool = True


@frozen(kw_only=True)
class Withdrawn(Interruptible):
    """Nothing of this turn shall be heard that was not: what it answers was no user turn.

    Comes after all audio of the turn. Unlike a cut it leaves older turns alone.
    """


@frozen(kw_only=True)
class TextOut(Interruptible):
    """A piece of a written answer.

    Attributes:
        text: The piece.
        response_id: The service's response.
        item_id: The service's item.
    """

    text: str
    response_id: str
    item_id: str


@frozen(kw_only=True)
class Say(Ordered):
    """The application wants the agent to say this; the model speaks it.

    Attributes:
        text: What to say.
        interruptible: ``False`` for a legal notice that nobody may cut.
    """

    text: str
    interruptible: bool = True


# --- tools, turns, the state of the call ------------------------------------------------------


@frozen(kw_only=True)
class ToolCall(Ordered):
    """The model asks for a tool.

    Attributes:
        call_id: The service's name for this call.
        name: The tool.
        arguments: JSON text.
        turn: The agent's turn that asks for it, where it is known.
        effects: The tool changes something in the world, as far as its declaration says.
    """

    call_id: str
    name: str
    arguments: str
    turn: int | None = None
    effects: bool = False


@frozen(kw_only=True)
class ToolResult(Ordered):
    """What the tool answered.

    Attributes:
        call_id: The call it answers.
        name: The tool.
        output: Text for the model.
        error: Why it failed, or ``None``.
    """

    call_id: str
    name: str
    output: str
    error: str | None = None


@frozen(kw_only=True)
class UserTurn(Ordered):
    """A hypothesis about what the user said in one turn.

    Attributes:
        turn_id: Names the user turn for its whole life.
        revision: Grows with every change.
        state: Where in its life the hypothesis is.
        supersedes: ``turn_id`` of the user turn that this one replaces.
        text: The words so far.
        item_ids: The service's items that make it up.
    """

    turn_id: str
    revision: int
    state: Literal["provisional", "revised", "committed", "revoked"]
    supersedes: str | None = None
    text: str
    item_ids: tuple[str, ...]


@frozen(kw_only=True)
class TurnAmended(Ordered):
    """The user corrects a turn after it was committed: what was done for it may want undoing.

    Attributes:
        turn_id: The committed user turn.
        amended_by: ``turn_id`` of the user turn with the correction.
        old: The words that are taken back; "" if it cannot be said which.
        new: The words in their place; "" if there are none.
        calls: Calls of tools with effects that went ahead for it, oldest first.
    """

    turn_id: str
    amended_by: str
    old: str = ""
    new: str = ""
    calls: tuple[ToolCall, ...] = ()


@frozen(kw_only=True)
class Escalate(Ordered):
    """The agent does not get on with this user: hand over to a person.

    Attributes:
        reason: What went wrong last: "missed", "failed", "no_answer", "offline", "idle".
        attempts: How often it was tried.
    """

    reason: str
    attempts: int


@frozen(kw_only=True)
class Usage(Ordered):
    """What one response cost, in tokens.

    Attributes:
        response_id: The service's response.
        input_text_tokens: Text read.
        input_audio_tokens: Audio read.
        input_cached_tokens: Part of what was read that the service had at hand.
        output_text_tokens: Text written.
        output_audio_tokens: Audio spoken.
    """

    response_id: str
    input_text_tokens: int = 0
    input_audio_tokens: int = 0
    input_cached_tokens: int = 0
    output_text_tokens: int = 0
    output_audio_tokens: int = 0


@frozen(kw_only=True)
class ConnectionState(Ordered):
    """The connection to the service changed.

    Attributes:
        state: What it is now.
        reason: Why, in words for a person.
        transcripts: What the user says comes as text as well; told when it is "open".
    """

    state: Literal["connecting", "open", "reconnecting", "closed"]
    reason: str = ""
    transcripts: bool = False


@frozen(kw_only=True)
class Problem(Ordered):
    """An error that did not end the call.

    Attributes:
        where: The part that met it.
        code: For programs.
        message: For people.
        fatal: The call cannot go on.
        item_id: The item of the conversation that it is about, if it is about one.
    """

    where: str
    code: str
    message: str
    fatal: bool = False
    item_id: str | None = None


@frozen(kw_only=True)
class InterruptionReport(Ordered):
    """The account of one interruption, written when its last figure is known.

    Times are nanoseconds; ``None`` means that it did not happen or is not known.

    Attributes:
        cause: What decided it ("local", "server", "caller", …).
        verdict: How it ended.
        turn: The agent's turn that was muted.
        onset_sample: Start of the user's speech on the capture clock.
        onset_to_mute_ns: From that start to ``Mute``.
        mute_to_verdict_ns: From ``Mute`` to the cut or the resume.
        cancel_to_ack_ns: From ``response.cancel`` to the response's end.
        late_audio_dropped_ms: Audio of the cut turn that still came.
        heard_ms: What the user heard of the audible item.
        received_ms: What had been received of it.
        audio_end_ms: Where the item was truncated on the server.
        words_lost_ms: User speech that never reached the server.
        false_alarm: The agent fell silent for something that was not speech to it.
        wrong_undo: Playback went on although the user was speaking.
    """

    cause: str
    verdict: Literal["cut", "rejected", "undone"]
    turn: int | None = None
    onset_sample: int | None = None
    onset_to_mute_ns: int | None = None
    mute_to_verdict_ns: int | None = None
    cancel_to_ack_ns: int | None = None
    late_audio_dropped_ms: float = 0.0
    heard_ms: float | None = None
    received_ms: float | None = None
    audio_end_ms: int | None = None
    words_lost_ms: float = 0.0
    false_alarm: bool = False
    wrong_undo: bool = False


@frozen(kw_only=True)
class InterruptionTotals(Ordered):
    """What the interruptions of a call come to; the last word about them.

    Attributes:
        cut: Interruptions that stood.
        rejected: The agent fell silent and went on: it was no speech.
        undone: The agent was cut and went on: the words said so.
        wrong_undos: It went on although the user was speaking.
        late_audio_dropped_ms: Audio of cut turns that still came.
        words_lost_ms: User speech that never reached the server.
        longest_onset_to_mute_ns: From the start of the user's speech to ``Mute``, at worst.
        longest_mute_to_verdict_ns: From ``Mute`` to the cut or the resume, at worst.
        longest_cancel_to_ack_ns: From ``response.cancel`` to the response's end, at worst.
    """

    cut: int = 0
    rejected: int = 0
    undone: int = 0
    wrong_undos: int = 0
    late_audio_dropped_ms: float = 0.0
    words_lost_ms: float = 0.0
    longest_onset_to_mute_ns: int = 0
    longest_mute_to_verdict_ns: int = 0
    longest_cancel_to_ack_ns: int = 0


@frozen(kw_only=True)
class End(Ordered):
    """Nothing more will come from above.

    The engine sends it when the first stage is done. It takes no slot in a mailbox and cannot
    be swallowed. A stage may emit it once itself; then the engine sends none.
    """


# --- what the ears say ------------------------------------------------------------------------


@frozen(kw_only=True)
class SpeechStarted(UrgentDown):
    """A detector believes that the user began to speak.

    Attributes:
        source: "local", "server", or a detector's own name.
        onset_sample: Start of the speech on the capture clock.
        item_id: The user item it will become, where the service said so.
    """

    source: str
    onset_sample: int
    item_id: str | None = None


@frozen(kw_only=True)
class SpeechStopped(UrgentDown):
    """A detector believes that the user stopped speaking.

    Attributes:
        source: As in ``SpeechStarted``.
        end_sample: End of the speech on the capture clock.
        item_id: The user item, where the service said so.
    """

    source: str
    end_sample: int
    item_id: str | None = None


@frozen(kw_only=True)
class SpeechConfirmed(UrgentDown):
    """The second stage heard speech.

    Attributes:
        source: The detector.
        onset_sample: Start of the speech on the capture clock.
        probability: 0 to 1.
    """

    source: str
    onset_sample: int
    probability: float


@frozen(kw_only=True)
class SpeechRejected(UrgentDown):
    """The second stage heard no speech: a cough, a door, a keyboard.

    Attributes:
        source: The detector.
        onset_sample: Start of the sound on the capture clock.
        probability: 0 to 1.
    """

    source: str
    onset_sample: int
    probability: float


@frozen(kw_only=True)
class ReplyPending(UrgentDown):
    """A turn was opened for a response; nothing of it is there yet.

    An interruption must be able to cut an answer that cannot be heard yet.

    Attributes:
        turn: The agent's turn.
        interruptible: ``False`` for a legal notice: the user's voice does not cut this turn.
        response_id: The service's response; ``None`` for local audio.
        item_ids: The user items that it answers, oldest first; none for a greeting.
    """

    turn: int
    interruptible: bool = True
    response_id: str | None = None
    item_ids: tuple[str, ...] = ()


@frozen(kw_only=True)
class ReplyReady(UrgentDown):
    """The first sample of a turn is there; comes before the turn's first ``AudioOut``.

    Attributes:
        turn: The agent's turn.
    """

    turn: int


@frozen(kw_only=True)
class Drained(UrgentDown):
    """Everything of a turn was heard.

    Attributes:
        turn: The agent's turn.
    """

    turn: int


# --- what the mouth is told, and tells --------------------------------------------------------


@frozen(kw_only=True)
class Mute(UrgentDown):
    """Speaker: be silent at once, and keep what you hold.

    Attributes:
        gain_db: Minus infinity silences; a finite value ducks.
        fade_ms: Length of the fade out. 5 to 12 ms click on no loudspeaker (promise P1).
    """

    gain_db: float = -math.inf
    fade_ms: int = 8


@frozen(kw_only=True)
class Unmute(UrgentDown):
    """Speaker: go on with the very next sample.

    Attributes:
        fade_ms: Length of the fade in.
    """

    fade_ms: int = 8


@frozen(kw_only=True)
class Hold(UrgentUp):
    """Playout: hand nothing on; lose nothing.

    Attributes:
        audible: Something is being heard, and falls silent; ``False``: a reply shall not begin.
    """

    audible: bool = True


@frozen(kw_only=True)
class Release(UrgentUp):
    """Playout: go on from the mute point."""


@frozen(kw_only=True)
class Played(UrgentUp):
    """The speaker's report. Positions are on the sink line.

    Attributes:
        handed_samples: ``AudioOut`` samples taken since the call began.
        played_samples: Every sample before this one was heard, or was thrown away by a cut.
        rate_hz: Samples per second of that line, as the frames had it.
        level_dbfs: Loudness of what is being heard.
        mute_point: The first sample that was replaced by silence, while muted.
        final: The speaker will report no more.
    """

    handed_samples: int
    played_samples: int
    rate_hz: int
    level_dbfs: float = -math.inf
    mute_point: int | None = None
    final: bool = False


@frozen(kw_only=True)
class EchoReference(UrgentUp):
    """What is heard from a loudspeaker, which the microphone hears as well.

    Made by ``MicGate``: detectors above it then tell the user's voice from the agent's own.
    ``at_ns`` is the time at which it is heard.

    Attributes:
        level_dbfs: How loud it is; minus infinity is silence.
    """

    level_dbfs: float


@frozen(kw_only=True)
class Heard(UrgentUp):
    """``Playout``'s account of one content part, in the part's own samples.

    Attributes:
        item_id: The item, ``None`` for local audio.
        content_index: Place of the part within its item.
        heard_samples: What reached the user's ear.
        received_samples: What had come from the service.
        final: The account is settled; it will not be corrected.
        rate_hz: Samples per second of the part.
        complete: All of the part was received and heard (promise P2: never truncate it).
    """

    item_id: str | None
    content_index: int
    heard_samples: int
    received_samples: int
    final: bool
    rate_hz: int = 24_000
    complete: bool = False


@frozen(kw_only=True)
class Interrupt(UrgentUp):
    """Cut the agent: told to every stage once, from the last to the first (promise G3).

    Attributes:
        turn: Everything up to this turn is cut; ``None`` is the newest that was opened.
        onset_sample: Start of the interrupting speech on the capture clock.
        cause: Who decided.
        mute_point: First sample of the sink line that was not heard; the speaker fills it in.
        heard: What was heard of which part; ``Playout`` fills it in.
    """

    turn: int | None = None
    onset_sample: int | None = None
    cause: str = "caller"
    mute_point: int | None = None
    heard: tuple[Heard, ...] = ()


@frozen(kw_only=True)
class Swallow(UrgentUp):
    """Cancel and delete the response to this user item, and the item.

    Attributes:
        item_id: The user item.
    """

    item_id: str


@frozen(kw_only=True)
class Revoke(UrgentUp):
    """A user turn is void: all that was said and begun because of it is taken back.

    Its responses are cancelled and silenced, what was never heard of them is deleted, and tool
    calls that run or wait are withdrawn. The user's items stay: they were said.

    Attributes:
        item_ids: The user items of the turn.
        hint: A word to the model of what became of them, as a system item; "": none.
        respond: They shall be answered again, once. ``False``: the user goes on speaking, and
            what follows is answered.
    """

    item_ids: tuple[str, ...]
    hint: str = ""
    respond: bool = True


@frozen(kw_only=True)
class Undo(UrgentUp):
    """The parked remainder of the cut turn goes on, as a new turn."""


@frozen(kw_only=True)
class DropParked(UrgentUp):
    """The parked remainder of the cut turn will not be wanted."""


@frozen(kw_only=True)
class GuardTools(UrgentUp):
    """From here on a tool with effects waits for `Proceed`: somebody below commits turns."""


@frozen(kw_only=True)
class Proceed(UrgentUp):
    """A waiting call of a tool with effects may go ahead: its user turn is committed.

    Attributes:
        call_id: The call.
    """

    call_id: str


@frozen(kw_only=True)
class Speak(UrgentUp):
    """The model shall say this: as `Say`, from a stage below it.

    Attributes:
        text: What to say.
    """

    text: str
