"""What runs on the board and changes its speed: the build of torch, the allocator, the system.

torch is not imported: a parent that measures must stay light. Its build is read from the installed files.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
from pathlib import Path, PurePosixPath

from devprof.paths import procfs, read_text

__all__ = ["installed_version", "preloaded_allocator", "software_facts", "torch_build"]

_ALLOCATORS = re.compile(r"(?:jemalloc|tcmalloc|mimalloc|snmalloc|hoard|rpmalloc)", re.IGNORECASE)
# What the measured process inherits and obeys: its allocator's settings, and how OpenMP places its threads, which decides the
# speed of small networks.
_VARIABLES = (
    *("MALLOC_ARENA_MAX", "MALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"),
    *("OMP_PROC_BIND", "OMP_PLACES", "OMP_WAIT_POLICY", "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "KMP_BLOCKTIME"),
)


def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution with its build tag, such as ``2.13.0+cpu``; ``None`` if absent."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def torch_build() -> str | None:
    """Version of the installed torch and a hash of its build, such as ``2.13.0+cpu 1f0c36d5a2b4``; ``None`` without torch.

    The hash is of what the build says of itself (``torch/version.py``, the wheel's tags) and of the checksums of its compiled
    libraries. Two builds of one version differ, and one build is the same in every environment: files that installers add
    or rewrite are not in it.
    """
    try:
        distribution = importlib.metadata.distribution("torch")
    except importlib.metadata.PackageNotFoundError:
        return None
    digest = hashlib.sha256()
    for text in (_version_file(distribution), *_wheel_tags(distribution), *_library_checksums(distribution)):
        digest.update(text.encode() + b"\n")
    return f"{distribution.version} {digest.hexdigest()[:12]}"


def _version_file(distribution: importlib.metadata.Distribution) -> str:
    return read_text(Path(str(distribution.locate_file("torch/version.py")))) or ""


def _wheel_tags(distribution: importlib.metadata.Distribution) -> list[str]:
    lines = (distribution.read_text("WHEEL") or "").splitlines()
    return sorted(line for line in lines if line.startswith(("Tag:", "Build:")))


def _library_checksums(distribution: importlib.metadata.Distribution) -> list[str]:
    lines = (distribution.read_text("RECORD") or "").splitlines()
    return sorted(line for line in lines if re.match(r"torch/[^,]*\.(?:so|dylib|dll|pyd)[.\d]*,", line))


def _build_setting(text: str, name: str) -> str | None:
    match = re.search(rf"^{name}\s*(?::[^=\n]*)?=\s*['\"]([^'\"]*)['\"]", text, re.MULTILINE)
    return match[1] if match else None


def preloaded_allocator() -> str | None:
    """The memory allocator that ``LD_PRELOAD`` puts in the place of the system's; ``None`` without one.

    Measured processes inherit it, and it changes the time of a step and the peak of memory alike.
    """
    return next((name for name in _preloaded() if _ALLOCATORS.search(name)), None)


def _preloaded() -> list[str]:
    """File names only: folders say where somebody keeps things, not what runs."""
    return [PurePosixPath(path).name for path in re.split(r"[:\s]+", os.environ.get("LD_PRELOAD", "")) if path]


def software_facts() -> dict[str, str | None]:
    """Facts of the software; ``None`` for what is not there. The measured process adds what only torch itself knows."""
    facts: dict[str, str | None] = {"torch_build": torch_build()}
    if facts["torch_build"] is not None:
        text = _version_file(importlib.metadata.distribution("torch"))
        facts |= {"torch_git": _build_setting(text, "git_version"), "torch_cuda": _build_setting(text, "cuda")}
    facts["ld_preload"] = ", ".join(_preloaded()) or None
    facts |= {name.lower(): os.environ.get(name) for name in _VARIABLES}
    return facts | {
        "glibc": _glibc(),
        "os": f"{platform.system()} {platform.release()}",
        "boot_id": read_text(procfs("sys", "kernel", "random", "boot_id")),
    }


def _glibc() -> str | None:
    try:
        name = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError, AttributeError):
        # Another C library, or no POSIX system.
        return None
    return name.removeprefix("glibc ") if name else None
