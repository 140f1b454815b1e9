"""The stages that make one head, in order."""

from tasks.embed import EMBED
from tasks.encode import ENCODE
from tasks.mesh import MESH
from tasks.normals import NORMALS
from tasks.render import RENDER
from tasks.review import REVIEW
from tasks.sample import SAMPLE
from tasks.score import SCORE
from tasks.screen import SCREEN
from tasks.stage import Stage
from tasks.write import WRITE

SCREEN_STAGES: tuple[Stage, ...] = (SAMPLE, SCORE, SCREEN)
DATASET_STAGES: tuple[Stage, ...] = (*SCREEN_STAGES, REVIEW, RENDER, MESH, NORMALS, EMBED, WRITE)
HEAD_STAGES: tuple[Stage, ...] = (*DATASET_STAGES, ENCODE)
