import os
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from minidiff import data
from minidiff.data import folder as module
from minidiff.errors import BadInput


def paint(path, pixels, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(pixels))
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def birds(tmp_path):
    """Three classes of 21, 10 and 2 RGB images; image k of a class has the colour (k, label, 9)."""
    for label, (name, count) in enumerate({"heron": 21, "owl": 10, "robin": 2}.items()):
        for k in range(count):
            paint(tmp_path / "birds" / name / f"{k}.png", np.broadcast_to(np.array([k, label, 9], np.uint8), (8, 8, 3)))
    return tmp_path / "birds"


def inside(dataset):
    """Which images a set holds, in its order: (label, number)."""
    return [(int(image[1, 0, 0]), int(image[0, 0, 0])) for image in dataset.images]


# ------------------------------------------------------------------------------------------------ classes and splits

def test_sub_folders_are_the_classes_sorted_and_labels_are_theirs(birds):
    train = data.load(str(birds))
    assert train.name == "birds" and train.classes == ("heron", "owl", "robin") and train.images.shape == (28, 3, 32, 32)
    assert [label for label, _ in inside(train)] == train.labels.tolist()
    assert train.labels.dtype == np.int64 and train.augmentations == ("shift", "flip")


def test_a_tenth_of_each_class_is_the_test_set_and_nothing_is_in_both(birds):
    train, test = data.load(str(birds)), data.load(str(birds), "test")
    assert np.bincount(test.labels).tolist() == [3, 1, 1] and np.bincount(train.labels).tolist() == [18, 9, 1]
    both = inside(train) + inside(test)
    assert len(set(both)) == len(both) == 33


def test_the_split_and_the_order_do_not_depend_on_where_the_folder_is(birds, tmp_path, monkeypatch):
    before = {split: inside(data.load(str(birds), split)) for split in data.SPLITS}
    birds.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert {split: inside(data.load("elsewhere", split)) for split in data.SPLITS} == before


def test_the_first_ones_are_a_mixture(birds):
    some = data.load(str(birds), limit=12)
    assert inside(some) == inside(data.load(str(birds)))[:12]
    assert len(set(some.labels.tolist())) > 1


def test_folders_train_and_test_are_the_splits(birds, tmp_path):
    (tmp_path / "both").mkdir()
    birds.rename(tmp_path / "both" / "train")
    paint(tmp_path / "both" / "test" / "owl" / "night" / "99.png", np.broadcast_to(np.array([99, 1, 9], np.uint8), (8, 8, 3)))
    assert len(data.load(str(tmp_path / "both"))) == 33
    test = data.load(str(tmp_path / "both"), "test")
    assert inside(test) == [(1, 99)] and test.labels.tolist() == [1] and test.classes == ("heron", "owl", "robin")


def test_what_is_no_image_and_what_is_hidden_is_passed_over(birds):
    (birds / "owl" / "notes.txt").write_text("not an image")
    (birds / "owl" / ".thumb.png").write_bytes(b"")
    (birds / "readme.md").write_text("three birds")
    paint(birds / ".cache" / "x.png", noise(0, 4, 4))
    paint(birds / "__MACOSX" / "x.png", noise(0, 4, 4))
    assert len(data.load(str(birds))) == 28


def test_a_name_of_a_set_is_that_set_and_a_path_is_a_folder(birds, tmp_path, monkeypatch):
    birds.rename(tmp_path / "glyphs")
    monkeypatch.chdir(tmp_path)
    assert data.load("glyphs", "test", limit=1).classes[0] == "0" and data.load("./glyphs").classes[0] == "heron"
    assert data.known("mnist") and data.known("./glyphs") and not data.known("letters") and not data.known("") and not data.known("\0")


# ------------------------------------------------------------------------------------------------ pixels

@settings(max_examples=30, deadline=None)
@given(H=st.integers(1, 60), W=st.integers(1, 60), size=st.integers(1, 40), grey=st.booleans(), seed=st.integers(0, 99))
def test_any_size_becomes_the_size_asked_for(tmp_path_factory, H, W, size, grey, seed):
    path = paint(tmp_path_factory.mktemp("one") / "x.png", noise(seed, H, W) if grey else noise(seed, H, W, 3))
    image = module.decode(path, size, 1 if grey else 3)
    assert image.shape == ((size, size) if grey else (3, size, size)) and image.dtype == np.uint8


@pytest.mark.parametrize("H, W", [(20, 20), (20, 29), (33, 20)])
def test_the_middle_square_is_kept_and_at_its_own_size_byte_by_byte(tmp_path, H, W):
    pixels = noise(0, H, W, 3)
    image = module.decode(paint(tmp_path / "x.png", pixels), 20, 3)
    top, left = (H - 20) // 2, (W - 20) // 2
    np.testing.assert_array_equal(image, pixels[top:top + 20, left:left + 20].transpose(2, 0, 1))


def test_making_smaller_averages(tmp_path):
    """A chessboard of single pixels becomes grey, not black or white."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert np.abs(module.decode(paint(tmp_path / "x.png", board), 16, 1).astype(int) - 127).max() < 12


def test_grey_folders_stay_grey_and_one_colour_makes_all_rgb(tmp_path):
    for k in range(4):
        paint(tmp_path / "grey" / "a" / f"{k}.png", noise(k, 32, 32))
    grey = data.load(str(tmp_path / "grey"))
    assert grey.images.shape == (3, 32, 32)
    paint(tmp_path / "grey" / "a" / "colour.png", noise(9, 32, 32, 3))
    both = data.load(str(tmp_path / "grey"), limit=2)          # whichever come first, the set is one
    assert both.images.shape == (2, 3, 32, 32)


@pytest.mark.parametrize("make, expected", [
    (lambda path: Image.fromarray(np.full((4, 4), 0x8012, np.uint16)).save(path), 0x80),          # 16 bits
    (lambda path: Image.new("1", (4, 4), 1).save(path), 255),
    (lambda path: Image.new("LA", (4, 4), (200, 0)).save(path), 0),          # all of it transparent: black
    (lambda path: Image.new("LA", (4, 4), (200, 255)).save(path), 200),
    (lambda path: Image.new("RGBA", (4, 4), (200, 200, 200, 0)).save(path), 0),
    (lambda path: Image.new("RGB", (4, 4), (200, 200, 200)).quantize(4).save(path), 200),          # a palette
], ids=["16 bits", "1 bit", "transparent", "opaque", "transparent colour", "palette"])
def test_unusual_pixels_become_eight_bits(tmp_path, make, expected):
    make(tmp_path / "x.png")
    for channels in (1, 3):
        assert np.unique(module.decode(tmp_path / "x.png", 4, channels)).tolist() == [expected]


def test_a_photograph_is_turned_as_it_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3          # upside down
    pixels = noise(0, 8, 8, 3)
    paint(tmp_path / "x.png", pixels, exif=exif)
    np.testing.assert_array_equal(module.decode(tmp_path / "x.png", 8, 3), pixels[::-1, ::-1].transpose(2, 0, 1))


@pytest.mark.parametrize("ending", [".png", ".jpg", ".JPEG", ".bmp", ".gif", ".webp", ".tif", ".ppm"])
def test_the_usual_kinds_are_read(tmp_path, ending):
    for k in range(2):
        paint(tmp_path / "set" / "a" / f"{k}{ending}", np.full((8, 8, 3), 100, np.uint8))
    x = data.load(str(tmp_path / "set"), size=8).images
    assert len(x) == 1 and np.abs(x.astype(int) - 100).max() <= 2


def test_memory_is_the_result_and_one_image(tmp_path):
    import tracemalloc

    for k in range(30):
        paint(tmp_path / "set" / "a" / f"{k}.png", noise(k, 256, 256, 3))          # 0.2 MB each, 5.9 MB in all
    data.load(str(tmp_path / "set"), limit=1)          # imports what it needs
    tracemalloc.start()
    dataset = data.load(str(tmp_path / "set"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < dataset.images.nbytes + 1_500_000


# ------------------------------------------------------------------------------------------------ what is wrong

def cut(path):
    path.write_bytes(path.read_bytes()[:45])


def overwrite(path):
    path.write_bytes(b"<html>")


@pytest.mark.parametrize("damage, reason", [(cut, ".+"), (overwrite, "cannot identify image file the file"), (lambda path: os.truncate(path, 0), ".+")])
def test_a_file_that_cannot_be_decoded_is_named(birds, damage, reason):
    damage(path := birds / "owl" / "4.png")
    with pytest.raises(BadInput, match=rf"^{re.escape(str(path))}: cannot be decoded \({reason}\); mend the file or remove it$"):
        data.load(str(birds))
    checks = data.verify(str(birds))
    assert [check.path for check in checks if not check.ok and check.path] == [path]
    assert f"FAILED  {birds} train: 27 of 28 images can be decoded" in [str(check) for check in checks]


def test_a_folder_in_order_is_verified_by_decoding_it(birds):
    assert [str(check) for check in data.verify(str(birds))] == [
        f"ok      {birds} train: 28 of 28 images can be decoded", f"ok      {birds} test: 5 of 5 images can be decoded"]


def test_a_picture_too_large_to_be_meant_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = paint(tmp_path / "set" / "a" / "x.png", noise(0, 40, 40))
    with pytest.raises(BadInput, match=rf"^{re.escape(str(path))}: cannot be decoded \(Image size \(1600 pixels\) exceeds limit"):
        module.decode(path, 8, 1)


def empty(folder):
    (folder / "wren").mkdir()


def only_train(folder):
    (folder / "train").mkdir()


def stranger(folder):
    for split, name in (("train", "a"), ("test", "b")):
        paint(folder / split / name / "x.png", noise(0, 4, 4))


@pytest.mark.parametrize("change, message", [
    (empty, "{0}/wren: is a class without images; expected files that end in .png, .jpg, .jpeg, .bmp, .gif, .webp, .tif, .tiff, .ppm, .pgm, .pbm"),
    (only_train, "{0}: has no test beside its train; expected both, or the classes' folders alone"),
    (stranger, "{0}/test/b: is no class of the training images; the classes are a"),
])
def test_a_folder_of_another_form_is_described(birds, change, message):
    change(birds)
    with pytest.raises(BadInput, match=f"^{re.escape(message.format(birds))}$"):
        data.load(str(birds))


def test_a_folder_without_classes_and_one_without_test_images(tmp_path):
    paint(tmp_path / "flat" / "x.png", noise(0, 4, 4))
    with pytest.raises(BadInput, match=rf"^{re.escape(str(tmp_path))}/flat: has no sub-folder; expected one with images for each class \(or "):
        data.load(str(tmp_path / "flat"))
    paint(tmp_path / "one" / "a" / "x.png", noise(0, 4, 4))
    assert len(data.load(str(tmp_path / "one"))) == 1
    with pytest.raises(BadInput, match="/one: has no image for the test split; one image in 10 of a class is a test image, if the class has two or more$"):
        data.load(str(tmp_path / "one"), "test")


def test_more_than_fits_is_refused_before_anything_is_decoded(birds):
    with pytest.raises(BadInput, match=r"birds: 28 images of 9000x9000 take 6\.3 GiB, more than 4; give a limit or a smaller size$"):
        data.load(str(birds), size=9000)


# ------------------------------------------------------------------------------------------------ real images

def test_real_images_saved_one_by_one_come_back(given_folder, tmp_path):
    if given_folder is None or not (given_folder / "cifar10").is_dir():
        pytest.skip("MINIDIFF_DATA is not set, or has no cifar10")
    real = data.load(str(given_folder / "cifar10"), limit=200)
    by_bytes = {}
    for k, (image, label) in enumerate(zip(real.images, real.labels, strict=True)):
        paint(tmp_path / "set" / real.classes[label] / f"{k}.png", image.transpose(1, 2, 0))
        by_bytes[image.tobytes()] = real.classes[label]
    back = [data.load(str(tmp_path / "set"), split) for split in data.SPLITS]
    assert sum(map(len, back)) == len(by_bytes) and back[0].classes == real.classes
    for part in back:
        assert all(by_bytes[image.tobytes()] == part.classes[label] for image, label in zip(part.images, part.labels, strict=True))
