"""The checkout's process: trusted pickles only, restart after a crash, timeouts, and another Python."""

import ast
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from spinmeround.models.geometry.cameras import orbit
from spinmeround.panohead_bridge.panohead import CheckoutProcessLost, make, worker, write_stub
from spinmeround.panohead_bridge.panohead import network as inside
from spinmeround.storage.errors import ConfigError, DeviceUnavailable
from tests.support.mini_panohead import SIDE, write_checkout, write_network, write_trap

FRONT = orbit([0.0], [0.0])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("panohead")


@pytest.fixture(scope="module")
def checkout(place):
    return write_checkout(place / "PanoHead")


@pytest.fixture(scope="module")
def network(place, checkout):
    return write_network(checkout, place / "network.pkl")


def test_an_untrusted_pickle_is_not_opened(checkout, network):
    """Without `sha256` or `trust`, the error explains the risk of a pickle and gives the line to add."""
    with pytest.raises(ConfigError, match=r"runs the code in it.*sha256 = '[0-9a-f]{64}'"):
        make(checkout=checkout, network=network)


def test_a_changed_pickle_is_refused_before_it_is_opened(checkout, network, tmp_path):
    """A wrong SHA-256 is refused when the generator is made; a file swapped in later, with the same size and time, is
    refused when it is read. Its code never runs."""
    weights, mark = tmp_path / "network.pkl", tmp_path / "ran"
    weights.write_bytes(network.read_bytes())
    found = weights.stat()
    generator = make(checkout=checkout, network=weights, trust=True, device="cpu")
    write_trap(weights, mark, found.st_size)
    os.utime(weights, ns=(found.st_atime_ns, found.st_mtime_ns))
    with pytest.raises(ConfigError, match="was not opened"):
        generator.sample(1)
    with pytest.raises(ConfigError, match=r"expected 0{64}, found [0-9a-f]{64}.*was not opened"):
        make(checkout=checkout, network=weights, sha256="0" * 64)
    assert not mark.exists()


def test_the_trap_runs_when_unpickled(tmp_path):
    """Unpickling the trap of the test above does run its code."""
    import pickle

    write_trap(tmp_path / "trap.pkl", tmp_path / "ran", 500)
    pickle.loads((tmp_path / "trap.pkl").read_bytes())
    assert (tmp_path / "ran").exists()


def test_a_crash_is_retried_once_and_then_reported(checkout, network, capfd):
    """A crashed process is restarted once; after a second crash the error gives the signal and the last output."""
    generator = make(checkout=checkout, network=network, trust=True, device="cpu")
    head = generator.sample(1)
    expected = generator.render(head, FRONT, SIDE)
    (checkout / "die").write_text("1")
    np.testing.assert_array_equal(generator.render(head, FRONT, SIDE).rgb, expected.rgb)
    assert "was lost and is restarted: it ended by signal 9" in capfd.readouterr().err
    (checkout / "die").write_text("2")
    with pytest.raises(CheckoutProcessLost, match=r"(?s)twice.*by signal 9.*memory.*the planes have crashed"):
        generator.render(head, FRONT, SIDE)
    generator.close()


def test_a_gpu_without_memory_is_no_fault_of_the_head(checkout, network):
    """CUDA's error crosses the border of the process as one of the environment, and so does a missing device."""
    generator = make(checkout=checkout, network=network, trust=True, device="cpu")
    head = generator.sample(1)
    (checkout / "exhaust").touch()
    try:
        with pytest.raises(DeviceUnavailable, match=r"^out of memory \(OutOfMemoryError: CUDA out of memory"):
            generator.render(head, FRONT, SIDE)
    finally:
        (checkout / "exhaust").unlink()
        generator.close()
    if not torch.cuda.is_available():
        with pytest.raises(DeviceUnavailable, match="the GPU cannot be used"):
            make(checkout=checkout, network=network, trust=True, device="cuda").sample(1)


def test_a_silent_process_is_ended(checkout, network):
    """A process without messages for `timeout_s` is ended, and the error names the option."""
    generator = make(checkout=checkout, network=network, trust=True, device="cpu")
    head = generator.sample(1)
    process = generator._process
    process._timeout_s = 0.5
    running = process._running[0].process
    (checkout / "hang").touch()
    try:
        with pytest.raises(CheckoutProcessLost, match=r"no message for 0\.5 s \(generator\.options\.timeout_s\)"):
            generator.render(head, FRONT, SIDE)
    finally:
        (checkout / "hang").unlink()
        generator.close()
    assert running.poll() is not None


def test_ends_with_its_parent(checkout, network):
    """Killing the parent ends the process, even in the middle of a view."""
    (checkout / "hang").touch()
    script = (
        "from spinmeround.panohead_bridge.panohead import make\n"
        "from spinmeround.models.geometry.cameras import orbit\n"
        f"g = make(checkout={str(checkout)!r}, network={str(network)!r}, trust=True, device='cpu')\n"
        "h = g.sample(1); print(g._process._running[0].process.pid, flush=True)\n"
        f"g.render(h, orbit([0.0], [0.0]), {SIDE})"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as parent:
        child = int(parent.stdout.readline())
        time.sleep(0.5)
        parent.send_signal(signal.SIGKILL)
    try:
        deadline = time.monotonic() + 10
        while _alive(child) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not _alive(child)
    finally:
        (checkout / "hang").unlink()


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_runs_on_another_python(checkout, network, tmp_path):
    """The configured Python runs the checkout; a path that can't be run is named."""
    python, mark = tmp_path / "python", tmp_path / "ran"
    python.write_text(f'#!/bin/sh\ntouch {mark}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    generator = make(checkout=checkout, network=network, trust=True, device="cpu", python=python)
    assert generator.render(generator.sample(1), FRONT, SIDE).rgb.shape == (1, SIDE, SIDE, 3)
    assert mark.exists()
    generator.close()
    with pytest.raises(ConfigError, match=r"generator\.options\.python: .*nowhere can't be run"):
        make(checkout=checkout, network=network, trust=True, python=tmp_path / "nowhere").sample(1)


@pytest.mark.parametrize("script", [worker, inside], ids=["worker", "network"])
def test_code_in_the_process_is_standalone_python_3_8(script):
    """It parses as Python 3.8 and imports nothing from this project."""
    tree = ast.parse(Path(script.__file__).read_text(encoding="utf-8"), feature_version=(3, 8))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    ours = {"spinmeround", "jaxtyping", "pydantic"}
    assert not {name.partition(".")[0] for name in imported if name} & ours


def test_without_nvcc_reference_operations_are_used(monkeypatch):
    """An operation that can't be compiled is disabled with a warning that names what to install; the others stay
    enabled. On a CPU nothing is compiled."""

    def broken():
        raise RuntimeError("nvcc is missing\nmore")

    names = ("bias_act", "upfirdn2d", "filtered_lrelu")
    operations = {name: types.ModuleType(f"torch_utils.ops.{name}") for name in names}
    operations["bias_act"]._init = broken
    operations["upfirdn2d"]._init = operations["filtered_lrelu"]._init = lambda: True
    package = types.ModuleType("torch_utils.ops")
    for name, module in operations.items():
        setattr(package, name, module)
    monkeypatch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
    monkeypatch.setitem(sys.modules, "torch_utils.ops", package)
    warnings: list[str] = []
    inside.reference_operations("cpu", warnings.append)
    assert warnings == []
    inside.reference_operations("cuda:0", warnings.append)
    assert len(warnings) == 1
    assert "bias_act: PanoHead's CUDA operation can't be compiled (nvcc is missing)" in warnings[0]
    assert "ninja and a CUDA toolkit" in warnings[0]
    assert operations["bias_act"]._init() is False
    assert operations["upfirdn2d"]._init() is True


def test_arrays_pass_through_shared_memory():
    """Arrays round-trip with type and shape, empty ones included; afterwards the memory is freed."""
    memory = os.memfd_create("test") if hasattr(os, "memfd_create") else pytest.skip("no memfd on this system")
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1], "b": np.zeros((0, 3), np.uint8)}
    taken = worker.take_arrays(memory, worker.put_arrays(memory, arrays))
    for name, values in arrays.items():
        np.testing.assert_array_equal(taken[name], values)
        assert taken[name].dtype == values.dtype
    assert os.fstat(memory).st_size <= 1
    os.close(memory)


def test_stub_opens_as_a_checkpoint(checkout, tmp_path):
    """The stub opens as a checkpoint, and its head fills about a third of the cube. A failure leaves no file."""
    target = tmp_path / "made" / "stub.pkl"
    sha256 = write_stub(checkout, target, small=True)
    generator = make(checkout=checkout, network=target, sha256=sha256, device="cpu")
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (4000, 3)).astype(np.float32)
    assert 0.25 < (generator.density(generator.sample(1), points) > 10).mean() < 0.45
    generator.close()
    with pytest.raises(ConfigError, match="expected a checkout"):
        write_stub(tmp_path, tmp_path / "none.pkl")
    assert sorted(path.name for path in tmp_path.rglob("*.pkl")) == ["stub.pkl"]
