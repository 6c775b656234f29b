"""The trials as tables: what each policy costs and what it gets wrong, with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

import numpy as np
from rich.table import Table

from framepipe.bench.interruption import LEVELS_DB, Policy, Trial
from framepipe.bench.intervals import percentile_intervals, wilson

NOT_NEAR: Final = ("echo", "babble")
"""Kinds that are speech, but not the user's: the agent's own voice, which the gate before the
detector is for, and other people's. They have rows, and are no false cuts."""

_Figure = Callable[[Sequence[Trial]], str]
_Figures = Callable[[Trial], Iterable[float]]


def speech_table(trials: Sequence[Trial]) -> Table:
    """How soon and how surely the user's speech silences and cuts, for each policy."""
    table = _table("The user speaks over the agent", trials, lambda trial: trial.is_speech)
    for quieter_db in LEVELS_DB:
        at_level = [t for t in trials if t.is_speech and t.quieter_db == quieter_db]
        table.add_section()
        table.add_row("normal level" if not quieter_db else f"{quieter_db:.0f} dB quieter")
        for name, figures in _SPEECH_TIMES:
            _row(table, f"onset → {name} p50 / p95, ms", at_level, partial(_percentiles, figures))
            for labels, is_exact in (("exact labels", True), ("labels by loudness", False)):
                some = [trial for trial in at_level if trial.is_exact is is_exact]
                clips = len({trial.clip for trial in some})
                if some and len(some) < len(at_level):
                    name_of = f"  {labels}, {clips} clips"
                    _row(table, name_of, some, partial(_percentiles, figures))
        for name, is_so in _SPEECH_SHARES:
            _row(table, name, at_level, partial(_share, is_so))
    return table


def clip_table(trials: Sequence[Trial], *, most: int | None = None) -> Table:
    """What became of each clip under two stages, the worst first.

    Args:
        trials: Of any policies.
        most: So many clips of speech and so many others; ``None``: all.
    """
    table = Table(title="Clip by clip, two stages, both levels", title_justify="left")
    table.add_column("")
    for name in ("kind", "silence p50, ms", "cut p50 / p95, ms", "cut", "silent before"):
        table.add_column(name, justify="right", no_wrap=True)
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.policy is Policy.FULL:
            groups.setdefault(trial.clip, []).append(trial)
    speech = [group for group in groups.values() if group[0].is_speech]
    others = [group for group in groups.values() if not group[0].is_speech]
    for some in (sorted(speech, key=_lateness, reverse=True), sorted(others, key=_wrongness)):
        for group in some[:most]:
            times = _all_of(_cut, group) if group[0].is_speech else []
            table.add_row(
                group[0].clip,
                group[0].kind,
                _plain(_all_of(_silent, group), (50,)),
                _plain(times, (50, 95)),
                f"{sum(map(_is_cut, group))} of {len(group)}",
                f"{sum(map(_was_silent, group))}" if group[0].is_speech else "",
            )
        table.add_section()
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
    name = "false mute p50 / p90, ms"
    _row(table, name, near, partial(_percentiles, _false_mutes, q=(50, 90)))
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


def _muted(trial: Trial) -> Iterable[float]:
    return () if trial.muted_after is None else (trial.muted_after,)


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


def _lateness(group: Sequence[Trial]) -> float:
    """A clip that was never cut is the latest."""
    return float(np.mean([math.inf if t.cut_after is None else t.cut_after for t in group]))


def _wrongness(group: Sequence[Trial]) -> float:
    return -sum(map(_is_cut, group)) / len(group)


def _all_of(figures: _Figures, group: Sequence[Trial]) -> list[float]:
    return [figure for trial in group for figure in figures(trial)]


def _plain(found: Sequence[float], q: Sequence[float]) -> str:
    return " / ".join(f"{np.percentile(found, each):.0f}" for each in q) if found else ""


def _percentiles(figures: _Figures, trials: Sequence[Trial], q: Sequence[float] = (50, 95)) -> str:
    groups: dict[str, list[float]] = {}
    for trial in trials:
        groups.setdefault(trial.clip, []).extend(figures(trial))
    found = [figure for group in groups.values() for figure in group]
    if not found:
        return "–"
    return " / ".join(
        f"{np.percentile(found, each):.0f} ({low:.0f}–{high:.0f})"
        for each, (low, high) in zip(q, percentile_intervals(list(groups.values()), q), strict=True)
    )


def _share(is_so: Callable[[Trial], bool], trials: Sequence[Trial]) -> str:
    share = sum(map(is_so, trials)) / len(trials)
    low, high = wilson(share, len({trial.clip for trial in trials}))
    return f"{share:.1%} ({low:.0%}–{high:.0%})"


_SPEECH_TIMES: Final[tuple[tuple[str, _Figures], ...]] = (
    ("order to be silent", _muted),
    ("silence", _silent),
    ("cut", _cut),
)

_SPEECH_SHARES: Final[tuple[tuple[str, Callable[[Trial], bool]], ...]] = (
    ("never cut", _is_missed),
    ("cut before the onset", _is_early),
    ("silent before the onset", _was_silent),
    ("went on inside the speech", _went_on),
)
