"""Checks of a machine before the build of a profile: one line each, with what to do.

Nothing is built or written but one small file in the store, which is removed again.
"""

import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spinmeround.panohead_bridge.registry import FROM_CHECKOUT
from spinmeround.storage.artifacts import is_url
from spinmeround.storage.errors import SpinMeRoundError, StoreError, environment_errors, one_line
from spinmeround.tasks.gpus import nvidia_smi, visible_gpus
from spinmeround.tasks.heads.generator import generator_of
from spinmeround.tasks.heads.registry import DATASET_STAGES

State = Literal["ok", "warning", "error"]
_LEAST_FREE = 10**9
_BYTES_OF_PIXEL = 7
"""RGB, mask and normals, uncompressed."""


_BUILD = {name for stage in DATASET_STAGES for name in stage.reads}
"""Sections of a profile that a build reads; the others are of training and evaluation."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was checked and found.

    With an `error` a build fails; with a `warning` it may be slow or run out of space, or a later step fails.
    """

    name: str
    state: State
    found: str


def check_machine(profile: Any, store: Path | str) -> Iterator[Check]:
    """The checks of a profile whose artifacts go to `store`, a folder or a URL, one by one as they are made."""
    gpu = yield from _gpu(profile)
    yield _workers(profile)
    yield from _onnxruntime(gpu=gpu)
    yield from _generator(profile, gpu=gpu)
    yield _renderer(profile, gpu=gpu)
    yield from _weights(profile)
    yield from _store(store)
    if isinstance(store, Path):
        yield _disk(profile, store)


def _gpu(profile: Any) -> Generator[Check, None, bool]:
    """GPUs and their driver; yields one check and returns whether torch sees a GPU."""
    if importlib.util.find_spec("torch") is None:
        yield Check(name="GPU", state="warning", found="torch is not installed: pip install 'spinmeround[train]'")
        return False
    import torch

    needs = profile.generator.name in FROM_CHECKOUT
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
        found = ", ".join(f"{each.name} ({each.total_memory / 1e9:.0f} GB)" for each in devices)
        yield Check(name="GPU", state="ok", found=f"{found}, CUDA {torch.version.cuda}, driver {_driver()}")
        return True
    cause = "no NVIDIA driver" if _driver() == "unknown" else f"driver {_driver()}, torch for CUDA {torch.version.cuda}"
    advice = "; PanoHead then runs on the CPU: 'spinmeround rehearse' measures how long a build takes" if needs else ""
    yield Check(name="GPU", state="warning" if needs else "ok", found=f"none ({cause}){advice}")
    return False


def _workers(profile: Any) -> Check:
    """The workers of a build, those with a GPU of their own first."""
    execution = profile.execution
    try:
        gpus = execution.chosen_gpus(visible_gpus())
    except SpinMeRoundError as error:
        return Check(name="workers", state="error", found=one_line(error, 400))
    on_gpus = f"{execution.workers_per_gpu} for each of {len(gpus)} GPUs, " if gpus else ""
    return Check(name="workers", state="ok", found=f"{on_gpus}{execution.workers or os.cpu_count()} on the CPU")


def _driver() -> str:
    versions = nvidia_smi("--query-gpu=driver_version", "--format=csv,noheader")
    return versions.splitlines()[0] if versions else "unknown"


def _onnxruntime(*, gpu: bool) -> Iterator[Check]:
    """Whether face recognition can use the GPU."""
    if importlib.util.find_spec("onnxruntime") is None:
        yield Check(name="onnxruntime", state="error", found="not installed: pip install 'spinmeround[build]'")
        return
    import onnxruntime

    providers = ", ".join(onnxruntime.get_available_providers())
    remedy = "pip uninstall --yes onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu"
    if len(_installed("onnxruntime", "onnxruntime-gpu")) > 1:
        found = f"{providers}; onnxruntime and onnxruntime-gpu are both installed, and overwrite each other's files"
        yield Check(name="onnxruntime", state="warning", found=f"{found}: {remedy}")
    elif gpu and "CUDAExecutionProvider" not in providers:
        advice = f"the stage embed runs on the CPU: {remedy}"
        yield Check(name="onnxruntime", state="warning", found=f"{providers}; {advice}")
    else:
        yield Check(name="onnxruntime", state="ok", found=f"{onnxruntime.__version__}, {providers}")


def _installed(*names: str) -> list[str]:
    """Those of these distributions that are installed."""
    return [name for name in names if list(importlib.metadata.distributions(name=name))]


def _generator(profile: Any, *, gpu: bool) -> Iterator[Check]:
    """The generator, and of PanoHead what its CUDA operations are compiled with."""
    try:
        found = generator_of(profile.generator)
    except (ValueError, OSError) as error:
        yield Check(name="generator", state="error", found=one_line(error, 400))
    else:
        yield Check(name="generator", state="ok", found=found.name)
    if gpu and profile.generator.name in FROM_CHECKOUT:
        missing = [tool for tool in ("nvcc", "ninja") if shutil.which(tool) is None]
        advice = "PanoHead compiles its CUDA operations at first use; without them it uses slower ones of torch"
        yield Check(
            name="CUDA operations",
            state="warning" if missing else "ok",
            found=f"{' and '.join(missing)} not found: {advice}" if missing else "nvcc and ninja found",
        )


def _renderer(profile: Any, *, gpu: bool) -> Check:
    from spinmeround.models.geometry.renderers import pytorch3d_problem, select_renderer

    try:
        name = select_renderer(profile.normals.renderer)
    except ValueError as error:
        return Check(name="normals", state="error", found=one_line(error, 400))
    problem = pytorch3d_problem(gpu=True) if gpu and name == "embree" else None
    if problem is not None:
        return Check(name="normals", state="warning", found=f"{name}, on the CPU: {problem}")
    return Check(name="normals", state="ok", found=name)


def _weights(profile: Any) -> Iterator[Check]:
    """Every part that the profile uses, as `spinmeround weights check`."""
    from spinmeround.tasks.weights.check import check, parts_of

    for use in parts_of(profile):
        found = check(use)
        text = f"{found.state} ({', '.join(use.fields)}): {found.seen}" + (
            f"; {found.command}" if found.command else ""
        )
        built = any(field.partition(".")[0] in _BUILD for field in use.fields)
        bad: State = "error" if built else "warning"
        yield Check(name=f"weights {use.name}", state="ok" if found.good else bad, found=text)


def _store(store: Path | str) -> Iterator[Check]:
    """Whether artifacts can be written and read."""
    from spinmeround.storage.artifacts import ArtifactStore

    name = f".doctor-{os.getpid()}"
    try:
        if is_url(store):
            with ArtifactStore(store).named_lock(name[1:], "the check of the store", timeout_s=30.0):
                pass
        else:
            if Path(store).exists() and not Path(store).is_dir():
                raise StoreError(f"{store}: expected a folder, found a file; choose another --store")
            folder = _existing(Path(store))
            with environment_errors(folder):
                (folder / name).write_bytes(b"spinmeround")
                (folder / name).unlink()
    except SpinMeRoundError as error:
        yield Check(name="store", state="error", found=one_line(error, 400))
    else:
        yield Check(name="store", state="ok", found=f"{store} is writable")


def _disk(profile: Any, store: Path) -> Check:
    """Free space against the dataset's pictures without compression, which a build never exceeds."""
    free = shutil.disk_usage(_existing(store)).free
    views, side = profile.views.views, profile.render.resolution
    most = profile.plan.heads * views * side * side * _BYTES_OF_PIXEL
    found = f"{free / 1e9:.1f} GB free; pictures of {profile.plan.heads} heads have {most / 1e9:.1f} GB uncompressed"
    if free < min(_LEAST_FREE, most):
        return Check(name="disk", state="error", found=f"{found}; free some space or choose another --store")
    if free < most:
        advice = "'spinmeround rehearse' measures what they take"
        return Check(name="disk", state="warning", found=f"{found}; {advice}")
    return Check(name="disk", state="ok", found=found)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above that exists."""
    return next(each for each in (folder, *folder.parents) if each.is_dir())
