"""What work costs on a device, in the units in which hardware is compared: GMAC/s, GB/s, microseconds per operator."""

from __future__ import annotations

from collections.abc import Sequence

from devprof.costmodel.operators import PRODUCTS
from devprof.costmodel.summary import Coefficient

__all__ = ["RATE_HEADINGS", "format_rate", "rate_rows"]

RATE_HEADINGS: tuple[tuple[str, bool], ...] = (
    *(("work", False), ("forward", True), ("backward", True), ("of a full step", True), ("of a head-only step", True)),
)
_ELEMENT_BYTES = 4
_LEAST_SHARE = 0.01
_PHASES = ("forward", "backward")
_WORDS = {
    "conv": "convolution k x k",
    "conv_1x1": "convolution 1 x 1",
    "conv_depthwise": "convolution, depthwise",
    "conv_grouped": "convolution, grouped",
    "matmul": "matrix product",
    "attention": "attention",
    "norm": "normalisation",
    "elementwise": "elementwise",
    "transcendental": "exp, tanh and the like",
    "pooling": "pooling",
    "moved": "copies",
    "operators": "starting operators",
    "trainable_tensors": "optimizer, per tensor",
    "trainable_parameters": "optimizer, per parameter",
    "parameters": "all parameters",
    "mapped_bytes": "memory found anew",
    "samples": "each sample",
    "step": "each step",
}


def format_rate(seconds_per_unit: float, unit: str) -> str:
    """A cost as a rate where hardware has one, else as a time.

    Args:
        seconds_per_unit: Seconds for one unit, at least 0.
        unit: As in :class:`devprof.costmodel.summary.Coefficient`.
    """
    if unit == "multiply-accumulate":
        return "–" if seconds_per_unit == 0 else f"{_digits(1e-9 / seconds_per_unit)} GMAC/s"
    if unit in ("element", "byte"):
        size = _ELEMENT_BYTES if unit == "element" else 1
        return "–" if seconds_per_unit == 0 else f"{_digits(1e-9 * size / seconds_per_unit)} GB/s"
    if unit == "parameter":
        return f"{_digits(1e9 * seconds_per_unit)} ms per million"
    if seconds_per_unit >= 1e-3:
        return f"{_digits(1e3 * seconds_per_unit)} ms"
    return f"{_digits(1e6 * seconds_per_unit)} µs"


def _digits(value: float) -> str:
    """Three significant digits without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 1e-3 else f"{value:.1g}"


def rate_rows(own: Sequence[Coefficient]) -> list[tuple[str, ...]]:
    """The costs of one device as texts, one for each of :data:`RATE_HEADINGS`, what explains most of a step first.

    Work that explains less than 1 % of a step in every mode is left out.
    """
    costs: dict[str, dict[str, Coefficient]] = {}
    shares: dict[str, dict[str, float]] = {}
    for one in own:
        phase, _, rest = one.name.partition("_")
        name = rest if phase in _PHASES else one.name
        costs.setdefault(name, {})[phase if phase in _PHASES else "once"] = one
        mine = shares.setdefault(name, {})
        mine[one.mode] = mine.get(one.mode, 0.0) + one.share
    order = sorted(costs, key=lambda name: -max(shares[name].values()))
    return [
        (_words(name), *_cells(costs[name]), *(_share(shares[name], mode) for mode in ("full", "head")))
        for name in order
        if max(shares[name].values()) >= _LEAST_SHARE
    ]


def _cells(costs: dict[str, Coefficient]) -> tuple[str, str]:
    """Forward and backward; what is paid once a step has no phase."""
    if "once" in costs:
        one = costs["once"]
        return format_rate(one.seconds_per_unit, one.unit), ""
    forward, backward = (
        format_rate(costs[phase].seconds_per_unit, costs[phase].unit) if phase in costs else "–" for phase in _PHASES
    )
    return forward, backward


def _words(name: str) -> str:
    stem, _, kind = name.rpartition("_")
    if kind == "macs":
        return f"{_WORDS.get(stem, stem)}, products"
    if kind == "elements":
        return f"{_WORDS.get(stem, stem)}, memory" if stem in PRODUCTS else _WORDS.get(stem, stem)
    return _WORDS.get(name, name.replace("_", " "))


def _share(shares: dict[str, float], mode: str) -> str:
    return f"{100 * shares[mode]:.0f} %" if mode in shares else "–"
