"""A policy file: the settings of a pipeline's stages, outside the program.

One TOML table for each stage name, with the keywords of its constructor::

    [BargeIn]
    cause = "local"

    [LocalVad]
    frame_ms = 10

The pipeline makes the stages that are given to it as classes, each with its table.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from framepipe.errors import WiringError

if TYPE_CHECKING:
    from pathlib import Path


class Policy:
    """Settings by stage name.

    Args:
        tables: Keywords of the constructor, for each stage name.
        origin: Where they come from, for error messages.
    """

    def __init__(self, tables: Mapping[str, Mapping[str, object]], origin: str = "policy") -> None:
        self._tables = {name: dict(table) for name, table in tables.items()}
        self._origin = origin

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """Read a TOML file.

        Raises:
            WiringError: There is no such file, or it is no TOML with one table a stage.
        """
        import tomllib  # here, because `import framepipe` should be light

        try:
            with open(path, encoding="utf-8") as file:
                tables = tomllib.loads(file.read())
        except OSError as error:
            raise WiringError(f"{path}: {error.strerror}; a policy is a TOML file") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise WiringError(f"{path} is not TOML: {error}") from error
        for name, table in tables.items():
            if not isinstance(table, dict):
                raise WiringError(
                    f"{path}: {name} = {table!r} stands outside a table; put it under the name "
                    "of its stage, as in [BargeIn]"
                )
        return cls(tables, str(path))

    def make(self, name: str, stage_class: type[Any]) -> object:
        """Make a stage with the keywords of its table.

        Args:
            name: The stage's name in the pipeline.
            stage_class: Its class.

        Raises:
            WiringError: The constructor does not take a keyword, or refuses its value.
        """
        keywords = self._tables.get(name, {})
        known = [
            parameter.name
            for parameter in inspect.signature(stage_class).parameters.values()
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        ]
        for keyword in keywords:
            if keyword not in known:
                hint = nearest(keyword, known)
                raise WiringError(f"{self._origin}: [{name}] has no setting {keyword!r}; {hint}")
        try:
            return stage_class(**keywords)
        except (TypeError, ValueError) as error:
            raise WiringError(f"{self._origin}: [{name}] {error}") from error

    def check_names(self, made: Iterable[str], given: Iterable[str]) -> None:
        """Refuse tables that nobody reads.

        Args:
            made: Names of the stages that were made from this policy.
            given: Names of those that were given ready-made.

        Raises:
            WiringError: A table names no stage, or one that was given ready-made.
        """
        made, given = list(made), list(given)
        for name in self._tables:
            if name in given:
                raise WiringError(
                    f"{self._origin}: [{name}] sets a stage that was given ready-made; give the "
                    f"pipeline the class {name} instead"
                )
            if name not in made:
                raise WiringError(
                    f"{self._origin}: no stage is called {name!r}; {nearest(name, made)}"
                )


def nearest(word: str, known: list[str]) -> str:
    """A hint for a word that is not among the known ones."""
    import difflib  # here, because `import framepipe` should be light

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.0)
    return f"the nearest is {close[0]!r}" if close else "there are none"
