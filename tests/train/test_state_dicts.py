"""PyTorch's weights come over by their names, and what does not fit is listed."""
import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidiff import backend, models
from minidiff.errors import BadInput
from minidiff.train import Config, load_model
from minidiff.train.state_dicts import compare, import_weights, read

CONFIG = Config(preset="tiny", data="glyphs", steps=1, model={"channels": [8, 16], "condition": "film", "time_dim": 8}, schedule={"name": "cosine", "T": 10})


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    backend.manual_seed(3)
    return models.build(CONFIG.model).state_dict()


def _write_safetensors(path: Path, arrays: dict[str, tuple[str, tuple[int, ...], bytes]]) -> None:
    """The format by hand: the length of a JSON text, the text, the numbers (it is as simple as that)."""
    head, at = {}, 0
    for name, (kind, shape, data) in arrays.items():
        head[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at := at + len(data)]}
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in arrays.values()))


def test_a_networks_weights_from_pytorch_answer_as_pytorch_does(torch: Any, tmp_path: Path) -> None:
    from minidiff.bench import twin

    backend.manual_seed(1)
    theirs = twin.torch_unet(models.build(CONFIG.model))
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    np.savez(tmp_path / "w.npz", **{name: value.numpy() for name, value in theirs.state_dict().items()})
    assert import_weights(tmp_path / "w.npz", CONFIG, 1, tmp_path / "model.npz").complete
    ours = load_model(tmp_path / "model.npz")
    x, t, labels = np.random.default_rng(0).standard_normal((3, 1, 32, 32), dtype=np.float32), np.array([1, 5, 10]), np.array([0, 3, -1])
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x), torch.from_numpy(t), torch.from_numpy(labels)).numpy()
    np.testing.assert_allclose(ours.model(x, t, labels).numpy(), expected, atol=2e-5)
    assert ours.meta["imported"] == "w.npz" and ours.schedule.T == 10 and ours.classes == tuple("0123456789")


@pytest.mark.parametrize(("kind", "to_bytes", "tolerance"), [
    ("F32", lambda a: a.tobytes(), 0), ("F16", lambda a: a.astype(np.float16).tobytes(), 2**-11), ("F64", lambda a: a.astype(np.float64).tobytes(), 0),
    ("BF16", lambda a: (a.view(np.uint32) >> 16).astype(np.uint16).tobytes(), 2**-7),
])
def test_safetensors_are_read_in_every_precision(weights: dict, tmp_path: Path, kind: str, to_bytes: Any, tolerance: float) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "w.safetensors"
    _write_safetensors(path, {name: (kind, a.shape, to_bytes(a)) for name, a in weights.items()})
    assert import_weights(path, CONFIG, 1, tmp_path / "model.npz").complete
    for name, a in load_model(tmp_path / "model.npz").model.state_dict().items():
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, weights[name], rtol=tolerance, atol=1e-7 if tolerance else 0)


def test_without_the_package_safetensors_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.safetensors").touch()
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(BadInput, match=r'^import: \.safetensors needs the package safetensors, which is not installed; pip install '
                                       r'"minidiff\[safetensors\]", or give an \.npz$'):
        read(tmp_path / "w.safetensors")


@pytest.mark.parametrize(("name", "content", "message"), [
    ("w.pt", b"PK", "w.pt: only .npz and .safetensors are read, since PyTorch's own files are pickles, which can run any code; in PyTorch: "),
    ("w.npz", b"hello", "w.npz: cannot be read as .npz "),
    ("w.npz", b"", "w.npz: cannot be read as .npz "),
    ("w.safetensors", b"hello", "w.safetensors: cannot be read as .safetensors "),
    ("none.npz", None, "none.npz: no such file"),
])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if name.endswith(".safetensors"):
        pytest.importorskip("safetensors")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=f"^import: {tmp_path}/{message}"):
        read(tmp_path / name)


def test_pickles_inside_an_archive_are_not_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", a=np.array([{}], dtype=object))
    with pytest.raises(BadInput, match=r"w\.npz: cannot be read as \.npz \(Object arrays cannot be loaded"):
        read(tmp_path / "w.npz")


def test_every_difference_is_listed_and_nothing_written(weights: dict, tmp_path: Path) -> None:
    changed = dict(weights)
    del changed["out.bias"]
    changed["norm.num_batches_tracked"] = np.int64(3)
    changed["init.conv.weight"] = np.zeros((8, 3, 3, 3), np.float32)
    changed["init.conv.bias"] = np.zeros(8, np.complex64)
    np.savez(tmp_path / "w.npz", **changed)
    match = import_weights(tmp_path / "w.npz", CONFIG, 1, tmp_path / "model.npz")
    assert not match.complete and not (tmp_path / "model.npz").exists()
    assert str(match).splitlines() == [
        f"fitting     {len(weights) - 3} arrays",
        "missing     out.bias (1,)",
        "unexpected  norm.num_batches_tracked ()",
        "different   init.conv.weight is (8, 3, 3, 3) in the file, (8, 1, 3, 3) in the network",
        "different   init.conv.bias holds complex64 in the file, float32 in the network",
    ]
    assert match.counts == "1 missing, 1 unexpected, 2 of another shape or type"


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.module.", "ema_model.", "module._orig_mod.", "state.unet."])
@pytest.mark.parametrize("counter", [None, "n_averaged", "step"])
def test_what_a_wrapper_puts_before_the_networks_names_is_removed_and_its_counters_are_left_out(weights: dict, prefix: str, counter: str | None) -> None:
    given = {prefix + name: a for name, a in weights.items()} | ({} if counter is None else {counter: np.array(3)})
    match = compare(weights, given)
    assert match.complete and match.fitting.keys() == weights.keys()
    assert str(match) == f"prefix      {prefix} (removed)\nfitting     {len(weights)} arrays" + ("" if counter is None else f"\nleft out    {counter} ()")


def test_pytorchs_averaged_model_is_imported(torch: Any, tmp_path: Path) -> None:
    from minidiff.bench import twin

    averaged = torch.optim.swa_utils.AveragedModel(twin.torch_unet(models.build(CONFIG.model)))
    np.savez(tmp_path / "w.npz", **{name: value.numpy() for name, value in averaged.state_dict().items()})
    assert import_weights(tmp_path / "w.npz", CONFIG, 1, tmp_path / "model.npz").complete


def test_of_a_network_and_its_moving_average_the_average_is_taken(weights: dict) -> None:
    online = {"online_model." + name: a + 1 for name, a in weights.items()}
    match = compare(weights, online | {"initted": np.array(True)} | {"ema_model." + name: a for name, a in weights.items()})
    assert match.complete and match.prefix == "ema_model." and len(match.left_out) == len(weights) + 1
    assert all(np.array_equal(match.fitting[name], a) for name, a in weights.items())


def test_a_name_that_only_ends_as_one_of_the_networks_gives_no_prefix(weights: dict) -> None:
    match = compare(weights, {"other." + name: a for name, a in list(weights.items())[:3]})
    assert not match.prefix and len(match.unexpected) == 3


def test_what_is_left_out_is_not_searched_for_weights(weights: dict) -> None:
    """A weight without the prefix of all others may be another network's."""
    given = {"module." + name if name != "out.bias" else name: a for name, a in weights.items()}
    match = compare(weights, given)
    assert match.missing == ["out.bias (1,)"] and match.left_out == ["out.bias (1,)"] and not match.complete


@pytest.mark.parametrize(("value", "kind"), [(np.nan, np.float32), (np.inf, np.float16), (-np.inf, np.float64), (1e300, np.float64)])
def test_weights_that_are_not_finite_are_named_and_nothing_is_written(weights: dict, tmp_path: Path, value: float, kind: type) -> None:
    changed = {name: a.astype(kind) for name, a in weights.items()}
    changed["init.conv.bias"][2:4] = value
    np.savez(tmp_path / "w.npz", **changed)
    match = import_weights(tmp_path / "w.npz", CONFIG, 1, tmp_path / "model.npz")
    assert not match.complete and not (tmp_path / "model.npz").exists() and match.counts == "1 not finite"
    assert str(match) == f"fitting     {len(weights) - 1} arrays\nnot finite  init.conv.bias holds NaN or infinity (2 of 8 numbers)"


def test_whole_numbers_are_no_weights_of_another_kind(weights: dict) -> None:
    """Weights in whole numbers are quantised, and mean nothing without their scales; NumPy would widen them silently."""
    match = compare(weights, {**weights, "out.bias": np.zeros(1, np.int8)})
    assert match.different == ["out.bias holds int8 in the file, float32 in the network"]
