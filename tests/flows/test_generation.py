"""The warning of the generation flow."""

from spinmeround.flows.generation import unknown_identity_warning
from spinmeround.flows.profile import load_profile


def test_unknown_identity_warning_depends_on_how_the_model_was_trained() -> None:
    """A tenth of the samples of the model that ships had no identity; of one that never saw an unknown identity in
    training, the warning says so."""
    untrained = "; the model was not trained with unknown identities"
    assert unknown_identity_warning(load_profile("demo", ["train.identity_dropout=0"])).endswith(
        f"or give --identity{untrained}"
    )
    assert unknown_identity_warning(load_profile("embedded")).endswith("or give --identity")
