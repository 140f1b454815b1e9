"""The stages that make one head, in order."""

from typing import Any

from spinmeround.tasks.heads.embed import EMBED
from spinmeround.tasks.heads.encode import ENCODE
from spinmeround.tasks.heads.mesh import MESH
from spinmeround.tasks.heads.normals import NORMALS
from spinmeround.tasks.heads.render import RENDER
from spinmeround.tasks.heads.review import REVIEW
from spinmeround.tasks.heads.sample import SAMPLE
from spinmeround.tasks.heads.score import SCORE
from spinmeround.tasks.heads.screen import SCREEN
from spinmeround.tasks.stage import Stage

SCREEN_STAGES: tuple[Stage[Any], ...] = (SAMPLE, SCORE, SCREEN)
DATASET_STAGES: tuple[Stage[Any], ...] = (*SCREEN_STAGES, REVIEW, RENDER, MESH, NORMALS, EMBED)
HEAD_STAGES: tuple[Stage[Any], ...] = (*DATASET_STAGES, ENCODE)
STAGES_BY_NAME = {stage.name: stage for stage in HEAD_STAGES}

PUBLISHED_STAGES = ("render", "normals", "embed")
"""The stages whose artifacts a dataset is joined from. A head is complete if it has all of them."""
