"""What an artifact says about its making."""

import os
import subprocess
import sys

import pytest

from spinmeround.storage import provenance

pytestmark = pytest.mark.fast


def test_the_flow_run_holds_for_the_block_and_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks nest; a process that is started inside knows the run, and afterwards all is as before."""
    monkeypatch.delenv(provenance.FLOW_RUN, raising=False)
    with provenance.made_in("outer"), provenance.made_in("inner"):
        command = [sys.executable, "-c", f"import os; print(os.environ[{provenance.FLOW_RUN!r}])"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "inner\n"
        assert provenance.flow_run() == "inner"
    assert provenance.flow_run() == ""
    assert provenance.FLOW_RUN not in os.environ
