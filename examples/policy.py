"""Settings outside the program: a policy file makes the stages.

You will see a pipeline made from examples/policy.toml, what became of its settings, and what a
misspelt setting leads to.
"""

from __future__ import annotations

from pathlib import Path

from framepipe import Pipeline, Policy, WiringError
from framepipe_processors import BargeIn, LocalVad, Playout

FILE = Path(__file__).with_name("policy.toml")


def main() -> None:
    pipeline = Pipeline(LocalVad, Playout, BargeIn, policy=Policy.load(FILE))
    print(pipeline)
    for stage in pipeline.stages:
        if isinstance(stage, LocalVad):
            print(f"LocalVad listens in frames of {stage.frame_ms} ms, in mode {stage.mode}")

    misspelt = Policy({"BargeIn": {"mutes_per_5s": 2}})
    try:
        Pipeline(BargeIn, policy=misspelt)
    except WiringError as error:
        print(f"refused: {error}")


if __name__ == "__main__":
    main()
