"""What the release check refuses; the check itself builds and installs, and is run by hand."""

from __future__ import annotations

import tomllib

import pytest

from scripts import check_release, coverage_report


def test_a_file_or_folder_that_is_needed_and_not_there_is_named() -> None:
    there = {"LICENSE", "tests/test_a.py", "framepipe/demo/user.wav"}
    assert check_release.missing(("LICENSE", "tests", "framepipe/demo"), there) == []
    assert check_release.missing(("README.md", "docs"), there) == ["README.md", "docs"]


@pytest.mark.parametrize(
    ("name", "is_stranger"),
    [
        ("framepipe/engine.py", False),
        ("framepipe_processors/playout.py", False),
        ("framepipe-0.1.0.dist-info/METADATA", False),
        ("tests/test_a.py", True),
        ("processors/framepipe_processors/playout.py", True),
    ],
)
def test_what_does_not_belong_into_a_wheel_is_named(name: str, is_stranger: bool) -> None:
    assert check_release.strangers({name}) == ([name] if is_stranger else [])


def test_what_a_release_needs_is_in_the_tree_and_in_the_list_of_the_sdist() -> None:
    project = tomllib.loads((check_release.ROOT / "pyproject.toml").read_text("utf-8"))
    listed = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    for name in check_release.NEEDED_IN_SDIST:
        assert (check_release.ROOT / name).exists()
        assert name in listed
    for name in check_release.NEEDED_IN_WHEEL:
        folder = "processors" if name.startswith("framepipe_processors") else "."
        assert (check_release.ROOT / folder / name).is_file()


def test_coverage_is_counted_by_package_in_statements_and_branches() -> None:
    def file(lines: int, of_lines: int, branches: int, of_branches: int) -> dict[str, object]:
        return {
            "summary": {
                "covered_lines": lines,
                "num_statements": of_lines,
                "covered_branches": branches,
                "num_branches": of_branches,
            }
        }

    files = {
        "framepipe/engine.py": file(8, 10, 3, 4),
        "framepipe/realtime/a.py": file(1, 2, 0, 0),
        "framepipe/realtime/b.py": file(2, 2, 2, 2),
        "processors/framepipe_processors/playout.py": file(5, 5, 0, 0),
    }
    assert coverage_report.by_package(files) == {
        "framepipe": (11, 14),
        "framepipe.realtime": (5, 6),
        "framepipe_processors": (5, 5),
    }
    assert coverage_report.percent(11, 14) == pytest.approx(78.57, abs=0.01)
    assert coverage_report.percent(0, 0) == 100
