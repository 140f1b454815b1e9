"""The documentation works: links resolve, Python runs, commands parse, profiles load, named code exists."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main

from spinmeround.flows.cli.app import app
from spinmeround.flows.profile import validate_profile
from spinmeround.flows.profile.loading import _merged, complete

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)[^)]*\)")
LANGUAGES = {"bash", "json", "mermaid", "python", "text", "toml"}
PLACEHOLDER = re.compile(r"[A-Z]+(\.[a-z.]+)?$")


class Block(NamedTuple):
    """A fenced block of code in a page."""

    language: str
    text: str


def blocks(page: Path, *languages: str) -> list[str]:
    """The texts of a page's blocks in these languages."""
    found = [Block(*match) for match in BLOCK.findall(page.read_text(encoding="utf-8"))]
    return [block.text for block in found if block.language in languages]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


with_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """Links to missing files or headings."""
    wrong = []
    for link in LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            wrong.append(link)
    return wrong


@pytest.mark.fast
@with_page
def test_links_resolve(page: Path) -> None:
    """Every link to a file of the project, including images, and to a heading has a target."""
    assert broken_links(page) == []


@pytest.mark.fast
def test_a_broken_link_is_found(tmp_path: Path) -> None:
    """The test of links finds a missing file and a missing heading, and accepts valid links."""
    (tmp_path / "b.md").write_text("# A heading: here")
    (tmp_path / "a.md").write_text("[x](b.md) [x](b.md#a-heading-here) [x](b.md#no) ![x](no.png) [x](https://no.where)")
    assert broken_links(tmp_path / "a.md") == ["b.md#no", "no.png"]


@pytest.mark.fast
@with_page
def test_every_block_has_a_language(page: Path) -> None:
    """Each block of code names its language, so none escapes the tests below by accident."""
    assert {language for language, _ in BLOCK.findall(page.read_text(encoding="utf-8"))} <= LANGUAGES


def run_python(page: Path) -> dict[str, Any]:
    """Run the Python blocks of a page in order, in one namespace."""
    namespace: dict[str, Any] = {"__name__": "docs"}
    for text in blocks(page, "python"):
        exec(compile(text, name_of(page) if page.is_relative_to(ROOT) else str(page), "exec"), namespace)
    return namespace


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a small `runs/demo`: a dataset of 125 views with latents, and an untrained pipeline."""
    from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
    from spinmeround.storage.dataset import HeadDataset, add_latents, publish
    from tests.models.diffusion.networks import TINY_PROMPT, tiny_autoencoder, tiny_text_encoder, tiny_unet
    from tests.support.heads import write_all_latents, write_heads

    root = tmp_path_factory.mktemp("docs")
    run = root / "runs" / "demo"
    published = publish(run / "datasets", write_heads(root / "heads", range(6), views=125, side=8), {})
    ids = list(HeadDataset.open(published.path).ids)
    add_latents(published.path, write_all_latents(root / "latents", ids, views=125), "autoencoder")
    pipeline = SpinMeRoundPipeline(tiny_unet(), tiny_autoencoder(), tiny_text_encoder(), TINY_PROMPT.model_dump())
    pipeline.save_pretrained(run / "store" / "multi-view" / "00" / "0000" / "pipeline")
    return root


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name_of)
def test_python_blocks_run(page: Path, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python of a page runs from top to bottom, next to a finished demo."""
    monkeypatch.chdir(demo)
    run_python(page)


@pytest.mark.fast
def test_python_blocks_can_fail(tmp_path: Path) -> None:
    """Blocks share a namespace, and an error in one reaches the test."""
    (tmp_path / "a.md").write_text("```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n")
    with pytest.raises(AssertionError):
        run_python(tmp_path / "a.md")


@cache
def command_line() -> Any:
    """The command `spinmeround`, with its subcommands."""
    return typer.main.get_command(app)


def commands(text: str) -> Iterator[list[str]]:
    """The words of each `spinmeround` command in shell text."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|\|\||(?<!\\)\|", line):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words.pop(0)  # variables of the command's environment
            if words and Path(words[0]).name == "spinmeround":
                yield words[1:]


def parse(words: list[str]) -> None:
    """Parse a command with its options, without running it; raises what the command line would raise."""
    command, context = command_line(), None
    name = "spinmeround"
    while True:
        context = command.make_context(name, list(words), parent=context)
        if not hasattr(command, "resolve_command"):
            break
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
    if name == "bench" and context.params["name"]:
        from spinmeround.flows.cli.bench import _main_of

        benchmark = typer.Typer(add_completion=False)
        benchmark.command()(_main_of(context.params["name"]))
        typer.main.get_command(benchmark).make_context("bench", list(context.args))


def wrong_commands(texts: list[str]) -> list[str]:
    """Commands in shell texts that the command line does not accept, with its message."""
    wrong = []
    for words in (words for text in texts for words in commands(text)):
        try:
            parse(words)
        except Exception as error:  # click's usage errors, whichever copy of click typer has
            wrong.append(f"spinmeround {shlex.join(words)}: {error}")
    return wrong


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "bash")], ids=name_of)
def test_commands_parse(page: Path) -> None:
    """Every `spinmeround` command in a shell block has an existing command, options and values of the right type."""
    assert wrong_commands(blocks(page, "bash")) == []


@pytest.mark.fast
def test_a_wrong_command_is_found() -> None:
    """An unknown command, option or value and a missing argument are found; a valid command is not."""
    texts = [
        "make demo\nspinmeround plan --set plan.heads=8 \\\n  --profile demo  # a comment",
        "spinmeround nothing && spinmeround plan --nothing",
        ".venv/bin/spinmeround build --workers many",
        "spinmeround export",
    ]
    assert len(wrong_commands(texts)) == 4


def unknown_words(command: str) -> list[str]:
    """Subcommands and options that don't exist in a mention such as `spinmeround store verify|repair --remake`."""
    current, wrong = command_line(), []
    for word in shlex.split(command)[1:]:
        subcommands = getattr(current, "commands", None)
        if word.startswith("-"):
            options = [option for each in current.params for option in (*each.opts, *each.secondary_opts)]
            wrong += [word] if word not in (*options, "--help") else []
        elif subcommands and not PLACEHOLDER.match(word):
            names = word.replace("\\", "").split("|")
            wrong += [name for name in names if name not in subcommands]
            current = subcommands.get(names[0], current)
    return wrong


@pytest.mark.fast
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=name_of)
def test_mentioned_commands_exist(page: Path) -> None:
    """Commands mentioned in running text and tables exist, with their options (the changelog has former ones)."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8")).replace("\n", " ")
    mentioned = [each for each in INLINE.findall(text) if each.startswith("spinmeround ") and " bench " not in each]
    assert {each: wrong for each in mentioned if (wrong := unknown_words(each))} == {}


@pytest.mark.fast
def test_a_wrong_mention_is_found() -> None:
    """Unknown subcommands and options in a mention are found; alternatives and placeholders are understood."""
    assert unknown_words("spinmeround store verify|mend --delete") == ["mend", "--delete"]
    assert unknown_words("spinmeround export HEAD --to FILE.glb") == []


BASE: dict[str, Any] = {"name": "docs", "train": {"unet": {"latent_channels": 8, "sample_size": 16}}}
"""What a block that is a part of a profile builds on: the sizes of the embedded autoencoder."""


@pytest.mark.fast
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")], ids=name_of)
def test_profiles_are_valid(page: Path) -> None:
    """Every TOML block is a valid profile, or a part of one."""
    for text in blocks(page, "toml"):
        block = tomllib.loads(text)
        base = {"name": "docs"} if "render" in block else BASE  # pictures of another size have other latents
        values = complete(block) if "extends" in block else _merged(base, block)
        validate_profile(values, source=name_of(page))


def unknown_names(page: Path) -> list[str]:
    """Names in the columns "here" and "tested by" of a page that are neither a file, a module nor a definition."""
    folders = [ROOT, *(folder for top in ("models", "tests") for folder in (ROOT / top).rglob("*") if folder.is_dir())]
    sources = [file for top in ("models", "tasks", "tests") for file in (ROOT / top).rglob("*.py")]
    text = "\n".join(file.read_text() for file in sources)
    rows = [line.split("|") for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| **")]
    names = [name for row in rows for name in INLINE.findall("|".join(row[2:4]))]
    existing = {
        name for name in names for folder in folders for end in ("", ".py") if (folder / f"{name}{end}").exists()
    }
    return [name for name in names if name not in existing and not is_defined(name.split(".")[-1], text)]


def is_defined(name: str, text: str) -> bool:
    """Whether the sources define a function, a class or a field of this name."""
    return bool(re.search(rf"^ *(?:(?:def|class) {re.escape(name)}\b|{re.escape(name)}: )", text, re.MULTILINE))


@pytest.mark.fast
def test_the_page_on_the_paper_names_existing_code(tmp_path: Path) -> None:
    """The rows of the page name existing files, modules, tests and definitions; a missing one is found."""
    assert unknown_names(ROOT / "docs/explanation/paper.md") == []
    (tmp_path / "a.md").write_text("| **x** | `edm.py`, `gone.py` | `test_edm.py`, `test_gone` | `free` |")
    assert unknown_names(tmp_path / "a.md") == ["gone.py", "test_gone"]


@pytest.mark.fast
def test_the_page_of_commands_lists_all() -> None:
    """The page of commands of the site is made from the command line and lists every command."""
    import runpy

    hooks = runpy.run_path(str(ROOT / "docs" / "hooks.py"))
    text = hooks["on_page_markdown"]((ROOT / "docs/reference/cli.md").read_text())
    names = {f"`spinmeround {name}`" for name in command_line().commands}
    assert names <= set(re.findall(r"`[^`]+`", text))
    assert hooks["MARK"] not in text


@pytest.mark.fast
def test_the_page_on_generators_shows_the_example() -> None:
    """The generator that the page shows is `examples/own_heads.py`, line by line, below its docstring."""
    code = (ROOT / "examples/own_heads.py").read_text().split("\n\n", 1)[1]
    assert f"```python\n{code}```" in (ROOT / "docs/how-to/generators.md").read_text()
