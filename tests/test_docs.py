"""The pages: fresh, linked, complete."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

import framepipe
from framepipe.cli import app
from scripts import make_docs

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
WRITTEN_BY_HAND = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if "Made by scripts/make_docs.py" not in page.read_text("utf-8")
]

LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def without_code(page: Path) -> str:
    return FENCE.sub("", page.read_text("utf-8"))


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Where the internal links of a page lead: a file, and a heading in it or nothing."""
    for target in LINK.findall(without_code(page)):
        if "://" not in target:
            path, _, heading = target.partition("#")
            yield (page.parent / path).resolve() if path else page, heading


def headings(page: Path) -> set[str]:
    """The anchors that a page offers."""
    titles = re.findall(r"^#+ (.+)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def python_blocks(page: Path) -> list[str]:
    return [code for kind, code in FENCE.findall(page.read_text("utf-8")) if kind == "python"]


def test_no_page_is_stale() -> None:
    stale = [name_of(page) for page in make_docs.stale_pages()]
    assert not stale, f"stale: {stale}; say: python scripts/make_docs.py"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_internal_link_leads_somewhere(page: Path) -> None:
    for target, heading in links(page):
        assert target.exists(), f"{name_of(page)} links {target}"
        assert not heading or heading in headings(target), f"{name_of(target)} has no #{heading}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached = {README, DOCS / "README.md"}
    new = set(reached)
    while new:
        found = {target for page in new for target, _ in links(page) if target.suffix == ".md"}
        new = found - reached
        reached |= new
    lost = [name_of(page) for page in PAGES if page not in reached]
    assert not lost, f"nobody links {lost}"


def test_every_public_name_is_on_a_reference_page() -> None:
    pages = (DOCS / "reference" / name for name in ("engine.md", "frames.md"))
    text = "\n".join(page.read_text("utf-8") for page in pages)
    public = [
        name
        for name, value in vars(framepipe).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    ]
    assert len(public) > 50
    missing = [
        name for name in public if not re.search(rf"^### {name}$|`{name}[`(,]", text, re.MULTILINE)
    ]
    assert not missing, f"on no reference page: {missing}"


def test_every_processor_is_on_its_page() -> None:
    page = headings(DOCS / "reference" / "processors.md")
    for module in make_docs.modules(("framepipe_processors.*",)):
        for name, value in vars(importlib.import_module(module)).items():
            if inspect.isclass(value) and value.__module__ == module and name[0] != "_":
                assert name.lower() in page, f"{name} is not on the page of the processors"


def test_the_glossary_is_sorted_and_says_each_word_once() -> None:
    page = (DOCS / "reference" / "glossary.md").read_text("utf-8")
    words = re.findall(r"^- \*\*(.+?)\*\*: ", page, re.MULTILINE)
    assert len(words) > 20
    assert all(first < second for first, second in pairwise(words)), words


@pytest.mark.parametrize("page", WRITTEN_BY_HAND, ids=name_of)
def test_code_on_a_page_is_included_and_not_pasted(page: Path) -> None:
    text = page.read_text("utf-8")
    included = re.findall(r"<!-- include: \S+ -->\n+```python\n(.*?)^```$", text, re.M | re.S)
    assert python_blocks(page) == included


def test_the_readme_shows_the_processor_of_the_example() -> None:
    blocks = [block for block in python_blocks(README) if "class NoiseGate" in block]
    example = (ROOT / "examples" / "noise_gate.py").read_text("utf-8")
    assert [class_in(block) for block in blocks] == [class_in(example)]


def class_in(source: str) -> str:
    (found,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    return ast.unparse(found)


def test_the_readme_imports_what_there_is() -> None:
    imports = [
        node
        for block in python_blocks(README)
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.ImportFrom)
    ]
    assert imports
    for node in imports:
        module = importlib.import_module(str(node.module))
        for alias in node.names:
            assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


def test_the_layout_names_every_layer_in_the_order_of_the_contract() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    (contract,) = (c for c in project["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    modules = [name for layer in contract["layers"] for name in layer.split(" | ")]
    page = (DOCS / "explanation" / "layout.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    missing = [name for name in modules if not any(f"`{name}`" in row for row in rows)]
    assert not missing, f"not on the page of the layout: {missing}"
    places = [next(n for n, row in enumerate(rows) if f"`{name}`" in row) for name in modules]
    assert places == sorted(places)


@pytest.mark.parametrize("name", ["call", "demo", "serve"])
def test_every_option_of_a_command_is_on_its_page(name: str) -> None:
    page = (DOCS / "reference" / "command-line.md").read_text("utf-8")
    section = page.partition(f"## {name}\n")[2].partition("\n## ")[0]
    rows = "\n".join(line for line in section.splitlines() if line.startswith("| `--"))
    callbacks = {c.callback.__name__: c.callback for c in app.registered_commands if c.callback}
    for parameter in inspect.signature(callbacks[name]).parameters:
        assert f"`--{parameter.replace('_', '-')}" in rows, f"{parameter} is not on the page"


# --- the script itself ------------------------------------------------------------------------


def test_an_included_block_becomes_the_text_of_its_file() -> None:
    page = "before\n\n<!-- include: examples/policy.toml -->\n```\nold\n```\n\nafter\n"
    made = make_docs.with_code(page, "page")
    assert made.startswith("before\n\n<!-- include: examples/policy.toml -->\n```toml\n# One table")
    assert made.endswith("mutes_per_5_s = 2\n```\n\nafter\n")
    assert make_docs.with_code(made, "page") == made


def test_an_included_name_comes_with_its_decorators_and_alone() -> None:
    source = "import x\n\n\n@x.y\ndef one():\n    return 1\n\n\ndef two():\n    return 2\n"
    assert make_docs.one_of(source, "one", "here") == "@x.y\ndef one():\n    return 1"


@pytest.mark.parametrize("wanted", ["examples/none.py", "examples/noise_gate.py#Nothing"])
def test_a_page_that_includes_what_is_not_there_is_refused(wanted: str) -> None:
    with pytest.raises(make_docs.DocsError, match="page: "):
        make_docs.with_code(f"<!-- include: {wanted} -->\n```\n```\n", "page")


def test_a_docstring_becomes_lists_and_keeps_its_text() -> None:
    made = make_docs.markdown(
        """Do a thing with ``x``.

        Args:
            x: What to do it with,
                in metres.

        Raises:
            ValueError: It cannot be done.

        And a last word.
        """
    )
    assert made.splitlines() == [
        "Do a thing with `x`.",
        "",
        "**Parameters**",
        "",
        "- `x`: What to do it with,",
        "  in metres.",
        "",
        "**Raises**",
        "",
        "- `ValueError`: It cannot be done.",
        "",
        "And a last word.",
    ]


def test_checking_names_the_stale_page_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = DOCS / "none" / "new.md"
    monkeypatch.setattr(make_docs, "pages", lambda: {page: "text"})
    assert make_docs.main(["--check"]) == 1
    assert capsys.readouterr().out.startswith("docs/none/new.md is stale\n")
    assert not page.exists()
