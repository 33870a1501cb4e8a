from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from densekit.visualization import fonts
from densekit.visualization.boxes import draw_boxes
from densekit.visualization.confusion import draw_confusion
from densekit.visualization.curves import draw_curves
from densekit.visualization.fonts import choose_font
from densekit.visualization.images import to_rgb
from densekit.visualization.masks import with_legend
from densekit.visualization.panels import side_by_side
from tests.unit.visualization.canvas import grey


@pytest.fixture
def only_shipped(monkeypatch):
    """A machine without further fonts, on which nothing has been said yet."""
    monkeypatch.setattr(fonts, "installed", lambda: ())
    monkeypatch.setattr(fonts, "_warned", set())
    fonts.font_with.cache_clear()
    yield
    fonts.font_with.cache_clear()


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
    monkeypatch.setattr(fonts, "installed", lambda: (path,))
    fonts.font_with.cache_clear()
    yield path
    fonts.font_with.cache_clear()


def test_every_name_is_drawn_with_a_font_that_has_it(chinese_font):
    assert choose_font("cat 0.9") == ("cat 0.9", None)
    for text in ("Müll", "κύτταρο", "клетка", "naïve – “x”"):
        assert choose_font(text) == (text, fonts.shipped())
    assert choose_font("猫") == ("猫", chinese_font)
    assert choose_font("u\u0308") == ("ü", fonts.shipped())  # as some file systems write it


def test_what_no_font_has_is_drawn_as_its_number_and_said_once(only_shipped, caplog):
    with caplog.at_level("WARNING"):
        assert choose_font("猫 ü") == ("[732B] ü", fonts.shipped())
        assert choose_font("犬") == ("[72AC]", fonts.shipped())
    assert choose_font("two\nlines\t") == ("two[A]lines[9]", None)
    assert len(caplog.messages) == 1
    assert "Noto Sans CJK" in caplog.text


@pytest.mark.parametrize("names", [("猫", "犬"), ("é", "è"), ("клетка", "кл"), ("a\nb", "b")])
def test_different_names_look_different_wherever_they_are_drawn(names, only_shipped):
    image = grey()
    tags = [draw_boxes(image, [[50, 50, 300, 200]], [0], [name]) for name in names]
    legends = [with_legend(to_rgb(image), {1: name}) for name in names]
    titles = [side_by_side([image], [name]) for name in names]
    for one, other in (tags, legends, titles):
        assert one.shape != other.shape or (one != other).any()


def test_matplotlib_draws_names_of_any_script_and_formulas_as_they_are(
    tmp_path, only_shipped, recwarn
):
    names = ["猫", "犬", "$\\bad{", "_hidden", "[old]"]
    draw_confusion(np.eye(5, dtype=np.int64), names, tmp_path / "a.png")
    draw_confusion(np.eye(5, dtype=np.int64), [*names[1::-1], *names[2:]], tmp_path / "b.png")
    draw_curves({"loss": {"train/猫/loss/$\\x{": [(1, 2.0)]}}, tmp_path / "c.png")
    assert not np.array_equal(*(np.array(Image.open(tmp_path / f"{n}.png")) for n in "ab"))
    assert [str(warning.message) for warning in recwarn if "lyph" in str(warning.message)] == []


def test_characters_of_every_script_are_told_apart():
    """Matplotlib ships a font that has them all, each script as one box."""
    boxes = np.array([[10.0, 40.0, 120.0, 100.0]])
    image = np.full((120, 200, 3), 90, np.uint8)
    for one, other in ("\u8f66\u4eba", "\u0915\u0916", "\u0d05\u0d06", "\U00013000\U00013001"):
        drawn = [draw_boxes(image, boxes, [0], [name]) for name in (one, other)]
        assert not np.array_equal(*drawn), (one, other)
