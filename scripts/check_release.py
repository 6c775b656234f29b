"""Build what is published, install it where nothing else is, and hold a call with it.

    python scripts/check_release.py

The wheel is built from the source distribution, so that this proves both; what each must and must
not hold is checked. Then the wheel is installed into an empty environment, and ``framepipe demo``
runs there, in an empty folder. It needs the network, or a cache of the dependencies.

Exits with 0 when all of that works.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

NEEDED_IN_WHEEL = (
    "framepipe/__init__.py",
    "framepipe/py.typed",
    "framepipe_processors/py.typed",
    "framepipe/demo/user.wav",
    "framepipe/realtime/clips/clips.json",
)
"""Files without which an installed framepipe would not work, or not be typed."""

NEEDED_IN_SDIST = ("LICENSE", "README.md", "SECURITY.md", "Makefile", "constraints.txt", "tests")
"""What who builds it himself needs beside the code."""

_LIMIT_S = 900.0


class ReleaseError(Exception):
    """What is built cannot be published."""


def missing(needed: tuple[str, ...], there: set[str]) -> list[str]:
    """What of the needed files, or folders, is not there."""
    folders = {part for name in there for part in _parents(name)}
    return [name for name in needed if name not in there and name not in folders]


def _parents(name: str) -> list[str]:
    return [str(parent) for parent in Path(name).parents]


def strangers(there: set[str]) -> list[str]:
    """What does not belong into a wheel."""
    allowed = ("framepipe/", "framepipe_processors/", "framepipe-")
    return sorted(name for name in there if not name.startswith(allowed) or "/tests/" in name)


def main() -> int:
    """Build, look, install, run."""
    with tempfile.TemporaryDirectory(prefix="release-") as name:
        folder = Path(name)
        try:
            _check(folder)
        except (ReleaseError, subprocess.SubprocessError) as error:
            sys.stderr.write(f"not fit to be published: {error}\n")
            return 1
    sys.stdout.write("wheel and sdist are built, installed, and hold a call\n")
    return 0


def _check(folder: Path) -> None:
    builder = _environment(folder / "builder")
    _run(builder, "-m", "pip", "install", "--quiet", "build")
    built = folder / "dist"
    _run(builder, "-m", "build", "--outdir", str(built), str(ROOT))
    (sdist,), (wheel,) = built.glob("*.tar.gz"), built.glob("*.whl")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    if lacking := missing(NEEDED_IN_SDIST, inside):
        raise ReleaseError(f"{sdist.name} lacks {lacking}")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    if lacking := missing(NEEDED_IN_WHEEL, inside):
        raise ReleaseError(f"{wheel.name} lacks {lacking}")
    if extra := strangers(inside):
        raise ReleaseError(f"{wheel.name} holds {extra}")
    sys.stdout.write(f"{sdist.name}, {wheel.name}: {len(inside)} files\n")
    empty = _environment(folder / "empty")
    _run(empty, "-m", "pip", "install", "--quiet", str(wheel))
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    _run(empty, "-m", "framepipe.cli", "demo", "--fast", cwd=elsewhere)
    if lacking := missing(("conversation.wav", "trace.jsonl"), _names(elsewhere / "out")):
        raise ReleaseError(f"the demo made no {lacking}")


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _environment(folder: Path) -> Path:
    venv.create(folder, with_pip=True)
    return folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"


def _run(python: Path, *arguments: str, cwd: Path | None = None) -> None:
    command = [str(python), *arguments]
    ran = subprocess.run(
        command, check=False, cwd=cwd, timeout=_LIMIT_S, capture_output=True, text=True
    )
    if ran.returncode:
        words = " ".join(arguments[:4])
        raise ReleaseError(f"python {words} … ended with {ran.returncode}:\n{ran.stderr[-2_000:]}")


if __name__ == "__main__":
    raise SystemExit(main())
