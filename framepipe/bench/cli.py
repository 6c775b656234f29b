"""``framepipe bench``: measurements that need recordings, printed as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from framepipe.bench.service import Service

FLOOR_DBFS = -65.0  # as in `clips`, which loads NumPy: help must not wait for that

WORST = 6
"""So many clips of speech, and so many others, are shown without being asked for."""

WIDTH = 128
"""Columns that the tables need; a narrower window wraps their lines."""

bench_app = typer.Typer(
    name="bench",
    help="Measure on recordings, in virtual time.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@bench_app.callback()
def bench() -> None:
    """Measure on recordings, in virtual time."""


@bench_app.command()
def interruption(
    audio: Annotated[Path, typer.Option(help="Folder of labelled WAV files with a MANIFEST.json.")],
    phases: Annotated[int, typer.Option(help="Repeats of each clip at each of two levels.")] = 10,
    quick: Annotated[bool, typer.Option("--quick", help="One repeat: minutes become one.")] = False,
    processes: Annotated[int, typer.Option(help="How many work at it.")] = 2,
    clips: Annotated[bool, typer.Option("--clips", help="Every clip, not the worst ones.")] = False,
    speed: Annotated[float, typer.Option(help="Play the clips so many times as fast.")] = 1.0,
    noise: Annotated[str, typer.Option(help="Under the clips: white or pink.")] = "white",
    floor_dbfs: Annotated[float, typer.Option(help="How loud that noise is.")] = FLOOR_DBFS,
    seed: Annotated[int, typer.Option(help="Of the first repeat.")] = 0,
    in_step: Annotated[
        bool, typer.Option("--in-step", help="Blocks of microphone and speaker begin together.")
    ] = False,
) -> None:
    """How fast and how rightly each policy silences and cuts the agent."""
    from framepipe.bench.clips import Room, noise_called
    from framepipe.bench.echo import ECHO_PHASES, Defence, echo_table, run_echo_trials
    from framepipe.bench.interruption import PHASES, QUICK_PHASES, run_trials
    from framepipe.bench.table import clip_table, other_table, speech_table

    room = Room(
        speed=speed,
        noise=noise_called(noise),
        floor_dbfs=floor_dbfs,
        first_seed=seed,
        in_step=in_step,
    )
    console = Console(width=max(Console().width, WIDTH))
    repeats = QUICK_PHASES if quick else phases
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("clips", total=None)
        trials = run_trials(
            audio,
            phases=repeats,
            room=room,
            processes=processes,
            progress=lambda done, of: bar.update(task, completed=done, total=of),
        )
        own = bar.add_task("the agent's own voice", total=None)
        echoes = run_echo_trials(
            audio,
            phases=max(1, ECHO_PHASES * repeats // PHASES),
            defences=(Defence.GATE,),
            processes=processes,
            progress=lambda done, of: bar.update(own, completed=done, total=of),
        )
    console.print(speech_table(trials))
    console.print(other_table(trials))
    if echoes:
        console.print(echo_table(echoes))
    console.print(clip_table(trials, most=None if clips else WORST))
    console.print("In brackets 95 % intervals, one recording counting as one observation.")


@bench_app.command()
def turns(
    corpus: Annotated[
        Path | None,
        typer.Option(help="Folder of dialogues; tests/turns/corpus of a checkout if not given."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Run only the dialogue of this id; may be repeated.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Every sixth dialogue: minutes become one.")
    ] = False,
    wrong: Annotated[
        bool, typer.Option("--wrong", help="Name the dialogues that did not come out right.")
    ] = False,
    service: Annotated[
        Service, typer.Option(help="How long it takes to its first sound: 0.45, 0.9 or 1.8 s.")
    ] = Service.USUAL,
    seed: Annotated[int, typer.Option(help="Of the service's pace.")] = 0,
    processes: Annotated[int, typer.Option(help="How many work at it.")] = 2,
) -> None:
    """What cool-down, waiting tools and corrections buy, on scripted dialogues."""
    from framepipe.bench.corpus import checkout_corpus, read_corpus
    from framepipe.bench.turns import QUICK, run_calls
    from framepipe.bench.turns_table import cost_table, kinds_table, result_table, wrong_calls
    from framepipe.errors import FrameError

    dialogues = read_corpus(corpus if corpus is not None else checkout_corpus())
    if only:
        unknown = set(only) - {dialogue.name for dialogue in dialogues}
        if unknown:
            raise FrameError(f"no dialogue is called {sorted(unknown)[0]!r}; see the corpus")
        dialogues = [dialogue for dialogue in dialogues if dialogue.name in only]
    if quick:
        dialogues = dialogues[::QUICK]
    console = Console(width=max(Console().width, WIDTH))
    columns = (TextColumn("dialogues"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("dialogues", total=None)
        calls = run_calls(
            dialogues,
            service=service,
            seed=seed,
            processes=processes,
            progress=lambda done, of: bar.update(task, completed=done, total=of),
        )
    for table in (result_table, cost_table, kinds_table):
        console.print(table(calls))
    console.print(
        f"A {service.value} service. In brackets 95 % intervals, one dialogue counting as one "
        "observation."
    )
    if wrong:
        for line in wrong_calls(calls):
            console.print(line, highlight=False, soft_wrap=True)
