"""Checked by mypy and pyright, never run: what `on` and `Emit` take.

Every ``ignore`` must be needed, or mypy reports it: a hole in the types fails the check. Pyright
honours mypy's comments; what it refuses by itself is in ``check_on_pyright.py``.
"""

from collections.abc import AsyncIterator, Iterable, Iterator

from framepipe import AudioIn, AudioOut, Emit, Frame, Interrupt, Mute, Ordered, Played, on


class Right:
    @on(AudioIn)
    def one(self, frame: AudioIn) -> AudioIn:
        return frame

    @on(AudioIn)
    def none(self, frame: AudioIn) -> None: ...

    @on(AudioIn)
    def maybe(self, frame: AudioIn) -> AudioIn | None: ...

    @on(AudioIn)
    def several(self, frame: AudioIn) -> list[AudioIn | Mute]:
        return [frame, Mute()]

    @on(AudioIn)
    def pair(self, frame: AudioIn) -> tuple[AudioIn, Mute]:
        return frame, Mute()

    @on(AudioIn)
    def generator(self, frame: AudioIn) -> Iterator[AudioIn | Mute]:
        yield frame

    @on(AudioIn, Mute)
    def two(self, frame: AudioIn | Mute) -> AudioIn | Mute:
        return frame

    @on(AudioIn, Mute, Interrupt)
    def three(self, frame: AudioIn | Mute | Interrupt) -> Frame:
        return frame

    @on(AudioIn)
    def of_a_base(self, frame: Ordered) -> Ordered:
        return frame

    @on(AudioIn)
    async def later(self, frame: AudioIn) -> AudioIn | None: ...

    @on(AudioIn)
    async def later_several(self, frame: AudioIn) -> Iterable[Frame]:
        return [frame]

    @on(AudioIn)
    async def stream(self, frame: AudioIn) -> AsyncIterator[AudioIn]:
        yield frame

    async def run(self, emit: Emit[AudioOut | Played]) -> None:
        await emit.room()
        if await emit.until(5):
            emit(AudioOut(turn=emit.new_turn(), pcm=b"", rate_hz=24_000))


def a_marked_method_keeps_its_type(stage: Right, frame: AudioIn) -> AudioIn:
    return stage.one(frame)


def an_emit_of_more_serves_where_less_is_wanted(emit: Emit[Frame]) -> Emit[AudioOut]:
    return emit


class WrongParameter:
    @on(AudioIn)  # type: ignore[arg-type]
    def other(self, frame: AudioOut) -> None: ...

    @on(AudioIn, Mute)  # type: ignore[arg-type]
    def too_narrow(self, frame: AudioIn) -> None: ...

    @on(AudioIn)  # type: ignore[arg-type]
    def no_parameter(self) -> None: ...

    @on(AudioIn)  # type: ignore[arg-type]
    async def other_later(self, frame: Mute) -> None: ...


class WrongReturn:
    @on(AudioIn)  # type: ignore[type-var]
    def number(self, frame: AudioIn) -> int:
        return 5

    @on(AudioIn)  # type: ignore[type-var]
    def text(self, frame: AudioIn) -> str:
        return "words"

    @on(AudioIn)  # type: ignore[type-var]
    def numbers(self, frame: AudioIn) -> list[int]:
        return [5]

    @on(AudioIn)  # type: ignore[type-var]
    async def number_later(self, frame: AudioIn) -> int:
        return 5

    @on(AudioIn)  # type: ignore[type-var]
    async def bytes_stream(self, frame: AudioIn) -> AsyncIterator[bytes]:
        yield b""


class NoFrame:
    @on(int)  # type: ignore[type-var]
    def number(self, frame: int) -> None: ...

    @on()  # type: ignore[call-overload, untyped-decorator]
    def nothing(self, frame: AudioIn) -> None: ...


async def emit_refuses_frames_that_were_not_declared(emit: Emit[AudioIn]) -> None:
    emit(AudioOut(turn=1, pcm=b"", rate_hz=24_000))  # type: ignore[arg-type]
    emit.from_thread(Mute())  # type: ignore[arg-type]
    emit.until(0.5)  # type: ignore[arg-type, unused-coroutine]


def an_emit_of_less_does_not_serve_for_more(emit: Emit[AudioIn]) -> Emit[Frame]:
    return emit  # type: ignore[return-value]
