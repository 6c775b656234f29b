# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Checked by pyright, never run: what `on` and `Emit` refuse.

Every ``ignore`` must be needed, or pyright reports it. Mypy, which knows nothing of these comments
and has ``check_on.py``, takes the constant to be true and looks away.
"""

from collections.abc import AsyncIterator

from framepipe import AudioIn, AudioOut, Emit, Frame, Mute, on

MYPY = False

if not MYPY:

    class WrongParameter:
        @on(AudioIn)  # pyright: ignore[reportArgumentType]
        def other(self, frame: AudioOut) -> None: ...

        @on(AudioIn, Mute)  # pyright: ignore[reportArgumentType]
        def too_narrow(self, frame: AudioIn) -> None: ...

        @on(AudioIn)  # pyright: ignore[reportArgumentType]
        def no_parameter(self) -> None: ...

        @on(AudioIn)  # pyright: ignore[reportArgumentType]
        async def other_later(self, frame: Mute) -> None: ...

    class WrongReturn:
        @on(AudioIn)  # pyright: ignore[reportArgumentType]
        def number(self, frame: AudioIn) -> int:
            return 5

        @on(AudioIn)  # pyright: ignore[reportArgumentType]
        def text(self, frame: AudioIn) -> str:
            return "words"

        @on(AudioIn)  # pyright: ignore[reportArgumentType]
        def numbers(self, frame: AudioIn) -> list[int]:
            return [5]

        @on(AudioIn)  # pyright: ignore[reportArgumentType]
        async def number_later(self, frame: AudioIn) -> int:
            return 5

        @on(AudioIn)  # pyright: ignore[reportArgumentType]
        async def bytes_stream(self, frame: AudioIn) -> AsyncIterator[bytes]:
            yield b""

    class NoFrame:
        @on(int)  # pyright: ignore[reportArgumentType]
        def number(self, frame: int) -> None: ...

        @on()  # pyright: ignore[reportCallIssue, reportUntypedFunctionDecorator]
        def nothing(self, frame: AudioIn) -> None: ...

    async def emit_refuses_frames_that_were_not_declared(emit: Emit[AudioIn]) -> None:
        emit(AudioOut(turn=1, pcm=b"", rate_hz=24_000))  # pyright: ignore[reportArgumentType]
        emit.from_thread(Mute())  # pyright: ignore[reportArgumentType]
        emit.until(0.5)  # pyright: ignore[reportArgumentType, reportUnusedCoroutine]

    def an_emit_of_less_does_not_serve_for_more(emit: Emit[AudioIn]) -> Emit[Frame]:
        return emit  # pyright: ignore[reportReturnType]
