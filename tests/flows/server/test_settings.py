"""Settings that Prefect refuses, and databases that its server can't use, are named by their variable."""

import os
import subprocess
import sys

import pytest

from spinmeround.flows.server.process import ServerProcess, free_port
from spinmeround.storage.errors import ConfigError

IMPORT = "from spinmeround.flows.server.settings import import_prefect; import_prefect()"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PREFECT_LOGGING_LEVEL", "LOUD", "PREFECT_LOGGING_LEVEL=LOUD: input should be 'DEBUG', 'INFO'"),
        ("PREFECT_SERVER_LOGGING_LEVEL", "LOUD", "PREFECT_SERVER_LOGGING_LEVEL=LOUD: input should be 'DEBUG'"),
        ("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "xx", "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE=xx: input should be"),
        ("PREFECT_PROFILES_PATH", sys.executable, f"PREFECT_PROFILES_PATH={sys.executable}: "),
        ("PREFECT_API_REQUEST_TIMEOUT", "soon", "PREFECT_API_REQUEST_TIMEOUT=soon: input should be a valid number"),
    ],
)
def test_the_variable_of_a_refused_setting_is_named(name, value, message, tmp_path):
    """In one error without Prefect's own remarks, although the import of Prefect is what fails."""
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path), name: value}
    done = subprocess.run([sys.executable, "-c", IMPORT], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"spinmeround.storage.errors.ConfigError: {message}")
    assert "Failed to initialize plugins" not in done.stderr


def test_a_refused_setting_in_a_file_is_named(tmp_path):
    """A prefect.toml in the working directory is read, too."""
    (tmp_path / "prefect.toml").write_text("[api]\nrequest_timeout = 'soon'\n")
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", IMPORT], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert "Prefect's API setting request_timeout (in prefect.toml, .env or a profile): input should be" in done.stderr


@pytest.mark.parametrize(
    ("name", "url", "message"),
    [
        (
            "PREFECT_API_DATABASE_CONNECTION_URL",
            "postgresql+asyncpg://user:secret@127.0.0.1:{port}/prefect",
            r"=postgresql\+asyncpg://127.0.0.1:\d+/prefect: .*found none \(ConnectionRefusedError",
        ),
        ("PREFECT_SERVER_DATABASE_DRIVER", "postgresql+asyncpg", r"=postgresql\+asyncpg: .*found none \("),
        (
            "PREFECT_SERVER_DATABASE_CONNECTION_URL",
            "nonsense",
            r"=nonsense: .*found none \(sqlalchemy.exc.ArgumentError",
        ),
    ],
)
def test_a_database_that_the_server_cannot_use_is_named(name, url, message, tmp_path, monkeypatch):
    """Without its password, and with the cause from the server's log, also where the command is quiet."""
    monkeypatch.setenv("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    monkeypatch.setenv(name, url.format(port=free_port()))
    server = ServerProcess(tmp_path)
    try:
        with pytest.raises(ConfigError, match=f"^{name}{message}") as raised:
            server.wait()
    finally:
        server.close()
    assert "secret" not in str(raised.value)
