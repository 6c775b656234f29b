"""The command line. What goes wrong is one line and an exit code, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from framepipe.bench.cli import bench_app
from framepipe.errors import FramepipeError, ProcessorError, WiringError, only_error
from framepipe.frames import InterruptionReport

if TYPE_CHECKING:  # the command line starts faster without the protocol
    from framepipe.realtime.mind import Ears, Mind

app = typer.Typer(
    name="framepipe",
    help="Voice agents that can be interrupted like a person.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.add_typer(bench_app, name="bench")


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"framepipe {version('framepipe')}")
        raise typer.Exit


def _not_empty(text: str | None) -> str | None:
    """An empty text is a variable that was not set, and nobody means it."""
    if text is not None and not text.strip():
        raise typer.BadParameter("it is empty; leave it away, or say what it shall be")
    return text


@app.callback()
def framepipe(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="And end.")
    ] = False,
) -> None:
    """Voice agents that can be interrupted like a person."""


class MindName(StrEnum):
    """The minds that ``framepipe serve`` offers."""

    talk = "talk"
    echo = "echo"
    scripted = "scripted"
    booking = "booking"


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
    if result.reports:
        console.print(_report_table(result.reports))
    else:
        console.print("the agent was never silenced: nobody spoke while it did")
    console.print(f"{result.wav}: left the user, right what was heard of the agent")
    console.print(f"{result.trace}: everything that happened")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.")] = 8765,
    key: Annotated[
        str | None,
        typer.Option(
            help="What clients must present.", envvar="FRAMEPIPE_SERVE_KEY", callback=_not_empty
        ),
    ] = None,
    mind: Annotated[MindName, typer.Option(help="What the server answers.")] = MindName.talk,
    answer_ms: Annotated[int, typer.Option(help="How long `talk` talks.")] = 6_000,
    script: Annotated[
        Path | None, typer.Option(help="TOML or JSON file with the answers of `scripted`.")
    ] = None,
    grammar: Annotated[
        Path | None, typer.Option(help="JSGF file: hear the user with pocketsphinx.")
    ] = None,
    first_audio_ms: Annotated[
        float | None, typer.Option(help="From a response to its first audio; 250 to 500.")
    ] = None,
    generation_speed: Annotated[
        float, typer.Option(help="Audio is made this many times faster than real time; 8 to 12.")
    ] = 10.0,
    cancel_latency_ms: Annotated[
        int, typer.Option(help="From a cancel to the end of the response.")
    ] = 200,
    late_deltas: Annotated[
        bool, typer.Option(help="Deltas still come between a cancel and that end.")
    ] = True,
    limit_s: Annotated[float, typer.Option(help="Length at which a session ends itself.")] = 3_600,
    delay_ms: Annotated[float, typer.Option(help="Delay of each direction of the line.")] = 0.0,
    jitter_ms: Annotated[float, typer.Option(help="Up to so much more, for each message.")] = 0.0,
    late_ms: Annotated[
        float, typer.Option(help="Events that are not ordered come up to so much later.")
    ] = 0.0,
    repeat: Annotated[bool, typer.Option(help="The same events come twice.")] = False,
    error_after_events: Annotated[
        int | None, typer.Option(help="An error after every so many events.")
    ] = None,
    error_code: Annotated[str, typer.Option(help="Its code.")] = "server_error",
    drop_after_s: Annotated[
        float | None, typer.Option(help="Cut each connection after so long, without a goodbye.")
    ] = None,
    half_open_after_s: Annotated[
        float | None, typer.Option(help="From then on, silence on an open socket.")
    ] = None,
    close_after_events: Annotated[
        int | None, typer.Option(help="Close each connection after so many events.")
    ] = None,
    refuse_status: Annotated[
        int | None, typer.Option(help="Refuse each connection with this HTTP status.")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(help="File for every message, a JSON line each.")
    ] = None,
) -> None:
    """Serve the Realtime protocol on this machine, without a model behind it."""
    from framepipe.realtime.answer_plan import Pace
    from framepipe.realtime.server import ServerSettings, serve
    from framepipe.realtime.server_faults import Faults
    from framepipe.realtime.wire_trace import WireTrace

    first_ms = (250.0, 500.0) if first_audio_ms is None else (first_audio_ms, first_audio_ms)
    chosen, ears = _mind_and_ears(mind, answer_ms, script, grammar)
    with WireTrace(trace) as tap:
        settings = ServerSettings(
            mind=chosen,
            ears=ears,
            key=key,
            limit_s=limit_s,
            pace=Pace(
                first_audio_ms=first_ms,
                generation_speed=(generation_speed, generation_speed),
                cancel_latency_ms=cancel_latency_ms,
                late_deltas=late_deltas,
            ),
            faults=Faults(
                refuse_status=refuse_status,
                close_after_events=close_after_events,
                drop_after_s=drop_after_s,
                half_open_after_s=half_open_after_s,
                delay_to_server_ms=delay_ms,
                delay_to_client_ms=delay_ms,
                jitter_ms=jitter_ms,
                late_ms=late_ms,
                repeat=repeat,
                error_after_events=error_after_events,
                error_code=error_code,
            ),
            tap=tap if trace else None,
        )

        async def serve_and_say() -> None:
            async with anyio.create_task_group() as tasks:
                taken = await tasks.start(partial(serve, settings, host=host, port=port))
                typer.echo(f"ws://{host}:{taken}/v1/realtime  (Ctrl-C ends)")

        anyio.run(serve_and_say)


def _mind_and_ears(
    name: MindName, answer_ms: int, script: Path | None, grammar: Path | None
) -> tuple[Mind, Ears | None]:
    """What `serve` answers with, and hears with."""
    from framepipe.realtime.booking import Booking
    from framepipe.realtime.ears import read_grammar
    from framepipe.realtime.mind import Echo, Talk
    from framepipe.realtime.script_file import read_script

    if (name is MindName.scripted) != (script is not None):
        raise WiringError("--mind scripted and --script FILE belong together; give both or neither")
    ears = None if grammar is None else read_grammar(grammar)
    if script is not None:
        read = read_script(script)
        return read.mind, ears or read.ears
    minds: dict[MindName, Mind] = {
        MindName.talk: Talk(answer_ms),
        MindName.echo: Echo(),
        MindName.booking: Booking(),
    }
    return minds[name], ears


@app.command()
def call(
    mic: Annotated[Path, typer.Option(help="The user: a 16-bit mono WAV, sent as it is.")],
    speaker: Annotated[Path, typer.Option(help="File for what is heard of the agent.")],
    url: Annotated[
        str | None,
        typer.Option(help="Where the service is; OpenAI if it is not said.", callback=_not_empty),
    ] = None,
    until_silent: Annotated[
        float, typer.Option(help="Seconds of the agent's silence, after the user, that end it.")
    ] = 3.0,
    seconds: Annotated[
        float | None, typer.Option(help="Length of the call, whatever happens in it.")
    ] = None,
    trace: Annotated[Path | None, typer.Option(help="File for everything that happens.")] = None,
    model: Annotated[str | None, typer.Option(help="The model, or Azure's deployment.")] = None,
    instructions: Annotated[str | None, typer.Option(help="What the model shall be.")] = None,
    greeting: Annotated[str | None, typer.Option(help="What the agent says first.")] = None,
    transcribe: Annotated[
        bool, typer.Option("--transcribe", help="The user's words as text, too.")
    ] = False,
    gate: Annotated[
        bool,
        typer.Option("--gate", help="The recording holds the agent's voice: keep it back."),
    ] = False,
) -> None:
    """A whole call from files, at the speed of speech. Ctrl-C ends it with everything written."""
    from framepipe.call import CallSettings, run_call
    from framepipe.realtime.address import OPENAI_MODEL
    from framepipe.realtime.session import SessionSettings, Transcription

    settings = CallSettings(
        mic=mic,
        speaker=speaker,
        url=url,
        until_silent_s=until_silent,
        seconds=seconds,
        trace=trace,
        model=model or OPENAI_MODEL,
        greeting=greeting,
        session=SessionSettings(
            instructions=instructions, transcription=Transcription() if transcribe else None
        ),
        gate=gate,
    )
    result = run_call(settings, lambda line: typer.echo(line))
    if result.reports:
        Console().print(_report_table(result.reports))
    typer.echo(f"{speaker}: {result.seconds:.1f} s of what was heard")


@app.command()
def talk(
    openai: Annotated[
        bool, typer.Option("--openai", help="The real service, with the key from OPENAI_API_KEY.")
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(help="Another service of the same protocol.", callback=_not_empty),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model, or Azure's deployment.")] = None,
    instructions: Annotated[str | None, typer.Option(help="What the model shall be.")] = None,
    greeting: Annotated[str | None, typer.Option(help="What the agent says first.")] = None,
    pipeline: Annotated[
        str | None, typer.Option(help="module:function(mic, speaker) that makes your own pipeline.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address of the page.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the page; 0 takes a free one.")] = 8080,
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in the browser.")
    ] = True,
    terminal: Annotated[
        bool, typer.Option("--terminal", help="Microphone and loudspeaker of this machine.")
    ] = False,
    list_devices: Annotated[
        bool, typer.Option("--list-devices", help="List the devices for --terminal, and end.")
    ] = False,
    mic: Annotated[
        str | None, typer.Option(help="With --terminal: the microphone's number or name.")
    ] = None,
    speaker: Annotated[
        str | None, typer.Option(help="With --terminal: the loudspeaker's number or name.")
    ] = None,
    headphones: Annotated[
        bool, typer.Option("--headphones", help="The microphone does not hear the agent.")
    ] = False,
    aec: Annotated[
        bool, typer.Option("--aec", help="With --terminal: cancel the agent's echo.")
    ] = False,
) -> None:
    """Talk with an agent, and talk over it: on a page, or in the terminal. Ctrl-C ends it."""
    if list_devices:
        from framepipe_processors.transports.sound_card import list_devices as devices

        typer.echo("\n".join(devices()) or "there is no microphone and no loudspeaker")
        return
    if not terminal:
        ends = {"--mic": mic, "--speaker": speaker, "--headphones": headphones, "--aec": aec}
        _refuse_idle(ends, "add --terminal")
    of_service = {"--model": model, "--instructions": instructions, "--greeting": greeting}
    if openai and url is not None:
        raise WiringError(f"--openai and --url {url} are both given; give one of them")
    if pipeline is not None:
        _refuse_idle({"--openai": openai, "--url": url, **of_service}, f"set it in {pipeline}")
    elif not openai and url is None:
        _refuse_idle(of_service, "add --openai or --url, for the embedded server has no model")
    from framepipe.realtime.address import OPENAI_MODEL, realtime_url
    from framepipe.realtime.session import SessionSettings, Transcription
    from framepipe.talk.assembly import Service
    from framepipe.talk.run import TalkOptions, talk_on_page

    service = None
    if openai or url is not None:
        _refuse_without_key(realtime_url(url))
        service = Service(
            url=url,
            model=model or OPENAI_MODEL,
            greeting=greeting,
            session=SessionSettings(instructions=instructions, transcription=Transcription()),
        )
    options = TalkOptions(
        service=service, pipeline=pipeline, host=host, port=port, open_page=open_page
    )
    if terminal:
        from framepipe.talk.terminal import talk_in_terminal

        talk_in_terminal(
            options,
            Console(),
            input_device=_device(mic),
            output_device=_device(speaker),
            headphones=headphones,
            cancel_echo=aec,
        )
        return
    try:
        talk_on_page(options, lambda line: typer.echo(line))
    except ImportError as error:
        raise WiringError(str(error)) from error


def _refuse_idle(options: Mapping[str, str | bool | None], way_out: str) -> None:
    """An option that would do nothing is a mistake, and better said at once."""
    for option, value in options.items():
        if value is not None and value is not False:
            given = option if value is True else f"{option} {value}"
            raise WiringError(f"{given} would do nothing here; {way_out}")


def _refuse_without_key(url: str) -> None:
    """Before a page is open; who sees it there cannot give a key any more."""
    from framepipe.realtime.address import ServiceAddress
    from framepipe.realtime.connection import is_loopback

    address = ServiceAddress(url)
    if not (is_loopback(url) or address.has_key):
        raise WiringError(f"no key for {address.host}; set {address.variable}")


def _device(named: str | None) -> int | str | None:
    return int(named) if named is not None and named.isdecimal() else named


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
