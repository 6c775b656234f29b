"""The scripted calls as a table: one column a policy, to read off what each step buys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
from rich.table import Table

from framepipe.bench.intervals import wilson
from framepipe.bench.turns import Call, Policy

_Figure = Callable[[Sequence[Call]], str]


def result_table(calls: Sequence[Call]) -> Table:
    """What came of the dialogues with each policy."""
    names = {call.dialogue for call in calls}
    held_out = {call.dialogue for call in calls if call.held_out}
    title = f"What came of {len(names)} dialogues, {len(held_out)} of them held out"
    return _policy_table(title, _RESULTS, calls)


def cost_table(calls: Sequence[Call]) -> Table:
    """What it cost the user in time."""
    return _policy_table("What it cost the user; times in ms", _COSTS, calls)


def kinds_table(calls: Sequence[Call]) -> Table:
    """How often the final value is right, for each kind of dialogue."""
    table = Table(title="Final value right, by kind of dialogue", title_justify="left")
    table.add_column("")
    policies = _policies(calls)
    for policy in policies:
        table.add_column(policy.value, justify="right", overflow="fold")
    for kind in sorted({call.kind for call in calls}):
        of_kind = [call for call in calls if call.kind == kind]
        n = len({call.dialogue for call in of_kind})
        right = [
            str(sum(call.is_right for call in of_kind if call.policy is policy))
            for policy in policies
        ]
        table.add_row(f"{kind} ({n})", *right)
    return table


def wrong_calls(calls: Sequence[Call]) -> Iterable[str]:
    """One line for each call whose final value is not right, or that booked what nobody wanted."""
    for call in calls:
        if not call.is_right or call.wrong_bookings or call.unneeded:
            yield (
                f"{call.policy.value}: {call.dialogue} ({call.kind}): "
                f"{'right' if call.is_right else 'not right'}, "
                f"{call.wrong_bookings} wrong bookings, {call.unneeded} unneeded revocations"
            )


def _policy_table(
    title: str, figures: Sequence[tuple[str, _Figure]], calls: Sequence[Call]
) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for name, _ in figures:
        table.add_column(name, justify="right")
    for policy in _policies(calls):
        some = [call for call in calls if call.policy is policy]
        table.add_row(policy.value, *[figure(some) for _, figure in figures])
    return table


def _policies(calls: Sequence[Call]) -> list[Policy]:
    held = {call.policy for call in calls}
    return [policy for policy in Policy if policy in held]


def _right(calls: Sequence[Call]) -> str:
    if not calls:
        return "–"
    share = sum(call.is_right for call in calls) / len(calls)
    low, high = wilson(share, len(calls))
    return f"{100 * share:.1f} ({100 * low:.0f}–{100 * high:.0f})"


def _right_held_out(calls: Sequence[Call]) -> str:
    return _right([call for call in calls if call.held_out])


def _wrong(calls: Sequence[Call]) -> str:
    return str(sum(call.wrong_bookings for call in calls))


def _undone(calls: Sequence[Call]) -> str:
    return str(sum(call.undone_bookings for call in calls))


def _revocations(calls: Sequence[Call]) -> str:
    return str(sum(call.revocations for call in calls))


def _unneeded(calls: Sequence[Call]) -> str:
    n, turns = sum(call.unneeded for call in calls), sum(call.user_turns for call in calls)
    return f"{n} ({n / turns:.1%})"


def _cut_off(calls: Sequence[Call]) -> str:
    n, turns = sum(call.cut_offs for call in calls), sum(call.user_turns for call in calls)
    return f"{n} ({n / turns:.1%})"


def _hellos(calls: Sequence[Call]) -> str:
    return str(sum(call.hellos for call in calls))


def _gap(q: float) -> _Figure:
    return lambda calls: _percentile([gap for call in calls for gap in call.gaps_ms], q)


def _tool_wait(q: float) -> _Figure:
    return lambda calls: _percentile([ms for call in calls for ms in call.tool_waits_ms], q)


def _length(calls: Sequence[Call]) -> str:
    return f"{np.mean([call.lasted_ms for call in calls]) / 1_000:.1f}"


def _percentile(figures: Sequence[float], q: float) -> str:
    return f"{np.percentile(figures, q):.0f}" if figures else "–"


_RESULTS: Final[tuple[tuple[str, _Figure], ...]] = (
    ("value right, %", _right),
    ("held out, %", _right_held_out),
    ("wrong bookings", _wrong),
    ("taken back", _undone),
    ("answers voided", _revocations),
    ("without need", _unneeded),
)
_COSTS: Final[tuple[tuple[str, _Figure], ...]] = (
    ("cut off", _cut_off),
    ("waited in vain", _hellos),
    ("end of turn → sound p50", _gap(50)),
    ("p90", _gap(90)),
    ("tool waits p50", _tool_wait(50)),
    ("p95", _tool_wait(95)),
    ("call, s", _length),
)
