"""The account of each interruption, put together from facts that arrive one by one.

An account is opened when the agent falls silent (`held`) or is cut without that, and is closed
by a `released` (it was no speech: the verdict is "rejected") or a `cut`. After a cut it stays
open until every cancelled response has ended and every truncate was sent, because only then are
the late audio and the acknowledgement known; and, where the words have a say, until they have
had it: an undo makes the verdict "undone", and when what is parked is dropped the cut stands.
Times come in as arguments; a microphone sample becomes a time through the stamp of the ``AudioIn``
that holds it.

Sans-IO: facts in, finished `InterruptionReport` frames out.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Literal, TypeAlias

from attrs import define, evolve, field, frozen

from framepipe.frames import (
    NS_PER_S,
    AudioIn,
    Heard,
    Interrupt,
    InterruptionReport,
    InterruptionTotals,
    SpeechStarted,
)

MAX_OPEN: Final = 8
"""Cuts that may wait for their last figure; an older one is reported as far as it is known."""

_GAPS_KEPT: Final = 32

_Verdict: TypeAlias = Literal["cut", "rejected", "undone"]


@define
class _Account:
    """One interruption, as far as it is known."""

    cause: str
    turn: int | None
    onset_sample: int | None
    muted_ns: int | None
    onset_to_mute_ns: int | None
    verdict: _Verdict = "cut"
    verdict_ns: int | None = None
    cancelled_ns: dict[str, int] = field(factory=dict[str, int])
    cancel_to_ack_ns: int | None = None
    late_ms: float = 0.0
    audible: Heard | None = None
    audio_end_ms: int | None = None
    unsettled: set[tuple[str | None, int]] = field(factory=set[tuple[str | None, int]])
    is_parked: bool = False
    wrong_undo: bool = False


@frozen
class _Resume:
    """The agent went on after an interruption that was taken back."""

    onset_sample: int | None
    at_ns: int


class InterruptionLog:
    """Writes an `InterruptionReport` for every time the agent fell silent for the user.

    Attributes:
        totals: What they come to so far.
    """

    def __init__(self) -> None:
        self.totals = InterruptionTotals()
        self._clock: tuple[int, int, int] | None = None
        self._sent_until: int | None = None
        self._gaps: deque[tuple[int, int]] = deque(maxlen=_GAPS_KEPT)
        self._onset: SpeechStarted | None = None
        self._muted: _Account | None = None
        self._resumed: _Resume | None = None
        self._open: deque[_Account] = deque()

    # --- the user -------------------------------------------------------------------------------

    def audio_in(self, frame: AudioIn) -> None:
        """Microphone audio; ``at_ns`` is the time of its last sample, 0 when not known."""
        if frame.at_ns:
            end_sample = frame.start_sample + frame.n_samples
            self._clock = (end_sample, frame.at_ns, frame.rate_hz)

    def audio_sent(self, start_sample: int, n_samples: int) -> None:
        """Microphone audio goes to the server. What was skipped before it never will."""
        until = self._sent_until
        if until is not None and start_sample > until:
            self._gaps.append((until, start_sample))
        self._sent_until = max(start_sample + n_samples, until or 0)

    def speech_started(self, frame: SpeechStarted) -> None:
        """Some detector heard the user; the first after the last verdict is the cause."""
        if self._muted is None:
            self._onset = frame

    # --- the agent ------------------------------------------------------------------------------

    def held(self, turn: int | None, at_ns: int) -> None:
        """The agent fell silent.

        Args:
            turn: The newest turn of the agent.
            at_ns: When.
        """
        if self._muted is not None:
            return
        onset = self._onset
        onset_sample = None if onset is None else onset.onset_sample
        self._muted = _Account(
            cause="unknown" if onset is None else onset.source,
            turn=turn,
            onset_sample=onset_sample,
            muted_ns=at_ns,
            onset_to_mute_ns=self._since(onset_sample, at_ns),
        )

    def released(self, at_ns: int) -> list[InterruptionReport]:
        """The agent goes on: it was no speech."""
        account, self._muted = self._muted, None
        self._onset = None
        if account is None:
            return []
        account.verdict, account.verdict_ns = "rejected", at_ns
        self._resumed = _Resume(account.onset_sample, at_ns)
        return [self._report(account)]

    def cut(self, interrupt: Interrupt, at_ns: int) -> None:
        """The agent was cut. What is sent because of it is told by the methods below."""
        account, self._muted = self._muted, None
        self._onset = None
        if account is None:  # nothing was audible, or somebody pressed a button
            account = _Account(
                cause=interrupt.cause,
                turn=interrupt.turn,
                onset_sample=interrupt.onset_sample,
                muted_ns=at_ns,
                onset_to_mute_ns=self._since(interrupt.onset_sample, at_ns),
            )
        account.turn = interrupt.turn if interrupt.turn is not None else account.turn
        account.cause = interrupt.cause  # what decided, not what was first to mute
        account.verdict_ns = at_ns
        account.wrong_undo = self._was_speaking(interrupt.onset_sample)
        account.audible = _audible(interrupt.heard)
        # Speech over something heard: the words may undo it. A button is final.
        was_heard = account.audible is not None and account.audible.heard_samples > 0
        account.is_parked = was_heard and interrupt.onset_sample is not None
        account.unsettled = {
            (heard.item_id, heard.content_index)
            for heard in interrupt.heard
            if not heard.final and not heard.complete
        }
        self._open.append(account)

    def undone(self, at_ns: int) -> None:
        """What was cut last goes on: the words were none."""
        for account in reversed(self._open):
            if account.is_parked:
                account.verdict, account.is_parked = "undone", False
                self._resumed = _Resume(account.onset_sample, at_ns)
                return

    def dropped(self) -> None:
        """What was cut will not go on."""
        for account in self._open:
            account.is_parked = False

    # --- the service ----------------------------------------------------------------------------

    def cancel_sent(self, response_id: str, at_ns: int) -> None:
        """A response of the newest cut was cancelled."""
        if self._open:
            self._open[-1].cancelled_ns[response_id] = at_ns

    def truncate_sent(self, item_id: str, content_index: int, audio_end_ms: int) -> None:
        """A part was truncated on the server."""
        for account in self._open:
            account.unsettled.discard((item_id, content_index))
            heard = account.audible
            if heard is not None and (heard.item_id, heard.content_index) == (
                item_id,
                content_index,
            ):
                account.audio_end_ms = audio_end_ms

    def settled(self, heard: Heard) -> None:
        """A position that was an estimate at the cut is known now."""
        key = (heard.item_id, heard.content_index)
        for account in self._open:
            if key in account.unsettled:
                account.unsettled.discard(key)
                audible = account.audible
                if audible is not None and (audible.item_id, audible.content_index) == key:
                    account.audible = heard

    def response_ended(self, response_id: str, late_ms: float, at_ns: int) -> None:
        """A response ended; ``late_ms`` of its audio came after it was cut."""
        for account in self._open:
            sent_ns = account.cancelled_ns.pop(response_id, None)
            if sent_ns is not None:
                took_ns = at_ns - sent_ns
                account.cancel_to_ack_ns = max(account.cancel_to_ack_ns or 0, took_ns)
                account.late_ms += late_ms

    def connection_lost(self) -> None:
        """No cancelled response will say any more that it has ended."""
        for account in self._open:
            account.cancelled_ns.clear()

    # --- out ------------------------------------------------------------------------------------

    def finished(self) -> list[InterruptionReport]:
        """The accounts whose last figure is known, oldest first; each is given once."""
        done: list[_Account] = []
        for account in list(self._open):
            waits = bool(account.cancelled_ns or account.unsettled or account.is_parked)
            if not waits or len(self._open) > MAX_OPEN:
                self._open.remove(account)
                done.append(account)
        return [self._report(account) for account in done]

    def close(self) -> list[InterruptionReport]:
        """The call is over: what is open is reported as far as it is known."""
        reports = [self._report(account) for account in self._open]
        self._open.clear()
        self._muted = None
        return reports

    # --- inside ---------------------------------------------------------------------------------

    def _since(self, sample: int | None, at_ns: int) -> int | None:
        """Nanoseconds from a microphone sample to a time."""
        if sample is None or self._clock is None:
            return None
        end_sample, end_ns, rate_hz = self._clock
        return at_ns - (end_ns - (end_sample - sample) * NS_PER_S // rate_hz)

    def _was_speaking(self, onset_sample: int | None) -> bool:
        """Whether speech with this onset was on when the agent last went on."""
        resumed = self._resumed
        if resumed is None or onset_sample is None:
            return False
        since_ns = self._since(onset_sample, resumed.at_ns)
        is_same = resumed.onset_sample is not None and onset_sample <= resumed.onset_sample
        return is_same or (since_ns is not None and since_ns > 0)

    def _words_lost_ms(self, onset_sample: int | None) -> float:
        if onset_sample is None or self._clock is None:
            return 0.0
        lost = sum(max(0, end - max(start, onset_sample)) for start, end in self._gaps)
        return lost * 1_000 / self._clock[2]

    def _report(self, account: _Account) -> InterruptionReport:
        heard = account.audible
        mute_to_verdict_ns = None
        if account.verdict_ns is not None and account.muted_ns is not None:
            mute_to_verdict_ns = account.verdict_ns - account.muted_ns
        report = InterruptionReport(
            cause=account.cause,
            verdict=account.verdict,
            turn=account.turn,
            onset_sample=account.onset_sample,
            onset_to_mute_ns=account.onset_to_mute_ns,
            mute_to_verdict_ns=mute_to_verdict_ns,
            cancel_to_ack_ns=account.cancel_to_ack_ns,
            late_audio_dropped_ms=account.late_ms,
            heard_ms=None if heard is None else heard.heard_samples * 1_000 / heard.rate_hz,
            received_ms=None if heard is None else heard.received_samples * 1_000 / heard.rate_hz,
            audio_end_ms=account.audio_end_ms,
            words_lost_ms=self._words_lost_ms(account.onset_sample),
            false_alarm=account.verdict != "cut",
            wrong_undo=account.wrong_undo,
            at_ns=account.verdict_ns or 0,
        )
        self._add_up(report)
        return report

    def _add_up(self, report: InterruptionReport) -> None:
        was = self.totals
        self.totals = evolve(
            was,
            cut=was.cut + (report.verdict == "cut"),
            rejected=was.rejected + (report.verdict == "rejected"),
            undone=was.undone + (report.verdict == "undone"),
            wrong_undos=was.wrong_undos + report.wrong_undo,
            late_audio_dropped_ms=was.late_audio_dropped_ms + report.late_audio_dropped_ms,
            words_lost_ms=was.words_lost_ms + report.words_lost_ms,
            longest_onset_to_mute_ns=max(
                was.longest_onset_to_mute_ns, report.onset_to_mute_ns or 0
            ),
            longest_mute_to_verdict_ns=max(
                was.longest_mute_to_verdict_ns, report.mute_to_verdict_ns or 0
            ),
            longest_cancel_to_ack_ns=max(
                was.longest_cancel_to_ack_ns, report.cancel_to_ack_ns or 0
            ),
        )


def _audible(heard: tuple[Heard, ...]) -> Heard | None:
    """The part that the cut went through: the one begun and not finished, else the next."""
    unfinished = [one for one in heard if not one.complete]
    begun = [one for one in unfinished if one.heard_samples > 0]
    return next(iter(begun or unfinished), None)
