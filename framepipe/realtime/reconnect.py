"""When to try a lost connection again, and when to give up.

The pause doubles from one failure to the next, up to a limit, and is shortened at random, so that
a thousand clients of a service that restarts do not come back in the same instant. A connection
that broke soon after it opened counts as one more failure of the same loss.

Sans-IO: time comes as an argument, chance as a function.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import field, frozen

from framepipe.errors import LocalProtocolError
from framepipe.frames import NS_PER_S

PROVED_NS = 10 * NS_PER_S
"""A connection that lasted so long was a good one; what broke it is a loss of its own."""


@frozen(kw_only=True)
class RetryPolicy:
    """How a lost connection is tried again.

    Attributes:
        first_pause_ms: Longest pause before the first try of one loss.
        max_pause_ms: Longest pause of all.
        limit_s: Seconds from the loss after which no try begins; 0 gives up at once.
        jitter: Share of a pause that chance may take away, 0 to 1.

    Raises:
        LocalProtocolError: A number is out of its range.
    """

    first_pause_ms: int = field(default=250)
    max_pause_ms: int = field(default=8_000)
    limit_s: float = field(default=60.0)
    jitter: float = field(default=0.5)

    def __attrs_post_init__(self) -> None:
        if not 0 < self.first_pause_ms <= self.max_pause_ms:
            raise LocalProtocolError(
                f"first_pause_ms is {self.first_pause_ms}; it must be 1 to max_pause_ms "
                f"({self.max_pause_ms})"
            )
        if self.limit_s < 0 or not 0 <= self.jitter <= 1:
            raise LocalProtocolError(
                f"limit_s is {self.limit_s} and jitter {self.jitter}; the first must be 0 or "
                "more, the second 0 to 1"
            )


class Retries:
    """Counts the failures of one loss after the other.

    Args:
        policy: The pauses and the limit.
        chance: A number from 0 to below 1, as ``random.random`` gives it.
    """

    def __init__(self, policy: RetryPolicy, chance: Callable[[], float]) -> None:
        self._policy = policy
        self._chance = chance
        self._failures = 0
        self._lost_ns = 0
        self._opened_ns: int | None = None

    def opened(self, at_ns: int) -> None:
        """A session is open."""
        self._opened_ns = at_ns

    def failed(self, at_ns: int) -> int | None:
        """A session broke, or did not come about.

        Args:
            at_ns: Now.

        Returns:
            When to try again, in engine nanoseconds; ``None``: give up.
        """
        opened_ns, self._opened_ns = self._opened_ns, None
        if self._failures == 0 or (opened_ns is not None and at_ns - opened_ns >= PROVED_NS):
            self._failures = 0
            self._lost_ns = at_ns
        due_ns = at_ns + self._pause_ns()
        self._failures += 1
        return due_ns if due_ns < self._lost_ns + self._policy.limit_s * NS_PER_S else None

    def _pause_ns(self) -> int:
        doubled_ms = self._policy.first_pause_ms << min(self._failures, 20)
        pause_ms = min(doubled_ms, self._policy.max_pause_ms)
        return round(pause_ms * (1 - self._policy.jitter * self._chance()) * 1_000_000)
