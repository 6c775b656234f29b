"""When a lost connection is tried again: pauses that double, chance, and a limit."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framepipe.errors import LocalProtocolError
from framepipe.frames import NS_PER_S
from framepipe.realtime.reconnect import PROVED_NS, Retries, RetryPolicy

MS = 1_000_000
CALM = RetryPolicy(jitter=0.0)


def pauses_ms(retries: Retries, n: int, at_ns: int = 0) -> list[float | None]:
    found: list[float | None] = []
    for _ in range(n):
        due_ns = retries.failed(at_ns)
        found.append(None if due_ns is None else (due_ns - at_ns) / MS)
        at_ns = at_ns if due_ns is None else due_ns
    return found


def test_the_pause_doubles_up_to_its_limit_and_then_it_is_enough() -> None:
    assert pauses_ms(Retries(CALM, lambda: 0.0), 13) == [
        250,
        500,
        1_000,
        2_000,
        4_000,
        *[8_000] * 6,
        None,
        None,
    ]


def test_a_connection_that_lasted_is_a_new_loss_and_one_that_did_not_is_the_same() -> None:
    retries = Retries(CALM, lambda: 0.0)
    assert pauses_ms(retries, 3) == [250, 500, 1_000]
    retries.opened(2 * NS_PER_S)
    assert pauses_ms(retries, 1, at_ns=3 * NS_PER_S) == [2_000]
    retries.opened(6 * NS_PER_S)
    assert pauses_ms(retries, 1, at_ns=6 * NS_PER_S + PROVED_NS) == [250]


def test_a_service_that_breaks_every_connection_at_once_is_given_up() -> None:
    retries = Retries(CALM, lambda: 0.0)
    at_ns, n = 0, 0
    while (due_ns := retries.failed(at_ns)) is not None:
        retries.opened(due_ns)
        at_ns, n = due_ns + NS_PER_S, n + 1
        assert n < 100
    assert at_ns < 70 * NS_PER_S


@given(st.integers(0, 2**32), st.floats(0, 1))
def test_chance_only_shortens_a_pause_and_the_same_seed_is_the_same(
    seed: int, jitter: float
) -> None:
    policy = RetryPolicy(jitter=jitter)
    found = pauses_ms(Retries(policy, random.Random(seed).random), 6)
    calm = pauses_ms(Retries(CALM, lambda: 0.0), 6)

    assert found == pauses_ms(Retries(policy, random.Random(seed).random), 6)
    for pause, longest in zip(found, calm, strict=True):
        assert pause is not None
        assert longest is not None
        assert longest * (1 - jitter) - 1 <= pause <= longest


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"first_pause_ms": 0}, "first_pause_ms is 0"),
        ({"max_pause_ms": 10}, "max_pause_ms"),
        ({"limit_s": -1.0}, "limit_s is -1.0"),
        ({"jitter": 1.5}, "jitter 1.5"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(settings: dict[str, float], named: str) -> None:
    with pytest.raises(LocalProtocolError, match=named):
        RetryPolicy(**settings)  # type: ignore[arg-type]


def test_no_patience_at_all_gives_up_at_once() -> None:
    assert Retries(RetryPolicy(limit_s=0), lambda: 0.0).failed(5) is None
