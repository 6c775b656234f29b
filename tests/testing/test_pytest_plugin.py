"""The plug-in, in runs of pytest of its own."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture
def tests(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest('pytest_plugins = ["framepipe.testing.pytest_plugin"]')
    return pytester


def run(tests: pytest.Pytester, code: str, *options: str) -> pytest.RunResult:
    tests.makepyfile(code)
    return tests.runpytest_inprocess("-p", "no:cacheprovider", *options)


def test_a_marked_test_runs_in_virtual_time_on_both_backends(tests: pytest.Pytester) -> None:
    result = run(
        tests,
        """
        import anyio, pytest

        @pytest.fixture
        def hours():
            return 2

        @pytest.mark.virtual_time
        async def test_it(hours):
            await anyio.sleep(3600 * hours)
            assert anyio.current_time() == 7200

        @pytest.mark.virtual_time("trio")
        async def test_that():
            assert False, anyio.get_current_task().name + " ran"
        """,
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*guarded ran*"])


def test_an_unknown_backend_is_named(tests: pytest.Pytester) -> None:
    result = run(
        tests,
        """
        import pytest

        @pytest.mark.virtual_time("curio")
        async def test_it(): pass
        """,
    )
    result.stdout.fnmatch_lines(["*virtual_time('curio'): it is 'asyncio' or 'trio'*"])


def test_a_plain_test_gets_virtual_time_from_a_fixture(tests: pytest.Pytester) -> None:
    result = run(
        tests,
        """
        import anyio

        def test_it(virtual_run):
            virtual_run(anyio.sleep, 3600)
        """,
        "-v",
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*test_it*asyncio*", "*test_it*trio*"])


def test_the_seed_of_a_failed_test_is_printed_and_can_be_given_again(
    tests: pytest.Pytester,
) -> None:
    code = "def test_it(seed): assert seed == 17, seed"
    first, second = run(tests, code), run(tests, code)
    lines = [
        next(line for line in result.outlines if "--framepipe-seed" in line)
        for result in (first, second)
    ]
    assert lines[0] == lines[1], "the same every time"
    assert "run it again with --framepipe-seed=" in lines[0]
    run(tests, code, "--framepipe-seed=17").assert_outcomes(passed=1)


def test_other_tests_are_left_alone(tests: pytest.Pytester) -> None:
    result = run(
        tests,
        """
        def test_it(): pass
        """,
    )
    result.assert_outcomes(passed=1)
