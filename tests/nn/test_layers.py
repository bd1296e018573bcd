"""Layers: PyTorch's names, shapes, starting distributions and results."""

import re

import numpy as np
import pytest

from minidiff import backend, nn
from minidiff.errors import BadInput
from minidiff.tensor import Tensor

# Layer, constructor arguments, an input shape; those that start at random first.
LAYERS = [
    ("Linear", (5, 3), {}, (2, 5)),
    ("Linear", (5, 3), {"bias": False}, (2, 4, 5)),
    ("Conv2d", (1, 4, 3), {"padding": 1}, (2, 1, 6, 5)),
    ("Conv2d", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, (2, 4, 7, 7)),
    ("Conv2d", (2, 3, (3, 1), (1, 2), (2, 0), (2, 1)), {"bias": False}, (1, 2, 6, 5)),
    ("ConvTranspose2d", (4, 3, 2), {"stride": 2}, (2, 4, 3, 5)),
    ("ConvTranspose2d", (4, 6, 3, 2, 1, 1, 2), {}, (2, 4, 3, 3)),
    ("ConvTranspose2d", (2, 3, (3, 2)), {"dilation": 2, "bias": False}, (1, 2, 4, 5)),
    ("Conv2d", (2, 4, (3, 2)), {"padding": "same", "dilation": (1, 2)}, (2, 2, 5, 6)),
    ("Conv2d", (2, 4, 3, 2), {"padding": "valid"}, (2, 2, 5, 6)),
    ("Conv1d", (2, 4, 3), {"padding": 1, "stride": 2, "groups": 2}, (3, 2, 8)),
    ("Conv1d", (2, 3, (5,)), {"padding": "same", "bias": False}, (1, 2, 6)),
    ("ConvTranspose1d", (4, 2, 3, 2, 1, 1, 2), {}, (2, 4, 5)),
    ("GroupNorm", (2, 6), {}, (3, 6, 4, 4)),
    ("GroupNorm", (3, 6), {"eps": 0.1, "affine": False}, (3, 6, 4)),
    ("LayerNorm", (6,), {}, (3, 4, 6)),
    ("LayerNorm", ((4, 6), 0.1), {"elementwise_affine": False}, (3, 4, 6)),
    ("BatchNorm1d", (6,), {}, (3, 6)),
    ("BatchNorm1d", (6, 0.1, 0.3, False), {}, (3, 6, 4)),
    ("BatchNorm2d", (6,), {}, (3, 6, 4, 2)),
    ("BatchNorm2d", (6,), {"track_running_stats": False}, (3, 6, 4, 2)),
    ("InstanceNorm1d", (6,), {"affine": True}, (3, 6, 4)),
    ("InstanceNorm2d", (6,), {}, (3, 6, 4, 2)),
    ("InstanceNorm2d", (6,), {"track_running_stats": True}, (3, 6, 4, 2)),
    ("MaxPool2d", (2,), {}, (2, 3, 6, 7)),
    ("MaxPool2d", ((3, 2), (2, 1), 1, (1, 2)), {"ceil_mode": True}, (2, 3, 6, 7)),
    ("AvgPool2d", (2,), {}, (2, 3, 6, 7)),
    ("AvgPool2d", (3, (2, 1), 1, True, False), {}, (2, 3, 6, 7)),
    ("AdaptiveAvgPool2d", (1,), {}, (2, 3, 6, 7)),
    ("AdaptiveAvgPool2d", ((None, 4),), {}, (2, 3, 6, 7)),
    ("Upsample", (), {"scale_factor": 2}, (2, 3, 4, 5)),
    ("Upsample", ((3, 8),), {"mode": "bilinear", "align_corners": True}, (2, 3, 4, 5)),
    ("Upsample", (None, (1.5, 0.5), "bilinear"), {}, (2, 3, 4, 5)),
    ("PixelShuffle", (2,), {}, (2, 8, 3, 2)),
    ("PixelUnshuffle", (2,), {}, (2, 2, 6, 4)),
    ("LeakyReLU", (0.2,), {}, (3, 4)),
    ("Softplus", (2.0,), {}, (3, 4)),
    ("Sigmoid", (), {}, (3, 4)),
    ("Tanh", (), {}, (3, 4)),
    ("Softmax", (1,), {}, (3, 4, 2)),
    ("GELU", (), {}, (3, 4)),
    ("GELU", ("tanh",), {}, (3, 4)),
    ("SiLU", (), {}, (3, 4)),
    ("ReLU", (), {}, (3, 4)),
    ("Dropout", (0.3,), {}, (3, 4)),
    ("Dropout2d", (0.3,), {}, (3, 4, 2, 2)),
    ("Identity", (), {}, (3, 4)),
    ("Flatten", (), {}, (3, 4, 2, 2)),
    ("Flatten", (0, -2), {}, (3, 4, 2, 2)),
]
NAMED = [pytest.param(*case, id=f"{case[0]}-{i}") for i, case in enumerate(LAYERS)]
WITH_RANDOM_WEIGHTS = [pytest.param(*case[:3], id=f"{case[0]}-{i}") for i, case in enumerate(LAYERS[:13])]


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def as_we_print(text):
    """Without PyTorch's options that layers here lack: inplace, a threshold, in newer versions the bias of norms."""
    return re.sub(r", inplace=False|, threshold=20.0|(?<=affine=True), bias=True|(?<=affine=False), bias=(True|False)", "", text)


def shapes(state):
    return [(name, tuple(array.shape)) for name, array in state.items()]


@pytest.mark.parametrize(("layer", "args", "kwargs", "shape"), NAMED)
def test_names_shapes_order_and_printing_are_pytorchs(torch, layer, args, kwargs, shape):
    ours, theirs = getattr(nn, layer)(*args, **kwargs), getattr(torch.nn, layer)(*args, **kwargs)
    assert shapes(ours.state_dict()) == shapes(theirs.state_dict())
    assert repr(ours) == as_we_print(repr(theirs))


@pytest.mark.parametrize(("layer", "args", "kwargs", "shape"), NAMED)
def test_results_with_the_same_weights_are_pytorchs(torch, layer, args, kwargs, shape):
    ours = getattr(nn, layer)(*args, **kwargs).eval()
    theirs = getattr(torch.nn, layer)(*args, **kwargs).eval()
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in ours.state_dict().items()})
    x = np.random.default_rng(1).standard_normal(shape, np.float32)
    y = ours(Tensor(x)).numpy()
    assert y.dtype == np.float32
    # Sums of at most 36 float32 products of numbers around 1, in another order.
    np.testing.assert_allclose(y, theirs(torch.from_numpy(x)).detach().numpy(), rtol=1e-5, atol=2e-6)


def test_embedding_is_pytorchs(torch):
    ours, theirs = nn.Embedding(7, 3), torch.nn.Embedding(7, 3)
    assert shapes(ours.state_dict()) == shapes(theirs.state_dict()) and repr(ours) == repr(theirs)
    theirs.load_state_dict({"weight": torch.from_numpy(ours.state_dict()["weight"])})
    numbers = np.array([[0, 6], [6, 2]])
    np.testing.assert_array_equal(ours(numbers).numpy(), theirs(torch.from_numpy(numbers)).detach().numpy())


def test_an_embedding_with_padding_is_pytorchs(torch):
    ours, theirs = nn.Embedding(7, 3, padding_idx=-2), torch.nn.Embedding(7, 3, padding_idx=-2)
    assert repr(ours) == repr(theirs) and not ours.weight.data[5].any()
    theirs.load_state_dict({"weight": torch.from_numpy(ours.state_dict()["weight"])})
    numbers = np.array([5, 1, 5])
    ours(numbers).sum().backward()
    theirs(torch.from_numpy(numbers)).sum().backward()
    np.testing.assert_array_equal(ours.weight.grad.numpy(), theirs.weight.grad.numpy())


def test_weights_carry_over_from_pytorch(torch):
    ours, theirs = (
        lib.Sequential(lib.Conv2d(1, 8, 3), lib.GroupNorm(2, 8), lib.GELU(), lib.Flatten())
        for lib in (nn, torch.nn)
    )
    ours.load_state_dict(theirs.state_dict())
    x = np.random.default_rng(2).standard_normal((2, 1, 6, 6), np.float32)
    expected = theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours(Tensor(x)).numpy(), expected, rtol=1e-5, atol=5e-6)
    assert repr(ours) == as_we_print(repr(theirs))


# ----------------------------------------------------------------------------- what norms remember

REMEMBERING = [
    ("BatchNorm1d", {}, (4, 3)), ("BatchNorm1d", {"momentum": None}, (4, 3, 5)), ("BatchNorm2d", {"momentum": 0.3}, (4, 3, 2, 5)),
    ("InstanceNorm2d", {"track_running_stats": True, "affine": True}, (4, 3, 2, 5)),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "kwargs", "shape"), REMEMBERING)
def test_norms_train_remember_and_evaluate_as_pytorchs_do(torch, rng, layer, kwargs, shape):
    ours, theirs = getattr(nn, layer)(3, **kwargs), getattr(torch.nn, layer)(3, **kwargs)
    for step in range(4):
        if step == 3:
            ours.eval(), theirs.eval()
        x = rng.standard_normal(shape).astype(np.float32) * (step + 1) + step
        y, z = ours(Tensor(x)), theirs(torch.from_numpy(x))
        np.testing.assert_allclose(y.numpy(), z.detach().numpy(), rtol=1e-4, atol=1e-5)
    mine, others = ours.state_dict(), theirs.state_dict()
    assert list(mine) == list(others)
    for name, array in mine.items():
        assert array.dtype == others[name].numpy().dtype
        np.testing.assert_allclose(array, others[name].numpy(), rtol=1e-5, atol=1e-6)


def test_what_a_norm_remembers_is_saved_loaded_and_taken_from_pytorch(torch, rng):
    theirs = torch.nn.BatchNorm2d(3)
    theirs(torch.from_numpy(rng.standard_normal((4, 3, 2, 2), np.float32)))
    ours = nn.BatchNorm2d(3)
    ours.load_state_dict(theirs.state_dict())
    assert ours.num_batches_tracked == 1 and ours.num_batches_tracked.dtype == np.int64
    x = rng.standard_normal((2, 3, 4, 4), np.float32)
    np.testing.assert_allclose(
        ours.eval()(Tensor(x)).numpy(), theirs.eval()(torch.from_numpy(x)).detach().numpy(), rtol=1e-5, atol=1e-6
    )
    again = nn.BatchNorm2d(3)
    again.load_state_dict(ours.state_dict())
    assert all(np.array_equal(a, b) for a, b in zip(again.state_dict().values(), ours.state_dict().values(), strict=True))


def test_a_norm_in_float64_remembers_in_float64(rng):
    norm = nn.BatchNorm1d(3).astype(np.float64)
    assert norm(Tensor(rng.standard_normal((4, 3)))).dtype == norm.running_mean.dtype == np.float64
    assert norm.num_batches_tracked.dtype == np.int64 and norm.num_batches_tracked == 1


def test_evaluation_does_not_count_batches(rng):
    norm = nn.BatchNorm1d(3).eval()
    norm(Tensor(rng.standard_normal((4, 3), np.float32)))
    assert norm.num_batches_tracked == 0 and not norm.running_mean.any()


# ----------------------------------------------------------------------------------- how they start


def start(layer, *args, **kwargs):
    backend.manual_seed(0)
    return getattr(nn, layer)(*args, **kwargs)


@pytest.mark.parametrize(
    ("layer", "args", "kwargs", "fan_in"),
    [
        ("Linear", (64, 400), {}, 64),
        ("Conv2d", (16, 400, 3), {}, 16 * 9),
        ("Conv2d", (16, 400, 3), {"groups": 4}, 4 * 9),
        ("ConvTranspose2d", (400, 16, 3), {}, 16 * 9),
        ("ConvTranspose2d", (400, 400, 3), {"groups": 100}, 4 * 9),
    ],
)
def test_weight_and_bias_start_uniform_up_to_one_over_the_root_of_fan_in(layer, args, kwargs, fan_in):
    module, b = start(layer, *args, **kwargs), fan_in**-0.5
    assert module.weight.dtype == module.bias.dtype == np.float32
    n = module.weight.size
    u = np.sort(module.weight.data.ravel()) / b
    # Kolmogorov-Smirnov distance to U(-1, 1): beyond 2/√n with probability 0.0007, and the seed is fixed.
    assert np.abs((u + 1) / 2 - (np.arange(n) + 0.5) / n).max() < 2 / np.sqrt(n)
    if module.bias.size >= 400:
        assert 0.97 * b < np.abs(module.bias.data).max() <= b


@pytest.mark.parametrize(("layer", "args", "kwargs"), WITH_RANDOM_WEIGHTS)
def test_the_starting_range_is_pytorchs(torch, layer, args, kwargs):
    """Over many draws the largest weight comes within 2 % of the end of the range, in both."""
    ours = max(np.abs(getattr(nn, layer)(*args, **kwargs).weight.data).max() for _ in range(200))
    theirs = max(getattr(torch.nn, layer)(*args, **kwargs).weight.abs().max().item() for _ in range(200))
    assert ours == pytest.approx(theirs, rel=0.02)


def test_an_embedding_starts_standard_normal():
    table = np.sort(start("Embedding", 100, 60).weight.data.ravel())
    assert table.dtype == np.float32
    assert abs(table.mean()) < 0.05 and abs(table.std() - 1) < 0.05
    # 68.3 % of a normal distribution lies within one standard deviation; 6,000 draws see it to 0.6 %.
    assert abs(np.mean(np.abs(table) < 1) - 0.683) < 0.02


def test_groupnorm_starts_as_pure_normalisation():
    module = nn.GroupNorm(2, 4)
    assert np.array_equal(module.weight.data, np.ones(4)) and np.array_equal(module.bias.data, np.zeros(4))


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    a, b = start("Conv2d", 2, 3, 3), start("Conv2d", 2, 3, 3)
    c = nn.Conv2d(2, 3, 3)
    assert np.array_equal(a.weight.data, b.weight.data) and np.array_equal(a.bias.data, b.bias.data)
    assert not np.array_equal(b.weight.data, c.weight.data)


# --------------------------------------------------------------------------------------- behaviour


def test_dropout_works_in_training_only_and_keeps_the_mean():
    backend.manual_seed(0)
    dropout, x = nn.Dropout(0.25), np.ones((100, 100), np.float32)
    y = dropout(Tensor(x)).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(np.mean(y == 0) - 0.25) < 0.02  # 10,000 draws: standard deviation 0.004
    assert np.array_equal(dropout.eval()(Tensor(x)).numpy(), x)


def test_gradients_reach_every_parameter():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1),
        nn.GroupNorm(2, 4),
        nn.GELU(),
        nn.ConvTranspose2d(4, 2, 2, stride=2),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(2 * 6 * 6, 3),
        nn.ReLU(),
    )
    x = np.random.default_rng(0).standard_normal((5, 1, 6, 6), np.float32)
    net(Tensor(x)).sum().backward()
    for name, p in net.named_parameters():
        assert p.grad.shape == p.shape and p.grad.numpy().any(), name


def test_sequential_applies_in_order_and_takes_names():
    net = nn.Sequential({"double": nn.Linear(1, 1, bias=False), "clip": nn.ReLU()})
    net.double.weight.data[:] = -2
    assert list(net.state_dict()) == ["double.weight"]
    assert np.array_equal(net(Tensor(np.array([[1.0], [-1.0]], np.float32))).numpy(), [[0], [2]])
    assert len(net) == 2 and net[-1] is net.clip


def test_the_same_module_can_stand_twice_in_a_sequential():
    relu = nn.ReLU()
    net = nn.Sequential(relu, nn.Linear(2, 2), relu)
    assert len(net) == 3 and list(net)[2] is relu


def test_modulelist_is_a_list_whose_parameters_are_found():
    layers = nn.ModuleList([nn.Linear(1, 2), nn.Linear(2, 3)])
    layers.append(nn.Linear(3, 4)).extend([nn.Linear(4, 5)])
    assert list(layers.state_dict())[::2] == ["0.weight", "1.weight", "2.weight", "3.weight"]
    assert len(layers) == 4 and layers[-1].out_features == 5
    assert [layer.in_features for layer in layers[1:3]] == [2, 3] and isinstance(layers[1:], nn.ModuleList)
    assert isinstance(nn.Sequential(*layers)[1:], nn.Sequential)
    layers[0] = nn.Linear(7, 2)
    assert layers[0].in_features == 7 and list(layers.state_dict())[0] == "0.weight"
    with pytest.raises(NotImplementedError, match="ModuleList does not define forward"):
        layers(1)


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(0, 3), "Linear: in_features must be a whole number of at least 1, got 0"),
        (lambda: nn.Linear(3, 2.5), "Linear: out_features must be a whole number of at least 1, got 2.5"),
        (lambda: nn.Linear(True, 2), "Linear: in_features must be a whole number of at least 1, got True"),
        (lambda: nn.Conv2d(-1, 3, 3), "Conv2d: in_channels must be a whole number of at least 1, got -1"),
        (
            lambda: nn.Conv2d(1, 3, 3, dilation=(3, 3, 3)),
            "Conv2d: dilation must be a whole number of at least 1, or a pair (height, width), got (3, 3, 3)",
        ),
        (
            lambda: nn.Conv2d(1, 3, 3, padding=-1),
            "Conv2d: padding must be a whole number of at least 0, or a pair (height, width), got -1",
        ),
        (
            lambda: nn.Conv2d(1, 3, 3, padding="full"),
            "Conv2d: padding 'full' is unknown; it is 'same', 'valid' or whole numbers",
        ),
        (
            lambda: nn.Conv1d(1, 3, 3, stride=2, padding="same"),
            "Conv1d: padding 'same' needs stride 1, got stride (2,); give the padding in numbers",
        ),
        (
            lambda: nn.Conv1d(1, 3, (3, 3)),
            "Conv1d: kernel_size must be a whole number of at least 1, got (3, 3)",
        ),
        (
            lambda: nn.ConvTranspose1d(1, 3, 3, padding="same"),
            "ConvTranspose1d: padding must be given in whole numbers, got 'same'",
        ),
        (lambda: nn.LayerNorm((3, 0)), "LayerNorm: normalized_shape must be a whole number of at least 1, got 0"),
        (lambda: nn.BatchNorm2d(0), "BatchNorm2d: num_features must be a whole number of at least 1, got 0"),
        (
            lambda: nn.BatchNorm2d(3)(Tensor(np.zeros((2, 3)))),
            "BatchNorm2d: x must be (N,C,H,W) with 3 channels, got shape (2, 3)",
        ),
        (
            lambda: nn.BatchNorm1d(3)(Tensor(np.zeros((2, 4, 5)))),
            "BatchNorm1d: x must be (N,C) or (N,C,L) with 3 channels, got shape (2, 4, 5)",
        ),
        (
            lambda: nn.InstanceNorm1d(3)(Tensor(np.zeros((2, 3)))),
            "InstanceNorm1d: x must be (N,C,L) with 3 channels, got shape (2, 3)",
        ),
        (
            lambda: nn.MaxPool2d(2, stride=0),
            "MaxPool2d: stride must be a whole number of at least 1, or a pair (height, width), got 0",
        ),
        (
            lambda: nn.AvgPool2d((2, 2, 2)),
            "AvgPool2d: kernel_size must be a whole number of at least 1, or a pair (height, width), got (2, 2, 2)",
        ),
        (
            lambda: nn.AdaptiveAvgPool2d((2, 0)),
            "AdaptiveAvgPool2d: output_size must be a whole number of at least 1, or a pair (height, width), got (2, 0)",
        ),
        (lambda: nn.Upsample(), "Upsample: give either size or scale_factor; got size None, scale_factor None"),
        (lambda: nn.Upsample(4, mode="area"), "Upsample: mode 'area' is unknown; it is 'nearest' or 'bilinear'"),
        (lambda: nn.PixelShuffle(0), "PixelShuffle: upscale_factor must be a whole number of at least 1, got 0"),
        (lambda: nn.PixelUnshuffle(1.5), "PixelUnshuffle: downscale_factor must be a whole number of at least 1, got 1.5"),
        (lambda: nn.Embedding(3, 2, 3), "Embedding: padding_idx must lie in -3 … 2, got 3"),
        (lambda: nn.Softplus(0), "Softplus: beta must be larger than 0, got 0"),
        (lambda: nn.Dropout2d(-1), "Dropout2d: p must be from 0 to 1, got -1"),
        (
            lambda: nn.Conv2d(1, 3, 3, stride=0),
            "Conv2d: stride must be a whole number of at least 1, or a pair (height, width), got 0",
        ),
        (
            lambda: nn.Conv2d(6, 4, 2, groups=4),
            "Conv2d: in_channels and out_channels must be divisible by groups, got 6 and 4 with groups 4",
        ),
        (
            lambda: nn.ConvTranspose2d(6, 4, 2, stride=2, output_padding=2),
            "ConvTranspose2d: output_padding must be smaller than stride or dilation, "
            "got (2, 2) with stride (2, 2) and dilation (1, 1)",
        ),
        (lambda: nn.GroupNorm(8, 30), "GroupNorm: num_channels 30 must be divisible by num_groups 8"),
        (
            lambda: nn.Embedding(10, "3"),
            "Embedding: embedding_dim must be a whole number of at least 1, got '3'",
        ),
        (lambda: nn.GELU("exact"), "GELU: approximate must be 'none' or 'tanh', got 'exact'"),
        (lambda: nn.Dropout(1.5), "Dropout: p must be from 0 to 1, got 1.5"),
        (lambda: nn.Dropout(float("nan")), "Dropout: p must be from 0 to 1, got nan"),
        (
            lambda: nn.Flatten(2, 1)(Tensor(np.zeros((2, 3, 4)))),
            "Flatten: x of shape (2, 3, 4) has no axes 2 to 1",
        ),
        (
            lambda: nn.Sequential(nn.ReLU(), len),
            "Sequential: 1 must be a Module, got builtin_function_or_method",
        ),
        (
            lambda: nn.Sequential({"a.b": nn.ReLU()}),
            "Sequential: 'a.b' cannot name a module: it is empty, has a dot in it, or is taken",
        ),
    ],
)
def test_bad_arguments_get_one_clear_line(make, message):
    with pytest.raises(BadInput) as error:
        make()
    assert str(error.value) == message
