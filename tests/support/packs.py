"""A small InsightFace pack of random numbers."""

from pathlib import Path

from spinmeround.tasks.weights.stub_onnx import write_detector, write_landmarks_3d, write_recognition

TINY = {"blocks": (1, 1, 1, 1), "widths": (4, 4, 4, 4)}


def write_pack(folder: Path, *recognition: str, landmarks_3d: bool = True) -> Path:
    """A detector, landmarks in 3D unless unwanted, and recognition networks of these names."""
    folder.mkdir(parents=True)
    write_detector(folder / "scrfd_10g_bnkps.onnx", widths=(4, 4, 4, 4, 4), seed=0)
    if landmarks_3d:
        write_landmarks_3d(folder / "1k3d68.onnx", seed=1)
    for seed, name in enumerate(recognition):
        write_recognition(folder / name, **TINY, seed=seed)
    return folder
