"""A policy file: one table per stage name, with its constructor's keywords."""

from pathlib import Path
from typing import Any

import pytest

from framepipe import Fork, FrameError, Pipeline, Policy, WiringError, on
from tests.engine.kit import Note, Sink


class Gain:
    def __init__(self, factor: int = 1, *, offset: int = 0) -> None:
        if factor < 0:
            raise FrameError(f"factor is {factor}; it must be 0 or more")
        self.factor = factor
        self.offset = offset

    @on(Note)
    def scale(self, frame: Note) -> Note:
        return Note(n=self.factor * frame.n + self.offset)


def policy(text: str, path: Path) -> Policy:
    file = path / "policy.toml"
    file.write_text(text, "utf-8")
    return Policy.load(file)


def test_a_table_holds_the_keywords_of_its_stages_constructor(tmp_path: Path) -> None:
    made = policy("[Gain]\nfactor = 3\noffset = 1\n", tmp_path)
    assert Pipeline(Gain, Sink(), policy=made).step(Note(n=2)) == []
    assert Pipeline(Gain, policy=made).step(Note(n=2)) == [Note(n=7)]


def test_a_stage_without_a_table_is_made_with_its_defaults(tmp_path: Path) -> None:
    assert Pipeline(Gain, policy=policy("", tmp_path)).step(Note(n=2)) == [Note(n=2)]


def test_the_second_of_a_kind_has_its_own_table(tmp_path: Path) -> None:
    made = policy("[Gain]\nfactor = 3\n[Gain2]\nfactor = 5\n", tmp_path)
    assert Pipeline(Gain, Gain, policy=made).step(Note(n=1)) == [Note(n=15)]
    names = [stage.name for stage in Pipeline(Gain, Gain, policy=made).statistics().stages]
    assert names == ["Gain", "Gain2"]


def test_stages_inside_forks_and_pipelines_are_counted_too(tmp_path: Path) -> None:
    made = policy("[Gain3]\nfactor = 5\n", tmp_path)
    pipeline = Pipeline(Fork(Gain(), Pipeline(Gain())), Gain, policy=made)
    assert pipeline.step(Note(n=1)) == [Note(n=5)]


def test_an_unknown_key_is_an_error_that_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(
        WiringError, match=r"policy.toml: \[Gain\] has no setting 'facter'; .* 'factor'"
    ):
        Pipeline(Gain, policy=policy("[Gain]\nfacter = 3\n", tmp_path))


def test_an_unknown_stage_is_an_error_that_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(WiringError, match=r"no stage is called 'Gian'; the nearest is 'Gain'"):
        Pipeline(Gain, policy=policy("[Gian]\nfactor = 3\n", tmp_path))


def test_a_table_for_a_stage_that_was_given_ready_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WiringError, match=r"\[Gain\] sets a stage that was given ready-made"):
        Pipeline(Gain(), policy=policy("[Gain]\nfactor = 3\n", tmp_path))


def test_a_value_that_the_constructor_refuses_is_a_wiring_error(tmp_path: Path) -> None:
    with pytest.raises(WiringError, match=r"\[Gain\] factor is -1; it must be 0 or more") as caught:
        Pipeline(Gain, policy=policy("[Gain]\nfactor = -1\n", tmp_path))
    assert isinstance(caught.value.__cause__, FrameError)


@pytest.mark.parametrize("text", ["[Gain", "Gain = 3", "factor"])
def test_what_is_no_policy_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(WiringError, match=r"policy.toml"):
        policy(text, tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WiringError, match=r"nowhere.toml: No such file"):
        Policy.load(tmp_path / "nowhere.toml")


def test_a_policy_can_be_made_from_tables() -> None:
    tables: dict[str, dict[str, Any]] = {"Gain": {"offset": 4}}
    assert Pipeline(Gain, policy=Policy(tables)).step(Note(n=1)) == [Note(n=5)]


def test_a_class_without_a_policy_is_refused_with_the_way_out() -> None:
    with pytest.raises(WiringError, match=r"write Gain\(…\), or give"):
        Pipeline(Gain).check()
