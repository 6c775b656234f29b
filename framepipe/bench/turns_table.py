"""The scripted calls as a table: one column a policy, to read off what each step buys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np
from rich.table import Table

from framepipe.bench.intervals import wilson
from framepipe.bench.turns import Call, Policy

_Figure = Callable[[Sequence[Call]], str]


def turns_table(calls: Sequence[Call]) -> Table:
    """What came of the dialogues with each policy, and what it cost in time."""
    names = {call.dialogue for call in calls}
    held_out = {call.dialogue for call in calls if call.held_out}
    table = _table(f"{len(names)} dialogues, {len(held_out)} of them held out", calls)
    for name, figure in _FIGURES:
        _row(table, name, calls, figure)
    return table


def kinds_table(calls: Sequence[Call]) -> Table:
    """How often the final value is right, for each kind of dialogue."""
    table = _table("Final value right, by kind", calls)
    for kind in sorted({call.kind for call in calls}):
        of_kind = [call for call in calls if call.kind == kind]
        n = len({call.dialogue for call in of_kind})
        _row(table, f"{kind} ({n})", of_kind, _plainly_right)
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


def _table(title: str, calls: Sequence[Call]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for policy in _policies(calls):
        table.add_column(policy.value, justify="right")
    return table


def _policies(calls: Sequence[Call]) -> list[Policy]:
    held = {call.policy for call in calls}
    return [policy for policy in Policy if policy in held]


def _row(table: Table, name: str, calls: Sequence[Call], figure: _Figure) -> None:
    by_policy = ([call for call in calls if call.policy is p] for p in _policies(calls))
    table.add_row(name, *[figure(some) if some else "–" for some in by_policy])


def _right(calls: Sequence[Call]) -> str:
    if not calls:
        return "–"
    share = sum(call.is_right for call in calls) / len(calls)
    low, high = wilson(share, len(calls))
    return f"{share:.1%} ({low:.0%}–{high:.0%})"


def _plainly_right(calls: Sequence[Call]) -> str:
    return f"{sum(call.is_right for call in calls)} of {len(calls)}"


def _right_held_out(calls: Sequence[Call]) -> str:
    return _right([call for call in calls if call.held_out])


def _wrong(calls: Sequence[Call]) -> str:
    return str(sum(call.wrong_bookings for call in calls))


def _revocations(calls: Sequence[Call]) -> str:
    return str(sum(call.revocations for call in calls))


def _unneeded(calls: Sequence[Call]) -> str:
    n, turns = sum(call.unneeded for call in calls), sum(call.user_turns for call in calls)
    return f"{n} ({n / turns:.1%} of turns)"


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


_FIGURES: Final[tuple[tuple[str, _Figure], ...]] = (
    ("final value right", _right),
    ("the same, held out", _right_held_out),
    ("wrong bookings", _wrong),
    ("answers withdrawn", _revocations),
    ("of them without need", _unneeded),
    ("user cut off", _cut_off),
    ("user waited in vain", _hellos),
    ("end of turn → sound p50, ms", _gap(50)),
    ("end of turn → sound p90, ms", _gap(90)),
    ("tool with effects waits p50, ms", _tool_wait(50)),
    ("tool with effects waits p95, ms", _tool_wait(95)),
    ("length of a call, s", _length),
)
