"""Plan: which heads the dataset asks for, from which seeds."""

from pydantic import Field

from spinmeround.tasks.stage import Head, StageParams


class PlanParams(StageParams):
    """Seeds `first_seed` to `first_seed + heads - 1` are asked for."""

    heads: int = Field(32, ge=1, description="How many heads are asked for")
    first_seed: int = Field(0, ge=0, description="Seed of the first head; the others follow")


def plan_heads(generator: str, params: PlanParams) -> list[Head]:
    """The heads asked for, by id; `generator` is the name that begins each id."""
    seeds = range(params.first_seed, params.first_seed + params.heads)
    return [Head(id=f"{generator}-{seed:06d}", seed=seed) for seed in seeds]
