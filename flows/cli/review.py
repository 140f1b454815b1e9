"""`spinmeround review`: decisions on screened heads."""

from pathlib import Path
from typing import Annotated

import typer

from spinmeround.flows.cli.shared.options import RunOptions, run_command
from spinmeround.flows.cli.shared.output import print_values
from spinmeround.flows.cli.shared.serve import PortOption, serve_pages


def register(app: typer.Typer, panel: str) -> None:
    """Add the command `review`."""
    run_command(app, panel=panel)(review)


def review(
    options: RunOptions,
    port: PortOption = 4280,
    to: Annotated[Path | None, typer.Option(help="Write the page to this .html file instead of serving it.")] = None,
    merge: Annotated[
        list[Path] | None, typer.Option(help="Merge a decisions file, as downloaded from a page; repeatable.")
    ] = None,
    done: Annotated[
        bool, typer.Option("--done", help="Mark the current verdicts as reviewed, so that a paused build resumes.")
    ] = False,
) -> None:
    """Keep or drop screened heads in the browser; decisions override the screen.

    Serves the page until interrupted. All files of --merge are merged, or none; that needs no screened heads.
    """
    from spinmeround.flows.review.server import open_review
    from spinmeround.flows.run.session import view_session
    from spinmeround.tasks.screening.decisions import mark_reviewed, merge_decisions, read_decisions

    profile, place = options.load()
    with view_session(profile, place) as session:
        for decisions in [read_decisions(path, session.generator) for path in merge or []]:
            merge_decisions(session.decisions_file, decisions)
        just_merged = bool(merge) and to is None and not done
        backend = open_review(session, options.command("build"), may_be_empty=just_merged)
        if done:
            mark_reviewed(session.decisions_file, session.generator, backend.digest)
        if to is not None:
            backend.write(to)
            print_values({"page": to, "then": f"{options.command('review')} --merge decisions.json"})
        elif not just_merged and not done:
            backend.page(served=True)  # fails for a defective decisions file before anybody decides
            serve_pages(backend, port, "review")
        print_values(backend.tally())
