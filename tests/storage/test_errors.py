"""Messages for users: one line that names the field, what was expected and what was found."""

import errno
from pathlib import Path

import pytest
from pydantic import Field, ValidationError, field_validator

from spinmeround.storage.errors import (
    ConfigError,
    DatasetError,
    SpinMeRoundError,
    StorageUnavailable,
    as_config_error,
    device_failure,
    environment_errors,
    one_line,
    validation_message,
)
from spinmeround.storage.records import FrozenModel

pytestmark = pytest.mark.fast


class _Inner(FrozenModel):
    level: int = Field(ge=0)
    name: str = ""

    @field_validator("name")
    @classmethod
    def _is_lower(cls, name: str) -> str:
        if name != name.lower():
            raise ValueError(f"expected lower case, got {name}")
        return name


class _Outer(FrozenModel):
    parts: tuple[_Inner, ...]


def _invalid(value: object) -> ValidationError:
    with pytest.raises(ValidationError) as raised:
        _Outer.model_validate(value)
    return raised.value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(
            {"parts": [{"level": -1}]}, "parts.0.level: input should be greater than or equal to 0, got -1", id="range"
        ),
        pytest.param({"parts": [{"level": 1, "lvl": 2}]}, "parts.0.lvl: unknown field", id="unknown field"),
        pytest.param({}, "parts: expected this field, found none", id="missing field"),
        pytest.param(
            {"parts": [{"level": 0, "name": "A"}]}, "parts.0.name: expected lower case, got A", id="validator"
        ),
        pytest.param([], "Input should be a valid dictionary or instance of _Outer", id="no field"),
        pytest.param(
            {"parts": [{"level": "a"}, {"level": "b"}, {"level": "c"}]},
            "parts.0.level: input should be a valid integer, unable to parse string as an integer, got 'a'; "
            "parts.1.level: input should be a valid integer, unable to parse string as an integer, got 'b'",
            id="first two of three",
        ),
    ],
)
def test_validation_message(value: object, message: str) -> None:
    """Each kind of problem names the field's path, what was expected and what was found."""
    assert validation_message(_invalid(value)) == message


def test_long_values_are_cut() -> None:
    """A value of a megabyte does not flood the terminal."""
    assert len(validation_message(_invalid({"parts": [{"level": "x" * 1_000_000}]}))) < 250
    assert one_line(ValueError("y\n" * 1_000_000)) == ("y " * 150) + "..."


def test_other_errors_on_one_line() -> None:
    """Lines are joined; an error without text gives the name of its class."""
    assert validation_message(ValueError("expected a\n  got b")) == "expected a got b"
    assert one_line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_as_config_error() -> None:
    """A ValueError gets the prefix; an error of our own passes unchanged."""
    with pytest.raises(ConfigError, match=r"^train: expected 1$"), as_config_error("train: "):
        raise ValueError("expected 1")
    with pytest.raises(ConfigError, match=r"^train: parts: expected this field"), as_config_error("train: "):
        _Outer.model_validate({})
    with pytest.raises(DatasetError, match=r"^no heads$"), as_config_error("train: "):
        raise DatasetError("no heads")


def test_environment_errors_name_the_file(tmp_path: Path) -> None:
    """A failure of the file system names the file, or the target if it has no name, and gives advice."""
    with pytest.raises(StorageUnavailable, match=r"cannot use /a/b: the disk is full"), environment_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left", "/a/b")
    with pytest.raises(StorageUnavailable, match=f"cannot use {tmp_path}: .*read-only"), environment_errors(tmp_path):
        raise RuntimeError("write failed (os error 30)")
    with pytest.raises(OSError, match="busy"), environment_errors(tmp_path):
        raise OSError(errno.EBUSY, "busy")


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


class AcceleratorError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 139 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer"),
        RuntimeError("[ONNXRuntimeError] : 1 : FAIL : CUDA failure 100: no CUDA-capable device is detected"),
        RuntimeError("[ONNXRuntimeError] : 11 : EP_FAIL : Non-zero status code returned while running Conv node"),
        RuntimeError("Found no NVIDIA driver on your system."),
        RuntimeError("No CUDA GPUs are available"),
        RuntimeError("Unexpected error from cudaGetDeviceCount(). Error 802: cudaErrorSystemNotReady"),
        AssertionError("Torch not compiled with CUDA enabled"),
        AcceleratorError("CUDA error: invalid device ordinal"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
        RuntimeError("PanoHead's process was lost twice: it ended by signal 9; the system may have run out of memory"),
    ],
    ids=str,
)
def test_failures_of_devices(error: Exception) -> None:
    """Each becomes a DeviceUnavailable on one line, by itself and as the cause of another exception."""
    chained = ValueError("cannot load it")
    chained.__cause__ = error
    for each in (error, chained):
        found = device_failure(each)
        assert found is not None
        assert str(found).endswith("then run again")
        assert "\n" not in str(found)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("seed 3 has no nose"),
        ValueError("/home/me/out of memory.png: expected a picture"),
        OSError(errno.ENOENT, "No such file", "/CUDA error"),
        StorageUnavailable("cannot use /out of memory: the disk is full"),
        ConfigError("train.state_on_disk: expected false on cuda:0"),
    ],
    ids=str,
)
def test_other_failures_are_not_of_devices(error: Exception) -> None:
    """Neither a head's own failure nor a file whose name misleads."""
    assert device_failure(error) is None


def test_pydantic_errors_on_one_line() -> None:
    """Without the address of pydantic's documentation."""
    assert one_line(_invalid({})) == "parts: expected this field, found none"


def test_an_error_with_a_long_quote_keeps_its_beginning_and_its_end():
    """A damaged file may hold a name of any length; wrapping the error makes it no longer."""
    error = ConfigError(f"config.json: expected a class, found {'x' * 10_000}; get it again")
    again = DatasetError(f"{error}, or leave it out")
    assert len(str(again)) < 2100
    assert str(again).startswith("config.json: expected a class, found xxx")
    assert str(again).endswith("xxx; get it again, or leave it out")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET http://user:p%40w@host:9/bucket failed", "GET http://host:9/bucket failed"),
        ("http://user@host, then s3://key:secret@host/x", "http://host, then s3://host/x"),
        ("https://host/a@b?c=d@e of mail@host", "https://host/a@b?c=d@e of mail@host"),
        ("no URL: user:pw@host", "no URL: user:pw@host"),
        ("postgresql://u:p@ss@host/db and postgresql://u:p/w@host/db", "postgresql://host/db and postgresql://host/db"),
        ("http://host:4200/a@b, git+ssh://git@github.com/a", "http://host:4200/a@b, git+ssh://git@github.com/a"),
        ("https://token@host/a", "https://host/a"),
    ],
)
def test_passwords_of_urls_are_never_shown(text: str, shown: str) -> None:
    """User and password go, whichever library wrote them into its message; other text with an @ stays."""
    assert str(SpinMeRoundError(text)) == shown
    assert one_line(OSError(text)) == shown
