"""The warning of the generation flow."""

from spinmeround.flows.generation import unknown_identity_warning
from spinmeround.flows.profile import load_profile


def test_unknown_identity_warning_depends_on_how_the_model_was_trained() -> None:
    """The demo's model never saw an unknown identity in training, and the warning says so; a tenth of the embedded
    model's samples had none."""
    untrained = "; the model was not trained with unknown identities"
    assert unknown_identity_warning(load_profile("demo")).endswith(f"or give --identity{untrained}")
    assert unknown_identity_warning(load_profile("embedded")).endswith("or give --identity")
