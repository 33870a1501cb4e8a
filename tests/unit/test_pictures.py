from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from densekit import _fonts, pictures
from densekit._fonts import lettered, lettering
from densekit.training.confusion import draw_confusion
from densekit.training.curves import draw_curves

NAMES = ["cat", "dog", "bird"]


def grey(height=500, width=640, value=128):
    return np.full((height, width, 3), value, dtype=np.uint8)


def painted(before, after):
    """Where a picture was changed."""
    return (before != after).any(axis=2)


def test_a_box_is_outlined_in_its_colour_with_a_filled_tag_above():
    image = grey()
    drawn = pictures.draw_boxes(image, [[200, 200, 400, 350]], [1], NAMES, [0.5])
    colour = pictures.class_colour(1)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert tuple(drawn[275, 200]) == tuple(drawn[275, 399]) == tuple(drawn[349, 300]) == colour
    assert tuple(drawn[275, 300]) == (128, 128, 128)
    tag = drawn[185:198, 201:230].reshape(-1, 3)
    assert (tag == colour).all(axis=1).mean() > 0.4  # filled
    assert (tag.sum(axis=1) < 200).any()  # with dark text on it
    assert (image == 128).all()  # the caller's image is left alone


def test_scores_make_the_tag_longer():
    box = [[200, 200, 400, 350]]
    plain = pictures.draw_boxes(grey(), box, [0], NAMES)
    scored = pictures.draw_boxes(grey(), box, [0], NAMES, [0.75])
    assert painted(grey(), scored)[180:198].any(axis=0).sum() > (
        painted(grey(), plain)[180:198].any(axis=0).sum() + 20
    )


def test_small_images_are_enlarged_by_a_whole_number():
    drawn = pictures.draw_boxes(grey(40, 50), [[10, 10, 30, 30]], [0], NAMES)
    assert drawn.shape == (400, 500, 3)
    assert tuple(drawn[200, 101]) == pictures.class_colour(0)


@pytest.mark.parametrize(
    "box",
    [
        [-50, -50, 5, 5],
        [630, 490, 900, 900],
        [700, 700, 800, 800],
        [100, 100, 100, 100],
        [300, 300, 200, 200],
        [0, 0, 640, 500],
    ],
)
def test_boxes_on_and_beyond_the_border_are_drawn_inside(box):
    drawn = pictures.draw_boxes(grey(), [box], [2], NAMES)
    assert drawn.shape == (500, 640, 3)
    assert painted(grey(), drawn).any()


def test_no_boxes_leave_the_image_as_it_is():
    empty = np.zeros((0, 4))
    np.testing.assert_array_equal(pictures.draw_boxes(grey(), empty, [], NAMES, []), grey())


def test_boxes_without_labels_are_refused():
    with pytest.raises(ValueError, match="2 boxes, but 1 labels"):
        pictures.draw_boxes(grey(), np.zeros((2, 4)), [0], NAMES)


def test_tags_of_neighbours_do_not_hide_each_other():
    boxes = np.array([[200, 200, 400, 350], [202, 202, 402, 352], [204, 198, 398, 352]])
    texts = lettered(["one name", "another", "a third"], 14)
    places = pictures._places(boxes, texts, (640, 500))
    for n, place in enumerate(places):
        assert all(pictures._shared(place, other) == 0 for other in places[:n])


def test_class_colours_differ_and_are_stable():
    colours = [pictures.class_colour(k) for k in range(80)]
    assert len(set(colours)) == 80
    assert colours == [pictures.class_colour(k) for k in range(80)]


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 2), (9, 7, 3), (9, 7, 4), (9, 7, 12)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_any_image_becomes_rgb(shape, dtype):
    image = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    rgb = pictures.to_rgb(image)
    assert rgb.shape == (9, 7, 3)
    assert rgb.dtype == np.uint8
    if dtype is np.uint8:
        np.testing.assert_array_equal(rgb[..., 0], image.reshape(9, 7, -1)[..., 0])
    else:
        assert rgb.max() == 255
        assert rgb.min() == 0


def test_constant_float_images_do_not_divide_by_zero():
    assert pictures.to_rgb(np.full((4, 4, 3), 7.0)).max() == 0


def test_panels_have_one_height_and_keep_their_proportions():
    picture = pictures.side_by_side([grey(300, 300), grey(600, 900, 50)], ["truth", "found"])
    assert (picture == 128).all(axis=2).any(axis=0).sum() == 600
    assert (picture == 50).all(axis=2).sum() >= 600 * 895
    assert (picture[:40] > 200).any()  # titles


def test_grid_sizes():
    cells = [grey(100, 200, value) for value in (60, 90, 120)]
    picture = pictures.grid(cells, 2, cell_width=120)
    assert picture.shape == (2 * 60 + 3 * 4, 2 * 120 + 3 * 4, 3)
    assert pictures.grid(cells[:1], 4, cell_width=120).shape == (68, 128, 3)


def test_save_makes_the_folder_and_keeps_the_pixels(tmp_path):
    path = tmp_path / "a" / "b" / "picture.png"
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    pictures.save(image, path)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), image)


def test_a_class_is_tinted_within_and_outlined_at_its_border():
    mask = np.zeros((500, 640), dtype=np.uint8)
    mask[100:300, 200:400] = 2
    mask[400:] = 255
    drawn = pictures.draw_mask(grey(), mask, [1, 2])
    colour = np.array(pictures.class_colour(2))
    assert tuple(drawn[100, 300]) == tuple(drawn[200, 200]) == tuple(colour)
    np.testing.assert_allclose(drawn[200, 300], 0.6 * 128 + 0.4 * colour, atol=1)
    assert tuple(drawn[50, 50]) == (128, 128, 128)
    assert (drawn[450] < 60).all()  # void
    assert (pictures.draw_mask(grey(), mask, [1])[:400] == 128).all()


def test_a_class_that_fills_the_picture_has_no_border():
    drawn = pictures.draw_mask(grey(), np.ones((500, 640), dtype=np.uint8), [1])
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1


def test_overlapping_classes_are_both_drawn():
    mask = np.zeros((2, 500, 640), dtype=np.uint8)
    mask[0, :, :300] = mask[1, :, 200:] = 1
    drawn = pictures.draw_mask(grey(), mask, [0, 1])
    inside = [tuple(drawn[250, x]) for x in (100, 250, 500)]
    assert len(set(inside)) == 3
    assert tuple(drawn[250, 299]) == pictures.class_colour(0)
    assert tuple(drawn[250, 200]) == pictures.class_colour(1)


def test_small_masks_are_enlarged_with_their_image():
    mask = np.zeros((40, 50), dtype=np.uint8)
    mask[10:20, 10:30] = 1
    drawn = pictures.draw_mask(grey(40, 50), mask, [1])
    assert drawn.shape == (400, 500, 3)
    assert tuple(drawn[100, 150]) == pictures.class_colour(1)
    assert tuple(drawn[99, 150]) == (128, 128, 128)
    with pytest.raises(ValueError, match=r"a mask of \(40, 50\) for an image of \(40, 51\)"):
        pictures.draw_mask(grey(40, 51), mask, [1])


def test_legend_stands_beneath_and_wraps():
    picture = pictures.to_rgb(grey(60, 300))
    few = pictures.with_legend(picture, {1: "one"})
    many = pictures.with_legend(picture, {n: f"a class called {n}" for n in range(9)})
    np.testing.assert_array_equal(few[:60], picture)
    assert (few[60:] == pictures.class_colour(1)).all(axis=2).any()
    assert many.shape[1] == 300
    assert len(many) > len(few) + 60
    for n in range(9):
        assert (many[60:] == pictures.class_colour(n)).all(axis=2).any()
    np.testing.assert_array_equal(pictures.with_legend(picture, {}), picture)


def test_palette():
    colours = pictures.palette()
    assert colours.shape == (256, 3)
    assert tuple(colours[0]) == (0, 0, 0)
    assert tuple(colours[3]) == pictures.class_colour(3)
    assert tuple(pictures.palette(background=False)[0]) == pictures.class_colour(0)


def test_grey_of_a_volume_is_stretched_as_a_whole():
    volume = np.linspace(-500, 500, 1000).reshape(10, 10, 10)
    scaled = pictures.to_grey(volume)
    assert scaled.min() == 0
    assert scaled.max() == 255
    assert scaled[0].max() < scaled[9].min()
    assert not pictures.to_grey(np.full((2, 2, 2), 7.0)).any()


@pytest.fixture
def only_shipped(monkeypatch):
    """A machine without further fonts, on which nothing has been said yet."""
    monkeypatch.setattr(_fonts, "installed", lambda: ())
    monkeypatch.setattr(_fonts, "_warned", set())
    _fonts.font_with.cache_clear()
    yield
    _fonts.font_with.cache_clear()


@pytest.fixture
def chinese_font(tmp_path, monkeypatch):
    """A font of its own with one Chinese character, as a machine may have it."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (500, 700), (500, 0)):
        pen.lineTo(corner)
    pen.closePath()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "cat"])
    font.setupCharacterMap({ord("猫"): "cat"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "cat": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (600, 0), "cat": (600, 0)})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Own", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    path = str(tmp_path / "own.ttf")
    font.save(path)
    monkeypatch.setattr(_fonts, "installed", lambda: (path,))
    _fonts.font_with.cache_clear()
    yield path
    _fonts.font_with.cache_clear()


def test_every_name_is_drawn_with_a_font_that_has_it(chinese_font):
    assert lettering("cat 0.9") == ("cat 0.9", None)
    for text in ("Müll", "κύτταρο", "клетка", "naïve – “x”"):
        assert lettering(text) == (text, _fonts.shipped())
    assert lettering("猫") == ("猫", chinese_font)
    assert lettering("u\u0308") == ("ü", _fonts.shipped())  # as some file systems write it


def test_what_no_font_has_is_drawn_as_its_number_and_said_once(only_shipped, caplog):
    with caplog.at_level("WARNING"):
        assert lettering("猫 ü") == ("[732B] ü", _fonts.shipped())
        assert lettering("犬") == ("[72AC]", _fonts.shipped())
    assert lettering("two\nlines\t") == ("two[A]lines[9]", None)
    assert len(caplog.messages) == 1
    assert "Noto Sans CJK" in caplog.text


@pytest.mark.parametrize("names", [("猫", "犬"), ("é", "è"), ("клетка", "кл"), ("a\nb", "b")])
def test_different_names_look_different_wherever_they_are_drawn(names, only_shipped):
    image = grey()
    tags = [pictures.draw_boxes(image, [[50, 50, 300, 200]], [0], [name]) for name in names]
    legends = [pictures.with_legend(pictures.to_rgb(image), {1: name}) for name in names]
    titles = [pictures.side_by_side([image], [name]) for name in names]
    for one, other in (tags, legends, titles):
        assert one.shape != other.shape or (one != other).any()


def test_matplotlib_draws_names_of_any_script_and_formulas_as_they_are(
    tmp_path, only_shipped, recwarn
):
    names = ["猫", "犬", "$\\bad{", "_hidden", "[old]"]
    draw_confusion(np.eye(5, dtype=np.int64), names, tmp_path / "a.png")
    draw_confusion(np.eye(5, dtype=np.int64), [*names[1::-1], *names[2:]], tmp_path / "b.png")
    draw_curves({"train/猫/loss/$\\x{": [(1, 2.0)]}, tmp_path / "c.png")
    assert not np.array_equal(*(np.array(Image.open(tmp_path / f"{n}.png")) for n in "ab"))
    assert [str(warning.message) for warning in recwarn if "lyph" in str(warning.message)] == []


def test_characters_of_every_script_are_told_apart():
    """Matplotlib ships a font that has them all, each script as one box."""
    boxes = np.array([[10.0, 40.0, 120.0, 100.0]])
    image = np.full((120, 200, 3), 90, np.uint8)
    for one, other in ("\u8f66\u4eba", "\u0915\u0916", "\u0d05\u0d06", "\U00013000\U00013001"):
        drawn = [pictures.draw_boxes(image, boxes, [0], [name]) for name in (one, other)]
        assert not np.array_equal(*drawn), (one, other)
