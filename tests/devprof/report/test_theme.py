from __future__ import annotations

import itertools

import numpy as np
import pytest

from devprof.report import theme

# Machado, Oliveira and Fernandes (2009), severity 1.
SIGHT = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def linear(colour):
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(rgb, 0, 1)
    f = xyz / np.array([0.9505, 1, 1.089])
    f = np.where(f > 0.008856, np.cbrt(f), 7.787 * f + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(a, b):
    light, dark = sorted((float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (a, b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("sight", SIGHT)
def test_first_five_strategies_stay_apart_for_every_kind_of_sight(sight):
    seen = [lab(SIGHT[sight] @ linear(colour)) for colour in theme.STRATEGY_COLOURS[:5]]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 13


@pytest.mark.parametrize("colour", [*theme.STRATEGY_COLOURS, theme.INK, theme.MUTED, theme.FAILED])
def test_colours_that_carry_text_are_readable_on_light_and_dark_paper(colour):
    assert contrast(colour, theme.PAPER) >= 3
    assert contrast(theme.DARK[colour], theme.DARK[theme.PAPER]) >= 4.5


def test_strategy_colours_are_fixed_by_position():
    assert theme.strategy_colours(["a", "b"]) == list(theme.STRATEGY_COLOURS[:2])
    assert theme.strategy_colours("abcdefghi")[8] == theme.STRATEGY_COLOURS[0]


@pytest.mark.parametrize("count", [1, 2, 8, 11])
def test_batch_colours_cover_any_number_of_sizes(count):
    colours = theme.batch_colours(count)
    assert len(colours) == count
    assert len(set(colours)) == min(count, 8)


def test_spec_has_the_shared_theme_whatever_the_caller_enabled():
    class Drawn:
        def to_dict(self):
            return {"mark": "point", "config": {"background": "pink"}}

    spec = theme.to_spec(Drawn(), width=500, title="T", subtitle="S")
    assert spec["config"] == theme.vega_config()
    assert (spec["width"], spec["title"]) == (500, {"text": "T", "subtitle": "S"})
    assert theme.to_spec(Drawn())["width"] == "container"
