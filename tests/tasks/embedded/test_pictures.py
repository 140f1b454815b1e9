"""Pictures of heads for the training of the embedded weights."""

import numpy as np

from spinmeround.models.geometry.normals import decode_normals
from spinmeround.tasks.embedded.params import OrbitViews
from spinmeround.tasks.embedded.pictures import head_pictures


def test_normals_are_in_the_frame_of_their_camera():
    """From every side, the surface that a camera sees turns towards it: against z, which points forward."""
    views = head_pictures(3, OrbitViews(views=4))
    for view in views:
        inside = view[..., 3] == 255
        towards = -decode_normals(view[..., 4:], view[..., 3])[inside][:, 2]
        assert np.mean(towards > 0) > 0.97
        assert np.mean(towards) > 0.5
