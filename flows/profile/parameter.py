"""The parameter of flows that is a profile: a name, or some fields, as a form or an API client gives them.

Fields that are not given are those of the profile that it is based on, as in a file of a profile.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Annotated

from pydantic import BeforeValidator

from spinmeround.flows.profile.loading import complete, load_profile, validate_profile
from spinmeround.flows.profile.model import Profile
from spinmeround.storage.errors import ConfigError


def as_profile(value: object) -> Profile:
    """The effective profile of a flow's parameter.

    A name or a path is loaded. Of fields, `extends` names the profile that they change, by default the shipped one of
    the same `name`; `set` has further changes of the form `section.field=value`, as the command line takes them.

    Raises ConfigError for another value, or an unknown, invalid or contradictory field.
    """
    if isinstance(value, Profile):
        return value
    if isinstance(value, str):
        return load_profile(value)
    if not isinstance(value, Mapping):
        raise ConfigError(f"profile: expected a name or the fields of a profile, got {type(value).__name__}")
    return validate_profile(complete(deepcopy(dict(value))), source="profile")


ProfileParameter = Annotated[Profile, BeforeValidator(as_profile)]
"""The type of a flow's parameter `profile`."""
