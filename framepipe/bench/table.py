"""The trials as tables: what each policy costs and what it gets wrong, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

import numpy as np
from rich.table import Table

from framepipe.bench.interruption import LEVELS_DB, Policy, Trial
from framepipe.bench.intervals import percentile_interval, wilson

NOT_NEAR: Final = ("echo", "babble")
"""Kinds that are speech, but not the user's: the agent's own voice, which the gate before the
detector is for, and other people's. They have rows, and are no false cuts."""

_Figure = Callable[[Sequence[Trial]], str]


def speech_table(trials: Sequence[Trial]) -> Table:
    """How soon and how surely the user's speech silences and cuts, for each policy."""
    table = _table("The user speaks over the agent", trials, lambda trial: trial.is_speech)
    for quieter_db in LEVELS_DB:
        level = "normal level" if not quieter_db else f"{quieter_db:.0f} dB quieter"
        at_level = [t for t in trials if t.is_speech and t.quieter_db == quieter_db]
        for name, figure in _SPEECH_FIGURES:
            _row(table, f"{name} ({level})", at_level, figure)
    return table


def other_table(trials: Sequence[Trial]) -> Table:
    """What is no speech of the user's: how often it cuts, and how long it silences."""
    others = [trial for trial in trials if not trial.is_speech]
    table = _table("Something else is heard", trials, lambda trial: not trial.is_speech)
    for kind in sorted({trial.kind for trial in others}):
        of_kind = [trial for trial in others if trial.kind == kind]
        name = f"{kind} (not the user)" if kind in NOT_NEAR else kind
        clips = len({trial.clip for trial in of_kind})
        _row(table, f"cut by {name}, {clips} clips", of_kind, partial(_share, _is_cut))
    near = [trial for trial in others if trial.kind not in NOT_NEAR]
    _row(table, "cut by any of them", near, partial(_share, _is_cut))
    for q in (50, 90):
        _row(table, f"false mute p{q}, ms", near, partial(_percentile, _false_mutes, q))
    _row(table, "samples lost", trials, lambda some: str(sum(trial.lost for trial in some)))
    _row(table, "samples repeated", trials, lambda some: str(sum(trial.repeated for trial in some)))
    return table


def _table(title: str, trials: Sequence[Trial], belongs: Callable[[Trial], bool]) -> Table:
    those = [trial for trial in trials if belongs(trial)]
    clips = len({trial.clip for trial in those})
    runs = len(those) // max(1, len({trial.policy for trial in those}))
    table = Table(
        title=f"{title}: {clips} clips, {runs} conversations with each policy",
        title_justify="left",
    )
    table.add_column("")
    for policy in Policy:
        table.add_column(policy.value, justify="right", no_wrap=True)
    return table


def _row(table: Table, name: str, trials: Sequence[Trial], figure: _Figure) -> None:
    by_policy = [[trial for trial in trials if trial.policy is policy] for policy in Policy]
    table.add_row(name, *[figure(some) if some else "–" for some in by_policy])


def _silent(trial: Trial) -> Iterable[float]:
    return () if trial.silent_after is None else (trial.silent_after,)


def _cut(trial: Trial) -> Iterable[float]:
    return () if trial.cut_after is None or trial.cut_after < 0 else (trial.cut_after,)


def _false_mutes(trial: Trial) -> Iterable[float]:
    return trial.false_mutes


def _is_cut(trial: Trial) -> bool:
    return trial.cut_after is not None


def _is_missed(trial: Trial) -> bool:
    return trial.cut_after is None


def _was_silent(trial: Trial) -> bool:
    return trial.was_silent


def _went_on(trial: Trial) -> bool:
    return trial.resumed > 0


def _is_early(trial: Trial) -> bool:
    return trial.cut_after is not None and trial.cut_after < 0


def _percentile(
    figures: Callable[[Trial], Iterable[float]], q: float, trials: Sequence[Trial]
) -> str:
    groups: dict[str, list[float]] = {}
    for trial in trials:
        groups.setdefault(trial.clip, []).extend(figures(trial))
    found = [figure for group in groups.values() for figure in group]
    if not found:
        return "–"
    low, high = percentile_interval(list(groups.values()), q)
    return f"{np.percentile(found, q):.0f} ({low:.0f}–{high:.0f})"


def _share(is_so: Callable[[Trial], bool], trials: Sequence[Trial]) -> str:
    share = sum(map(is_so, trials)) / len(trials)
    low, high = wilson(share, len({trial.clip for trial in trials}))
    return f"{share:.1%} ({low:.0%}–{high:.0%})"


_SPEECH_FIGURES: Final[tuple[tuple[str, _Figure], ...]] = (
    ("onset → silence p50, ms", partial(_percentile, _silent, 50)),
    ("onset → silence p95, ms", partial(_percentile, _silent, 95)),
    ("onset → cut p50, ms", partial(_percentile, _cut, 50)),
    ("onset → cut p95, ms", partial(_percentile, _cut, 95)),
    ("never cut", partial(_share, _is_missed)),
    ("cut before the onset", partial(_share, _is_early)),
    ("silent before the onset", partial(_share, _was_silent)),
    ("went on inside the speech", partial(_share, _went_on)),
)
