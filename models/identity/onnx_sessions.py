"""onnxruntime sessions for insightface's networks: reproducible, with errors that name the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnxruntime

from spinmeround.storage.errors import ConfigError, SpinMeRoundError, device_failure, one_line


def open_session(path: Path, what: str, providers: tuple[str, ...] | None = None) -> onnxruntime.InferenceSession:
    """A session that is single-threaded on a CPU, so that equal images give bit-identical results.

    `providers` are onnxruntime's, by default CUDA if available, then the CPU. `what` names the network in errors.

    Raises:
        ConfigError: if the file is missing or not an ONNX network.
    """
    if not path.is_file():
        raise ConfigError(f"{what}: expected an ONNX file, found nothing at {path}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    with network_errors(f"{what}: onnxruntime cannot load {path}"):
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers or _available()))


def gpu_available() -> bool:
    """Whether sessions compute on a GPU by default, if there is one."""
    return "CUDAExecutionProvider" in _available()


@contextmanager
def network_errors(message: str) -> Iterator[None]:
    """Turn what a network's file or its inference raises into a ConfigError, or a DeviceUnavailable of the machine.

    onnxruntime's exceptions share no public base class, and insightface meets unforeseen shapes with any error.
    """
    try:
        yield
    except SpinMeRoundError:
        raise
    except Exception as error:
        raise device_failure(error) or ConfigError(f"{message} ({one_line(error)})") from error


def _available() -> tuple[str, ...]:
    available = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" in available:
        onnxruntime.preload_dlls()  # CUDA's libraries of torch's wheels, without which sessions fall back to the CPU
    return tuple(name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available)
