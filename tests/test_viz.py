"""Pictures show what they say: the right pixels, in the right place, with labels that can be read."""

import itertools
import os
import re
import subprocess
import sys
import warnings
from io import BytesIO

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image, ImageSequence

from minidiff import viz
from minidiff.errors import BadInput
from minidiff.tensor import tensor
from minidiff.viz import curves, files, layout, style
from minidiff.viz import text as text_of_viz


def uniform(*shape, seed=7):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def flat(values, channels=1, size=8):
    """(N,C,size,size): image i has the one value values[i]."""
    values = np.asarray(values, np.float32).reshape(-1, 1, 1, 1)
    return np.broadcast_to(values, (len(values), channels, size, size))


def render(fig):
    """The pixels of a figure, (H,W,3), as a PNG would have them."""
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def opened(path):
    """The image in a file that is closed again."""
    return Image.open(BytesIO(path.read_bytes()))


def texts(fig):
    return [text.get_text() for text in fig.findobj(matplotlib.text.Text)]


# ---------------------------------------------------------------------------------------- pixels


def test_to_uint8_maps_minus_one_to_one_onto_0_to_255_and_clips():
    x = np.array([-9, -1, -0.5, 0.5, 1, 9], np.float32).reshape(6, 1, 1, 1)
    assert viz.to_uint8(x).ravel().tolist() == [0, 0, 64, 191, 255, 255]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize(
    "shape, expected", [((2, 1, 4, 5), (2, 4, 5)), ((2, 4, 5), (2, 4, 5)), ((2, 3, 4, 5), (2, 4, 5, 3))]
)
def test_to_uint8_puts_channels_last(shape, expected, dtype):
    x = (uniform(*shape) * 100).astype(dtype) if dtype == np.uint8 else uniform(*shape).astype(dtype)
    y = viz.to_uint8(x)
    assert y.shape == expected and y.dtype == np.uint8
    if len(expected) == 4:
        assert np.array_equal(y[..., 2], viz.to_uint8(x[:, 2]))


def test_to_uint8_leaves_pixels_as_they_are():
    pixels = np.random.default_rng(7).integers(0, 256, (2, 9, 8, 3), dtype=np.uint8)
    assert np.array_equal(viz.to_uint8(pixels), pixels)


def test_a_tensor_is_drawn_like_its_array():
    x = uniform(3, 1, 4, 4)
    assert np.array_equal(viz.grid(tensor(x), 2), viz.grid(x, 2))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("gap", [0, 1, 3])
def test_grid_has_every_image_in_reading_order_between_white_lines(channels, gap):
    x = uniform(5, channels, 4, 6) * 0.9  # no white of their own
    sheet, pixels = viz.grid(x, 3, gap), viz.to_uint8(x)
    assert sheet.shape[:2] == (2 * 4 + gap, 3 * 6 + 2 * gap)
    between = np.ones(sheet.shape[:2], bool)
    for i in range(5):
        top, left = i // 3 * (4 + gap), i % 3 * (6 + gap)
        tile = np.s_[top : top + 4, left : left + 6]
        assert np.array_equal(sheet[tile], pixels[i])
        between[tile] = False
    assert (sheet[between] == 255).all()


def test_grid_is_nearly_square_unless_told():
    assert viz.grid(np.zeros((9, 1, 2, 2)), gap=0).shape == (6, 6)
    assert viz.grid(np.zeros((10, 1, 2, 2)), gap=0).shape == (6, 8)


# ------------------------------------------------------------------------------- tables of images


def test_class_grid_has_one_row_for_each_class_and_keeps_the_order_within_it():
    labels = np.array([4, -1, 4, 0, 4, 0])
    fig = viz.class_grid(flat(np.linspace(-1, 0.5, 6)), labels)
    assert [t for t in texts(fig) if t] == ["no class", "0", "4"]
    page = render(fig)[..., 0]
    page[:, : page.shape[1] - 3 * 134] = 255  # without the names
    shades = viz.to_uint8(flat(np.linspace(-1, 0.5, 6)))[:, 0, 0]
    y, x = np.transpose([np.median(np.argwhere(page == shade), axis=0) for shade in shades])  # their middles
    assert y[1] < y[3] == y[5] < y[0] == y[2] == y[4]  # rows -1, 0, 4
    assert x[1] == x[3] == x[0] < x[5] == x[2] < x[4]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_in_a_figure_are_enlarged_by_a_whole_number_and_not_resampled(channels):
    x = uniform(4, channels, 8, 8) * 0.9
    page = render(viz.sample_sheet(x, columns=4))
    pixels = viz.to_uint8(x).reshape(4, 8, 8, -1)
    scale = 128 // 8
    found = page[14 : 14 + 8 * scale, 14 : 14 + 8 * scale]
    assert np.array_equal(found, np.broadcast_to(pixels[0], (8, 8, 3)).repeat(scale, 0).repeat(scale, 1))


def test_sample_sheet_names_columns_where_they_share_a_class_and_images_where_not():
    x = flat(np.zeros(6))
    assert texts(viz.sample_sheet(x, [0, 1, 2, 0, 1, 2], columns=3)).count("1") == 1
    assert texts(viz.sample_sheet(x, [0, 1, 2, 1, 1, 2], columns=3)).count("1") == 3
    assert "step 12,000  ·  loss 0.0612" in texts(viz.sample_sheet(x, step=12000, loss=0.06123))


def test_forward_strip_says_step_and_signal_above_each_column():
    alpha_bar = np.linspace(1, 0, 101) ** 2
    steps = np.arange(0, 101, 10)
    written = texts(viz.forward_strip(uniform(2, 11, 1, 8, 8), steps, alpha_bar, columns=11))
    assert [t for t in written if t.isdigit()] == [str(t) for t in steps]
    assert [t for t in written if re.fullmatch(r"\d\.\d\d", t)] == [f"{1 - t / 100:.2f}" for t in steps]


@pytest.mark.parametrize("K, columns", [(101, 10), (7, 3), (3, 10), (5, 1)])
def test_strips_choose_columns_evenly_and_keep_both_ends(K, columns):
    written = texts(viz.film_strip(uniform(1, K, 1, 4, 4), np.arange(K)[::-1], columns=columns))
    steps = [int(t) for t in written if t.isdigit()]
    assert len(steps) == min(K, columns) and steps[0] == K - 1
    if columns > 1:
        assert steps[-1] == 0 and np.ptp(np.diff(steps)) <= 1


def test_film_strip_puts_the_guess_under_each_sample():
    frames, guess = np.full((2, 1, 1, 8, 8), -0.8), np.full((2, 1, 1, 8, 8), 0.2)
    fig = viz.film_strip(frames, [5], guess, labels=[3, 8])
    page = render(fig)[..., 0]
    shade = {value: int(viz.to_uint8(flat([value]))[0, 0, 0]) for value in (-0.8, 0.2)}
    column = page[:, page.shape[1] - 30]
    order = [key for key, _ in itertools.groupby(column) if key in shade.values()]
    assert order == [shade[-0.8], shade[0.2]] * 2
    rows = np.flatnonzero(np.diff((column != 255).astype(int))).reshape(4, 2) + 1  # top and bottom of each
    names = {text.get_text(): text.get_position()[1] for text in fig.findobj(matplotlib.text.Text)}
    assert [names["3"], names["8"]] == [rows[:2].mean(), rows[2:].mean()]


# ---------------------------------------------------------------------------------------- curves


def test_moving_average_is_the_mean_of_its_window_and_ignores_nan():
    y = np.random.default_rng(0).normal(size=50)
    y[20] = np.nan
    average = curves.moving_average(y, 7)
    for i, low, high in [(0, 0, 1), (2, 0, 5), (10, 7, 14), (21, 18, 25), (49, 46, 50)]:
        assert average[i] == pytest.approx(np.nanmean(y[low:high]))
    assert np.isnan(curves.moving_average(np.full(5, np.nan), 3)).all()


def test_loss_curve_draws_the_values_their_mean_and_the_validation():
    steps, losses = np.arange(1, 401), np.exp(-np.arange(400) / 100) + 0.1
    fig = viz.loss_curve(steps, losses, validation=([100, 400], [0.5, 0.2]), epochs=steps / 100)
    raw, mean, last, validation = fig.axes[0].lines
    assert np.array_equal(raw.get_ydata(), losses) and raw.get_alpha() < 0.5
    assert np.array_equal(mean.get_ydata(), curves.moving_average(losses, 25))
    assert np.array_equal(validation.get_xydata(), [[100, 0.5], [400, 0.2]])
    assert f"{last.get_ydata()[0]:.3g}" in texts(fig)
    top = fig.axes[0].child_axes[0]
    assert [t.get_text() for t in top.get_xticklabels()] == ["1", "2", "3", "4"]
    assert top.get_xticks().tolist() == [100, 200, 300, 400]


def test_loss_curve_takes_the_smoothing_it_is_given_and_leaves_out_what_is_not_finite():
    losses = np.linspace(1, 0.1, 60)
    losses[[5, 30]] = np.inf, np.nan
    fig = viz.loss_curve(range(60), losses, np.full(60, 0.4), log=False)
    raw, smoothed = fig.axes[0].lines[:2]
    assert np.isnan(raw.get_ydata()[[5, 30]]).all() and np.array_equal(smoothed.get_ydata(), np.full(60, 0.4))
    assert fig.axes[0].get_yscale() == "linear"
    render(fig)


def test_a_loss_that_is_nowhere_positive_is_drawn_on_a_linear_scale():
    assert viz.loss_curve([1, 2], [0, 0]).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize("low, high", [(0.04, 1.3), (0.5, 0.8), (1e-6, 10), (0.1, 0.1)])
def test_loss_axis_always_has_readable_numbers(low, high):
    fig = viz.loss_curve(range(20), np.linspace(high, low, 20))
    render(fig)
    bottom, top = fig.axes[0].get_ylim()
    ticks = zip(fig.axes[0].get_yticks(), fig.axes[0].get_yticklabels(), strict=True)
    shown = [label.get_text() for at, label in ticks if bottom <= at <= top]
    assert 2 <= len(shown) <= 9 and all(float(text) > 0 for text in shown) and len(set(shown)) == len(shown)


def test_compare_curves_gives_each_name_its_colour_and_last_value():
    fig = viz.compare_curves({name: ([0, 1, 2], [3, 2, i]) for i, name in enumerate("abc")})
    assert [text.get_text() for text in fig.axes[0].get_legend().get_texts()] == ["a: 0", "b: 1", "c: 2"]
    assert len({line.get_color() for line in fig.axes[0].lines}) == 3


def test_more_curves_than_colours_are_still_told_apart():
    fig = viz.compare_curves({str(i): ([0, 1], [i, i]) for i in range(20)})
    assert len({(line.get_color(), line.get_linestyle()) for line in fig.axes[0].lines}) == 20


def test_schedule_plot_shows_signal_and_decibel_over_relative_time():
    alpha_bar = np.array([1, 0.9, 0.5, 0.1, 0.0])
    signal, snr = viz.schedule_plot({"mine": alpha_bar}).axes
    assert np.allclose(signal.lines[0].get_xydata(), np.stack([np.arange(5) / 4, np.sqrt(alpha_bar)], 1))
    decibel = snr.lines[0].get_ydata()
    assert np.allclose(decibel[1:4], [9.5424, 0, -9.5424], atol=1e-4) and np.isnan(decibel[[0, 4]]).all()


# ------------------------------------------------------------------------- how every figure looks


NOISE, STEPS = uniform(2, 10, 1, 32, 32), np.linspace(100, 0, 10).astype(int)
ALPHA_BAR = np.cos(np.linspace(0, np.pi / 2, 101)) ** 2
NAMES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Ankle boot"]
N = np.arange(1, 1201)
LOSSES = np.exp(-N / 200 + np.random.default_rng(0).normal(size=1200) * 0.2) + 0.05
LONG = "a title that says a good deal more than there is room for on one line of a narrow picture"

FIGURES = {
    "class_grid": lambda: viz.class_grid(uniform(100, 1, 32, 32), np.arange(100) // 10, title="a hundred"),
    "class_grid named": lambda: viz.class_grid(uniform(7, 3, 32, 32), np.arange(7) % 5, NAMES, LONG),
    "sample_sheet": lambda: viz.sample_sheet(uniform(20, 1, 32, 32), np.arange(20) % 10, step=9, loss=0.1),
    "sample_sheet named": lambda: viz.sample_sheet(
        uniform(6, 1, 8, 8), [4, 0, 1, 1, 2, 3], class_names=NAMES, columns=3
    ),
    "sample_sheet with long names": lambda: viz.sample_sheet(
        uniform(12, 1, 8, 8), [0] * 12, class_names=["a name of length"], columns=6
    ),
    "forward_strip": lambda: viz.forward_strip(NOISE, STEPS[::-1], ALPHA_BAR, "Forward"),
    "film_strip": lambda: viz.film_strip(NOISE, STEPS, NOISE, [1, 4], "Reverse", NAMES),
    "film_strip plain": lambda: viz.film_strip(NOISE, STEPS),
    "loss_curve": lambda: viz.loss_curve(
        N, LOSSES, validation=(N[::100], LOSSES[::100]), epochs=N / 100, title=2 * LONG
    ),
    "compare_curves": lambda: viz.compare_curves({"one": (N, LOSSES), "two": (N, 2 * LOSSES)}, title="Two"),
    "schedule_plot": lambda: viz.schedule_plot({"cosine": ALPHA_BAR, "square": ALPHA_BAR**2}, "Schedules"),
    "graph": lambda: viz.graph(*small_graph(), title="y = h tanh h"),
}


@pytest.fixture(params=list(FIGURES))
def name_and_figure(request):
    return request.param, FIGURES[request.param]()


def test_every_text_lies_inside_its_figure_and_on_no_other(name_and_figure):
    name, fig = name_and_figure
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    # matplotlib keeps tick labels beyond the ends of an axis, too; those that show, it places well itself
    ticks = [tick for axis in fig.findobj(matplotlib.axis.Axis) for tick in axis.get_ticklabels(which="both")]
    boxes = {}
    for text in fig.findobj(matplotlib.text.Text):
        if text.get_text().strip() and text not in ticks:
            assert text.get_fontsize() >= 9, text
            box = text.get_window_extent(canvas.get_renderer())
            boxes[text.get_text(), round(box.x0), round(box.y0)] = box
    width, height = canvas.get_width_height()
    assert boxes and (width <= 1200 or name == "graph")
    for key, box in boxes.items():
        assert -1 <= box.x0 and box.x1 <= width + 1 and -1 <= box.y0 and box.y1 <= height + 1, key
    for (key, a), (other, b) in itertools.combinations(boxes.items(), 2):
        apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 3 or b.y1 <= a.y0 + 3
        assert apart, (key, other)


DOLLARS = ["$x_$", "a$b$", "\\$", r"$\frac$", "$", "$\n$"]

NAMED = {
    "class_grid": lambda: viz.class_grid(uniform(6, 1, 8, 8), range(6), DOLLARS, "of $x_$"),
    "sample_sheet": lambda: viz.sample_sheet(uniform(6, 1, 8, 8), range(6), class_names=DOLLARS, columns=6, title="$x_$"),
    "sample_sheet with captions": lambda: viz.sample_sheet(uniform(6, 1, 8, 8), range(6), class_names=DOLLARS, columns=2),
    "forward_strip": lambda: viz.forward_strip(NOISE, STEPS[::-1], title="$x_$"),
    "film_strip": lambda: viz.film_strip(NOISE[:1], STEPS, labels=[0], class_names=DOLLARS, title="$x_$ " * 30),
    "named_rows": lambda: viz.named_rows(NOISE, DOLLARS[:2], ["$x_$"], "$x_$", ("$x_$", DOLLARS + ["."] * 4)),
    "loss_curve": lambda: viz.loss_curve(N, LOSSES, title="$x_$"),
    "compare_curves": lambda: viz.compare_curves({name: (N, LOSSES) for name in DOLLARS}, title="$x_$"),
    "schedule_plot": lambda: viz.schedule_plot({name: ALPHA_BAR for name in DOLLARS}, "$x_$"),
    "graph": lambda: viz.graph(*named_graph("$x_$"), title="$x_$"),
}


def named_graph(name):
    x = tensor(np.ones(2), requires_grad=True)
    return (x * x).sum(), {name: x}


@pytest.mark.parametrize("name", NAMED)
def test_names_of_users_are_never_mathematics(name):
    fig = NAMED[name]()
    render(fig)
    shown = [text for text in texts(fig) if "x_" in text]
    assert shown and not any(matplotlib.cbook.is_math_text(text) for text in shown)
    assert all("$x_$" in text.replace(r"\$", "$") for text in shown)


def test_a_dollar_is_as_wide_in_a_title_as_it_is_drawn():
    fig = viz.class_grid(uniform(1, 1, 8, 8), [0], title="$a$ and $b$")
    canvas = FigureCanvasAgg(fig)
    (title,) = (text for text in fig.findobj(matplotlib.text.Text) if "and" in text.get_text())
    assert not matplotlib.cbook.is_math_text(title.get_text())
    assert title.get_window_extent(canvas.get_renderer()).width == pytest.approx(style.text_width(title.get_text(), style.TITLE, "bold"), rel=0.03)


def test_a_curve_whose_name_begins_with_an_underscore_is_in_the_legend():
    fig = viz.compare_curves({"_old": (range(3), [3, 2, 1]), "new": (range(3), [2, 1, 0])})
    assert [text.get_text() for text in fig.axes[0].get_legend().get_texts()] == [" _old: 1", "new: 0"]


def test_steps_are_whole_numbers_on_the_axis():
    fig = viz.loss_curve(range(1, 5), [4, 3, 2, 1])
    ticks = fig.axes[0].get_xticks()
    assert (ticks == np.rint(ticks)).all()


def test_what_the_font_lacks_is_drawn_in_one_that_has_it(recwarn):
    """Of the fonts that come with matplotlib, DejaVu Sans Mono alone has a symbol for a telephone recorder, and Serif the letter ue."""
    fig = viz.class_grid(uniform(2, 1, 8, 8), [0, 1], ["\u2315 or \u1d6b", "e\u0301 is one letter"])
    render(fig)
    text = next(text for text in fig.findobj(matplotlib.text.Text) if "or" in text.get_text())
    families = text.get_fontfamily()
    assert "\u2315" in text.get_text() and families[0] == "DejaVu Sans" and len(families) >= 3
    assert "\u00e9 is one letter" in texts(fig)
    assert matplotlib.rcParams["font.family"] != families and not recwarn


def test_what_no_font_has_is_a_box_and_said_once(monkeypatch, tmp_path):
    monkeypatch.setattr(text_of_viz, "_warned", set())
    names = ["\U0010fffe and \U0010ffff", "\udce9", "joined\U000e0100", "two\nlines"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fig = viz.class_grid(uniform(4, 1, 8, 8), range(4), names)
        viz.save(fig, tmp_path / "a.png")
        viz.save(viz.sample_sheet(uniform(4, 1, 8, 8), range(4), class_names=names), tmp_path / "b.svg")
    assert [str(warning.message) for warning in caught] == [
        "viz: no font on this machine has \\udce9 \\U0010fffe \\U0010ffff; \u25a1 is drawn in their place; install a font that has them"
    ]
    assert {"\u25a1 and \u25a1", "\u25a1", "joined", "two lines"} <= set(texts(fig))


def test_the_readers_own_matplotlib_settings_neither_change_a_picture_nor_are_changed(tmp_path):
    def drawn(name):
        fig = viz.loss_curve(range(9), np.arange(9) + 1.0, title="same")
        return viz.save(fig, tmp_path / name).read_bytes()

    usual = drawn("a.png")
    with matplotlib.rc_context(
        {"font.size": 31, "axes.facecolor": "red", "lines.marker": "s", "axes.ymargin": 1}
    ):
        before = dict(matplotlib.rcParams)
        assert drawn("b.png") == usual
        assert dict(matplotlib.rcParams) == before


def test_drawing_needs_no_pyplot_and_importing_needs_no_matplotlib(tmp_path):
    program = f"""
import sys, numpy as np
from minidiff import viz
assert not {{"matplotlib", "PIL"}} & set(sys.modules), "imported too early"
viz.save(viz.class_grid(np.zeros((2, 1, 4, 4)), [0, 1]), {str(tmp_path / "a.png")!r})
assert "matplotlib.pyplot" not in sys.modules, "pyplot was touched"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ----------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    "kind, magic",
    [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml"), ("gif", b"GIF8"), ("webp", b"RIFF")],
)
def test_save_writes_what_the_ending_says_and_the_same_bytes_each_time(tmp_path, kind, magic):
    fig = viz.sample_sheet(uniform(4, 1, 8, 8), step=3)
    for picture in (fig, viz.grid(uniform(4, 1, 8, 8))):
        first = viz.save(picture, tmp_path / "new folder" / f"a.{kind}").read_bytes()
        assert first.startswith(magic) and not re.search(b"CreationDate|dc:date", first)
        assert viz.save(picture, tmp_path / f"b.{kind.upper()}").read_bytes() == first


@pytest.mark.parametrize("channels", [1, 3])
def test_a_saved_array_is_read_back_exactly(tmp_path, channels):
    sheet = viz.grid(uniform(6, channels, 5, 5), 3)
    for kind in ("png", "webp"):
        image = opened(viz.save(sheet, tmp_path / f"a.{kind}"))
        assert np.array_equal(np.asarray(image.convert("L" if channels == 1 else "RGB")), sheet)


def test_dpi_scales_a_figure(tmp_path):
    fig = viz.sample_sheet(uniform(4, 1, 8, 8))
    sizes = [opened(viz.save(fig, tmp_path / "a.png", dpi=dpi)).size for dpi in (None, 75)]
    assert sizes[0] == pytest.approx((2 * sizes[1][0], 2 * sizes[1][1]), abs=2)


@pytest.mark.parametrize("fails", ["drawing", "writing", "renaming"])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, fails):
    path = viz.save(viz.grid(np.zeros((1, 1, 4, 4))), tmp_path / "a.png")
    old = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    if fails == "drawing":
        monkeypatch.setattr(files, "figure_bytes", fail)
    elif fails == "writing":
        whole = files.Path.write_bytes
        monkeypatch.setattr(
            files.Path, "write_bytes", lambda self, content: (whole(self, content[:9]), fail())
        )
    else:
        monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError if fails == "drawing" else BadInput, match="No space left on device"):
        viz.save(viz.sample_sheet(np.zeros((1, 1, 4, 4))), path)
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


# ------------------------------------------------------------------------------------ animations


@pytest.mark.parametrize("kind", ["gif", "webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_animation_has_all_frames_at_their_times_and_size(tmp_path, kind, channels):
    frames = uniform(7, 6, channels, 8, 8)
    path = viz.animation(frames, tmp_path / f"a.{kind}", duration_ms=50, hold_ms=1500, columns=3, scale=2)
    film = opened(path)
    assert film.n_frames == 7 and film.info["loop"] == 0
    assert film.size == (2 * (3 * 8 + 2), 2 * (2 * 8 + 1))
    durations = []
    for frame, images in zip(ImageSequence.Iterator(film), frames, strict=True):
        film.load()
        durations.append(frame.info["duration"])
        shown = np.asarray(frame.convert("L" if channels == 1 else "RGB")).astype(int)
        wanted = viz.grid(images, 3).repeat(2, 0).repeat(2, 1)
        error = np.abs(shown - wanted)
        # 15 greys lie 255/14 apart, so none is farther than half of that; 127 colours only on average.
        assert error.max() <= 10 if channels == 1 else error.mean() <= 20
        assert np.array_equal(shown[::2, ::2], shown[1::2, 1::2])
    assert durations == [50] * 6 + [1500]


def test_animation_keeps_black_and_white_and_shares_one_colour_table(tmp_path):
    frames = np.where(uniform(5, 4, 1, 8, 8) > 0, 1.0, -1.0)
    content = viz.animation(frames, tmp_path / "a.gif", columns=4, scale=1).read_bytes()
    film = opened(tmp_path / "a.gif")
    film.seek(4)
    assert np.array_equal(np.asarray(film.convert("L")), viz.grid(frames[4], 4))
    # An image descriptor is "," left top width height flags; the highest flag says "a table of my own".
    descriptors = re.findall(rb"\x00,(.{4})(.{4})(.)\x08", content, re.DOTALL)
    assert len(descriptors) == 5 and not any(flags[0] & 0x80 for _, _, flags in descriptors)


def test_equal_frames_are_stored_once_and_shown_as_long(tmp_path):
    still = np.repeat(uniform(1, 2, 1, 8, 8), 4, 0)
    film = opened(
        viz.animation([*still, uniform(2, 1, 8, 8, seed=8)], tmp_path / "a.gif", duration_ms=40, hold_ms=500)
    )
    assert film.n_frames == 2
    assert [frame.info["duration"] for frame in ImageSequence.Iterator(film)] == [160, 500]


# ----------------------------------------------------------------------------------------- graph


BOXES = ["x (4, 3)", "w (3, 5)", "MatMul (4, 5)", "Tanh (4, 5)", "Mul (4, 5)", "output (4, 5)"]


def small_graph():
    x = tensor(np.ones((4, 3), np.float32), requires_grad=True)
    w = tensor(np.ones((3, 5), np.float32), requires_grad=True)
    h = x @ w
    return h.tanh() * h, {"x": x, "w": w}


def test_graph_dot_has_each_op_and_leaf_once_and_an_edge_for_each_input():
    y, names = small_graph()
    dot = viz.graph_dot(y, names)
    labels = dict(re.findall(r'(n\d+) \[label="([^"]*)"', dot))
    edges = {(labels[a], labels[b]) for a, b in re.findall(r"(n\d+) -> (n\d+);", dot)}
    assert sorted(labels.values()) == sorted(BOXES)
    x, w, matmul, tanh, mul, output = BOXES
    assert edges == {(x, matmul), (w, matmul), (matmul, tanh), (matmul, mul), (tanh, mul), (mul, output)}


def test_graph_draws_every_node_with_its_text():
    y, names = small_graph()
    assert sorted(text for text in texts(viz.graph(y, names)) if text) == sorted(BOXES)


def test_a_leaf_alone_is_a_graph():
    x = tensor(np.ones((2, 2), np.float32), requires_grad=True)
    assert [t for t in texts(viz.graph(x, {"x": x})) if t] == ["x (2, 2)"]
    assert "->" not in viz.graph_dot(x)


def test_names_with_quotes_stay_inside_their_label():
    x = tensor(np.ones(2, np.float32), requires_grad=True)
    assert r'[label="the \"x\" (2,)"' in viz.graph_dot(x, {'the "x"': x})


def test_a_graph_100000_deep_is_walked_without_recursion():
    y = x = tensor(np.ones(1, np.float32), requires_grad=True)
    for _ in range(100_000):
        y = -y
    assert viz.graph_dot(y, {"x": x}).count(" -> ") == 100_001
    with pytest.raises(BadInput) as error:
        viz.graph(y)
    assert str(error.value) == (
        "viz.graph: 100,002 nodes are too many to draw, 400 can be; "
        "draw a smaller piece, or give graph_dot(tensor) to Graphviz"
    )


@pytest.mark.parametrize("seed", range(6))
def test_layout_lets_no_boxes_touch_and_all_edges_go_down_around_them(seed):
    random = np.random.default_rng(seed)
    n = 30
    edges = [(int(random.integers(i + 1, min(i + 9, n))), i) for i in range(n - 1) for _ in range(2)]
    widths = random.uniform(20, 90, n)
    x, y, routes = layout.arrange(["op"] * n, list(widths), edges, height=40, gap=10)
    for i, j in itertools.combinations(range(n), 2):
        assert y[i] != y[j] or abs(x[i] - x[j]) >= (widths[i] + widths[j]) / 2 + 10 - 1e-6
    for (a, b), route in zip(edges, routes, strict=True):
        heights = [y[a], *(point[1] for point in route), y[b]]
        assert np.allclose(np.diff(heights), -40)  # one layer at a time, always down
        for px, py in route:
            assert all(abs(px - x[i]) > widths[i] / 2 for i in range(n) if y[i] == py)


def test_bends_join_neighbouring_layers_only():
    edges = [(3, 0), (3, 2), (2, 1), (1, 0)]  # 3 reaches 0 past the layers of 2 and 1
    layer = layout.layer_of_each(4, edges)
    layers, bends = layout.with_bends(["op"] * 4, [9.0] * 4, edges, layer)
    assert layer == [0, 1, 2, 3] and [len(chain) for chain in bends] == [2, 0, 0, 0]
    row_of = {i: k for k, row in enumerate(layers.rows) for i in row}
    down = sorted((i, j) for i, below in enumerate(layers.below) for j in below)
    up = sorted((j, i) for i, above in enumerate(layers.above) for j in above)
    assert down == up == sorted([(1, 0), (2, 1), (3, 2), (3, 4), (4, 5), (5, 0)])
    assert all(row_of[i] == row_of[j] + 1 for i, j in down)


def test_a_chain_is_drawn_as_a_straight_line():
    x, y, _ = layout.arrange(["op"] * 9, [50.0] * 9, [(i + 1, i) for i in range(8)], 40, 10)
    assert np.ptp(x) < 1e-9 and np.array_equal(y, np.arange(9) * 40)


@pytest.mark.parametrize("seed", range(4))
def test_spread_is_the_least_squares_solution(seed):
    """No feasible small step from the solution is better."""
    random = np.random.default_rng(seed)
    wanted, widths, firm = random.normal(0, 30, 7), random.uniform(10, 40, 7), random.uniform(0.1, 2, 7)
    x = layout.spread(wanted, widths, firm, 5)
    least = (widths[:-1] + widths[1:]) / 2 + 5
    assert (np.diff(x) >= least - 1e-9).all()
    cost = (firm * (x - wanted) ** 2).sum()
    for _ in range(300):
        other = x + random.normal(0, 0.5, 7)
        if (np.diff(other) >= least).all():
            assert (firm * (other - wanted) ** 2).sum() >= cost


# ----------------------------------------------------------------------------------------- errors


def images(n=2):
    return np.zeros((n, 1, 4, 4), np.float32)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: viz.to_uint8(np.zeros((2, 2, 4, 4))),
            "viz: images must be (N,H,W) or (N,C,H,W) with 1 or 3 channels, not (2, 2, 4, 4)",
        ),
        (
            lambda: viz.to_uint8(np.zeros((1, 2, 4), int)),
            "viz: images are int64; floats in [-1, 1] or uint8 pixels are expected",
        ),
        (
            lambda: viz.to_uint8(np.full((1, 2, 4), np.nan)),
            "viz: 8 of 8 values are NaN; floats in [-1, 1] are expected",
        ),
        (lambda: viz.grid(images(0), 3), "viz.grid: there are no images to draw"),
        (lambda: viz.grid(images(), 0), "viz.grid: columns must be at least 1, not 0"),
        (
            lambda: viz.class_grid(images(), [0, 1, 2]),
            "viz.class_grid: one label for each image is expected: 2 images, labels (3,)",
        ),
        (
            lambda: viz.class_grid(images(), [0, 5], ["zero", "one"]),
            "viz: label 5 has no name; 2 class names are given",
        ),
        (
            lambda: viz.sample_sheet(images(), [0]),
            "viz.sample_sheet: one label for each image is expected: 2 images, 1 labels",
        ),
        (
            lambda: viz.forward_strip(images(), [0, 1]),
            "viz.forward_strip: frames must be (R,K,C,H,W), R images at K steps, not (2, 1, 4, 4)",
        ),
        (
            lambda: viz.forward_strip(images()[None], [0, 1, 2]),
            "viz.forward_strip: frames (1, 2, 1, 4, 4) show 2 steps, steps has the shape (3,)",
        ),
        (
            lambda: viz.forward_strip(images()[None], [0, 100], np.ones(100)),
            "viz.forward_strip: steps run from 0 to 100, alpha_bar covers 0 to 99",
        ),
        (
            lambda: viz.film_strip(images()[None], [1, 0], images()),
            "viz.film_strip: x0_hat must have the shape of frames, (1, 2, 1, 4, 4), not (2, 1, 4, 4)",
        ),
        (
            lambda: viz.film_strip(images()[None], [1, 0], labels=[1, 2]),
            "viz.film_strip: one label for each sample is expected: 1 samples, 2 labels",
        ),
        (
            lambda: viz.loss_curve([1, 2], [1]),
            "viz.loss_curve: losses: x and y must be sequences of the same length, at least 1, "
            "not (2,) and (1,)",
        ),
        (lambda: viz.compare_curves({}), "viz.compare_curves: there are no curves to draw"),
        (
            lambda: viz.schedule_plot({"linear": np.array([0.99, 0.98])}),
            "viz.schedule_plot: linear: alpha_bar must be (T+1,) and begin with 1; "
            "it is (2,) and begins with 0.99, 0.98",
        ),
        (
            lambda: viz.animation(images(), "a.mp4"),
            "a.mp4: cannot draw a .mp4 file; the name must end in .gif or .webp",
        ),
        (
            lambda: viz.animation(images(), "a.gif"),
            "viz.animation: frames must be (K,N,C,H,W): K moments of N images, not (2, 1, 4, 4)",
        ),
        (
            lambda: viz.animation([images(2), images(3)], "a.gif"),
            "viz.animation: all frames must have the same shape, not (2, 1, 4, 4) and (3, 1, 4, 4)",
        ),
        (
            lambda: viz.animation(images()[None], "a.gif", duration_ms=0),
            "viz.animation: duration_ms must be 10 to 600000 milliseconds, not 0",
        ),
        (
            lambda: viz.animation(images()[None], "a.gif", scale=0),
            "viz.animation: scale must be a whole number from 1, not 0",
        ),
        (
            lambda: viz.save(viz.grid(images()), "picture"),
            "picture: has no ending; the name must end in .png, .pdf, .svg, .gif or .webp",
        ),
        (
            lambda: viz.save(images(), "a.png"),
            "viz.save: expected a Figure or uint8 pixels (H,W) or (H,W,3), not float32 (2, 1, 4, 4); "
            "viz.grid makes one picture of many images",
        ),
    ],
)
def test_bad_input_is_told_in_one_line(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput) as error:
        call()
    assert str(error.value) == message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "write",
    [
        lambda path: viz.save(np.zeros((2, 2), np.uint8), path.with_suffix(".png")),
        lambda path: viz.animation(images()[None], path),
    ],
)
def test_a_folder_that_cannot_be_written_to_is_told(tmp_path, write):
    (tmp_path / "taken").write_text("a file where a folder is asked for")
    with pytest.raises(BadInput, match=r"taken/a\.\w+: cannot write it \(.+\); name a folder that can be "):
        write(tmp_path / "taken" / "a.gif")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_named_rows_stand_beside_their_names_and_groups():
    written = texts(viz.named_rows(uniform(4, 3, 1, 8, 8), ["in", "out", "there", "back"], ["a", "b"], title="both"))
    assert {"in", "out", "there", "back", "a", "b", "both"} <= set(written)
    assert {"digit", "x", "y", "z"} <= set(texts(viz.named_rows(uniform(1, 3, 1, 8, 8), ["in"], header=("digit", "xyz"))))
    with pytest.raises(BadInput, match=r"^viz.named_rows: frames must be \(R,K,C,H,W\) with R names and groups of one size, not \(3, 2, 1, 8, 8\), 3 names and 2 groups$"):
        viz.named_rows(uniform(3, 2, 1, 8, 8), ["a", "b", "c"], ["x", "y"])
    with pytest.raises(BadInput, match=r"^viz.named_rows: the header must have a text for each of 2 columns, not 1$"):
        viz.named_rows(uniform(1, 2, 1, 8, 8), ["a"], header=("digit", "x"))
