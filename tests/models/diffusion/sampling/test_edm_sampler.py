import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler
from torch import Tensor

from spinmeround.models.diffusion.denoiser import Denoise
from spinmeround.models.diffusion.edm import precondition, schedule_sigmas
from spinmeround.models.diffusion.params import NoiseSchedule, SolverParams
from spinmeround.models.diffusion.sampling.edm_sampler import draw_noise, edm_sampler, seeded_generators

MEAN, STD = 1.5, 0.6


def gaussian_denoiser(mean: float = MEAN, std: float = STD) -> Denoise:
    """The ideal denoiser of normally distributed data: (std^2 x + s^2 mean)/(std^2 + s^2)."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        variance = sigma.square().reshape(-1, *[1] * (x.ndim - 1))
        return (std**2 * x + variance * mean) / (std**2 + variance)

    return denoise


def noise(batch: int, size: int = 4, seed: int = 0) -> Tensor:
    return draw_noise((batch, size), seeded_generators(range(seed, seed + batch))).double()


def error(solver: str, steps: int) -> float:
    """Largest error against the exact solution x(0) = mean + std (x(s) - mean)/sqrt(std^2 + s^2)."""
    schedule = NoiseSchedule(steps=steps, sigma_min=0.01, sigma_max=20.0)
    start = noise(3)
    got = edm_sampler(
        gaussian_denoiser(), start, schedule_sigmas(schedule), seeded_generators(range(3)), SolverParams(solver=solver)
    )
    x = 20.0 * start
    return (got - (MEAN + STD * (x - MEAN) / (STD**2 + 400.0) ** 0.5)).abs().max().item()


@pytest.mark.parametrize(("solver", "order", "within"), [("euler", 1, 0.1), ("heun", 2, 0.01), ("dpmpp", 2, 0.02)])
def test_converges_to_the_analytic_solution(solver: str, order: int, within: float) -> None:
    """For Gaussian data the error of the probability-flow ODE has the solver's order: twice the steps give a 2^order
    smaller error."""
    coarse, fine = error(solver, 48), error(solver, 96)
    assert coarse < within
    assert coarse / fine == pytest.approx(2**order, rel=0.35)


@pytest.mark.parametrize(
    "params",
    [
        SolverParams(solver="heun"),
        SolverParams(solver="dpmpp"),
        SolverParams(solver="euler", s_churn=40, s_noise=1.0),
        SolverParams(solver="heun", s_churn=40, s_noise=1.0),
    ],
    ids=["heun", "dpmpp", "euler with churn", "heun with churn"],
)
def test_samples_have_the_data_distribution(params: SolverParams) -> None:
    """Mean and standard deviation of samples equal those of the data, with and without churn."""
    generators = seeded_generators([0])
    start = draw_noise((1, 20_000), generators).double()
    got = edm_sampler(gaussian_denoiser(), start, schedule_sigmas(NoiseSchedule(steps=200)), generators, params)
    assert got.mean().item() == pytest.approx(MEAN, abs=0.03)
    assert got.std().item() == pytest.approx(STD, rel=0.06)


@pytest.mark.parametrize("s_churn", [0.0, 12.0])
def test_equals_diffusers_edm_euler_scheduler(s_churn: float) -> None:
    """Every step equals EDMEulerScheduler.step (sigma_data 1, v-prediction).

    With churn the network evaluates the latents after adding noise, as in Karras et al. 2022, Algorithm 2. The
    scheduler adds noise after the evaluation, so it receives the denoised prediction of the noisier latents.
    """
    scheduler = EDMEulerScheduler(sigma_data=1.0, prediction_type="v_prediction")
    scheduler.set_timesteps(12)
    start = torch.randn(1, 5, generator=torch.Generator().manual_seed(0))
    sigmas = scheduler.sigmas.double()

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        scale = precondition(sigma[:, None])
        return scale.c_skip * x + scale.c_out * torch.tanh(scale.c_in * x)

    noise = {"s_churn": s_churn, "s_tmin": 0.05, "s_tmax": 50.0, "s_noise": 1.003}
    seen: list[Tensor] = []
    params = SolverParams(**noise)
    edm_sampler(denoise, start, sigmas, seeded_generators([7]), params, lambda step, x: seen.append(x))

    x, generator, ahead = start * 80.0, torch.Generator().manual_seed(7), torch.Generator().manual_seed(7)
    for step, timestep in enumerate(scheduler.timesteps):
        sigma = float(sigmas[step])
        scaled = scheduler.scale_model_input(x, timestep)
        known = {}
        if s_churn and 0.05 <= sigma <= 50.0:
            hat = sigma * (1 + min(s_churn / 12, 2**0.5 - 1))
            noisy = x + 1.003 * torch.randn(1, 5, generator=ahead) * (hat**2 - sigma**2) ** 0.5
            known = {"pred_original_sample": denoise(noisy, torch.tensor([hat]))}
        x = scheduler.step(torch.tanh(scaled), timestep, x, **noise, generator=generator, **known).prev_sample
        torch.testing.assert_close(seen[step], x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [5, 20])
def test_equals_diffusers_dpm_solver(steps: int) -> None:
    """Every step of dpmpp equals EDMDPMSolverMultistepScheduler (sigma_data 1, v-prediction, order 2)."""
    scheduler = EDMDPMSolverMultistepScheduler(sigma_data=1.0, prediction_type="v_prediction")
    scheduler.set_timesteps(steps)
    start, seen = torch.randn(1, 5, generator=torch.Generator().manual_seed(0)).double(), []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        scale = precondition(sigma[:, None])
        return scale.c_skip * x + scale.c_out * torch.tanh(scale.c_in * x)

    def record(step: int, x: Tensor) -> None:
        seen.append(x)

    sigmas = scheduler.sigmas.double()
    edm_sampler(denoise, start, sigmas, seeded_generators([7]), SolverParams(solver="dpmpp"), record)
    x = start * 80.0
    for step, timestep in enumerate(scheduler.timesteps):
        output = torch.tanh(scheduler.precondition_inputs(x, sigmas[step]))
        x = scheduler.step(output, timestep, x).prev_sample
        torch.testing.assert_close(seen[step], x, rtol=1e-4, atol=1e-4, check_dtype=False)


def test_churn_with_a_multistep_solver_is_refused() -> None:
    """Churn with a multistep solver raises an error."""
    with pytest.raises(ValueError, match=r"s_churn: expected 0 for dpmpp, .* got 3\.0"):
        SolverParams(solver="dpmpp", s_churn=3)


def test_a_callback_may_replace_the_latents() -> None:
    """The next step starts from the returned latents."""
    got = edm_sampler(
        lambda x, sigma: x,
        noise(2).float(),
        schedule_sigmas(NoiseSchedule(steps=3)),
        seeded_generators([0, 1]),
        callback=lambda step, x: torch.full_like(x, 5.0) if step == 1 else None,
    )
    torch.testing.assert_close(got, torch.full_like(got, 5.0))


@pytest.mark.parametrize("s_churn", [0.0, 20.0])
def test_a_sample_does_not_depend_on_its_batch(s_churn: float) -> None:
    """Seeds 4, 5 and 6 give bit-identical samples together, alone and in another order."""
    sigmas, params = schedule_sigmas(NoiseSchedule(steps=10)), SolverParams(s_churn=s_churn)

    def sample(seeds: list[int]) -> Tensor:
        generators = seeded_generators(seeds)
        return edm_sampler(gaussian_denoiser(), draw_noise((len(seeds), 8), generators), sigmas, generators, params)

    together = sample([4, 5, 6])
    assert torch.equal(torch.cat([sample([seed]) for seed in (4, 5, 6)]), together)
    assert torch.equal(sample([6, 4, 5]), together[[2, 0, 1]])


def test_the_last_step_returns_the_denoised_latents() -> None:
    """The step to noise level 0 returns D exactly, so conditioning views stay unchanged."""
    clean = torch.full((2, 4), 0.25)
    got = edm_sampler(
        lambda x, sigma: clean, noise(2).float(), schedule_sigmas(NoiseSchedule(steps=7)), seeded_generators([0, 1])
    )
    torch.testing.assert_close(got, clean)


def test_one_generator_per_sample_is_required() -> None:
    """Different numbers of generators and samples raise an error."""
    with pytest.raises(ValueError, match="generators: expected 2, one per sample, got 1"):
        draw_noise((2, 3), seeded_generators([0]))
