"""The report's U-Net: its size and summary, how it is conditioned, and a twin of it in PyTorch."""

import re

import numpy as np
import pytest

from minidiff import backend, models, nn, ops
from minidiff.autograd import grad
from minidiff.errors import BadInput
from minidiff.models.unet import CONDITIONS
from minidiff.tensor import Tensor

SMALL = dict(image_size=8, channels=(8, 16, 24), num_classes=4)


def small(condition="before-mid", dtype=np.float32, **options):
    backend.manual_seed(1)
    model = models.UNet(condition=condition, **SMALL | options)
    for p in model.parameters():
        p.data = p.data.astype(dtype)
    return model


def batch(rng, n=3, channels=1, dtype=np.float32):
    """Noisy images, steps and labels; the last label is "no class"."""
    x = rng.standard_normal((n, channels, 8, 8)).astype(dtype)
    return x, rng.integers(1, 101, n), np.append(rng.integers(0, 4, n - 1), -1)


def loosen(model, rng):
    """Moves every parameter off its start, so that what starts at zero is heard."""
    for p in model.parameters():
        p.data = p.data + 0.1 * rng.standard_normal(p.shape).astype(p.dtype)
    return model


# ----------------------------------------------------------------------------------------- the report


def test_the_summary_is_the_reports():
    assert models.UNet().summary() == (
        "Created DownBlock: in_chs=32, out_chs=64, spatial_reduction=2x\n"
        "Created DownBlock: in_chs=64, out_chs=128, spatial_reduction=2x\n"
        "Created UpBlock: in_chs=128, skip_chs=64, out_chs=64, spatial_increase=2x\n"
        "Created UpBlock: in_chs=64, skip_chs=32, out_chs=32, spatial_increase=2x\n"
        "Created SinusoidalPositionEmbedBlock: dim=8\n"
        "Created EmbedBlock: input_dim=8, emb_dim=128\n"
        "Created EmbedBlock: input_dim=10, emb_dim=128\n"
        "Total trainable parameters: 957,513\n"
        "Approximate memory usage: 11.0 MB"
    )


def test_parameters_by_part():
    """957,513, as the report says; the parts are counted by hand: 9 io + o for a convolution, 2 o for its norm."""
    model = models.UNet()
    assert model.num_parameters() == 957_513

    def block(i, o):
        return 9 * i * o + o + 2 * o

    expected = {
        "init": block(1, 32),
        "downs": block(32, 64) + block(64, 64) + 9 * 64 * 64 + 64 + block(64, 128) + block(128, 128) + 9 * 128 * 128 + 128,
        "mid": 2 * block(128, 128),
        "ups": 4 * 128 * 64 + 64 + block(128, 64) + block(64, 64) + 4 * 64 * 32 + 32 + block(64, 32) + block(32, 32),
        "out": 9 * 32 + 1,
        "time_embed": 8 * 8 + 8 + 8 * 128 + 128,
        "class_embed": 10 * 128 + 128 + 128 * 128 + 128,
    }
    assert {name: part.num_parameters() for name, part in model.named_children()} == expected | {"clock": 0}
    assert sum(expected.values()) == 957_513


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("pool", ["conv", "rearrange"])
def test_what_comes_out_has_the_images_shape(rng, condition, pool):
    model = small(condition, pool=pool, in_channels=3)
    y = model(*batch(rng, channels=3))
    assert y.shape == (3, 3, 8, 8) and y.dtype == np.float32 and np.isfinite(y.data).all()


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_parameter_receives_a_gradient(rng, condition):
    model = loosen(small(condition), rng)
    (model(*batch(rng)) ** 2).mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not np.abs(p.grad.data).max() > 0] == []


# --------------------------------------------------------------------------------------- conditioning


@pytest.mark.parametrize("condition", CONDITIONS)
def test_permuting_a_batch_permutes_what_comes_out(rng, condition):
    """Each sample has its own step and class: an embedding by position in the batch would fail here."""
    model, (x, t, labels) = loosen(small(condition), rng), batch(rng, 5)
    order = rng.permutation(5)
    y, permuted = model(x, t, labels), model(x[order], t[order], labels[order])
    np.testing.assert_allclose(permuted.data, y.data[order], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_step_and_class_are_heard_by_their_own_sample_alone(rng, condition):
    model, (x, t, labels) = loosen(small(condition), rng), batch(rng)
    y = model(x, t, labels).data
    later, other = t + np.array([0, 30, 0]), np.where([False, True, False], (labels + 1) % 4, labels)
    for moved in (model(x, later, labels), model(x, t, other)):
        changed = np.abs(moved.data - y).max(axis=(1, 2, 3))
        assert changed[1] > 1e-3 and changed[[0, 2]].max() < 1e-5


@pytest.mark.parametrize("condition", CONDITIONS)
def test_label_minus_one_is_no_class(rng, condition):
    """Its one-hot vector is zero, so the class weights that read it cannot matter; for a class they do."""
    model, (x, t, _) = loosen(small(condition), rng), batch(rng)
    none, some = (model(x, t, label).data for label in (-1, 2))
    model.class_embed.model[0].weight.data += 1.0
    np.testing.assert_array_equal(model(x, t, -1).data, none)
    assert np.abs(model(x, t, 2).data - some).max() > 1e-3
    assert np.abs(none - some).max() > 1e-3


def test_one_step_and_one_label_serve_the_whole_batch(rng):
    model, (x, _, _) = small(), batch(rng)
    y = model(x, 7, 2).data
    np.testing.assert_array_equal(model(x, np.full(3, 7), np.full(3, 2)).data, y)
    np.testing.assert_array_equal(model(Tensor(x), Tensor(np.full(3, 7)), Tensor(np.array(2))).data, y)


def test_film_starts_unheard_but_listening(rng):
    """Its Linear starts at zero: step and class change nothing yet, but its weights have a gradient to follow."""
    model, (x, t, labels) = small("film"), batch(rng)
    y = model(x, t, labels)
    np.testing.assert_array_equal(model(x, 1, -1).data, y.data)
    (y * y).mean().backward()
    film = [p for name, p in model.named_parameters() if ".film." in name]
    assert len(film) == 2 * 10 and all(np.abs(p.grad.data).max() > 0 for p in film)
    assert small("before-mid").num_parameters() + sum(p.size for p in film) == model.num_parameters()


def test_the_clock_tells_every_step_from_every_other():
    clock = models.SinusoidalPositionEmbedBlock(8)
    e = clock(np.arange(1, 1001)).data
    assert e.shape == (1000, 8) and e.dtype == np.float32 and np.abs(e).max() <= 1
    distance = np.linalg.norm(e[:, None] - e[None], axis=2) + np.eye(1000)
    assert distance.min() > 0.02
    t, omega = 37, 10_000.0 ** (-np.arange(4) / 3)
    np.testing.assert_allclose(clock(np.array([t])).data[0], [*np.sin(t * omega), *np.cos(t * omega)], rtol=1e-5)


def test_film_is_a_norm_with_weights_of_its_own(rng):
    """y = gelu((1 + s) norm(conv(x)) + b), though it is computed as one norm with γ' and β'."""
    block = loosen(models.GELUConvBlock(2, 8, embed_dim=5), rng)
    x, e = (Tensor(rng.standard_normal(s).astype(np.float32)) for s in ((3, 2, 4, 4), (3, 5)))
    s, b = (part[:, :, None, None] for part in (block.film(e)[:, :8], block.film(e)[:, 8:]))
    expected = ops.gelu((1.0 + s) * block.norm(block.conv(x)) + b)
    np.testing.assert_allclose(block(x, e).data, expected.data, rtol=2e-5, atol=2e-5)


def test_rearranging_loses_nothing(rng):
    """The four pixels of a patch become four channels: all numbers are still there before the convolution."""
    x = rng.permutation(8 * 64).reshape(1, 8, 8, 8).astype(np.float32)
    block = models.RearrangePoolBlock(8)
    block.conv = nn.Identity()
    y = block(Tensor(x)).data
    assert y.shape == (1, 32, 4, 4)
    np.testing.assert_array_equal(np.sort(y.ravel()), np.arange(8 * 64))


# -------------------------------------------------------------------------------------- saving, errors


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_model_is_rebuilt_from_its_config_and_state(rng, condition):
    model = loosen(small(condition, pool="rearrange"), rng)
    other = models.UNet(**model.config)
    other.load_state_dict(model.state_dict())
    inputs = batch(rng)
    assert other.config == model.config
    np.testing.assert_array_equal(other(*inputs).data, model(*inputs).data)


def test_a_state_of_another_architecture_names_what_differs():
    with pytest.raises(BadInput, match="missing .*film.weight"):
        small("film").load_state_dict(small("before-mid").state_dict())


X = np.zeros((2, 1, 8, 8), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.UNet(channels=(32, 60)), "UNet: channels must be two or more multiples of 8, got (32, 60)"),
        (lambda: models.UNet(channels=(32,)), "UNet: channels must be two or more multiples of 8, got (32,)"),
        (lambda: models.UNet(image_size=30), "UNet: image_size must be a multiple of 4 for 3 levels, got 30"),
        (lambda: models.UNet(num_classes=0), "UNet: num_classes must be 1 or more, got 0"),
        (lambda: models.UNet(condition="after"), "UNet: condition 'after' is unknown; it is one of before-mid, after-mid, film"),
        (lambda: models.UNet(pool="max"), "UNet: pool 'max' is unknown; it is one of conv, rearrange"),
        (lambda: models.UNet(time_dim=7), "SinusoidalPositionEmbedBlock: dim must be even and at least 4, got 7"),
        (lambda: small()(X[:, 0], 1, 0), "UNet: x must be (N, 1, 8, 8), got (2, 8, 8)"),
        (lambda: small(in_channels=3)(X, 1, 0), "UNet: x must be (N, 3, 8, 8), got (2, 1, 8, 8)"),
        (lambda: small()(X, [1, 2, 3], 0), "UNet: t must be 2 integers or one, got int64 of shape (3,)"),
        (lambda: small()(X, 0.5, 0), "UNet: t must be 2 integers or one, got float64 of shape ()"),
        (lambda: small()(X, 1, [[0], [1]]), "UNet: labels must be 2 integers or one, got int64 of shape (2, 1)"),
        (lambda: small()(X, 1, [0, 4]), "one_hot: indices must lie in -1 … 3; got 0 … 4"),
        (lambda: small()(X.astype(np.float64), 1, 0),
         "conv2d: x, weight and bias must share one floating-point dtype; got float64, float32, float32"),
    ],
)  # fmt: skip
def test_bad_input_is_answered_in_one_line(call, message):
    with pytest.raises(BadInput, match=f"^{re.escape(message)}$"):
        call()


# ---------------------------------------------------------------------------------- the twin in PyTorch


def twin(torch, p, config, x, clock, labels):
    """The same network written with PyTorch's functions.

    p is the state, as PyTorch tensors by the same names. The clock of t is given, because it is rounded to float32
    and a sine that PyTorch rounds the other way would hide smaller differences.
    """
    F = torch.nn.functional
    film = config["condition"] == "film"

    def block(name, x, e):
        y = F.group_norm(F.conv2d(x, p[f"{name}.conv.weight"], p[f"{name}.conv.bias"], padding=1), 8,
                         p[f"{name}.norm.weight"], p[f"{name}.norm.bias"])  # fmt: skip
        if f"{name}.film.weight" in p:
            s, b = F.linear(e, p[f"{name}.film.weight"], p[f"{name}.film.bias"])[:, :, None, None].chunk(2, 1)
            y = (1 + s) * y + b
        return F.gelu(y)

    def embed(name, x):
        h = F.gelu(F.linear(x, p[f"{name}.model.0.weight"], p[f"{name}.model.0.bias"]))
        return F.linear(h, p[f"{name}.model.2.weight"], p[f"{name}.model.2.bias"])

    def down(name, x, e):
        x = block(f"{name}.conv2", block(f"{name}.conv1", x, e), e)
        if config["pool"] == "rearrange":
            return block(f"{name}.pool.conv", F.pixel_unshuffle(x, 2), None)
        return F.conv2d(x, p[f"{name}.pool.weight"], p[f"{name}.pool.bias"], stride=2, padding=1)

    def up(name, x, skip, e):
        x = torch.cat([F.conv_transpose2d(x, p[f"{name}.up.weight"], p[f"{name}.up.bias"], stride=2), skip], 1)
        return block(f"{name}.conv2", block(f"{name}.conv1", x, e), e)

    classes = F.one_hot(torch.tensor(labels) + 1, config["num_classes"] + 1)[:, 1:].to(x.dtype)
    e = embed("time_embed", clock.to(x.dtype)) + embed("class_embed", classes)
    heard, added = (F.gelu(e), 0) if film else (None, e[:, :, None, None])

    levels = len(config["channels"]) - 1
    skips = [block("init", x, None)]
    for i in range(levels):
        skips.append(down(f"downs.{i}", skips[-1], heard))
    h = skips.pop()
    h = h + added if config["condition"] == "before-mid" else h
    h = block("mid.1", block("mid.0", h, heard), heard)
    h = h + added if config["condition"] == "after-mid" else h
    for i in range(levels):
        h = up(f"ups.{i}", h, skips.pop(), heard)
    return F.conv2d(h, p["out.weight"], p["out.bias"], padding=1)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("pool", ["conv", "rearrange"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-10)])
def test_a_twin_in_pytorch_gives_the_same_noise_and_gradients(torch, rng, condition, pool, dtype, tolerance):
    model, (x, t, labels) = loosen(small(condition, dtype, pool=pool), rng), batch(rng, dtype=dtype)
    p = {name: torch.tensor(array, requires_grad=True) for name, array in model.state_dict().items()}
    u = rng.standard_normal(x.shape).astype(dtype)
    y, z = model(x, t, labels), twin(torch, p, model.config, torch.tensor(x), torch.tensor(model.clock(t).data), labels)
    z.backward(torch.tensor(u))
    names, parameters = zip(*model.named_parameters(), strict=True)
    gs = grad(y, parameters, u)
    for ours, theirs in [(y, z.detach()), *((g, p[name].grad) for name, g in zip(names, gs, strict=True))]:
        theirs = theirs.numpy()
        np.testing.assert_allclose(ours.data, theirs, rtol=tolerance, atol=tolerance * (1 + np.abs(theirs).max()))


# ------------------------------------------------------------------------------------------- controls


def test_without_skips_an_up_block_sees_only_what_comes_from_below(rng):
    """9 (o + s) o weights of the first convolution shrink to 9 o²; and the picture's detail has no way past the bottleneck."""
    plain, cut = models.UNet(), models.UNet(skips=False)
    assert plain.num_parameters() - cut.num_parameters() == 9 * 64 * 64 + 9 * 32 * 32
    assert plain.config.keys() == cut.config.keys() - {"skips"} and "skip_chs=0" in cut.summary()
    assert models.build(cut.config).num_parameters() == cut.num_parameters()


def test_without_a_clock_the_step_is_not_heard(rng):
    backend.manual_seed(0)
    x, labels = rng.standard_normal((2, 1, 8, 8)).astype(np.float32), np.array([1, 2])
    for clock in (True, False):
        model = models.UNet(image_size=8, channels=(8, 16), clock=clock)
        same = np.array_equal(model(x, np.array([1, 90]), labels).data, model(x, np.array([50, 3]), labels).data)
        assert same is not clock and "time_embed" in {name for name, _ in model.named_children()} or not clock
        assert ("SinusoidalPositionEmbedBlock" in model.summary()) is clock


def test_a_learned_variance_doubles_what_comes_out(rng):
    model = models.UNet(image_size=8, channels=(8, 16), variance="learned")
    assert model(rng.standard_normal((2, 1, 8, 8)).astype(np.float32), 3, 1).shape == (2, 2, 8, 8)
    with pytest.raises(BadInput, match="^UNet: variance 'free' is unknown; it is one of fixed, learned$"):
        models.UNet(variance="free")


# --------------------------------------------------------------------------------------------- style


@pytest.mark.parametrize("network", [models.UNet, models.AttentionUNet])
def test_style_is_heard_by_its_own_sample_and_not_known_is_not_the_middle(rng, network):
    backend.manual_seed(0)
    options = {"blocks": 1, "head_width": 8, "attention": ()} if network is models.AttentionUNet else {}
    model = network(in_channels=1, image_size=8, channels=(8, 16), style_dim=2, **options)
    for p in model.parameters():             # one of them starts out silent
        p.data += 0.1 * rng.standard_normal(p.shape).astype(np.float32)
    x, labels, style = rng.standard_normal((3, 1, 8, 8)).astype(np.float32), np.array([1, 2, -1]), rng.standard_normal((3, 2))
    y = model(x, 5, labels, style).data
    moved = style + np.array([[0, 0], [0.5, 0], [0, 0]])
    changed = np.abs(model(x, 5, labels, moved).data - y).max(axis=(1, 2, 3))
    assert changed[1] > 1e-4 and changed[[0, 2]].max() == 0
    unknown, middle = model(x, 5, labels).data, model(x, 5, labels, np.zeros((3, 2))).data
    assert np.abs(unknown - middle).max() > 1e-4
    np.testing.assert_array_equal(model(x, 5, labels, np.full((3, 2), np.nan)).data, unknown)
    assert model.config["style_dim"] == 2 and "style_dim" not in network().config
    plain = network(in_channels=1, image_size=8, channels=(8, 16), **options).summary().splitlines()
    assert "Created EmbedBlock: input_dim=4, " in next(line for line in model.summary().splitlines() if line not in plain)
    with pytest.raises(BadInput, match=rf"^{network.__name__}: style must be \(3, 2\), a row of values for each picture, got \(3, 1\)$"):
        model(x, 5, labels, style[:, :1])


@pytest.mark.slow
def test_pictures_have_the_style_that_is_asked_for():
    """Grey squares whose brightness is the style: learned in a minute, and drawn as bright as asked, with and without guidance."""
    import minidiff as md

    backend.manual_seed(0)
    model, rng = models.UNet(image_size=8, channels=(8, 16), num_classes=1, condition="film", style_dim=1, target="v"), np.random.default_rng(0)
    schedule, optimizer = md.diffusion.make_schedule("cosine", 50), md.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(300):
        style = rng.uniform(-1, 1, (32, 1))
        x0 = (0.6 * style[:, :, None, None] + 0.05 * rng.standard_normal((32, 1, 8, 8))).astype(np.float32)
        optimizer.zero_grad()
        md.diffusion.loss(model, schedule, x0, np.zeros(32, int), rng, style=style).backward()
        optimizer.step()
    asked = np.linspace(-1, 1, 9)[:, None]
    for w in (0.0, 1.0):
        drawn = md.diffusion.sample(model, schedule, np.zeros(9, int), "ddim", 10, guidance=w, style=asked).mean(axis=(1, 2, 3))
        assert np.corrcoef(drawn, asked[:, 0])[0, 1] > (0.95 if w == 0 else 0.85)
