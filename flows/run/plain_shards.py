"""A shard from plain values alone, so that any process with the same store can run it.

In the process of the flow it runs in the session of the flow. Elsewhere it opens a session of its own for these heads,
which writes nothing but artifacts and failures, and returns its counts for the run's ledger.
"""

import multiprocessing
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

from spinmeround.flows.profile import Profile
from spinmeround.flows.run.folder import Place, named_run
from spinmeround.flows.run.progress import set_progress
from spinmeround.flows.run.session import Session, active_session, bound_stages
from spinmeround.flows.run.shards import ShardCount, run_shard
from spinmeround.flows.run.workers import WorkerPool
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.provenance import flow_run, made_in
from spinmeround.tasks.gpus import VISIBLE
from spinmeround.tasks.heads.registry import STAGES_BY_NAME
from spinmeround.tasks.stage import BoundStage, Head


def plain_run(session: Session) -> dict[str, Any]:
    """The run as plain values: the profile as JSON, where it is, and the fingerprints of the weights by stage."""
    return {
        "profile": session.profile.model_dump_json(),
        "out": str(session.folder.root),
        "store": str(session.folder.store),
        "flow_run": flow_run(),
        "weights": {name: bound.weights for name, bound in session.stages.items()},
    }


def run_plain_shard(run: Mapping[str, Any], stage: str, heads: Sequence[Mapping[str, Any]]) -> ShardCount:
    """Make the missing artifacts of a stage for these heads: `run` as from `plain_run`, heads as from `plain_heads`.

    Raises as `run_shard`, and ConfigError if this process has other weights or another generator than the run.
    """
    chosen, session = tuple(Head(**head) for head in heads), active_session()
    if session is not None:
        return run_shard(session, STAGES_BY_NAME[stage], chosen)
    profile, stages = _same_weights(run, stage)
    place = Place(out=run["out"], store=run["store"])
    session = Session(profile, named_run(place, profile.name), stages, heads=chosen, pool=_pool())
    session.quarantine.max_share = 1.0  # the run decides, which knows all heads
    with made_in(run["flow_run"]), set_progress(_Silent()):
        count = run_shard(session, STAGES_BY_NAME[stage], chosen)
    return replace(count, elsewhere=session.ledger.counts(), failures=session.quarantine.failures())


def plain_heads(heads: Sequence[Head]) -> list[dict[str, Any]]:
    """Heads as plain values."""
    return [asdict(head) for head in heads]


class _Silent:
    """The run shows the progress, from the counts that it gets."""

    def stage(self, name: str, total: int, done: int = 0) -> None: ...

    def advance(self, name: str, by: int = 1, note: str = "") -> None: ...

    def say(self, line: str) -> None: ...


@lru_cache(maxsize=2)
def _opened(profile_json: str) -> tuple[Profile, dict[str, BoundStage[Any]]]:
    """The profile and its stages, with the weights as this process first found them."""
    profile = Profile.model_validate_json(profile_json)
    return profile, bound_stages(profile)


def _same_weights(run: Mapping[str, Any], stage: str) -> tuple[Profile, dict[str, BoundStage[Any]]]:
    """The profile and its stages, with the weights of the run as far as this stage and its inputs use them.

    Those that this process has loaded may be of an earlier run, so it looks again before it raises ConfigError.
    """
    used = _with_inputs(stage)
    for attempt in ("loaded", "again"):
        profile, stages = _opened(run["profile"])
        other = [name for name in used if stages[name].weights != run["weights"][name]]
        if not other:
            return profile, stages
        if attempt == "loaded":
            _opened.cache_clear()
            _end_pools()
    raise ConfigError(
        f"{', '.join(other)}: expected the weights, generator and renderer of the run on {os.uname().nodename}, "
        "found others; install the same there"
    )


def _with_inputs(stage: str) -> list[str]:
    """The stage, and all whose artifacts it is made from."""
    inputs = [name for each in STAGES_BY_NAME[stage].inputs for name in _with_inputs(each)]
    return list(dict.fromkeys([stage, *inputs]))


_lock = threading.RLock()
_pools: dict[str | None, WorkerPool] = {}


def _end_pools() -> None:
    with _lock:
        for pool in _pools.values():
            pool.close()
        _pools.clear()


def _pool() -> WorkerPool:
    """Workers of this process, which see the GPUs that it has now; those with others end."""
    gpus = os.environ.get(VISIBLE)
    with _lock:
        if gpus not in _pools:
            _end_pools()
            # A worker of Dask is daemonic, so multiprocessing refuses it children; ours end with it in any case.
            multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
            _pools[gpus] = WorkerPool(os.cpu_count() or 1)
        return _pools[gpus]
