"""What a launcher and its processes write to standard error, passed on to that of this process.

torchrun reports the end of its processes by warnings and a traceback of its own, even where they were asked to end or
left an error that says all. From its first such line on, the lines are held back.
"""

import re
import sys
from threading import Thread
from typing import IO

_END = re.compile(r"[IWEF]\d{4} .*torch/distributed/elastic/(agent|multiprocessing)/")
"""Begins torchrun's report: `W1130 17:07:41.610000 10256 torch/distributed/elastic/agent/server/api.py:752] ...`."""


class LauncherMessages:
    """Passes on the lines of a stream until torchrun reports an end; the rest is `held`."""

    def __init__(self, stream: IO[str]) -> None:
        self.held: list[str] = []
        self._stream = stream
        self._thread = Thread(target=self._pass_on, name="messages", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the end of the stream."""
        self._thread.join()

    def _pass_on(self) -> None:
        for line in self._stream:
            if self.held or _END.match(line):
                self.held.append(line)
            else:
                sys.stderr.write(line)
                sys.stderr.flush()
