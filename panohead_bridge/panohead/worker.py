"""The only process that imports a checkout of PanoHead and opens its pickles.

Run as a script by `panohead_bridge.panohead.process`, possibly by an older Python: it needs Python 3.8, numpy,
torch and the checkout's own requirements, and nothing of this project. Messages are JSON over an inherited connection;
arrays are in inherited shared memory, at the [name, dtype, shape, offset] that a message lists for each.

    request    {"call": name, "values": {...}, "arrays": layout}
    response   {"progress": [done, total]} and {"warning": text} any number of times, then
               {"done": {...}, "arrays": layout} or {"refused": text} or {"error": text, "traceback": text}
"""

from __future__ import annotations

import importlib.util
import json
import mmap
import os
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

import numpy as np


def put_arrays(memory_fd: int, arrays: dict[str, Any]) -> list[Any]:
    """Write arrays into the shared memory, from its start; returns their layout."""
    total = max(sum(values.nbytes for values in arrays.values()), 1)
    os.ftruncate(memory_fd, total)
    layout, offset = [], 0
    with mmap.mmap(memory_fd, total) as memory:
        for name, values in arrays.items():
            values = np.ascontiguousarray(values)
            memory[offset : offset + values.nbytes] = values.tobytes()
            layout.append([name, values.dtype.str, list(values.shape), offset])
            offset += values.nbytes
    return layout


def take_arrays(memory_fd: int, layout: list[Any]) -> dict[str, Any]:
    """Copies of the arrays in the shared memory, which is then emptied."""
    arrays = {}
    with mmap.mmap(memory_fd, max(os.fstat(memory_fd).st_size, 1)) as memory:
        for name, dtype, shape, offset in layout:
            count = int(np.prod(shape, dtype=np.int64))
            content = memory[offset : offset + count * np.dtype(dtype).itemsize]
            arrays[name] = np.frombuffer(content, dtype).reshape(shape).copy()
    os.ftruncate(memory_fd, 1)
    return arrays


class Server:
    """Answers requests until the connection closes."""

    def __init__(self, connection: Connection, memory_fd: int) -> None:
        self.connection, self.memory_fd = connection, memory_fd
        self.inside, self.inversion = _inside("network"), _inside("inversion")
        self.network = None  # type: Any

    def run(self) -> None:
        """Answer requests until the connection closes."""
        while True:
            try:
                message = json.loads(self.connection.recv_bytes().decode())
            except (EOFError, OSError):
                return
            self.send(**self._answer(message))

    def send(self, **message: Any) -> None:
        """Send a message to the parent."""
        self.connection.send_bytes(json.dumps(message, allow_nan=False).encode())

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        import torch

        try:
            with torch.no_grad():
                done, arrays = self._call(message["call"], message["values"], message["arrays"])
            return {"done": done, "arrays": put_arrays(self.memory_fd, arrays)}
        except self.inside.Refused as error:
            return {"refused": str(error)}
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return {"error": reason, "traceback": traceback.format_exc()}

    def _call(self, call: str, values: dict[str, Any], layout: list[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        arrays = take_arrays(self.memory_fd, layout)
        if call == "stub":
            self.inside.write_stub(values)
            return {}, {}
        if call == "open":
            self.network = self.inside.Network(values, lambda text: self.send(warning=text))
            return self.network.describe(), {}
        if self.network is None:
            raise RuntimeError(f"call {call!r} before 'open'")
        if call == "views":
            return {}, self.network.views(arrays, values, lambda *share: self.send(progress=share))
        if call == "invert":
            done, found = self.inversion.invert(self.network, arrays, values, lambda *share: self.send(progress=share))
            return done, found
        if call == "density":
            return {}, {"sigma": self.network.density(arrays["points"], arrays["latent"])}
        raise RuntimeError(f"unknown call {call!r}")


def _inside(name: str) -> Any:
    """A file next to this one as a module: the import path is the checkout's."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".py")
    spec = importlib.util.spec_from_file_location("_panohead_" + name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main(connection_fd: int, memory_fd: int, parent: int, checkout: str) -> None:
    """Serve the process `parent`, with only the checkout first on the import path."""
    sys.path[0] = checkout
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    Server(Connection(connection_fd), memory_fd).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
