"""The words of `spinmeround store why`."""

import json
from collections.abc import Mapping
from dataclasses import replace

from spinmeround.flows.cli.options import RunOptions
from spinmeround.flows.cli.tables import amount, duration, table
from spinmeround.flows.profile import Profile, load_profile
from spinmeround.flows.run.session import Session, plan_session
from spinmeround.storage.artifacts import FINAL_STAGES, ArtifactStore, Manifest
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.dataset.lineage import Step, compare, expected_steps, find_artifact, stored_steps
from spinmeround.tasks.heads.registry import HEAD_STAGES
from spinmeround.tasks.stage import Head

_STAGES = [*(stage.name for stage in HEAD_STAGES), *FINAL_STAGES]


def provenance(store: ArtifactStore, options: RunOptions, target: str) -> str:
    """Every stage that led to an artifact, or that leads to a head: what, from what, when, where and how long."""
    if _is_key(target):
        manifest = find_artifact(store, target, _STAGES)
        return _told(f"artifact {manifest.stage}/{manifest.key}", stored_steps(store, manifest), "")
    session = _session(options, None, [])
    head = _head(session, target)
    failures = {failure.stage: failure.reason for failure in session.quarantine.failures() if failure.subject == head.id}
    dropped = session.drop_reasons(head)
    fate = f"dropped: {', '.join(dropped)}" if dropped else ""
    fate = "; ".join([*([fate] if fate else []), *(f"given up in {name}: {why}" for name, why in failures.items())])
    return _told(f"head {head.id} of profile {session.profile.name}", _expected(store, session, head), fate)


def difference(
    store: ArtifactStore,
    options: RunOptions,
    target: str,
    other: str | None,
    against: str | None,
    against_set: list[str],
) -> str:
    """What differs between two artifacts, two heads or one head of two profiles, and which stages that redoes."""
    if _is_key(target) and other is not None:
        first, second = (stored_steps(store, find_artifact(store, name, _STAGES)) for name in (target, other))
    else:
        ours = _session(options, None, [])
        theirs = ours if other is not None else _session(options, against, against_set)
        first = _expected(store, ours, _head(ours, target))
        second = _expected(store, theirs, _head(theirs, other or target))
    found = compare(first, second)
    rows = [[each.stage, "another" if each.changes else "same", "; ".join(each.changes)] for each in found]
    changed = [each.stage for each in found if each.changes]
    missing = [name for name in changed if name in second and second[name].manifest is None]
    lines = [table(["stage", "artifact", "because"], rows)]
    lines.append(f"another artifact in {', '.join(changed)}" if changed else "nothing differs: all stages are shared")
    if changed:
        lines.append(f"to be made for the second: {', '.join(missing)}" if missing else "the second is all made")
    return "\n".join(lines)


def _told(title: str, steps: Mapping[str, Step], fate: str) -> str:
    lines = [title, *([fate] if fate else [])]
    for step in steps.values():
        lines += ["", f"{step.stage} {step.key[:12]}, version {step.version}"]
        if step.inputs:
            lines.append(f"  from      {_inputs(step.inputs)}")
        lines += [f"  reads     {name} {json.dumps(value, sort_keys=True)}" for name, value in step.params.items()]
        if step.weights:
            lines.append(f"  weights   {step.weights[:12] if len(step.weights) == 64 else step.weights}")
        lines += _made(step.manifest)
    return "\n".join(lines)


def _made(manifest: Manifest | None) -> list[str]:
    if manifest is None:
        return ["  made      not yet"]
    machine = manifest.machine or "a machine that an older version of the software did not note"
    return [
        f"  made      {manifest.created} in {duration(manifest.duration_s)} by {manifest.code_version} on {machine}",
        f"  holds     {len(manifest.files)} files, {amount(manifest.size)}",
    ]


def _inputs(inputs: Mapping[str, str]) -> str:
    named = [f"{role} {key[:12]}" for role, key in inputs.items()]
    return ", ".join(named[:8]) + (f" and {len(named) - 8} more" if len(named) > 8 else "")


def _expected(store: ArtifactStore, session: Session, head: Head) -> dict[str, Step]:
    stages = [session.stages[stage.name] for stage in HEAD_STAGES]
    return expected_steps(store, stages, head, session.keys[head.id])


def _session(options: RunOptions, profile: str | None, overrides: list[str]) -> Session:
    ours, place = options.load()
    chosen: Profile = ours
    if profile is not None:
        chosen = load_profile(profile, overrides)
    elif overrides:
        chosen = replace(options, set=[*(options.set or []), *overrides]).load()[0]
    return plan_session(chosen, place)


def _head(session: Session, name: str) -> Head:
    for head in session.heads:
        if head.id == name:
            return head
    raise ConfigError(
        f"why {name!r}: expected the beginning of a key (at least 6 hexadecimal digits) or a head of profile "
        f"{session.profile.name}, {session.heads[0].id} to {session.heads[-1].id}"
    )


def _is_key(name: str) -> bool:
    return 6 <= len(name) <= 64 and set(name) <= set("0123456789abcdef")
