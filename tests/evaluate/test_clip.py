"""CLIP sees samples beside controls, says which model spoke, and what is missing where it cannot speak."""

import json
import subprocess
import sys

import numpy as np
import pytest

from minidiff import cli, data
from minidiff.errors import BadInput
from minidiff.evaluate import clip as clip_module
from minidiff.evaluate import clip_report, evaluate_clip, load_clip


def unit(rng, *shape):
    vectors = rng.standard_normal(shape)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def digits():
    if data.find_mnist() is None:
        pytest.skip("MNIST is not at hand: set MINIDIFF_DATA to a folder that holds it")
    return data.load("mnist", "test")


# ------------------------------------------------------------------------------------------------ without PyTorch


def test_neither_minidiff_nor_its_evaluation_imports_pytorch():
    code = "import sys, minidiff, minidiff.evaluate; print(sorted({'torch', 'open_clip', 'torchvision'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_three_prompts_are_the_softmax_of_a_hundred_cosines(rng):
    images, prompts, labels = unit(rng, 5, 8), unit(rng, 10, 3, 8), np.array([3, 0, 9, 3, 1])
    p = clip_report.three_prompts(images, prompts, labels)
    for i, label in enumerate(labels):
        e = np.exp([100.0 * images[i] @ prompts[label, k] for k in range(3)])
        assert p[i] == pytest.approx(e / e.sum(), rel=1e-9)


def test_sentences_that_know_nothing_call_two_of_three_good(rng):
    """At sharpness 100 one of three wins, and two of them are said to be good."""
    p = clip_report.three_prompts(unit(rng, 6000, 32), unit(rng, 10, 3, 32), rng.integers(0, 10, 6000))
    many = clip_report.prompted(np.concatenate([p, clip_report.three_prompts(unit(rng, 6000, 32), unit(rng, 6000, 3, 32), np.arange(6000))]), np.zeros(12000, int))
    assert many.good == pytest.approx(2 / 3, abs=0.05)


def test_a_verdict_is_counted_as_the_course_counts_it():
    p = np.array([[0.4, 0.2, 0.4], [0.3, 0.25, 0.45], [0.1, 0.1, 0.8], [0.9, 0.05, 0.05]])
    found = clip_report.prompted(p, np.array([1, 1, 2, 2]))
    assert (found.good, found.green) == (0.75, 0.5)                     # the second is good, and its caption red
    assert found.score == pytest.approx((0.6 + 0.55 + 0.2 + 0.95) / 4) and found.by_class == {1: pytest.approx(0.575), 2: pytest.approx(0.575)}
    assert set(found.to_json()) == {"score", "handwritten", "clear", "blurry", "good", "green", "by_class"}


def test_the_mean_of_prompts_is_a_direction(rng):
    prompts = unit(rng, 4, 10, 8)
    mean = clip_report.mean_prompt(prompts)
    assert np.linalg.norm(mean, axis=1) == pytest.approx(np.ones(10)) and np.allclose(np.cross(mean[0, :3], prompts[:, 0, :3].sum(0)), 0, atol=1e-12)


@pytest.mark.parametrize("missing", ["torch", "open_clip"])
def test_a_missing_package_is_named_with_its_remedy(monkeypatch, missing):
    if missing == "open_clip":
        pytest.importorskip("torch", reason="PyTorch is not installed: nothing to find open_clip missing beside")
        monkeypatch.setattr(clip_module, "declare_operators", lambda: None)
    monkeypatch.setitem(sys.modules, missing, None)
    said = {"torch": "PyTorch", "open_clip": "open_clip"}[missing]
    with pytest.raises(BadInput) as error:
        load_clip("ViT-B-32", "random")
    assert str(error.value) == f'clip: {said} is not installed; pip install "open_clip_torch>=3.3" torch==2.13.0 torchvision==0.28.0'


def test_weights_without_a_model_are_refused(capsys):
    assert cli.main(["evaluate", "mnist", "--clip-weights", "w.pt"]) == 2
    assert capsys.readouterr().err == "minidiff: evaluate: --clip-weights needs --clip, the model that they belong to\n"


# ------------------------------------------------------------------------------------------------ the small model


def test_the_small_model_reads_real_digits(mini, digits):
    x, labels = data.to_model(digits.images[:200], 28), digits.labels[:200]
    report = evaluate_clip(x, labels, mini)
    real, wrong, noise, inverted = (report.controls[name] for name in clip_report.CLIP_CONTROLS)
    assert report.samples == real                                       # the samples are the real control's own images
    assert real.accuracy > 0.93 and real.ensemble > 0.93 and real.p_label > 0.9
    assert wrong.accuracy < 0.05 and noise.accuracy < 0.2 and inverted.accuracy < 0.2
    assert real.prompts.good > 0.98 and noise.prompts.good > 0.1        # nothing is shown, and some of it is called good
    assert real.course.good < 0.7                                       # without mean and deviation taken out it is half blind


def test_the_course_enlarges_bilinearly_and_normalises_nothing(mini):
    """Against the formula: at output pixel i the input is read at (i + ½)·H/H' − ½, held to the border."""
    x = np.random.default_rng(0).uniform(-1, 1, (2, 1, 20, 20)).astype(np.float32)
    at = ((np.arange(28) + 0.5) * 20 / 28 - 0.5).clip(0, 19)
    low = np.floor(at).astype(int)
    high, part = np.minimum(low + 1, 19), at - low
    grey = (x[:, 0] + 1) / 2
    rows = grey[:, low] * (1 - part)[:, None] + grey[:, high] * part[:, None]
    wanted = rows[:, :, low] * (1 - part) + rows[:, :, high] * part
    made = mini._course(x).numpy()
    assert made.shape == (2, 3, 28, 28) and np.allclose(made, wanted[:, None], atol=1e-5)


def test_the_figures_are_those_of_open_clip_itself(mini, open_clip, digits):
    """The zero-shot recipe as open_clip's own README has it, on the same digits."""
    import torch
    from PIL import Image

    x, labels = data.to_model(digits.images[:60], 28), digits.labels[:60]
    with torch.no_grad():
        seen = mini.model.encode_image(torch.stack([mini.preprocess(Image.fromarray(p)) for p in digits.images[:60]]), normalize=True)
        read = mini.model.encode_text(open_clip.get_tokenizer("mini-mnist")([f"A handwritten number {n}" for n in range(10)]), normalize=True)
    accuracy = ((seen @ read.T).argmax(1).numpy() == labels).mean()
    assert np.allclose(mini.embed_images(x), seen.numpy(), atol=1e-5)
    assert evaluate_clip(x, labels, mini).samples.accuracy == accuracy


def test_the_batch_has_no_effect_and_vectors_have_length_one(mini):
    x = data.to_model(data.load("glyphs", "test", limit=7).images)
    for way in clip_module.WAYS:
        one, all_ = (mini.embed_images(x, way, batch_size=size) for size in (2, 64))
        assert np.allclose(one, all_, atol=1e-5) and np.allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5)
    assert mini.embed_images(np.repeat(x, 3, axis=1)) == pytest.approx(mini.embed_images(x), abs=1e-5)           # grey is grey in colour too


def test_sentences_are_cut_to_the_models_own_context(mini):
    assert tuple(mini.tokenizer(["a number " * 40]).shape) == (1, 16)
    assert all((mini.tokenizer([t.format(7)]) == 0).any() for t in (*clip_report.COURSE_PROMPTS, *clip_report.ENSEMBLE))   # none is cut


def test_the_report_is_a_table_and_a_record_that_say_who_spoke(mini):
    glyphs = data.load("glyphs", "test", limit=40)
    report = evaluate_clip(data.to_model(glyphs.images), glyphs.labels, mini, "glyphs")
    text = str(report)
    assert text.startswith("CLIP mini-mnist, mini-mnist.pt (3,730,721 parameters, 28x28 pixels, GELU); 40 samples beside images of glyphs\n")
    for head in ("samples", "real digits", "wrong labels", "noise", "inverted"):
        assert head in text.split("\n")[1]
    assert f"{'right among ten, one prompt':<34}{report.samples.accuracy:>14.1%}" in text
    assert f"calls {report.controls['real'].course.good:.0%} of real digits good" in text
    found = json.loads(json.dumps(report.to_json()))
    assert found["model"]["weights"] == "mini-mnist.pt" and found["model"]["trained"] and "torch" in found["model"]["versions"]
    assert set(found["controls"]) == set(clip_report.CLIP_CONTROLS) and found["controls"]["noise"]["course"]["by_class"].keys() == set("0123456789")


def test_the_command_line_prints_and_records_it(mini_files, open_clip, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    glyphs = data.load("glyphs", "test", limit=20)
    np.savez("s.npz", images=data.to_model(glyphs.images), labels=glyphs.labels)
    config, weights = map(str, mini_files)
    arguments = ["evaluate", "s.npz", "--reference", "none", "--clip", config, "--clip-weights", weights, "--json", "v.json"]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert out.index("class accuracy") < out.index("CLIP mini-mnist, mini-mnist.pt") and "beside images of glyphs" in out
    found = json.loads((tmp_path / "v.json").read_text())
    assert found["class_accuracy"] >= 0 and found["clip"]["n"] == 20 and set(found["clip"]["controls"]) == set(clip_report.CLIP_CONTROLS)
    assert cli.main([*arguments[:5], config, "--clip-weights", "none.pt"]) == 2
    assert capsys.readouterr() == ("", "minidiff: clip: none.pt: no such file\n")


def test_a_safetensors_file_does_as_well(mini, mini_files, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    safetensors.save_file({k: v.contiguous() for k, v in mini.model.state_dict().items()}, tmp_path / "w.safetensors")
    again = load_clip(mini_files[0], tmp_path / "w.safetensors")
    assert again.weights == "w.safetensors" and np.array_equal(again.embed_texts(["number 3"]), mini.embed_texts(["number 3"]))


@pytest.mark.parametrize(("images", "labels", "reference", "message"), [
    (np.zeros((2, 1, 28, 28)), np.array([3, 10]), "glyphs", "clip: the prompts ask for digits: there must be one label from 0 to 9 for each of 2 images"),
    (np.zeros((2, 1, 28, 28)), np.array([3]), "glyphs", "clip: the prompts ask for digits: there must be one label from 0 to 9 for each of 2 images"),
    (np.zeros((1, 2, 28, 28)), np.array([3]), "glyphs", "clip: images must be (N,1,H,W) or (N,3,H,W), got (1, 2, 28, 28)"),
])  # fmt: skip
def test_what_cannot_be_shown_is_said(mini, images, labels, reference, message):
    with pytest.raises(BadInput) as error:
        evaluate_clip(images, labels, mini, reference)
    assert str(error.value) == message
    with pytest.raises(BadInput, match=r"clip: a picture is made ready in one of the ways own, course, not 'any'"):
        mini.embed_images(np.zeros((1, 1, 28, 28)), "any")


def test_a_data_set_without_digits_is_refused(mini, monkeypatch):
    other = data.Dataset("shoes", np.zeros((4, 28, 28), np.uint8), np.zeros(4, np.int64), ("boot", "bag"))
    monkeypatch.setattr(data, "load", lambda name, split: other)
    with pytest.raises(BadInput, match="clip: the prompts ask for digits, and shoes has none; hold samples against mnist or glyphs"):
        evaluate_clip(np.zeros((2, 1, 28, 28)), np.array([0, 1]), mini, "shoes")


# ------------------------------------------------------------------------------------------------ public models, without their weights


@pytest.fixture(scope="module")
def random_vit(open_clip):
    return load_clip("ViT-B-32", "random")


def test_a_public_model_has_its_shapes(random_vit):
    x = data.to_model(data.load("glyphs", "test", limit=3).images)
    assert random_vit.size == (224, 224) and random_vit.parameters == 151_277_313
    assert tuple(random_vit.tokenizer(["a digit"]).shape) == (1, 77)
    assert [random_vit.embed_images(x, way).shape for way in clip_module.WAYS] == [(3, 512)] * 2
    assert random_vit._course(x).shape == (3, 3, 224, 224)


@pytest.fixture
def one_layer(tmp_path):
    """The configuration of a reader's own model, of one layer."""
    towers = {"vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
              "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}}  # fmt: skip
    path = tmp_path / "one-layer.json"
    path.write_text(json.dumps({"embed_dim": 8, **towers}))
    return path


def test_random_weights_are_said_to_be_random_and_are_the_same_every_time(open_clip, one_layer):
    one, two = (load_clip(one_layer, "random") for _ in range(2))
    assert one.name == "one-layer" and one.size == (16, 16) and np.array_equal(one.embed_texts(["3"]), two.embed_texts(["3"]))
    glyphs = data.load("glyphs", "test", limit=20)
    report = evaluate_clip(data.to_model(glyphs.images), glyphs.labels, one, "glyphs")
    assert str(report).startswith(f"CLIP one-layer, random ({one.parameters:,} parameters, 16x16 pixels, GELU)")
    assert str(report).endswith("the weights are random: these figures mean nothing") and report.to_json()["model"]["trained"] is False


def test_what_a_tag_was_trained_with_is_kept(open_clip, one_layer):
    """OpenAI's GELU, and another mean: a tag tells them, a name does not."""
    import torch

    name = clip_module._registered(open_clip, one_layer)
    network, preprocess = clip_module._network(open_clip, name, None, {"quick_gelu": True, "mean": (0.1, 0.2, 0.3), "url": ""}, "cpu")
    assert any(type(part).__name__ == "QuickGELU" for part in network.modules()) and "mean=(0.1, 0.2, 0.3)" in str(preprocess)
    assert not any(isinstance(part, torch.nn.GELU) for part in network.modules())


@pytest.fixture
def openais(open_clip, one_layer):
    """Weights as OpenAI published its own: those of layers in half precision, embeddings and norms in float32. And others."""
    import torch
    from safetensors.torch import save_file

    network = load_clip(one_layer, "random").model
    with_quick_gelu = one_layer.with_name("one-layer-quickgelu.json")
    with_quick_gelu.write_text(json.dumps({**json.loads(one_layer.read_text()), "quick_gelu": True}))
    clip_module._registered(open_clip, with_quick_gelu)
    layers = tuple(f"{name}." for name, part in network.named_modules() if isinstance(part, (torch.nn.Linear, torch.nn.Conv2d)))
    state = {name: value.clone() for name, value in network.state_dict().items()}
    folder = one_layer.parent
    save_file(state, folder / "full.safetensors")
    save_file({name: value.half() for name, value in state.items()}, folder / "half.safetensors")
    save_file({name: value.half().float() if name.startswith(layers) else value for name, value in state.items()}, folder / "layers.safetensors")
    (folder / "blob").write_bytes((folder / "full.safetensors").read_bytes())
    (folder / "openai-b-32.safetensors").symlink_to(folder / "blob")                        # as the cache of Hugging Face has it
    yield folder
    for name in ("one-layer", "one-layer-quickgelu"):
        open_clip.factory._MODEL_CONFIGS.pop(name, None)


@pytest.mark.parametrize("file", ["layers.safetensors", "openai-b-32.safetensors"])
def test_openais_weights_as_a_file_need_the_model_with_quick_gelu(openais, file):
    with pytest.raises(BadInput) as error:
        load_clip("one-layer", openais / file)
    assert str(error.value) == (f"clip: {file} holds weights that were trained with QuickGELU, as OpenAI's were, and one-layer has GELU; "
                                "give --clip one-layer-quickgelu")  # fmt: skip
    clip = load_clip("one-layer-quickgelu", openais / file)
    assert clip.describe()["activation"] == "QuickGELU" and clip.weights == file


@pytest.mark.parametrize("file", ["full.safetensors", "half.safetensors"])
def test_other_weights_go_with_gelu_and_the_activation_is_named(openais, file):
    assert load_clip("one-layer", openais / file).describe()["activation"] == "GELU"


# ------------------------------------------------------------------------------------------------ messages


@pytest.mark.parametrize(("model", "weights", "message"), [
    ("ViT-B-33", "random", "clip: open_clip knows no model 'ViT-B-33'; it is a configuration file (.json) or a name such as ViT-B-32"),
    ("none.json", "random", "clip: none.json: No such file or directory; a configuration of open_clip is JSON with embed_dim, vision_cfg and text_cfg"),
    ("text.json", "random", "clip: text.json: is no JSON; a configuration of open_clip is JSON with embed_dim, vision_cfg and text_cfg"),
    ("other.json", "random", "clip: other.json: has no vision_cfg, text_cfg; a configuration of open_clip is JSON with embed_dim, vision_cfg and text_cfg"),
    ("ViT-B-32", None, "clip: ViT-B-32 needs weights: give a tag (openai, laion400m_e31, laion400m_e32, laion2b_e16) or a file (.safetensors, .pt, .pth, .bin)"),
    ("ViT-B-32", "opnai", "clip: opnai: no such file, nor a tag of ViT-B-32: openai, "),
    ("ViT-B-32", "w.pt.xz", "clip: w.pt.xz: unknown ending '.xz'; weights are .safetensors, .pt, .pth, .bin; inflate it first: xz -dk w.pt.xz"),
    ("ViT-B-32", "code.pt", "clip: code.pt is no plain state dict ("),
    ("ViT-B-32", "script.pt", "clip: script.pt is a TorchScript archive, which holds code beside the numbers; make a file of its numbers alone: "
     "safetensors.torch.save_file(torch.jit.load('script.pt', 'cpu').state_dict(), 'script.safetensors')"),
    ("ViT-B-32", "cut.safetensors", "clip: cut.safetensors is no plain state dict ("),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_what_is_wrong_with_model_or_weights_is_said_in_one_line(open_clip, tmp_path, monkeypatch, capsys, model, weights, message):
    import torch

    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.json").write_text("no json")
    (tmp_path / "other.json").write_text('{"embed_dim": 3}')
    (tmp_path / "w.pt.xz").write_bytes(b"")
    (tmp_path / "cut.safetensors").write_bytes(b"cut")
    if weights == "code.pt":
        torch.save({"weight": Runs()}, tmp_path / "code.pt")
    if weights == "script.pt":
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "script.pt"))
    with pytest.raises(BadInput) as error:
        load_clip(model, weights)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


class Runs:
    """A pickle that would leave a file, if it were loaded as one."""

    def __reduce__(self):
        return open, ("ran", "w")


def test_weights_that_are_not_here_are_named_with_their_address_and_place(open_clip, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIDIFF_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repository, file: None)
    with pytest.raises(BadInput) as error:
        load_clip("ViT-B-32", "openai")
    place = tmp_path / "clip" / "ViT-B-32-openai.safetensors"
    assert str(error.value) == (
        "clip: the weights 'openai' of ViT-B-32 are not on this machine; fetch https://huggingface.co/timm/vit_base_patch32_clip_224.openai/"
        f"resolve/main/open_clip_model.safetensors and put it at {place}, or give the file itself as weights of ViT-B-32-quickgelu")  # fmt: skip
    place.parent.mkdir()
    place.write_bytes(b"")
    file, noted = clip_module._weights(open_clip, "ViT-B-32", "openai")
    assert file == place and noted["quick_gelu"]                        # with OpenAI's own GELU, which the name does not tell


def test_weights_of_another_model_are_refused(mini, mini_files, tmp_path):
    config = json.loads(mini_files[0].read_text())
    config["embed_dim"] = 32
    (tmp_path / "narrow.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match=r"clip: mini-mnist.pt holds the weights of another model than narrow \(size mismatch for text_projection"):
        load_clip(tmp_path / "narrow.json", mini_files[1])


def test_a_missing_gpu_is_said(open_clip, mini_files):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(BadInput, match=r"clip: device cuda: this PyTorch \(.*\) finds no GPU; use cpu"):
        load_clip(*mini_files, device="cuda")
