"""Links of the documentation lead somewhere, and what the page on the paper names is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)[^)]*\)")


def anchors(page: Path) -> set[str]:
    """What the page's headings are called in a link, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    """Links to files that are not there, or to headings that a page lacks."""
    wrong = []
    for link in LINK.findall(page.read_text()):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page):
    """Every link to a file of the project, pictures too, and to a heading of a page, is to one that is there."""
    assert broken(page) == []


def test_a_broken_link_is_found(tmp_path):
    """The test above can fail: a missing file and a missing heading are found, sound links are not."""
    (tmp_path / "b.md").write_text("# A heading: here")
    (tmp_path / "a.md").write_text("[x](b.md) [x](b.md#a-heading-here) [x](b.md#no) ![x](no.png) [x](https://no.where)")
    assert broken(tmp_path / "a.md") == ["b.md#no", "no.png"]


def unknown(page: Path) -> list[str]:
    """What cells "here" and "tested by" of the page's tables name, and is neither a file, a module nor a definition."""
    folders = [ROOT, ROOT / "models/diffusion", ROOT / "tests/models/diffusion"]
    sources = [file for top in ("models", "tasks", "tests") for file in (ROOT / top).rglob("*.py")]
    text = "\n".join(file.read_text() for file in sources)
    rows = [line.split("|") for line in page.read_text().splitlines() if line.startswith("| **")]
    names = [name for row in rows for name in CODE.findall("|".join(row[2:4]))]
    there = {name for name in names for folder in folders for end in ("", ".py") if (folder / f"{name}{end}").exists()}
    return [name for name in names if name not in there and not is_defined(name.split(".")[-1], text)]


def is_defined(name: str, text: str) -> bool:
    """Whether the sources have a function, a class or a field of this name."""
    return bool(re.search(rf"^ *(?:(?:def|class) {re.escape(name)}\b|{re.escape(name)}: )", text, re.MULTILINE))


def test_the_page_on_the_paper_names_what_there_is(tmp_path):
    """Its rows name files, modules, tests and definitions that exist; one that does not is found."""
    assert unknown(ROOT / "docs/paper.md") == []
    (tmp_path / "a.md").write_text("| **x** | `edm.py`, `gone.py` | `test_edm.py`, `test_gone` | `free` |")
    assert unknown(tmp_path / "a.md") == ["gone.py", "test_gone"]
