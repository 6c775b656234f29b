"""The stateful machine, on random graphs: every stage must agree with the model.

The machine and the model are public (`framepipe.testing.machine`, `framepipe.testing.graphs`);
what is added here is what a stage of the engine's own tests can say of itself.
"""

from collections.abc import Sequence

from hypothesis import settings

from framepipe import Frame
from framepipe.testing.graphs import RandomPipeline, pipelines
from framepipe.testing.machine import Draw, PipelineMachine
from framepipe.testing.strangers import Note, Piece
from tests.examples import about


class EngineMachine(PipelineMachine):
    """Any graph, and every stage of it."""

    def stages(self, draw: Draw) -> Sequence[object]:
        self.random: RandomPipeline = draw(pipelines())
        return [self.random.pipeline]

    def cut_now(self) -> None:
        before = [stage.n_cuts for stage in self.random.stages]
        super().cut_now()
        assert [stage.n_cuts for stage in self.random.stages] == [n + 1 for n in before]

    def emit_urgent(self, frame: Frame, arrived: list[Frame]) -> None:
        before = [len(stage.urgent) for stage in self.random.stages]
        super().emit_urgent(frame, arrived)
        for stage, n, is_main in zip(
            self.random.stages, before, self.random.on_main_line, strict=True
        ):
            on_its_way = is_main or frame in self._tail.urgent
            assert stage.urgent[n:] == ([frame] if on_its_way else [])

    def check_end(self, *, turns_cut: int, is_complete: bool) -> None:
        emitted = [frame for frame in self.emitted if isinstance(frame, Note | Piece)]
        self.random.check(emitted, turns_cut=turns_cut, is_complete=is_complete)
        statistics = self.session.pipeline.statistics().stages
        for stage in self.random.stages:
            assert stage.n_ends == 1 or not is_complete
        assert not any("failed" in counted.dropped for counted in statistics)


TestEngine = EngineMachine.TestCase
TestEngine.settings = settings(max_examples=about(100), stateful_step_count=20)
