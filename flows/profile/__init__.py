"""Profiles: the configuration of a run as one frozen model.

A profile is a TOML file, either in `flows/profiles/` or at any path, that may extend another profile. Its sections
are the parameters of the stages. A section enters the artifact keys of the stages that read it; `name`, `review` and
`execution` enter no key, so they change how a run proceeds but not what it makes (review decisions do, head by head).

Unknown, invalid and contradictory fields raise `ConfigError` with one or two lines that name the field, the value
found and the values allowed.
"""

from spinmeround.flows.profile.contradictions import surface_warnings
from spinmeround.flows.profile.loading import PROFILES, load_profile, parse_overrides, profile_names, validate_profile
from spinmeround.flows.profile.model import Profile
from spinmeround.flows.profile.parameter import ProfileParameter
from spinmeround.flows.profile.sections import ExecutionParams, ProfileSections

__all__ = [
    "PROFILES",
    "ExecutionParams",
    "Profile",
    "ProfileParameter",
    "ProfileSections",
    "load_profile",
    "parse_overrides",
    "profile_names",
    "surface_warnings",
    "validate_profile",
]
