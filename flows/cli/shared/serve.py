"""Serving a page to the browsers of this machine until the command is interrupted."""

import signal
from typing import TYPE_CHECKING, Annotated

import typer

from spinmeround.flows.cli.shared.output import print_values

if TYPE_CHECKING:
    from spinmeround.flows.review.http import Pages

PortOption = Annotated[
    int, typer.Option(min=0, max=65535, help="Port of the page on this machine; 0 picks a free one.")
]


def serve_pages(pages: "Pages", port: int, name: str) -> None:
    """Serve pages and print their address under `name`. Raises ConfigError if the port is taken."""
    from spinmeround.flows.review.http import page_server

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with page_server(pages, port) as server:
        print_values({name: f"http://127.0.0.1:{server.server_address[1]}   (press Ctrl-C to stop)"})
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            typer.echo("")
