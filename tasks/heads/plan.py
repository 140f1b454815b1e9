"""Plan: the heads of a dataset and their seeds."""

from pydantic import Field

from spinmeround.storage.errors import DatasetError
from spinmeround.tasks.stage import Head, StageParams


class PlanParams(StageParams):
    """A dataset has the seeds `first_seed` to `first_seed + heads - 1`."""

    heads: int = Field(32, ge=1, description="Number of heads")
    first_seed: int = Field(0, ge=0, description="Seed of the first head; the others follow it")


def plan_heads(generator: str, params: PlanParams) -> list[Head]:
    """The planned heads, ordered by seed; each id is `<generator>-<seed, six digits>`."""
    seeds = range(params.first_seed, params.first_seed + params.heads)
    return [Head(id=f"{generator}-{seed:06d}", seed=seed) for seed in seeds]


def head_of_id(id: str) -> Head:
    """The planned head of an id. Raises DatasetError for an id that does not end in a seed."""
    try:
        return Head(id=id, seed=int(id.rpartition("-")[2]))
    except ValueError as error:
        raise DatasetError(f"head {id}: expected an id that ends in the seed, as generator-000123") from error
