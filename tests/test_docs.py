"""Links of the documentation lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
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
