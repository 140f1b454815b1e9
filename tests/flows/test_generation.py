"""What the sampling flow tells its user."""

from spinmeround.flows.generation import unknown_face
from spinmeround.flows.profile import load_profile


def test_what_an_unknown_face_is_to_the_model_is_said_of_the_model_that_is_used() -> None:
    """The demo's never met one in training, which is said; a tenth of the other's samples were such."""
    assert unknown_face(load_profile("demo")).endswith("--identity says so, which the model was not trained with")
    assert unknown_face(load_profile("embedded")).endswith("--identity says so")
