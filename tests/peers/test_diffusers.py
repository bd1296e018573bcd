"""minidiff beside diffusers: the same numbers from the same steps, and the places where they differ.

diffusers counts timesteps 0 … T − 1, minidiff t = 1 … T with ᾱ_0 = 1: timestep = t − 1. Its tables are float32; where a sampler is
compared to 1e-12 they are replaced by minidiff's float64 ones, so that the steps are compared and not the tables.
"""

import numpy as np
import pytest

from minidiff import nn
from minidiff.diffusion import make_schedule, predict_eps, predict_x0, q_sample, time_steps, training_target
from minidiff.diffusion.guidance import guided_output, rescaled
from minidiff.diffusion.solvers import SOLVERS, Answer
from minidiff.diffusion.targets import check_target
from minidiff.errors import BadInput
from minidiff.optim import EMA, AdamW, CosineLR, clip_grad_norm
from minidiff.tensor import Tensor

T = 1000
TYPES = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
KINDS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}


def answer(x, t):
    """What a network would say: bounded, and different at every step."""
    return 0.8 * np.tanh(x) + 0.1 * np.cos(0.01 * t + np.arange(x.shape[-1]))


def ours(schedule, sampler, x, times, target="eps", draw=None, clip=False, **options):
    """Steps of a solver in float64, with `answer` for a network."""
    def ask(x, t):
        y = answer(x, t)
        x0, eps = predict_x0(schedule, x, t, y, target), predict_eps(schedule, x, t, y, target)
        if clip:
            x0 = np.clip(x0, -1.0, 1.0)
            eps = (x - schedule.signal[t] * x0) / schedule.noise[t]
        return Answer(x0, eps)

    solver = SOLVERS[sampler](schedule, ask, draw, len(times) - 1, **options)
    for t, s in zip(times, times[1:], strict=False):
        x, _ = solver.step(x, t, s)
    return x


def theirs(scheduler, schedule, x, steps, torch, **options):
    """Steps of a scheduler that has minidiff's ᾱ."""
    scheduler.alphas_cumprod = torch.from_numpy(schedule.alpha_bar[1:].copy())
    scheduler.set_timesteps(steps)
    x = torch.from_numpy(x)
    for i, timestep in enumerate(scheduler.timesteps):
        each = {name: value[i] if name == "variance_noise" else value for name, value in options.items()}
        x = scheduler.step(torch.from_numpy(answer(x.numpy(), int(timestep) + 1)), timestep, x, **each).prev_sample
    return x.numpy()


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((2, 1, 4, 4))


@pytest.fixture
def noise(torch):
    """Normal numbers as a seeded PyTorch generator gives them, for both sides."""
    def draw(shape=(2, 1, 4, 4)):
        return torch.randn(shape, generator=draw.generator, dtype=torch.float64).numpy()

    draw.generator = torch.Generator().manual_seed(5)
    return draw


# ---------------------------------------------------------------------------------- schedules, forward process, targets


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("zero", [False, True])
def test_schedules_agree_to_float32(diffusers, name, zero):
    reference = diffusers.DDPMScheduler(num_train_timesteps=T, beta_schedule=KINDS[name], rescale_betas_zero_snr=zero)
    found = make_schedule(name, T, zero_terminal_snr=zero).alpha_bar[1:]
    # The β of cosine are at most 0.999 on both sides; 1 − β in float32 is then good to 1e-4 of itself.
    np.testing.assert_allclose(reference.alphas_cumprod.numpy(), found, rtol=2e-4, atol=2e-7)


def test_flow_times_agree(diffusers):
    reference = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=T)
    np.testing.assert_allclose(reference.sigmas.numpy()[::-1], make_schedule("flow", T).noise[1:], rtol=1e-6)


def test_karras_sigmas_agree(diffusers):
    reference = diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, rho=7.0)
    reference.set_timesteps(18)
    np.testing.assert_allclose(reference.sigmas.numpy()[::-1], make_schedule("edm", 18).noise, rtol=1e-5)


def test_adding_noise_and_the_velocity_agree(diffusers, torch, x, noise):
    schedule, eps, timesteps = make_schedule("cosine", T), noise(), torch.tensor([3, 700])
    reference = diffusers.DDPMScheduler(num_train_timesteps=T)
    reference.alphas_cumprod = torch.from_numpy(schedule.alpha_bar[1:].copy())
    pair, t = (torch.from_numpy(x), torch.from_numpy(eps)), timesteps.numpy() + 1
    np.testing.assert_allclose(reference.add_noise(*pair, timesteps).numpy(), q_sample(schedule, x, t, eps), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(reference.get_velocity(*pair, timesteps).numpy(), training_target(schedule, x, t, eps, "v"), rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------------------------------------------- samplers


@pytest.mark.parametrize("target", TYPES)
@pytest.mark.parametrize("steps", [1, 10, 50, 1000])
@pytest.mark.parametrize("name", KINDS)
def test_ddim_agrees_in_float64(diffusers, torch, x, name, steps, target):
    schedule = make_schedule(name, T)
    scheduler = diffusers.DDIMScheduler(T, clip_sample=False, timestep_spacing="trailing", prediction_type=TYPES[target])
    found = ours(schedule, "ddim", x, time_steps(T, steps), target)
    np.testing.assert_allclose(theirs(scheduler, schedule, x, steps, torch), found, rtol=1e-12, atol=1e-12 * max(1, np.abs(found).max()))


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ddim_with_eta_agrees_in_float64(diffusers, torch, x, noise, eta):
    schedule, steps = make_schedule("cosine", T), 50
    scheduler = diffusers.DDIMScheduler(T, clip_sample=False, timestep_spacing="trailing", prediction_type="v_prediction")
    drawn = [noise() for _ in range(steps)]
    again = iter(drawn)
    found = ours(schedule, "ddim", x, time_steps(T, steps), "v", lambda: next(again), eta=eta)
    reference = theirs(scheduler, schedule, x, steps, torch, eta=eta, variance_noise=[torch.from_numpy(z) for z in drawn])
    np.testing.assert_allclose(reference, found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("clip", [False, True])
def test_ddpm_with_all_steps_agrees_in_float64(diffusers, torch, x, noise, variance, clip):
    schedule = make_schedule("linear", T)
    scheduler = diffusers.DDPMScheduler(T, clip_sample=clip, variance_type=f"fixed_{variance}", prediction_type="v_prediction")
    found = ours(schedule, "ddpm", x, time_steps(T), "v", noise, clip, variance=variance)
    reference = theirs(scheduler, schedule, x, T, torch, generator=torch.Generator().manual_seed(5))
    np.testing.assert_allclose(reference, found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps", [10, 20, 50])
def test_dpm_solver_agrees(diffusers, torch, x, steps):
    schedule = make_schedule("linear", T)
    scheduler = diffusers.DPMSolverMultistepScheduler(T, algorithm_type="dpmsolver++", solver_order=2, timestep_spacing="trailing",
                                                      final_sigmas_type="zero", prediction_type="v_prediction", lower_order_final=True)  # fmt: skip
    found = ours(schedule, "dpm++", x, time_steps(T, steps), "v")
    np.testing.assert_allclose(theirs(scheduler, schedule, x, steps, torch), found, atol=1e-5)


@pytest.mark.parametrize(("sampler", "scheduler"), [("euler", "FlowMatchEulerDiscreteScheduler"), ("heun", "FlowMatchHeunDiscreteScheduler")])
def test_flow_matching_agrees(diffusers, torch, x, sampler, scheduler):
    """Their step of the flow from the schedule's own σ, on our times."""
    schedule, steps = make_schedule("flow", T), 20
    times = time_steps(T, steps)
    reference = getattr(diffusers, scheduler)(T)
    reference.set_timesteps(steps)
    sigmas = [schedule.noise[t] for t in times]
    twice = [sigmas[0], *np.repeat(sigmas[1:-1], 2), 0.0] if sampler == "heun" else sigmas
    reference.sigmas, reference.timesteps = torch.tensor(twice), torch.tensor(twice[:-1]) * T
    reference.num_inference_steps = steps
    z = torch.from_numpy(x)
    for timestep in reference.timesteps:
        z = reference.step(torch.from_numpy(answer(z.numpy(), round(float(timestep)))), timestep, z).prev_sample
    np.testing.assert_allclose(z.numpy(), ours(schedule, sampler, x, times, "flow"), atol=1e-5)


# ----------------------------------------------------------------------------------------- guidance and training


@pytest.mark.parametrize("w", [0.5, 3.0])
@pytest.mark.parametrize("phi", [0.0, 0.7])
def test_guidance_agrees(diffusers, torch, x, w, phi):
    """Their scale is s = 1 + w, around the unconditional answer."""
    from diffusers.guiders import ClassifierFreeGuidance

    class Model:
        def __call__(self, x, t, labels):
            return Tensor(np.tanh(x) + np.float32(0.2) * labels.reshape(-1, 1, 1, 1).astype(np.float32))

    labels, xt = np.array([0, 3]), x.astype(np.float32)
    cond, uncond = (Model()(xt, 5, each).data for each in (labels, np.array([-1, -1])))
    guider = ClassifierFreeGuidance(guidance_scale=1.0 + w, guidance_rescale=phi)
    guider.set_state(step=1, num_inference_steps=10, timestep=torch.tensor(500))
    reference = guider.forward(torch.from_numpy(cond), torch.from_numpy(uncond)).pred.numpy()
    np.testing.assert_allclose(guided_output(Model(), xt, 5, labels, w, rescale=phi), reference, atol=1e-6 * (1 + w) * 3)
    np.testing.assert_allclose(rescaled(cond, uncond, phi), cond * (phi * uncond.std((1, 2, 3), keepdims=True) / cond.std((1, 2, 3), keepdims=True) + 1 - phi), rtol=1e-5)


class Weights(nn.Module):
    def __init__(self, *arrays):
        self.p, self.q = (nn.Parameter(a) for a in arrays)


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_the_average_of_weights_agrees_from_the_second_update_on(diffusers, torch, rng, decay):
    """d = min(decay, (1 + n)/(10 + n)). Their first update copies the weights, d = 0, where ours has d = 1/10."""
    from diffusers.training_utils import EMAModel

    model = Weights(rng.standard_normal((3, 4)), rng.standard_normal(5))
    twins = [torch.nn.Parameter(torch.from_numpy(p.data.copy())) for _, p in model.named_parameters()]
    reference, average = EMAModel(twins, decay=decay), EMA(model, decay)
    reference.step(twins)
    average.update()
    for _ in range(40):
        for (_, p), twin in zip(model.named_parameters(), twins, strict=True):
            p.data = p.data + rng.standard_normal(p.shape)
            twin.data = torch.from_numpy(p.data.copy())
        reference.step(twins)
        average.update()
        assert reference.cur_decay_value == min(decay, average.updates / (9 + average.updates))
        for a, b in zip(average.average.values(), reference.shadow_params, strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-12, atol=1e-12)


def test_training_with_clipping_adamw_and_a_cosine_agrees_to_rounding(diffusers, torch, rng):
    """Forty steps on the same gradients. Their warm-up starts at 0, so that its first step is lost, and ours at peak/(W + 1)."""
    from diffusers.optimization import get_cosine_schedule_with_warmup

    start = [rng.standard_normal((3, 4)), rng.standard_normal(5)]
    params, twins = [Tensor(a.copy(), requires_grad=True) for a in start], [torch.nn.Parameter(torch.from_numpy(a.copy())) for a in start]
    optimizer, reference = AdamW(params, lr=3e-3, weight_decay=0.1), torch.optim.AdamW(twins, lr=3e-3, weight_decay=0.1)
    schedule, cosine = CosineLR(optimizer, 40), get_cosine_schedule_with_warmup(reference, 0, 40)
    for _ in range(40):
        assert optimizer.lr == pytest.approx(reference.param_groups[0]["lr"], rel=1e-12, abs=1e-18)
        for p, twin in zip(params, twins, strict=True):
            g = 3.0 * rng.standard_normal(p.shape)
            p.grad, twin.grad = Tensor(g), torch.from_numpy(g.copy())
        assert clip_grad_norm(params, 1.0) == pytest.approx(float(torch.nn.utils.clip_grad_norm_(twins, 1.0)), rel=1e-12)
        for each in (optimizer, reference, schedule, cosine):
            each.step()
    for p, twin in zip(params, twins, strict=True):
        np.testing.assert_allclose(p.data, twin.detach().numpy(), rtol=1e-12, atol=1e-14)
    warm, reference = CosineLR(AdamW(params, lr=1.0), 40, warmup_steps=4), get_cosine_schedule_with_warmup(torch.optim.SGD(twins, lr=1.0), 4, 40)
    assert (warm.lr_at(0), reference.get_last_lr()[0]) == (0.2, 0.0)
    assert [warm.lr_at(k) for k in range(4, 41)] == pytest.approx([reference.lr_lambdas[0](k) for k in range(4, 41)], abs=1e-15)


# ------------------------------------------------------------------------------------------- where they differ


def test_the_last_step_of_ddpm_with_the_large_variance_adds_noise_to_their_picture(diffusers, torch):
    """With fewer steps than T their last step does not start from timestep 0, and gets noise of variance β; at s = 0 the mean is x̂0
    and the posterior's variance 0 (Ho et al. 2020, algorithm 2, line 3), so that nothing should be added."""
    x = np.zeros((1, 1, 64, 64))
    added = {}
    for variance in ("small", "large"):
        scheduler = diffusers.DDPMScheduler(T, clip_sample=False, timestep_spacing="trailing", variance_type=f"fixed_{variance}")
        scheduler.set_timesteps(10)
        zero = torch.from_numpy(x)
        added[variance] = float(scheduler.step(zero, scheduler.timesteps[-1], zero, generator=torch.Generator().manual_seed(0)).prev_sample.std())
    beta = 1.0 - make_schedule("linear", T).alpha_bar[100]
    assert added["small"] < 1e-9 and added["large"] == pytest.approx(np.sqrt(beta), rel=0.05) and added["large"] > 0.3
    solver = SOLVERS["ddpm"](make_schedule("linear", T), lambda x, t: Answer(x, x), lambda: 1 / 0, 10, variance="large")
    np.testing.assert_array_equal(solver.step(x, 100, 0)[0], x)


@pytest.mark.parametrize("steps", [7, 600])
def test_steps_that_do_not_divide_T_leave_noise_in_their_ddim(diffusers, torch, x, steps):
    """Their DDIM steps T // K down whatever the next timestep is, so that x is noisier or cleaner than the network is told, and the
    last step does not reach ᾱ = 1. Ours goes from each step to the next."""
    schedule = make_schedule("linear", T)
    scheduler = diffusers.DDIMScheduler(T, clip_sample=False, timestep_spacing="trailing", prediction_type="v_prediction")
    scheduler.set_timesteps(steps)
    reached = scheduler.timesteps.numpy() - T // steps
    assert reached[-1] == 0 and (reached[:-1] != scheduler.timesteps.numpy()[1:]).any()           # timestep 0 is t = 1, not the picture
    times = time_steps(T, steps)
    assert times[-1] == 0 and np.abs(theirs(scheduler, schedule, x, steps, torch) - ours(schedule, "ddim", x, times, "v")).max() > 1e-3


def test_trailing_timesteps_sometimes_end_below_the_first(diffusers):
    """np.arange(T, 0, −T/K) has K + 1 numbers where rounding leaves a last one a little above 0: timestep −1, the table's last entry."""
    wrong = []
    for steps in range(1, 101):
        scheduler = diffusers.DDIMScheduler(T, timestep_spacing="trailing")
        scheduler.set_timesteps(steps)
        if len(scheduler.timesteps) != steps:
            wrong.append((steps, int(scheduler.timesteps[-1])))
        assert len(time_steps(T, steps)) == steps + 1 and time_steps(T, steps)[-1] == 0
    assert wrong == [(61, -1)]


def test_zero_terminal_snr_is_zero_in_some_of_their_schedulers_and_almost_zero_in_others(diffusers):
    left = {name: float(getattr(diffusers, name)(T, rescale_betas_zero_snr=True).alphas_cumprod[-1])
            for name in ("DDPMScheduler", "DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler")}  # fmt: skip
    assert list(left.values()) == [0.0, 0.0, 2.0**-24, 2.0**-24] and make_schedule("linear", T, zero_terminal_snr=True).alpha_bar[-1] == 0
    with pytest.raises(BadInput, match="at T nothing of the picture is left in this schedule, and ε is x_T itself"):
        check_target("sample", make_schedule("linear", T, zero_terminal_snr=True), "eps")


def test_clipping_x0_moves_the_noise_too(diffusers, torch, x):
    """By default their ε̂ is the network's even where x̂0 was clipped, and x_t ≠ a x̂0 + σ ε̂; `use_clipped_model_output` is our way."""
    schedule, steps = make_schedule("linear", T), 20
    scheduler = diffusers.DDIMScheduler(T, clip_sample=True, timestep_spacing="trailing", prediction_type="epsilon")
    found = ours(schedule, "ddim", 2.0 * x, time_steps(T, steps), "eps", clip=True)
    np.testing.assert_allclose(theirs(scheduler, schedule, 2.0 * x, steps, torch, use_clipped_model_output=True), found, rtol=1e-11, atol=1e-12)
    assert np.abs(theirs(scheduler, schedule, 2.0 * x, steps, torch) - found).max() > 1e-3
