"""Ask a public database whether a dependency has a known weakness.

    python scripts/audit.py

Every version of ``constraints.txt`` is looked up with ``pip-audit``, which is installed into a
temporary environment: the project does not depend on it. This needs the network and its answer
changes from day to day, so it is a job of its own and no part of the tests.

Exits with 0 when nothing is known, with 1 when something is, with 2 when nobody could be asked.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_LIMIT_S = 600.0


def verdict(code: int, said: str) -> int:
    """What the auditor's answer means.

    Args:
        code: Its exit code; 1 stands for "found something" and for "something broke" alike.
        said: What it printed. What it could not look up it only mentions.

    Returns:
        0: nothing is known; 1: something is; 2: nobody could be asked.
    """
    if re.search(r"Found \d+ known vulnerabilit", said):
        return 1
    return 2 if code or "could not be audited" in said else 0


def main() -> int:
    """Install the auditor, run it, forget it."""
    with tempfile.TemporaryDirectory(prefix="audit-") as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        install = [str(python), "-m", "pip", "install", "--quiet", "pip-audit"]
        audit = [str(python), "-m", "pip_audit", "--disable-pip", "--no-deps"]
        audit += ["--requirement", str(ROOT / "constraints.txt"), "--desc", "off"]
        try:
            subprocess.run(install, check=True, timeout=_LIMIT_S)
            asked = subprocess.run(audit, check=False, timeout=_LIMIT_S, capture_output=True)
        except (subprocess.SubprocessError, OSError) as error:
            sys.stderr.write(f"nobody could be asked: {error}\n")
            return 2
    said = asked.stdout.decode() + asked.stderr.decode()
    code = verdict(asked.returncode, said)
    sys.stdout.write(said)
    if code == 2:
        sys.stderr.write("not everything could be looked up: this says nothing\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
