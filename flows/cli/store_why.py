"""The text of `spinmeround store why`: provenance of artifacts and heads, and what differs between two of them."""

import json
from collections.abc import Mapping
from dataclasses import replace

from spinmeround.flows.cli.shared.options import RunOptions
from spinmeround.flows.cli.shared.output import aligned, table
from spinmeround.flows.profile import Profile, load_profile
from spinmeround.flows.run.session import Session, plan_session
from spinmeround.storage.artifacts import FINAL_STAGES, ArtifactStore, Manifest
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.amounts import amount, duration
from spinmeround.tasks.dataset.lineage import Step, compare, expected_steps, find_artifact, stored_steps
from spinmeround.tasks.heads.registry import HEAD_STAGES
from spinmeround.tasks.stage import Head

_STAGES = [*(stage.name for stage in HEAD_STAGES), *FINAL_STAGES]
_MAX_INPUTS = 8


def provenance(store: ArtifactStore, options: RunOptions, target: str) -> str:
    """List every stage that leads to an artifact or a head: parameters, inputs, code, date, duration and machine."""
    if _is_key(target):
        manifest = find_artifact(store, target, _STAGES)
        return _listing(f"artifact {manifest.stage}/{manifest.key}", stored_steps(store, manifest), [])
    session = _session(options, None, [])
    head = _head(session, target)
    dropped = session.drop_reasons(head)
    notes = [f"dropped: {', '.join(dropped)}"] if dropped else []
    notes += [
        f"quarantined in {each.stage}: {each.reason}"
        for each in session.quarantine.failures()
        if each.subject == head.id
    ]
    return _listing(f"head {head.id} of profile {session.profile.name}", _expected(store, session, head), notes)


def difference(
    store: ArtifactStore,
    options: RunOptions,
    target: str,
    other: str | None,
    against: str | None,
    against_set: list[str],
) -> str:
    """Show what differs between two artifacts, two heads or one head of two profiles, and which stages are remade."""
    if _is_key(target) and other is not None:
        first, second = (stored_steps(store, find_artifact(store, name, _STAGES)) for name in (target, other))
    else:
        ours = _session(options, None, [])
        theirs = ours if other is not None else _session(options, against, against_set)
        first = _expected(store, ours, _head(ours, target))
        second = _expected(store, theirs, _head(theirs, other or target))
    found = compare(first, second)
    rows = [[each.stage, "different" if each.changes else "same", "; ".join(each.changes)] for each in found]
    changed = [each.stage for each in found if each.changes]
    missing = [name for name in changed if name in second and second[name].manifest is None]
    lines = [table(["stage", "artifact", "because"], rows)]
    lines.append(f"different artifacts in {', '.join(changed)}" if changed else "no difference: all stages are shared")
    if changed:
        lines.append(f"to make for the second: {', '.join(missing)}" if missing else "the second is complete")
    return "\n".join(lines)


def _listing(title: str, steps: Mapping[str, Step], notes: list[str]) -> str:
    lines = ["; ".join(notes)] if notes else []
    for step in steps.values():
        lines += ["", f"{step.stage} {step.key[:12]}, version {step.version}"]
        lines.append(aligned(_step_values(step), width=9, indent=2))
    return "\n".join([title, *lines])


def _step_values(step: Step) -> dict[str, object]:
    """What a step reads, and what the store has of it."""
    weights = step.weights[:12] if step.weights and len(step.weights) == 64 else step.weights
    return {
        **({"from": _inputs(step.inputs)} if step.inputs else {}),
        **(
            {
                "reads": [
                    f"{name} {json.dumps(value, sort_keys=True, allow_nan=False)}"
                    for name, value in step.params.items()
                ]
            }
            if step.params
            else {}
        ),
        **({"weights": weights} if weights else {}),
        **_manifest_values(step.manifest),
    }


def _manifest_values(manifest: Manifest | None) -> dict[str, object]:
    if manifest is None:
        return {"made": "not yet"}
    machine = manifest.machine or "an unknown machine (made by an older version of the software)"
    return {
        "made": f"{manifest.created} in {duration(manifest.duration_s)} by {manifest.code_version} on {machine}",
        **({"flow run": manifest.flow_run} if manifest.flow_run else {}),
        "holds": f"{len(manifest.files)} files, {amount(manifest.size)}",
    }


def _inputs(inputs: Mapping[str, str]) -> str:
    named = [f"{role} {key[:12]}" for role, key in inputs.items()]
    more = f" and {len(named) - _MAX_INPUTS} more" if len(named) > _MAX_INPUTS else ""
    return ", ".join(named[:_MAX_INPUTS]) + more


def _expected(store: ArtifactStore, session: Session, head: Head) -> dict[str, Step]:
    stages = [session.stages[stage.name] for stage in HEAD_STAGES]
    return expected_steps(store, stages, head, session.keys[head.id])


def _session(options: RunOptions, profile: str | None, overrides: list[str]) -> Session:
    ours, place = options.load()
    chosen: Profile = ours
    if profile is not None:
        chosen = load_profile(profile, overrides)
    elif overrides:
        chosen = replace(options, overrides=[*(options.overrides or []), *overrides]).load()[0]
    return plan_session(chosen, place)


def _head(session: Session, name: str) -> Head:
    for head in session.heads:
        if head.id == name:
            return head
    raise ConfigError(
        f"why {name!r}: expected the start of a key (at least 6 hexadecimal digits) or a head of profile "
        f"{session.profile.name}, {session.heads[0].id} to {session.heads[-1].id}"
    )


def _is_key(name: str) -> bool:
    return 6 <= len(name) <= 64 and set(name) <= set("0123456789abcdef")
