"""Forms of deployments: the fields of a profile that a flow reads, as a JSON schema that Prefect's UI shows.

A form has no references, so that each field has the profile's own value as its default, and limits are in the text of
a field, because the UI does not show them.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from spinmeround.flows.profile import Profile

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.utilities.callables import ParameterSchema

OVERRIDES = "set"
"""The field of a form that changes any other field of the profile."""


def flow_form(
    flow: "Flow[..., Any]", profile: Profile, base: str, fields: Sequence[str], fixed: Sequence[str] = ()
) -> "ParameterSchema":
    """The form of a flow: `fields` of the profile, as `section` or `section.field`, and the flow's other parameters.

    The parameters in `fixed`, which the deployment sets, are not shown.
    """
    from prefect.utilities.callables import ParameterSchema, parameter_schema

    schema = parameter_schema(flow).model_dump()
    definitions = schema["definitions"]
    others = {name: value for name, value in schema["properties"].items() if name not in ("profile", *fixed)}
    # first what is specific to a run, last where it is
    names = ["profile", *sorted(others, key=lambda name: (name == "place", others[name].get("position", 0)))]
    properties = {name: _inlined(others[name], definitions) for name in names[1:]}
    properties["profile"] = profile_form(profile, base, fields)
    return ParameterSchema(
        title="Parameters",
        type="object",
        properties={name: properties[name] | {"position": number} for number, name in enumerate(names)},
        required=[name for name in schema.get("required", []) if name in properties],
        definitions={},
    )


def profile_form(profile: Profile, base: str, fields: Sequence[str]) -> dict[str, Any]:
    """The schema of a flow's parameter `profile` with these fields; others are accepted, but not shown.

    `base` is the name or the file of the profile, which has the fields that are not given.
    """
    schema = Profile.model_json_schema()
    form = _chosen(schema, schema["$defs"], profile.model_dump(mode="json"), [field.split(".") for field in fields])
    name = {"type": "string", "title": "name", "default": profile.name, "description": "Name of the run's folder"}
    extends = {
        "type": "string",
        "title": "extends",
        "default": base,
        "description": "Profile with the fields that are not given: a name, or a .toml file",
    }
    overrides = {
        "type": "array",
        "items": {"type": "string", "pattern": r"^\s*[A-Za-z_][\w.]*\s*="},
        "title": OVERRIDES,
        "default": [],
        "description": "Changes of other fields, such as mesh.level=9.5, with values as in TOML",
    }
    form["properties"] = {"name": name, "extends": extends, **form["properties"], OVERRIDES: overrides}
    for number, field in enumerate(form["properties"].values()):
        field["position"] = number
    description = "Fields that are not set here are those of the profile"
    return {**form, "title": "profile", "description": description, "additionalProperties": True, "required": ["name"]}


def _chosen(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], values: Any, fields: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """The schema of a model with these paths of fields, all if a path ends here."""
    found = _inlined(schema, definitions)
    whole = any(not path for path in fields)
    names = list(found["properties"]) if whole else list(dict.fromkeys(path[0] for path in fields))
    properties = {}
    for name in names:
        inner = schema["properties"][name]
        below = [[]] if whole else [path[1:] for path in fields if path[0] == name]
        model = _model(inner, definitions)
        if model is not None and isinstance(values[name], dict):
            described = {"description": inner["description"]} if "description" in inner else {}
            properties[name] = {**_chosen(model, definitions, values[name], below), **described, "title": name}
        else:
            properties[name] = _leaf(name, found["properties"][name], values[name])
    kept = {key: value for key, value in found.items() if key in ("type", "description")}
    return {**kept, "properties": properties}


def _model(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema of a field that is a model; None for another field."""
    reference = schema.get("$ref", "")
    found = definitions[reference.rpartition("/")[2]] if reference else {}
    return found if "properties" in found else None


def _leaf(name: str, schema: Mapping[str, Any], value: Any) -> dict[str, Any]:
    text = ". ".join(part for part in (schema.get("description", "").rstrip("."), limits(schema)) if part)
    return {**schema, "title": name, "default": value, **({"description": text} if text else {})}


def limits(schema: Mapping[str, Any]) -> str:
    """The limits of a number in words, such as `From 0 to 1`; empty for a field without any."""
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"From {low:g} to {high:g}"
    parts = {"at least": low, "above": above, "at most": high, "below": below}
    return ", ".join(f"{word} {limit:g}" for word, limit in parts.items() if limit is not None).capitalize()


def _inlined(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without references to definitions."""

    def resolve(value: Any) -> Any:
        if isinstance(value, list):
            return [resolve(each) for each in value]
        if not isinstance(value, dict):
            return value
        if reference := value.get("$ref"):
            rest = {key: each for key, each in value.items() if key != "$ref"}
            return {**resolve(definitions[reference.rpartition("/")[2]]), **resolve(rest)}
        return {key: resolve(each) for key, each in value.items() if key != "$defs"}

    return dict(resolve(deepcopy(dict(schema))))
