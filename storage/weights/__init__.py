"""Weights: those that ship with the package, external parts and how to get them, fingerprints, file headers.

Nothing here downloads anything but `fetch_part`, which the command `spinmeround weights fetch` calls.
"""

from spinmeround.storage.weights.fetch import fetch_part
from spinmeround.storage.weights.fingerprints import (
    checksums,
    checksums_path,
    fingerprint,
    read_checksums,
    record_checksums,
)
from spinmeround.storage.weights.headers import Shape, TensorHeader, tensor_headers, tensor_shapes
from spinmeround.storage.weights.network_files import NetworkFiles, network_files
from spinmeround.storage.weights.onnx_files import (
    Dimension,
    OnnxSignature,
    onnx_model,
    onnx_signature,
    refuse_external_data,
)
from spinmeround.storage.weights.parts import PARTS, WEIGHTS_FOLDER, Hub, Page, Part, find_part, missing_files
from spinmeround.storage.weights.shipped import EmbeddedWeights, embedded_weights, list_embedded, record_embedded
from spinmeround.storage.weights.values import check_files, check_onnx, check_values

__all__ = [
    "PARTS",
    "WEIGHTS_FOLDER",
    "Dimension",
    "EmbeddedWeights",
    "Hub",
    "NetworkFiles",
    "OnnxSignature",
    "Page",
    "Part",
    "Shape",
    "TensorHeader",
    "check_files",
    "check_onnx",
    "check_values",
    "checksums",
    "checksums_path",
    "embedded_weights",
    "fetch_part",
    "find_part",
    "fingerprint",
    "list_embedded",
    "missing_files",
    "network_files",
    "onnx_model",
    "onnx_signature",
    "read_checksums",
    "record_checksums",
    "record_embedded",
    "refuse_external_data",
    "tensor_headers",
    "tensor_shapes",
]
