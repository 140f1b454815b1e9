"""Log lines of worker processes, which the run shows in the UI."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

OWN_LEVEL = logging.INFO
"""Least level of the lines of this package; of other libraries, warnings and errors are sent."""


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """A line that a worker has logged, with the traceback of its exception."""

    level: int
    name: str
    text: str

    def show(self) -> None:
        """Log it in the active task or flow run, from where it comes to the UI; outside of one, in this process."""
        from prefect.exceptions import MissingContextError
        from prefect.logging import get_run_logger

        try:
            logger: logging.Logger | logging.LoggerAdapter[logging.Logger] = get_run_logger()
        except MissingContextError:
            logger = logging.getLogger(self.name)
        logger.log(self.level, "%s: %s", self.name, self.text)


class _Sender(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.send: Callable[[LogLine], None] | None = None
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if self.send is not None:
            try:
                self.send(LogLine(level=record.levelno, name=record.name, text=self.format(record).strip()))
            except Exception:  # as in the library's own handlers: logging never fails what is logged
                self.handleError(record)


_sender = _Sender()
# a forked child would write into the pipe of its parent, under a lock of its own
os.register_at_fork(after_in_child=lambda: setattr(_sender, "send", None))


def collect_logs() -> None:
    """Hand the log lines and warnings of this process to `sending`; warnings and errors are printed as before, too."""
    printed = logging.StreamHandler()
    printed.setLevel(logging.WARNING)
    logging.basicConfig(level=logging.WARNING, handlers=[_sender, printed])
    logging.getLogger("spinmeround").setLevel(OWN_LEVEL)
    logging.captureWarnings(True)


@contextmanager
def sending(send: Callable[[LogLine], None]) -> Iterator[None]:
    """Send the lines of this process during the block."""
    _sender.send = send
    try:
        yield
    finally:
        _sender.send = None
