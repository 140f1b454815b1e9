"""`spinmeround review`: a person goes through the screened heads, in the browser or on a page of its own."""

import signal
from pathlib import Path

import typer

from spinmeround.flows.cli.options import RunOptions
from spinmeround.flows.review.desk import desk_server, open_desk
from spinmeround.flows.run.session import looked_at
from spinmeround.tasks.screening.decisions import mark_reviewed, merge_decisions, read_decisions


def review_run(options: RunOptions, *, port: int, to: Path | None, merge: list[Path], done: bool) -> None:
    """Serve the page until interrupted; or write it to a file, take in decisions files, or call it reviewed.

    Decisions are taken in from all files or from none, and need no screened heads. Raises ConfigError where
    there is no such run, no head is screened, or a decisions file can't be used.
    """
    profile, place = options.load()
    with looked_at(profile, place) as session:
        for news in [read_decisions(path, session.generator) for path in merge]:
            merge_decisions(session.decisions_file, news)
        just_merged = bool(merge) and to is None and not done
        desk = open_desk(session, options.command("build"), may_be_empty=just_merged)
        if done:
            mark_reviewed(session.decisions_file, session.generator, desk.digest)
        if to is not None:
            desk.write(to)
            typer.echo(f"{'page':<10} {to}\n{'then':<10} {options.command('review')} --merge decisions.json")
        elif not just_merged and not done:
            desk.page(served=True)  # whatever is wrong with the decisions file is told before anybody decides
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            with desk_server(desk, port) as server:
                typer.echo(f"{'review':<10} http://127.0.0.1:{server.server_address[1]}   (end with Ctrl-C)")
                try:
                    server.serve_forever(poll_interval=0.2)
                except KeyboardInterrupt:
                    typer.echo("")
        typer.echo(desk.tally())
