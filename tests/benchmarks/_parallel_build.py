"""One build of the benchmark `parallel`, run as a script with its options as JSON."""

import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from spinmeround.flows.profile import load_profile
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.progress import PlainProgress, set_progress
from spinmeround.flows.run.session import Session, join_session
from spinmeround.flows.server.process import configure, prefect_server
from spinmeround.flows.server.settings import import_prefect
from spinmeround.tasks.heads.registry import STAGES_BY_NAME
from tests.flows.run.calls import import_modules


def overrides(job: dict[str, Any]) -> list[str]:
    """The fields of the profile `demo` that the benchmark changes."""
    generator = f'generator={{name="tests.benchmarks.parallel:Sleeping", options={{seconds={job["seconds"]}}}}}'
    small = ["sample={resolution=8, previews={azimuths=2, elevations_deg=[0.0]}}", "screen={}"]
    run = [f"plan.heads={job['heads']}", f"execution.workers={job['workers']}"]
    return [generator, *small, *run]


def start_workers(session: Session) -> None:
    """Start all workers, with the modules of the stage."""
    with ExitStack() as held:
        workers = [held.enter_context(session.pool.checkout()) for _ in range(session.pool.size())]
        for worker in workers:
            worker.call(import_modules, "spinmeround.flows.run.shards", "tests.benchmarks.parallel")


def main(job: dict[str, Any]) -> None:
    """Run the stage `sample` once all builds are ready, and write the time and what was made."""
    folder = Path(job["place"])
    home = configure(folder, quiet=True)
    with prefect_server(home) as server, set_progress(PlainProgress()):
        import_prefect()
        from spinmeround.flows.stages import stage_flow

        if server is not None:
            server.wait()
        profile = load_profile("demo", overrides(job))
        with join_session(profile, Place(out=str(folder / "run"), store=job["store"])) as session:
            start_workers(session)
            (folder / "ready").touch()
            while not (folder.parent / "go").exists():
                time.sleep(0.02)
            begin = time.time()
            stage_flow(profile, STAGES_BY_NAME["sample"].name)
            found = {"begin": begin, "end": time.time(), **session.ledger.stages()["sample"]}
    (folder / "result.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
