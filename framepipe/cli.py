"""The command line. What goes wrong is one line and an exit code, never a traceback."""

from __future__ import annotations

import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from framepipe.errors import FramepipeError, ProcessorError, only_error
from framepipe.frames import InterruptionReport

app = typer.Typer(
    name="framepipe",
    help="Voice agents that can be interrupted like a person.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class MindName(StrEnum):
    """The minds that ``framepipe serve`` offers."""

    talk = "talk"
    echo = "echo"


@app.command()
def demo(
    realtime: Annotated[
        bool,
        typer.Option("--realtime/--fast", help="At the speed of speech, or as fast as can be."),
    ] = True,
    user: Annotated[
        Path | None, typer.Option(help="A 16-bit mono WAV of a user; one comes with framepipe.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out"),
) -> None:
    """A recorded user interrupts an embedded server, offline."""
    from framepipe.demo import USER_WAV, run_demo, user_seconds

    console = Console()
    recording = user or USER_WAV
    columns = (TextColumn("user"), BarColumn(), TextColumn("{task.completed:.1f} s"))
    total_s = user_seconds(recording)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("user", total=total_s)
        result = run_demo(
            user=recording,
            out=out,
            fast=not realtime,
            tell=lambda line: console.print(line, highlight=False),
            progress=lambda seconds: bar.update(task, completed=seconds),
        )
    console.print(_report_table(result.reports))
    console.print(f"{result.wav}: left the user, right what was heard of the agent")
    console.print(f"{result.trace}: everything that happened")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.")] = 8765,
    mind: Annotated[MindName, typer.Option(help="What the server answers.")] = MindName.talk,
    answer_ms: Annotated[int, typer.Option(help="How long `talk` talks.")] = 6_000,
    generation_speed: Annotated[
        float, typer.Option(help="Audio is made this many times faster than real time; 8 to 12.")
    ] = 10.0,
    cancel_latency_ms: Annotated[
        int, typer.Option(help="From a cancel to the end of the response.")
    ] = 200,
) -> None:
    """Serve the Realtime protocol on this machine, without a model behind it."""
    from framepipe.realtime.answer_plan import Pace
    from framepipe.realtime.mind import Echo, Talk
    from framepipe.realtime.server import ServerSettings, serve

    settings = ServerSettings(
        mind=Talk(answer_ms) if mind is MindName.talk else Echo(),
        pace=Pace(
            generation_speed=(generation_speed, generation_speed),
            cancel_latency_ms=cancel_latency_ms,
        ),
    )

    async def serve_and_say() -> None:
        async with anyio.create_task_group() as tasks:
            taken = await tasks.start(partial(serve, settings, host=host, port=port))
            typer.echo(f"ws://{host}:{taken}/v1/realtime  (Ctrl-C ends)")

    anyio.run(serve_and_say)


def _report_table(reports: tuple[InterruptionReport, ...]) -> Table:
    n_cut = sum(report.verdict == "cut" for report in reports)
    title = f"{len(reports)} times silenced: {n_cut} cut, {len(reports) - n_cut} taken back"
    table = Table(title=title, title_justify="left", padding=(0, 0, 0, 1))
    table.add_column("verdict")
    for heading in (
        "onset\n→ mute",
        "mute\n→ verdict",
        "cancel\n→ ack",
        "late audio\ndropped",
        "heard /\nreceived",
        "audio_end_ms\nsent",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for report in reports:
        table.add_row(
            f"{report.verdict}\n({report.cause})",
            _ms(report.onset_to_mute_ns),
            _ms(report.mute_to_verdict_ns),
            _ms(report.cancel_to_ack_ns),
            f"{report.late_audio_dropped_ms:.0f} ms",
            _heard(report),
            "–" if report.audio_end_ms is None else f"{report.audio_end_ms}",
        )
    return table


def _ms(nanoseconds: int | None) -> str:
    return "–" if nanoseconds is None else f"{nanoseconds / 1e6:.1f} ms"


def _heard(report: InterruptionReport) -> str:
    if report.heard_ms is None or report.received_ms is None:
        return "–"
    return f"{report.heard_ms:.0f} /\n{report.received_ms:.0f} ms"


def main() -> None:
    """Run the command line.

    Raises:
        SystemExit: Always, with the exit code.
    """
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as raised:
        error = only_error(raised)
        if not isinstance(error, FramepipeError):
            raise
        if isinstance(error, ProcessorError) and isinstance(error.__cause__, FramepipeError):
            sys.exit(f"framepipe: {error.stage}: {_one_line(error.__cause__)}")
        sys.exit(f"framepipe: {_one_line(error)}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    main()
