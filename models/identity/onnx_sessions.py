"""onnxruntime sessions for insightface's networks: reproducible, with errors that name the file."""

from pathlib import Path

import onnxruntime


def open_session(path: Path, what: str, providers: tuple[str, ...] | None = None) -> onnxruntime.InferenceSession:
    """A session that is single-threaded on a CPU, so that equal images give bit-identical results.

    `providers` are onnxruntime's, by default CUDA if available, then the CPU. `what` names the network in errors.

    Raises:
        ValueError: if the file is missing or not an ONNX network.
    """
    if not path.is_file():
        raise ValueError(f"{what}: expected an ONNX file, found nothing at {path}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers or _available()))
    except Exception as error:  # onnxruntime's exceptions share no public base class
        raise ValueError(f"{what}: onnxruntime cannot load {path}: {error}") from error


def _available() -> tuple[str, ...]:
    available = onnxruntime.get_available_providers()
    return tuple(name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available)
