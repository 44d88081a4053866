"""The model table: parameters and published ImageNet accuracy of the models in the suites, each figure with its source.

Standard library only; imports nothing of devprof. The table is the file ``models.toml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from datasets_meta.files import read_table

__all__ = ["MODEL_TABLE_FILE", "ModelMeta", "load_model_table"]

MODEL_TABLE_FILE = "models.toml"


@dataclass(frozen=True, slots=True)
class ModelMeta:
    """What is published about a model.

    Attributes:
        name: Its name, as ``devprof measure`` takes it.
        family: The architecture, for people.
        parameters: Their number with 1000 classes.
        parameters_source: Where that number is from.
        top1: ImageNet-1k top-1 accuracy in percent; ``None`` where no figure is certain for this very model.
        top1_source: Where that figure is from.
        top1_image_size: Height and width at which it was reached; other sizes give other figures.
    """

    name: str
    family: str
    parameters: int
    parameters_source: str
    top1: float | None = None
    top1_source: str | None = None
    top1_image_size: int | None = None


def load_model_table() -> Mapping[str, ModelMeta]:
    """All models by name, in the table's order.

    Raises:
        KeyError: If the table names a source that it does not describe.
    """
    table = read_table(MODEL_TABLE_FILE)
    sources, image_size = table["sources"], table["top1_image_size"]
    models: dict[str, ModelMeta] = {}
    for name, row in table["models"].items():
        top1 = row.get("top1")
        models[name] = ModelMeta(
            name=name,
            family=row["family"],
            parameters=row["parameters"],
            parameters_source=sources[row.get("parameters_source", "counted")],
            top1=top1,
            top1_source=None if top1 is None else sources[row["source"]].format(**row),
            top1_image_size=None if top1 is None else row.get("top1_image_size", image_size),
        )
    return MappingProxyType(models)
