"""`spinmeround review`: decisions on screened heads."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spinmeround.flows.cli.shared.options import RunOptions, run_command
from spinmeround.flows.cli.shared.output import print_values

if TYPE_CHECKING:
    from spinmeround.flows.review.server import ReviewBackend


def register(app: typer.Typer, panel: str) -> None:
    """Add the command `review`."""
    run_command(app, panel=panel)(review)


def review(
    options: RunOptions,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the page on this machine; 0 picks a free one.")
    ] = 4280,
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
            _serve(backend, port)
        print_values(backend.tally())


def _serve(backend: "ReviewBackend", port: int) -> None:
    from spinmeround.flows.review.server import review_server

    backend.page(served=True)  # fails for a defective decisions file before anybody decides
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with review_server(backend, port) as server:
        print_values({"review": f"http://127.0.0.1:{server.server_address[1]}   (press Ctrl-C to stop)"})
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            typer.echo("")
