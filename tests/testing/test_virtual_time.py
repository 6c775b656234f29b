"""Virtual time jumps, keeps order, and says so when something cannot be waited for."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from typing import cast

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from framepipe import Pipeline
from framepipe.testing import VirtualLoop, VirtualTimeError, run_virtual
from framepipe.testing.virtual_time import Backend
from framepipe_processors import WavSink


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return cast("Backend", request.param)


def leaf(error: BaseException) -> BaseException:
    """The one exception in groups of groups."""
    while isinstance(error, BaseExceptionGroup):
        (error,) = cast("BaseExceptionGroup[BaseException]", error).exceptions
    return error


def refusal(function: Callable[[], Awaitable[object]], backend: Backend) -> str:
    """What is said when it is run."""
    with pytest.raises(BaseException) as caught:
        run_virtual(function, backend=backend)
    error = leaf(caught.value)
    while not isinstance(error, VirtualTimeError) and error.__cause__ is not None:
        error = leaf(error.__cause__)
    assert isinstance(error, VirtualTimeError), repr(error)
    return str(error)


def test_an_hour_takes_no_time_and_the_clock_says_an_hour(backend: Backend) -> None:
    async def nap() -> float:
        before = anyio.current_time()
        await anyio.sleep(3_600)
        return anyio.current_time() - before

    assert run_virtual(nap, backend=backend) == 3_600


def test_timers_of_the_same_instant_fire_in_the_order_they_were_made() -> None:
    fired: list[int] = []

    async def many() -> None:
        loop = asyncio.get_running_loop()
        for number in range(100):
            loop.call_at(1.0, fired.append, number)
        await anyio.sleep(2)

    run_virtual(many)
    assert fired == list(range(100))


def test_a_thread_in_virtual_time_is_an_error_where_it_is_started(backend: Backend) -> None:
    if backend == "trio":  # trio keeps threads for later: none need be started
        anyio.run(lambda: anyio.to_thread.run_sync(time.monotonic), backend="trio")

    async def ask_a_thread() -> None:
        with anyio.fail_after(10):  # would pass at once
            await anyio.to_thread.run_sync(time.monotonic)

    assert "a thread" in refusal(ask_a_thread, backend)


def test_an_executor_in_virtual_time_is_an_error() -> None:
    async def ask() -> None:
        await asyncio.to_thread(time.monotonic)

    assert "a thread was started" in refusal(ask, "asyncio")


def test_a_thread_from_outside_that_calls_in_ends_the_run() -> None:
    go, gone = threading.Event(), threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    def call_in() -> None:
        go.wait()
        loops[0].call_soon_threadsafe(int)
        gone.set()

    async def let_it() -> None:
        loops.append(asyncio.get_running_loop())
        go.set()
        gone.wait()
        await anyio.sleep(1)

    thread = threading.Thread(target=call_in, name="a-device")
    thread.start()
    assert "a-device called into virtual time" in refusal(let_it, "asyncio")
    thread.join()


def test_other_threads_may_do_what_they_like_meanwhile() -> None:
    go, done = threading.Event(), threading.Event()

    def work() -> None:
        go.wait()
        inner = threading.Thread(target=done.set)
        inner.start()
        inner.join()

    async def let_it() -> None:
        go.set()
        done.wait()
        await anyio.sleep(1)

    thread = threading.Thread(target=work)
    thread.start()
    run_virtual(let_it)
    thread.join()


def test_threads_work_again_after_virtual_time() -> None:
    start = threading.Thread.start
    run_virtual(anyio.sleep, 1)
    assert threading.Thread.start is start
    done = threading.Event()
    threading.Thread(target=done.set).start()
    assert done.wait(10)


@pytest.mark.parametrize("what", ["connect", "listen", "look up"])
def test_a_socket_in_virtual_time_is_an_error(what: str, backend: Backend) -> None:
    async def use() -> None:
        if what == "connect":
            await anyio.connect_tcp("127.0.0.1", 9)
        elif what == "listen":
            await anyio.create_tcp_listener(local_host="127.0.0.1")
        else:
            await anyio.getaddrinfo("localhost", 80)

    assert "in virtual time" in refusal(use, backend)


def test_waiting_for_a_socket_that_was_there_before_is_an_error(backend: Backend) -> None:
    near, far = socket.socketpair()
    with near, far:

        async def wait() -> None:
            with anyio.fail_after(5):
                await anyio.wait_readable(near)

        assert "a real socket or file was waited for" in refusal(wait, backend)


def test_a_deadlock_is_found_at_once(backend: Backend) -> None:
    async def wait() -> None:
        await anyio.Event().wait()

    assert "every task waits and no timer is set" in refusal(wait, backend)


def test_a_loop_that_never_waits_is_found(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VirtualLoop, "spin_limit", 1_000)
    monkeypatch.setattr("framepipe.testing.virtual_time.SPIN_LIMIT", 1_000)

    async def spin() -> None:
        while True:
            await anyio.lowlevel.checkpoint()

    assert "without waiting for a time" in refusal(spin, backend)


def test_a_pipeline_without_a_source_that_nobody_stops_is_a_deadlock(backend: Backend) -> None:
    assert "stands still" in refusal(Pipeline(WavSink()).run, backend)
