"""minidiff beside denoising-diffusion-pytorch, whose tables are float32 and whose timesteps are t − 1."""

import numpy as np
import pytest

from minidiff.diffusion import loss_weight, make_schedule, predict_x0, time_steps
from minidiff.diffusion.solvers import SOLVERS, Answer
from minidiff.diffusion.variance import step_back

T = 200
NAMES = {"linear": "rescaled-linear", "cosine": "cosine", "sigmoid": "sigmoid"}
OBJECTIVES = {"pred_noise": "eps", "pred_x0": "x0", "pred_v": "v"}


def answer(x):
    return 0.8 * np.tanh(x)


@pytest.fixture
def make(gaussian_diffusion, torch):
    def make(name="cosine", objective="pred_v", **options):
        class Network(torch.nn.Module):
            channels = out_dim = 1
            self_condition = False

            def forward(self, x, t, self_condition=None):
                return 0.8 * torch.tanh(x)

        return gaussian_diffusion.GaussianDiffusion(Network(), image_size=4, timesteps=T, beta_schedule=name, objective=objective,
                                                    auto_normalize=False, **options)  # fmt: skip

    return make


@pytest.mark.parametrize("name", NAMES)
def test_schedules_agree_to_float32(gaussian_diffusion, make, name):
    """Their "linear" is rescaled by 1000/T, as our rescaled-linear."""
    schedule, reference = make_schedule(NAMES[name], T), make(name)
    betas = getattr(gaussian_diffusion, f"{name}_beta_schedule")(T).numpy()
    # Theirs has no bound but 1; at T the sigmoid's last β is where rounding of a float32 sigmoid shows.
    np.testing.assert_allclose(np.minimum(betas, 0.999), schedule.beta[1:], rtol=1e-4 if name == "sigmoid" else 1e-9)
    np.testing.assert_allclose(reference.alphas_cumprod.numpy(), schedule.alpha_bar[1:], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_loss_weights_agree(make, objective, clipped):
    schedule, target = make_schedule("cosine", T), OBJECTIVES[objective]
    reference = make("cosine", objective, min_snr_loss_weight=clipped).loss_weight.numpy()
    t, like = np.arange(1, T + 1), np.zeros((T, 1, 1, 1))
    np.testing.assert_allclose(loss_weight(schedule, t, like, "min-snr" if clipped else "snr", target).ravel(), reference, rtol=1e-3)


def test_the_posterior_agrees(make, torch, rng):
    schedule, reference = make_schedule("cosine", T), make()
    x0, xt = rng.standard_normal((2, T, 1, 1, 1))
    t = np.arange(1, T + 1)
    c0, ct, small, _ = (table.reshape(-1, 1, 1, 1) for table in step_back(schedule, t, t - 1))
    mean, variance, _ = reference.q_posterior(torch.from_numpy(x0), torch.from_numpy(xt), torch.from_numpy(t - 1))
    np.testing.assert_allclose(mean.numpy(), c0 * x0 + ct * xt, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(variance.numpy(), small, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ddim_agrees(make, torch, objective):
    """20 of 200 steps, x̂0 clipped and ε̂ taken from it anew on both sides, from the same noise."""
    schedule, target, times = make_schedule("cosine", T), OBJECTIVES[objective], time_steps(T, 20)
    torch.manual_seed(3)
    reference = make("cosine", objective, sampling_timesteps=20).sample(batch_size=2).numpy()
    torch.manual_seed(3)
    x = torch.randn((2, 1, 4, 4)).numpy().astype(np.float64)

    def ask(x, t):
        x0 = np.clip(predict_x0(schedule, x, t, answer(x), target), -1, 1)
        return Answer(x0, (x - schedule.signal[t] * x0) / schedule.noise[t])

    solver = SOLVERS["ddim"](schedule, ask, None, 20)
    for t, s in zip(times, times[1:], strict=False):
        x, _ = solver.step(x, t, s)
    np.testing.assert_allclose(reference, x, atol=1e-4)
