"""The U-Net with attention: its size, what its pixels and its blocks hear, and its twin in PyTorch."""

import re

import numpy as np
import pytest

import minidiff as md
from minidiff import backend, models, nn
from minidiff.autograd import grad
from minidiff.errors import BadInput
from minidiff.tensor import Tensor
from minidiff.train import checkpoint

SMALL = dict(in_channels=2, image_size=8, channels=(8, 16), blocks=1, attention=(8,), head_width=8, num_classes=4, time_dim=8)


def small(dtype=np.float32, start=False, **options):
    """A small network; unless `start`, each weight is moved off the zero that it may start at."""
    backend.manual_seed(1)
    model, rng = models.AttentionUNet(**SMALL | options), np.random.default_rng(2)
    for p in model.parameters():
        p.data = (p.data + (0 if start else 0.1) * rng.standard_normal(p.shape)).astype(dtype)
    return model


def batch(rng, n=3, dtype=np.float32):
    return rng.standard_normal((n, 2, 8, 8)).astype(dtype), rng.integers(1, 101, n), np.append(rng.integers(0, 4, n - 1), -1)


def test_parameters_by_part():
    """Counted by hand: 9 io + o for a 3x3 convolution, 2 c for a norm, 2 o (e + 1) for FiLM of an embedding of e = 512."""

    def res(i, o):
        return 2 * i + 9 * i * o + o + 2 * o * 513 + 2 * o + 9 * o * o + o + (i * o + o if i != o else 0)

    def look(c):
        return 2 * c + 3 * c * c + 3 * c + c * c + c

    up = [res(256 + 256, 256)] * 4 + [res(256 + 256, 256)] * 4 + [res(256 + 128, 256)] + [res(256 + 128, 128)] + [res(128 + 128, 128)] * 2
    expected = {
        "time_embed": 128 * 512 + 512 + 512 * 512 + 512,
        "class_embed": 11 * 512,
        "init": 9 * 3 * 128 + 128,
        "downs": 2 * res(128, 128) + res(128, 256) + 5 * res(256, 256) + 2 * look(256),
        "halves": 9 * 128**2 + 128 + 2 * (9 * 256**2 + 256),
        "mid": 2 * res(256, 256) + look(256),
        "ups": sum(up) + 3 * look(256),
        "twices": 3 * (4 * 256**2 + 256),
        "norm": 2 * 128,
        "out": 9 * 128 * 3 + 3,
    }
    model = models.AttentionUNet()
    assert {name: part.num_parameters() for name, part in model.named_children()} == expected | {"clock": 0}
    assert model.num_parameters() == 37_329_795
    assert "Total trainable parameters: 37,329,795" in model.summary() and "AttentionBlock: channels=256, heads=4" in model.summary()


@pytest.mark.parametrize("options", [{}, dict(blocks=2, channels=(8, 8, 16), attention=()), dict(attention=(8, 4), head_width=4)], ids=str)
def test_what_comes_out_has_the_images_shape_and_every_parameter_a_gradient(rng, options):
    model = small(**options)
    y = model(*batch(rng))
    assert y.shape == (3, 2, 8, 8) and np.isfinite(y.data).all()
    (y * y).mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not np.abs(p.grad.data).max() > 0] == []


def test_it_starts_by_saying_nothing_and_its_blocks_by_handing_on(rng):
    """What starts at zero: the last convolution of every block, of every attention, and of the network."""
    model, (x, t, labels) = small(start=True), batch(rng)
    assert not model(x, t, labels).data.any()
    block, look = models.ResidualBlock(8, 8, 4), models.AttentionBlock(8, 4)
    h = Tensor(rng.standard_normal((2, 8, 4, 4)).astype(np.float32))
    np.testing.assert_array_equal(block(h, Tensor(np.ones((2, 4), np.float32))).data, h.data)
    np.testing.assert_array_equal(look(h).data, h.data)


def test_permuting_a_batch_permutes_what_comes_out(rng):
    model, (x, t, labels) = small(), batch(rng, 5)
    order = rng.permutation(5)
    y, permuted = model(x, t, labels), model(x[order], t[order], labels[order])
    np.testing.assert_allclose(permuted.data, y.data[order], rtol=1e-4, atol=1e-4)


def test_step_and_class_are_heard_by_their_own_sample_alone(rng):
    model, (x, t, labels) = small(), batch(rng)
    y = model(x, t, labels).data
    for moved in (model(x, t + np.array([0, 30, 0]), labels), model(x, t, np.where([False, True, False], (labels + 1) % 4, labels))):
        changed = np.abs(moved.data - y).max(axis=(1, 2, 3))
        assert changed[1] > 1e-3 and changed[[0, 2]].max() < 1e-5


def test_no_class_has_a_row_of_its_own(rng):
    model, (x, t, _) = small(), batch(rng)
    none, some = (model(x, t, label).data for label in (-1, 2))
    model.class_embed.weight.data[4] += 1.0
    assert np.abs(model(x, t, -1).data - none).max() > 1e-3
    np.testing.assert_array_equal(model(x, t, 2).data, some)


def test_attention_does_not_care_where_a_pixel_is(rng):
    """Pixels are a set to it: in another order they give the same numbers in that order."""
    backend.manual_seed(0)
    look = models.AttentionBlock(16, 8)
    look.proj.weight.data[...] = rng.standard_normal(look.proj.weight.shape)
    x, order = rng.standard_normal((2, 16, 3, 5)).astype(np.float32), rng.permutation(15)

    def shuffled(a):
        return a.reshape(2, 16, 15)[:, :, order].reshape(2, 16, 3, 5)

    np.testing.assert_allclose(look(Tensor(shuffled(x))).data, shuffled(look(Tensor(x)).data), rtol=1e-4, atol=1e-5)


def test_dropout_acts_in_training_alone(rng):
    model, inputs = small(dropout=0.5), batch(rng)
    assert np.abs(model(*inputs).data - model(*inputs).data).max() > 1e-3
    model.eval()
    np.testing.assert_array_equal(model(*inputs).data, model(*inputs).data)


def test_a_checkpoint_knows_which_network_it_is_of(rng, tmp_path):
    model, inputs = small(), batch(rng)
    path = checkpoint.save(tmp_path / "a.npz", {"model": model.state_dict()}, {"model": model.config, "schedule": {"name": "linear", "T": 100}})
    loaded = checkpoint.load_model(path).model
    assert isinstance(loaded, models.AttentionUNet) and loaded.config == model.config
    np.testing.assert_array_equal(loaded(*inputs).data, model.eval()(*inputs).data)


def test_it_learns_and_samples(rng):
    """Two pictures by heart in 30 steps: the loss falls, and sampling runs through."""
    model = small(start=True, in_channels=1)
    schedule, optimizer = md.diffusion.make_schedule("cosine", T=20), md.optim.AdamW(model.parameters(), lr=5e-3)
    x0 = np.sign(rng.standard_normal((2, 1, 8, 8))).astype(np.float32)
    losses = []
    for step in range(30):
        loss = md.diffusion.loss(model, schedule, np.tile(x0, (8, 1, 1, 1)), np.tile([0, 1], 8), md.philox.Rng(0, step=step, like=x0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:2])
    assert md.diffusion.sample(model, schedule, [0, 1], "ddim", steps=3).shape == (2, 1, 8, 8)


X = np.zeros((2, 2, 8, 8), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: small(channels=(8,)), "AttentionUNet: channels must be two or more multiples of 32, or smaller multiples of 4 from 8 on; got (8,)"),
        (lambda: small(channels=(128, 130)), "AttentionUNet: channels must be two or more multiples of 32, or smaller multiples of 4 from 8 on; got (128, 130)"),
        (lambda: small(image_size=9), "AttentionUNet: image_size must be a multiple of 2 for 2 levels, got 9"),
        (lambda: small(attention=(16,)), "AttentionUNet: attention at 16x16, but the levels are 8, 4 wide"),
        (lambda: small(head_width=12), "AttentionUNet: head_width 12 must divide the channels where there is attention: [8, 16]"),
        (lambda: small(blocks=0), "AttentionUNet: blocks must be a whole number, 1 or more; got 0"),
        (lambda: small(target="x"), "AttentionUNet: target 'x' is unknown; it is one of eps, x0, v, flow, edm"),
        (lambda: small()(X[:, :1], 1, 0), "AttentionUNet: x must be (N, 2, 8, 8), got (2, 1, 8, 8)"),
        (lambda: small()(X, 1, 4), "AttentionUNet: labels must lie in -1 … 3; got 4 … 4"),
        (lambda: small()(X, 1, [-2, 0]), "AttentionUNet: labels must lie in -1 … 3; got -2 … 0"),
        (lambda: models.build({"network": "resnet"}), "model: network 'resnet' is unknown; it is one of unet, attention-unet, mlp"),
    ],
)  # fmt: skip
def test_bad_input_is_answered_in_one_line(call, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-4), ("float64", 1e-9)])
def test_a_twin_in_pytorch_gives_the_same_noise_and_gradients(torch, rng, dtype, tolerance):
    """Up to the clock, whose sines are rounded to float32 by either."""
    from minidiff.bench.twin import torch_unet

    model, (x, t, labels) = small(dtype), batch(rng, dtype=dtype)
    clock = model.clock(t).data.astype(dtype)

    class Stopped(nn.Module):
        def forward(self, t):
            return Tensor(clock)

    model.clock = Stopped()
    theirs = torch_unet(model)
    theirs.time_embed.register_forward_pre_hook(lambda module, inputs: (torch.tensor(clock),))
    theirs.to(torch.from_numpy(x).dtype).load_state_dict({name: torch.tensor(a) for name, a in model.state_dict().items()})
    u = rng.standard_normal(x.shape).astype(dtype)
    y, z = model(x, t, labels), theirs(torch.tensor(x), torch.tensor(t), torch.tensor(labels))
    z.backward(torch.tensor(u))
    found = dict(theirs.named_parameters())
    names, parameters = zip(*model.named_parameters(), strict=True)
    for ours, other in [(y, z.detach()), *((g, found[name].grad) for name, g in zip(names, grad(y, parameters, u), strict=True))]:
        other = other.numpy()
        np.testing.assert_allclose(ours.data, other, rtol=tolerance, atol=tolerance * (1 + np.abs(other).max()))
