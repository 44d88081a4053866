"""What a training step of a model consists of, in numbers that do not depend on a device. No torch here.

A :class:`Features` counts the work of one step by operator family. Each count has a part that grows with the batch
and a part that every step pays, so that the work of any batch size follows: ``work(B) = B * per_sample + constant``.
The time of a step on a device is then a non-negative sum over these counts (see :mod:`devprof.costmodel.base`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from devprof.errors import CostModelError

__all__ = ["FAMILIES", "FEATURES_VERSION", "Features", "Tracer", "model_family", "model_kind"]

# History: 1 = the first form.
FEATURES_VERSION = 1

# Multiply-accumulates for the first six, elements read plus written for the others.
FAMILIES: tuple[str, ...] = (
    "conv_macs",  # kernel larger than 1, all channels connected
    "conv_1x1_macs",
    "conv_depthwise_macs",
    "conv_grouped_macs",
    "matmul_macs",
    "attention_macs",  # batched products and fused attention
    "product_elements",  # operands and results of the six above: what a product with few channels waits for
    "norm_elements",
    "elementwise_elements",
    "transcendental_elements",  # exp, tanh, erf and the like: many instructions per element
    "pooling_elements",
    "moved_elements",  # copies, concatenation, gather, padding, rolling; views are free
)

_SCALARS = (
    "parameters",
    "trainable_parameters",
    "operators",
    "saved_per_sample_bytes",
    "saved_constant_bytes",
    "largest_per_sample_bytes",
    "largest_constant_bytes",
)


@dataclass(frozen=True, slots=True)
class Features:
    """The work of one training step: forward pass, loss and backward pass.

    Attributes:
        per_sample: Work per sample, one number for each of :data:`FAMILIES`.
        constant: Work per step whatever the batch size, in the same order.
        parameters: Number of parameters.
        trainable_parameters: Number of parameters that the optimizer changes.
        operators: Operators started per step that do something (views do not).
        saved_per_sample_bytes: Activations kept for the backward pass, per sample; each storage counted once, no
            parameters.
        saved_constant_bytes: The same, per step whatever the batch size.
        largest_per_sample_bytes: Largest single result of an operator, per sample.
        largest_constant_bytes: The same, per step whatever the batch size.

    Raises:
        ValueError: If a number is negative or not finite, or the families are not all there.
    """

    per_sample: tuple[float, ...]
    constant: tuple[float, ...]
    parameters: float
    trainable_parameters: float
    operators: float
    saved_per_sample_bytes: float = 0.0
    saved_constant_bytes: float = 0.0
    largest_per_sample_bytes: float = 0.0
    largest_constant_bytes: float = 0.0

    def __post_init__(self) -> None:
        if len(self.per_sample) != len(FAMILIES) or len(self.constant) != len(FAMILIES):
            raise ValueError(f"features need one number for each of the {len(FAMILIES)} operator families")
        numbers = (*self.per_sample, *self.constant, *(getattr(self, name) for name in _SCALARS))
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise ValueError(f"features must be finite and not negative, got {self}")

    def to_dict(self) -> dict[str, Any]:
        """The features as plain JSON types, with their version."""
        return {
            "features_version": FEATURES_VERSION,
            "per_sample": dict(zip(FAMILIES, self.per_sample, strict=True)),
            "constant": dict(zip(FAMILIES, self.constant, strict=True)),
            **{name: float(getattr(self, name)) for name in _SCALARS},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Features:
        """The features that :meth:`to_dict` wrote.

        Raises:
            CostModelError: If the dictionary has another version or lacks something.
        """
        version = data.get("features_version")
        if version != FEATURES_VERSION:
            raise CostModelError(
                f"these features have version {version!r}, this devprof reads version {FEATURES_VERSION}: "
                "trace the model again"
            )
        try:
            return cls(
                per_sample=tuple(float(data["per_sample"][family]) for family in FAMILIES),
                constant=tuple(float(data["constant"][family]) for family in FAMILIES),
                **{name: float(data[name]) for name in _SCALARS},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CostModelError(f"these features are damaged ({error!r}): trace the model again") from error


class Tracer(Protocol):
    """Finds out what a training step of a named model consists of, without running it on a device."""

    def __call__(self, model: str, mode: str, image_size: int | None, num_classes: int | None) -> Features:
        """The features of one configuration.

        Args:
            model: Name of the model, as in :class:`devprof.records.Workload`.
            mode: ``full`` or ``head``.
            image_size: Height and width of the input in pixels; ``None`` for the model's own.
            num_classes: Outputs of the classifier; ``None`` for the model's own.

        Raises:
            DevprofError: If the model is unknown or cannot be traced.
        """
        ...


# Decorations that name a source of weights, a port or a variation, not another architecture.
_PREFIXES = re.compile(r"^(?:tf|tv|gluon|ig|ssl|swsl|legacy|jx|dm|hf|nf|ens|adv|eca|wide)_")
# Names that the rule "leading letters" would tear apart or throw together: (pattern, family), first match wins.
_FAMILY_RULES = tuple(
    (re.compile(pattern), family)
    for pattern, family in (
        # DeiT and BEiT are a ViT trained in another way: to leave out one is to leave out all.
        (r"(?:vit|deit3?|beit(?:v2)?)(?:_|\d|$)", "vit"),
        (r"mobilenet_?v(\d)", r"mobilenetv\1"),
        (r"mobilevit_?v2", "mobilevitv2"),
        (r"efficientnet_?v2", "efficientnetv2"),
        (r"(swin|convnext|resnet|shufflenet|efficientformer|inception)_?v\d", r"\1"),
        (r"regnet", "regnet"),
        (r"(?:se|eca|sk|gc)?resnext", "resnext"),
        (r"(?:se|eca|sk|gc)?resnet(?:blur|rs|aa|v2)?(?![a-z])", "resnet"),
        (r"cs3?(?:se_?)?(?=darknet|edgenet)", "csp"),
    )
)
_LETTERS = re.compile(r"[a-z]+")


_IMAGE_SOURCES = ("", "torchvision", "fastervit")


def model_kind(name: str) -> str:
    """``image`` for the image models of all catalogues; any other model is a kind by itself, named by its own name.

    Models of one kind take the same inputs and are of comparable size.
    """
    return "image" if name.rpartition(":")[0] in _IMAGE_SOURCES else name


def model_family(name: str) -> str:
    """The architecture family of a model: models of one family share their building blocks.

    Leave-one-family-out needs it, because a sibling in the fit makes an error look smaller than for a model that is
    really new. Examples: ``resnet18`` and ``torchvision:resnet50`` are ``resnet``, ``mobilenetv3_small_100`` is
    ``mobilenetv3``, ``deit_tiny_patch16_224`` is ``vit``; a seed model or a factory of the user is a family of its
    own.
    """
    if model_kind(name) != "image":
        return name
    base = name.rpartition(":")[2].lower().partition(".")[0]
    while (stripped := _PREFIXES.sub("", base)) != base:
        base = stripped
    for pattern, family in _FAMILY_RULES:
        match = pattern.match(base)
        if match is not None:
            return match.expand(family)
    match = _LETTERS.match(base)
    return match[0] if match is not None else name
