"""Series can be told apart in every plot, by those who see fewer colours too, on light and on dark pages."""

from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest

from reporting.style import PALETTE, Look, as_svg, drawing, legend_below, looks, shown_name

# What is left of linear RGB with each kind of full colour blindness (Machado et al., IEEE TVCG 2009).
SEEN = {
    "all colours": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    value = XYZ @ rgb.clip(0, 1) / XYZ.sum(1)
    x, y, z = np.where(value > 0.008856, np.cbrt(value), 7.787 * value + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("kind", SEEN)
def test_colours_differ_for_everyone(kind):
    seen = [lab(np.array(SEEN[kind]) @ linear(colour)) for colour in PALETTE]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 14


@pytest.mark.parametrize("ground", ["#ffffff", "#12161b"])
def test_colours_stand_out_from_the_page(ground):
    below = XYZ[1] @ linear(ground)
    for colour in PALETTE:
        dark, light = sorted([below, XYZ[1] @ linear(colour)])
        assert (light + 0.05) / (dark + 0.05) >= 3


def test_forty_series_look_different():
    drawn = [(look.colour, look.marker) for look in map(Look.of, range(42))]
    assert len(set(drawn)) == 42
    assert len({look.dashes for look in map(Look.of, range(24))}) == 4


def draw(names: list[str]) -> str:
    with drawing() as plt:
        figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
        for number, (name, look) in enumerate(looks(names).items()):
            axis.plot([0, 1], [number, number + 1], label=shown_name(name), **look.line)
        legend_below(figure, [axis])
        return as_svg(figure)


def test_names_of_any_kind_become_text_of_valid_svg():
    names = ["_hidden", "$x_1$", "<b>&amp;", "日本語", "a\x01b\n c", "x" * 90]
    svg = ElementTree.fromstring(draw(names))
    found = {element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {shown_name(name) for name in names} <= found
    assert shown_name("a\x01b\n c") == "a\ufffdb c"
    assert len(shown_name("x" * 90)) == 40


def test_a_long_legend_hides_no_curve():
    few, many = (ElementTree.fromstring(draw([f"sampler {number}" for number in range(count)])) for count in (1, 30))
    few, many = (float(svg.attrib["height"].removesuffix("pt")) for svg in (few, many))
    assert many > few + 80


def test_the_same_figure_gives_the_same_bytes():
    assert draw(["a"]) == draw(["a"])
