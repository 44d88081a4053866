"""Architecture families and kinds of models, read from their names."""

from __future__ import annotations

import re

__all__ = ["model_family", "model_kind"]

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
