"""The stages that make one head, in order."""

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
from spinmeround.tasks.write import WRITE

SCREEN_STAGES: tuple[Stage, ...] = (SAMPLE, SCORE, SCREEN)
DATASET_STAGES: tuple[Stage, ...] = (*SCREEN_STAGES, REVIEW, RENDER, MESH, NORMALS, EMBED, WRITE)
HEAD_STAGES: tuple[Stage, ...] = (*DATASET_STAGES, ENCODE)
