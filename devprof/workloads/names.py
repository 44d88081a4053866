"""How a model is named, and whether a name means something: without building the model.

The parent of a sweep must stay small, so it never imports torch. Names of seeds are known here; everything else is asked of
a child process, ``python -m devprof.workloads.names NAME...``, which imports timm or torchvision and prints JSON.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence

from devprof.errors import MissingExtraError, UnknownNameError, WorkloadError

__all__ = [
    "CHAINS",
    "DATA_SOURCES",
    "DEFAULT_CLASSES",
    "DEFAULT_IMAGE_SIZE",
    "FASTERVIT_NAMES",
    "OPTIMIZERS",
    "SEED_NAMES",
    "check_names",
    "require_known",
    "split_name",
]

# The synthetic networks of a calibration, see :mod:`devprof.workloads.chains`.
CHAINS = tuple(
    f"devprof.workloads.chains:{name}" for name in ("narrow", "convolutions", "bottlenecks", "tokens", "wide")
)
SEED_NAMES = ("seed:cnn", "seed:lstm", "seed:mlp", "seed:net")

# The models that the package documents; it gives no dependable way to list them.
FASTERVIT_NAMES = tuple(f"fastervit:faster_vit_{size}_224" for size in range(7))

DATA_SOURCES = ("memory", "jpeg", "own")
OPTIMIZERS = ("sgd", "adam")

# Of models that have no input or number of classes of their own.
DEFAULT_IMAGE_SIZE = 224
DEFAULT_CLASSES = 1000

_SOURCES = ("seed", "torchvision", "fastervit")


def split_name(name: str) -> tuple[str, str]:
    """The source of a model (``timm``, ``seed``, ``torchvision``, ``fastervit`` or ``factory``) and its name there."""
    prefix, colon, rest = name.partition(":")
    if not colon:
        return "timm", name
    if prefix in _SOURCES:
        return prefix, rest
    return "factory", name


def require_known(name: str) -> None:
    """Raise unless a model of this name can be built here; imports what it needs to know that.

    Raises:
        UnknownNameError: If there is no such model; carries the closest names.
        MissingExtraError: If the package that would know is not installed.
        WorkloadError: If a factory's module cannot be imported.
    """
    source = split_name(name)[0]
    if source == "factory":
        _require_factory(name)
        return
    candidates = _known_names(source)
    if name not in candidates:
        # A mistyped prefix-less seed ("cnn") should find the seed, too.
        hint = "Models are timm names, torchvision:NAME, seed:NAME or module:factory."
        raise UnknownNameError("model", name, [*candidates, *SEED_NAMES] if source == "timm" else candidates, hint)


def _known_names(source: str) -> Sequence[str]:
    """All names of a source, in full."""
    if source == "seed":
        return SEED_NAMES
    if source == "fastervit":
        if importlib.util.find_spec("fastervit") is None:
            raise WorkloadError("models named fastervit:NAME need the package: pip install fastervit")
        return FASTERVIT_NAMES
    from devprof.workloads.compat import ensure_torchvision_operators

    try:
        ensure_torchvision_operators()
        if source == "timm":
            import timm

            return list(timm.list_models())
        from torchvision import models

        return [f"torchvision:{name}" for name in models.list_models(module=models)]
    except ImportError as error:
        raise MissingExtraError("train", error.name or "torch", f"the model source {source!r}") from error


def _require_factory(name: str) -> None:
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise WorkloadError(
            f"the module {module_name!r} of the model {name!r} cannot be imported ({error}); "
            "is its folder on PYTHONPATH? Known prefixes are seed:, torchvision: and fastervit:"
        ) from error
    if not callable(getattr(module, attribute, None)):
        raise UnknownNameError("factory", name, [f"{module_name}:{entry}" for entry in dir(module)])


def check_names(names: Sequence[str]) -> dict[str, str]:
    """Names that mean nothing here, each with the reason; asks a child process about all but the seeds.

    Args:
        names: Model names as the user gave them.

    Returns:
        Reason by unknown name; empty if all are known.
    """
    bad: dict[str, str] = {}
    to_ask: list[str] = []
    for name in dict.fromkeys(names):
        if split_name(name)[0] == "seed":
            try:
                require_known(name)
            except UnknownNameError as error:
                bad[name] = str(error)
        else:
            to_ask.append(name)
    if to_ask:
        child = subprocess.run([sys.executable, "-m", __name__, *to_ask], capture_output=True, text=True, check=False)
        try:
            bad |= json.loads(child.stdout.splitlines()[-1])
        except (IndexError, ValueError) as error:
            last = child.stderr.strip().splitlines()[-1:] or ["no output"]
            raise WorkloadError(f"the model names could not be checked: {last[0]}") from error
    return bad


def _main(names: Sequence[str]) -> None:
    bad: dict[str, str] = {}
    for name in names:
        try:
            require_known(name)
        except (UnknownNameError, MissingExtraError, WorkloadError) as error:
            bad[name] = str(error)
    sys.stdout.write("\n" + json.dumps(bad) + "\n")


if __name__ == "__main__":
    _main(sys.argv[1:])
