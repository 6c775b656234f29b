"""What the ears said about the user's speech: which stretch of it is which.

The local detector tells of an edge at once, the service of a *speech*, late and with the name of
the item it will become, and the second stage whether it was speech at all. Here they are put
together: the edge that began a speech tells when it began and what the agent was doing then; the
difference is how late the service is; and a speech is confirmed or not.

Sans-IO. Positions are samples of the capture clock, times engine nanoseconds.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from attrs import define, frozen

from framepipe.frames import SpeechStarted, SpeechStopped

REJECT_START_MS: Final = 500
"""Reject deadline until the service's own lateness is known, and with a second stage."""

REJECT_LEAST_MS: Final = 250
"""Shortest reject deadline: a service on the same machine is late by its own detector."""

REJECT_MOST_MS: Final = 1_000
"""Longest reject deadline: a longer silence would be an interruption of its own."""

REJECT_MARGIN_MS: Final = 60
"""Added to the lateness that nine of ten verdicts keep."""

PAIR_NS: Final = 2_000_000_000
"""A service that answers later than this to a local edge answers to something else."""

SHORT_MS: Final = 1_200
"""Longest speech whose answer may wait for the transcript: backchannels are shorter."""

_NS_PER_MS: Final = 1_000_000
_PAIRS_KEPT: Final = 20
_PAIRS_TRUSTED: Final = 5  # fewer may lengthen the deadline, but not shorten it
_SPEECHES_KEPT: Final = 16
_EDGES_KEPT: Final = 16


@frozen
class Edge:
    """The local detector heard something begin.

    Attributes:
        onset_sample: Where.
        at_ns: When it said so.
        over_agent: The agent was audible.
    """

    onset_sample: int
    at_ns: int
    over_agent: bool


@define
class Speech:
    """Speech of the user that the service noticed.

    Attributes:
        item_id: The item it will become.
        onset_sample: Where it began; the local detector's onset, if that heard it as well: the
            service's includes what it put before.
        over_agent: The agent was audible when it began.
        newest_turn: The newest turn that was open then: all its answers are newer.
        end_sample: Where it ended; ``None``: it goes on.
        confirmed: Somebody whose word counts said that it is speech.
    """

    item_id: str
    onset_sample: int
    over_agent: bool
    newest_turn: int
    end_sample: int | None = None
    confirmed: bool = False


class UserSpeech:
    """Keeps what was said about the user's speech of late.

    Args:
        rate_hz: Samples per second of the capture clock.

    Attributes:
        onset_sample: Where the latest speech that the service heard began; ``None``: none yet.
    """

    def __init__(self, rate_hz: int) -> None:
        self.onset_sample: int | None = None
        self._rate_hz = rate_hz
        self._edges: deque[Edge] = deque(maxlen=_EDGES_KEPT)
        self._late_ns: deque[int] = deque(maxlen=_PAIRS_KEPT)
        self._open: Speech | None = None
        self._speeches: dict[str, Speech] = {}
        self._stops: deque[tuple[int, int]] = deque(maxlen=_SPEECHES_KEPT)
        self._yes_ns: int | None = None

    # --- in -------------------------------------------------------------------------------------

    def edge(self, fact: SpeechStarted, at_ns: int, *, over_agent: bool) -> None:
        """The local detector heard something."""
        self._edges.append(Edge(fact.onset_sample, at_ns, over_agent))

    def started(
        self, fact: SpeechStarted, at_ns: int, *, newest_turn: int, over_agent: bool
    ) -> Edge | None:
        """The service heard the user begin.

        Returns:
            The edge with which it began, if the local detector heard it.
        """
        edge = self._edge_of(fact.onset_sample, at_ns)
        self._edges.clear()
        if edge is not None:
            self._late_ns.append(at_ns - edge.at_ns)
        first = Edge(fact.onset_sample, at_ns, over_agent) if edge is None else edge
        self.onset_sample = first.onset_sample
        self._open = Speech(
            item_id=fact.item_id or "",
            onset_sample=first.onset_sample,
            over_agent=first.over_agent,
            newest_turn=newest_turn,
            confirmed=self._yes_ns is not None and self._yes_ns >= first.at_ns,
        )
        if fact.item_id is not None:
            self._speeches[fact.item_id] = self._open
            if len(self._speeches) > _SPEECHES_KEPT:
                del self._speeches[next(iter(self._speeches))]
        return edge

    def stopped(self, fact: SpeechStopped, *, newest_turn: int) -> None:
        """The service heard the user end."""
        end_sample = fact.end_sample
        if self._open is not None:
            # The service's silence is subtracted as it was asked for, which may be too much.
            end_sample = self._open.end_sample = max(end_sample, self._open.onset_sample + 1)
        self._open = None
        self._stops.append((end_sample, newest_turn))

    def confirmed(self, at_ns: int, onset_sample: int | None = None) -> None:
        """Somebody whose word counts says that the user speaks.

        Args:
            at_ns: When.
            onset_sample: Since where; speech that had ended before is none the wiser. ``None``: all
                that nobody has decided about.
        """
        self._yes_ns = at_ns
        for speech in (*self._speeches.values(), *([self._open] if self._open else [])):
            end = speech.end_sample
            if onset_sample is None or end is None or end > onset_sample:
                speech.confirmed = True

    def forget(self) -> None:
        """The service is gone, and with it what it was about to say."""
        self._open = None
        self._speeches.clear()

    # --- what is known --------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """The service hears the user speak."""
        return self._open is not None

    @property
    def is_confirmed(self) -> bool:
        """What the service hears is speech by somebody else's word, too."""
        return self._open is not None and self._open.confirmed

    def take(self, item_id: str) -> Speech | None:
        """A speech, which is forgotten: its text has come, so it is over."""
        speech = self._speeches.pop(item_id, None)
        if speech is self._open:
            self._open = None
        return speech

    def take_rejected(self) -> list[Speech]:
        """The speeches over the agent that are over and that nobody confirmed, oldest first."""
        rejected = [
            speech
            for speech in self._speeches.values()
            if speech.end_sample is not None and speech.over_agent and not speech.confirmed
        ]
        for speech in rejected:
            del self._speeches[speech.item_id]
        return rejected

    @property
    def is_untold(self) -> bool:
        """Some speech over the agent has no text yet."""
        return any(speech.over_agent for speech in self._speeches.values())

    def is_short_and_untold(self, turn: int) -> bool:
        """Whether a turn may answer a short speech over the agent whose text has not come."""
        return any(
            speech.over_agent and speech.newest_turn < turn and self._is_short(speech)
            for speech in self._speeches.values()
        )

    def newest_before(self, onset_sample: int, newest_turn: int) -> int:
        """The newest turn that cannot be the answer to the speech with this onset."""
        return next((turn for end, turn in self._stops if end > onset_sample), newest_turn)

    @property
    def lateness_ns(self) -> int:
        """How long a mute waits for the service.

        What nine of ten of its last twenty verdicts kept, and a margin.
        """
        start_ns = REJECT_START_MS * _NS_PER_MS
        if not self._late_ns:
            return start_ns
        late = sorted(self._late_ns)
        p90_ns = late[math.ceil(0.9 * len(late)) - 1]
        wanted_ns = p90_ns + REJECT_MARGIN_MS * _NS_PER_MS
        if len(late) < _PAIRS_TRUSTED:
            wanted_ns = max(wanted_ns, start_ns)
        return min(max(wanted_ns, REJECT_LEAST_MS * _NS_PER_MS), REJECT_MOST_MS * _NS_PER_MS)

    # --- inside ---------------------------------------------------------------------------------

    def _edge_of(self, onset_sample: int, at_ns: int) -> Edge | None:
        """The edge that is nearest to where the service heard it begin."""
        recent = [edge for edge in self._edges if at_ns - edge.at_ns <= PAIR_NS]
        return min(recent, key=lambda e: abs(e.onset_sample - onset_sample), default=None)

    def _is_short(self, speech: Speech) -> bool:
        if speech.end_sample is None:
            return False
        return speech.end_sample - speech.onset_sample < SHORT_MS * self._rate_hz // 1_000
