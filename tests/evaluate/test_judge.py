"""The judge tells digits apart, and says how sure its verdict is."""

import numpy as np
import pytest

import minidiff as md
from minidiff.errors import BadInput
from minidiff.evaluate import is_samples, judge, judge_samples, load_judge, read_samples
from minidiff.models import Classifier


@pytest.fixture
def digits():
    if md.data.find_mnist() is None:
        pytest.skip("MNIST is not at hand: set MINIDIFF_DATA to a folder that holds it")
    return md.data.load("mnist", "test")


def test_the_bundled_judge_reaches_its_stated_accuracy_on_real_digits(digits):
    bundled = load_judge()
    named = bundled.classify(md.data.to_model(digits.images))
    accuracy = (named == digits.labels).mean()
    assert accuracy >= 0.99
    assert accuracy == pytest.approx(bundled.accuracy, abs=5e-4)  # float16 weights may turn a doubtful digit


def test_the_bundled_judge_reads_drawn_digits_and_not_noise(rng):
    glyphs = md.data.load("glyphs", "test", limit=200)
    assert judge_samples(md.data.to_model(glyphs.images), glyphs.labels).accuracy > 0.85
    noise = rng.standard_normal((200, 1, 32, 32)).clip(-1, 1).astype(np.float32)
    assert judge_samples(noise, np.arange(200) % 10).accuracy < 0.3


def test_a_verdict_counts_class_by_class():
    class AlwaysThree(md.nn.Module):
        def forward(self, x):
            return md.tensor(np.eye(10, dtype=np.float32)[[3] * len(x)])

    verdict = judge_samples(np.zeros((4, 1, 28, 28), np.float32), np.array([3, 3, 1, 1]), judge.Judge(AlwaysThree()))
    assert (verdict.correct, verdict.n, verdict.accuracy) == (2, 4, 0.5)
    assert verdict.by_class == {1: (0, 2), 3: (2, 2)}
    assert verdict.to_json()["by_class"]["3"] == {"correct": 2, "n": 2}
    assert "class accuracy 50.0% of 4 samples" in str(verdict)


@pytest.mark.parametrize(("correct", "n", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 100, 0.7222, 0.8749)])
def test_wilson_interval_agrees_with_published_values(correct, n, low, high):
    assert judge.wilson(correct, n) == pytest.approx((low, high), abs=1e-4)


def test_the_interval_covers_the_truth_as_often_as_it_says(rng):
    hits = rng.binomial(200, 0.95, 2000)
    covered = np.mean([low <= 0.95 <= high for low, high in (judge.wilson(int(k), 200) for k in hits)])
    assert 0.93 < covered < 0.975  # 95 %, within what 2000 trials and whole counts allow


def test_a_judge_comes_back_from_its_file(tmp_path):
    md.manual_seed(0)
    model = Classifier(channels=(8, 8, 8))
    judge.save_judge(model, tmp_path / "j.npz", accuracy=0.5)
    again = load_judge(tmp_path / "j.npz")
    x = np.zeros((2, 1, 28, 28), np.float32)
    assert again.accuracy == 0.5
    assert np.allclose(again.model(x).numpy(), model.eval()(x).numpy(), atol=1e-2)


def test_foreign_files_are_refused_in_one_line(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 cut")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(BadInput, match="does not exist; examples/train_judge.py makes one"):
        load_judge(tmp_path / "none.npz")
    for name in ("other", "cut", "empty", "array"):
        with pytest.raises(BadInput, match="is damaged or no judge"):
            load_judge(tmp_path / f"{name}.npz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (dict(images=np.zeros((2, 1, 4, 4), np.float32)), "labels"),
        (dict(images=np.zeros((2, 1, 4, 4), np.float32), labels=np.zeros(3, int)), "labels int64 (3,)"),
        (dict(images=np.full((2, 1, 4, 4), 7.0), labels=np.zeros(2, int)), "images run 7 … 7"),
        (dict(images=np.full((2, 1, 4, 4), np.nan), labels=np.zeros(2, int)), "2 of 2 images are not finite"),
        (dict(images=np.zeros((2, 4, 4), np.float32), labels=np.zeros(2, int)), "images float32 (2, 4, 4)"),
        (dict(images=np.array([{}]), labels=np.zeros(1, int)), "cut, damaged or pickled"),
        (dict(images=np.zeros((2, 1, 0, 0), np.float32), labels=np.zeros(2, int)), "images float32 (2, 1, 0, 0)"),
    ],
)
def test_wrong_archives_are_named(tmp_path, content, message):
    np.savez(tmp_path / "s.npz", **content)
    with pytest.raises(BadInput) as error:
        read_samples(tmp_path / "s.npz")
    assert message in str(error.value) and "it must hold images float (N,C,H,W) in [-1,1]" in str(error.value)


def test_damage_anywhere_is_said_in_one_line(tmp_path):
    path = tmp_path / "s.npz"
    np.savez_compressed(path, images=np.random.default_rng(0).uniform(-1, 1, (9, 1, 8, 8)), labels=np.zeros(9, np.uint64))
    whole = path.read_bytes()
    assert read_samples(path)[1].dtype == np.int64
    for place in range(60, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read_samples(path)
        except BadInput:
            pass


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY"])
def test_what_is_no_archive_is_no_samples(tmp_path, content):
    (tmp_path / "s.npz").write_bytes(content)
    assert not is_samples(tmp_path / "s.npz")
    with pytest.raises(BadInput, match="cut, damaged or pickled"):
        read_samples(tmp_path / "s.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    assert not is_samples(tmp_path / "array.npy")


def test_an_archive_is_told_from_a_name_and_a_checkpoint(tmp_path):
    np.savez(tmp_path / "s.npz", images=np.zeros((1, 1, 4, 4), np.float32), labels=np.zeros(1, int))
    np.savez(tmp_path / "c.npz", meta=np.array("{}"))
    assert is_samples(tmp_path / "s.npz")
    assert not is_samples(tmp_path / "c.npz") and not is_samples("mnist")


def test_images_too_small_to_judge_are_refused():
    with pytest.raises(BadInput, match=r"images must be \(N, 1, 28 or more, 28 or more\), got \(2, 1, 8, 8\)"):
        judge.crop(np.zeros((2, 1, 8, 8), np.float32))


def test_a_judge_can_be_asked_by_tensors_and_answers_with_a_gradient() -> None:
    judge, rng = load_judge(), np.random.default_rng(0)
    images = rng.uniform(-1, 1, (3, 1, 32, 32)).astype(np.float32)
    x = md.tensor(images, requires_grad=True)
    scores = judge(x)
    shares = np.exp(scores.data - scores.data.max(1, keepdims=True))
    np.testing.assert_allclose(shares / shares.sum(1, keepdims=True), judge.probabilities(images), atol=1e-6)
    scores.sum().backward()
    seen = np.abs(x.grad.data).max((0, 1)) > 0
    assert seen[2:30, 2:30].mean() > 0.9 and not seen[:2].any() and not seen[:, 30:].any()           # the middle alone
    with pytest.raises(BadInput, match=r"judge: images must be \(N, 1, 28 or more, 28 or more\), got \(3, 1, 20, 32\)"):
        judge(x[:, :, :20])
