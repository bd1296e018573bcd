import os
import re
import shutil
import struct
import zlib

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
    paint(tmp_path / "both" / "test" / "owl" / "99.png", np.broadcast_to(np.array([99, 1, 9], np.uint8), (8, 8, 3)))
    assert len(data.load(str(tmp_path / "both"))) == 33
    test = data.load(str(tmp_path / "both"), "test")
    assert inside(test) == [(1, 99)] and test.labels.tolist() == [1] and test.classes == ("heron", "owl", "robin")


@pytest.mark.parametrize("train, test", [("Train", "Test"), ("TRAINING", "testing"), ("training_set", "Validation"), ("train-images", "val"), ("trainset", "dev")])
def test_split_folders_are_recognized_in_any_spelling(birds, tmp_path, train, test):
    (tmp_path / "both").mkdir()
    birds.rename(tmp_path / "both" / train)
    paint(tmp_path / "both" / test / "owl" / "99.png", np.broadcast_to(np.array([99, 1, 9], np.uint8), (8, 8, 3)))
    assert len(data.load(str(tmp_path / "both"))) == 33 and inside(data.load(str(tmp_path / "both"), "test")) == [(1, 99)]


def test_of_a_test_and_a_validation_folder_the_test_images_are_held_out_and_a_note_says_so(tmp_path):
    for k, split in enumerate(("Train", "Val", "Test")):
        paint(tmp_path / "set" / split / "a" / "x.png", np.full((8, 8), 100 + k, np.uint8))
    test = data.load(str(tmp_path / "set"), "test")
    assert np.unique(test.images).tolist() == [102]
    assert test.notes == ("Val is not used: the held-out images are those in Test",)


def test_a_class_may_be_named_as_a_split(tmp_path):
    for name in ("bus", "car", "train"):
        paint(tmp_path / "set" / name / "x.png", np.full((8, 8), 100, np.uint8))
    assert data.load(str(tmp_path / "set")).classes == ("bus", "car", "train")


def test_classes_named_by_numbers_are_in_numerical_order(tmp_path):
    for name in ("10", "9", "11", "-1", "0.5", "0.25", "b10", "b9", "a"):
        paint(tmp_path / "set" / name / "x.png", np.full((8, 8), 100, np.uint8))
    assert data.load(str(tmp_path / "set")).classes == ("-1", "0.25", "0.5", "9", "10", "11", "a", "b9", "b10")


def test_folders_of_tools_are_left_out_of_the_classes_and_within_a_class(birds):
    for k, name in enumerate((".ipynb_checkpoints", "@eaDir", "__MACOSX", "#recycle", "System Volume Information")):
        for place in (birds, birds / "owl", birds / "owl" / "night"):
            paint(place / name / f"{k}.png", noise(k, 8, 8, 3))
    paint(birds / "owl" / "night" / "99.png", np.broadcast_to(np.array([99, 1, 9], np.uint8), (8, 8, 3)))
    both = [data.load(str(birds), split) for split in data.SPLITS]
    assert both[0].classes == ("heron", "owl", "robin") and sum(map(len, both)) == 34
    assert both[0].notes[:1] == ("owl: 1 of its 11 images are in its sub-folders (night)",)


def test_linked_folders_are_followed_once_and_never_in_a_circle(birds, tmp_path):
    for k in range(5):
        paint(tmp_path / "elsewhere" / "deep" / f"{k}.png", np.broadcast_to(np.array([50 + k, 1, 9], np.uint8), (8, 8, 3)))
    paint(tmp_path / "wren" / "60.png", np.broadcast_to(np.array([60, 3, 9], np.uint8), (8, 8, 3)))
    for link, target in {"owl/more": tmp_path / "elsewhere", "owl/again": tmp_path / "elsewhere" / "deep", "owl/up": birds, "owl/self": birds / "owl",
                         "wren": tmp_path / "wren"}.items():
        (birds / link).symlink_to(target, target_is_directory=True)
    (tmp_path / "elsewhere" / "deep" / "round").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    both = [data.load(str(birds), split) for split in data.SPLITS]
    held = sorted(k for dataset in both for label, k in inside(dataset) if label == 1)
    assert both[0].classes == ("heron", "owl", "robin", "wren") and held == [*range(10), *range(50, 55)]


def test_what_is_not_used_is_said(birds):
    paint(birds / "stray.png", noise(0, 8, 8, 3))
    for name in ("a.heic", "b.heic", "notes.txt"):
        (birds / "owl" / name).write_bytes(b"")
    assert data.load(str(birds)).notes[:2] == (f"images directly in {birds} belong to no class and are not used: 1",
                                               "files without an image's ending are not read: .heic (2), .txt (1)")


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


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "1", "CMYK"])
def test_gray_is_decided_by_content_and_not_by_the_mode_of_the_file(tmp_path, mode):
    values = np.repeat(np.array([[0, 255]], np.uint8), 4, 0).repeat(2, 1) if mode == "1" else np.arange(16, dtype=np.uint8).reshape(4, 4) * 17
    for k in range(2):
        paint(tmp_path / "set" / "a" / f"{k}.{'tif' if mode == 'CMYK' else 'png'}", values, mode)
    images = data.load(str(tmp_path / "set"), size=4).images
    assert images.shape == (1, 4, 4)
    np.testing.assert_array_equal(images[0], values)


def test_a_gray_palette_beside_a_colored_one_is_rgb(tmp_path):
    Image.fromarray(noise(0, 8, 8, 3)).quantize(8).save(paint(tmp_path / "set" / "a" / "0.png", noise(1, 8, 8), "P"))
    paint(tmp_path / "set" / "a" / "1.png", noise(1, 8, 8), "P")
    assert data.load(str(tmp_path / "set")).images.shape == (1, 3, 32, 32)


@pytest.mark.parametrize("ending, dtype, most, white", [
    (".png", np.uint16, 4095, 4095), (".png", np.uint16, 1000, 1023), (".png", np.uint16, 255, 255), (".png", np.uint16, 65535, 65535),
    (".png", np.uint16, 16000, 16383), (".tif", np.int32, 255, 255), (".tif", np.float32, 255, 255), (".tif", np.float32, 1, 1), (".tif", np.uint16, 4095, 4095),
    (".tif", np.int32, 65535, 65535), (".pgm", np.uint16, 65535, 65535)])
def test_deep_images_are_scaled_by_the_range_of_the_whole_folder_and_a_note_says_so(tmp_path, ending, dtype, most, white):
    for k, share in enumerate((1, 0.5)):
        pixels, path = np.full((4, 4), most * share, dtype), tmp_path / "set" / "a" / f"{k}{ending}"
        if ending == ".pgm":          # written by Pillow from 10.3 on only
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"P5 4 4 65535\n" + pixels.astype(">u2").tobytes())
        else:
            paint(path, pixels)
    both = [data.load(str(tmp_path / "set"), split, size=4) for split in data.SPLITS]
    found = sorted(int(np.unique(part.images).item()) for part in both)
    assert np.abs(np.array(found) - np.array([0.5, 1]) * 255 * most / white).max() <= 1
    kind = "floating point" if dtype == np.float32 else "more than 8 bits"
    assert both[0].notes == (f"images of {kind}: by the range of their values {white:,} is taken for white",)


@pytest.mark.parametrize("values, said", [((-5, 300), "-5 to 300"), ((0, np.nan), "nan to nan")])
def test_values_that_are_no_brightness_are_refused(tmp_path, values, said):
    path = paint(tmp_path / "set" / "a" / "x.tif", np.array([values], np.float32))
    with pytest.raises(BadInput, match=rf"^{re.escape(str(path))}: its values run from {said}; expected 0 to 65,535, or 0 to 1 in floating point$"):
        data.load(str(tmp_path / "set"))


def write_png16(path, pixels):
    """A PNG of 16-bit colors, which Pillow reads and does not write."""
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    H, W, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", W, H, 16, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows))
                     + chunk(b"IEND", b""))


def test_twelve_bits_of_color_in_sixteen_are_refused_since_their_lower_ones_are_not_read(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65536, (4, 4, 3))
    pixels[0, 0] = 65535
    write_png16(tmp_path / "set" / "a" / "x.png", pixels)
    np.testing.assert_array_equal(data.load(str(tmp_path / "set"), size=4).images[0], (pixels >> 8).transpose(2, 0, 1))
    write_png16(tmp_path / "set" / "a" / "x.png", pixels >> 4)
    with pytest.raises(BadInput, match=r"/set: has color images of 16 bits whose values end at about 4,095, and Pillow reads the upper 8 bits alone"):
        data.load(str(tmp_path / "set"))


def test_nearly_black_images_are_noted(tmp_path):
    paint(tmp_path / "set" / "a" / "x.png", np.eye(8, dtype=np.uint8))
    assert data.load(str(tmp_path / "set")).notes == ("the images are nearly black: no value is above 1 of 255",)


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


@pytest.mark.parametrize("damage, reason", [(cut, ".+"), (overwrite, "cannot identify image file"), (lambda path: os.truncate(path, 0), ".+")])
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


def bare(folder):
    for name in ("heron", "owl", "robin"):
        shutil.rmtree(folder / name)


def stranger(folder):
    bare(folder)
    for split, name in (("train", "a"), ("test", "b")):
        paint(folder / split / name / "x.png", noise(0, 4, 4))


def beside(folder):
    for split in ("Train", "Test"):
        paint(folder / split / "owl" / "x.png", noise(0, 4, 4))


def unlabeled(folder):
    bare(folder)
    for split in ("Train", "Test"):
        paint(folder / split / "x.png", noise(0, 4, 4))


def twice(folder):
    for split in ("train", "Training", "Test"):
        paint(folder / split / "owl" / "x.png", noise(0, 4, 4))


def wrapped(folder):
    bare(folder)
    for name in ("cat", "dog"):
        paint(folder / "Images" / name / "x.png", noise(0, 4, 4))


def nested(folder):
    paint(folder / "duck" / "mallard" / "x.png", noise(0, 4, 4))
    paint(folder / "duck" / "teal" / "young" / "x.png", noise(0, 4, 4))


def wrapped_split(folder):
    bare(folder)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            paint(folder / split / "images" / name / "x.png", noise(0, 4, 4))


def broken(folder):
    (folder / "wren").symlink_to(folder / "gone")


@pytest.mark.parametrize("change, message", [
    (empty, "{0}/wren: is a class without images; expected files that end in .png, .jpg, .jpeg, .bmp, .gif, .webp, .tif, .tiff, .ppm, .pgm, .pbm"),
    (only_train, "{0}: has no test beside its train; expected both, or the classes' folders alone (--data {0}/train trains on that alone)"),
    (stranger, "{0}/test/b: is no class of the training images; the classes are a"),
    (beside, "{0}: has heron, owl, robin beside its Test and Train; expected the classes' folders in those"),
    (unlabeled, "{0}/Test: holds images and no classes; expected a sub-folder of images for each class in it"),
    (twice, "{0}: has several folders for one split (Test, Training, train); expected one for each"),
    (wrapped, "{0}/Images: holds no image itself, but folders of images: cat, dog; if these are the classes, give {0}/Images; "
              "if Images is one class, put its images directly into it"),
    (wrapped_split, "{0}/train/images: holds no image itself, but folders of images: cat, dog; if these are the classes, put them directly into "
                    "{0}/train; if images is one class, put its images directly into it"),
    (nested, "{0}/duck: holds no image itself, but folders of images: mallard, teal; if these are the classes, put them directly into {0}; "
             "if duck is one class, put its images directly into it"),
    (broken, "{0}/wren: is a broken symbolic link; fix or remove it"),
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
    with pytest.raises(BadInput, match="/one: has no image for the test split; one image in 10 of a class is a test image, if the class has two or more; "
                                       "to train without held-out images: --set validate=0$"):
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
