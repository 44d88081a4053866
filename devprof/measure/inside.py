"""In the child: what every measuring child does, whatever it measures."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
from pathlib import Path

from devprof.device.identity import installed_version
from devprof.device.torch_config import parse_parallel_info, parse_torch_config
from devprof.errors import DevprofError
from devprof.measure.outcome import is_out_of_memory
from devprof.measure.protocol import Failed

__all__ = ["FAILURES", "die_with_parent", "failed_by", "software_versions"]

# What the work of a child, which is foreign code, may raise.
FAILURES: tuple[type[Exception], ...] = (
    DevprofError,
    MemoryError,
    ImportError,
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
)
_PR_SET_PDEATHSIG = 1
_LONGEST_REASON = 2000


def die_with_parent() -> None:
    """End when the parent is killed, and be the first whom the kernel kills when memory is out (Linux; prctl(2))."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def failed_by(error: Exception) -> Failed:
    """The failure that an exception of the work is."""
    if isinstance(error, DevprofError):
        # Building a large model can run out of memory, too; the catalogue says so in its own words and the allocator's.
        return Failed("oom" if is_out_of_memory(str(error)) else "error", str(error))
    reason = f"{type(error).__name__}: {error}".strip()
    out_of_memory = isinstance(error, MemoryError) or is_out_of_memory(reason)
    return Failed("oom" if out_of_memory else "error", " ".join(reason.split())[:_LONGEST_REASON])


def software_versions() -> dict[str, str]:
    """Versions and build facts of what runs here."""
    import torch

    names = ("torch", "torchvision", "timm", "numpy")
    found = {name: version for name in names if (version := installed_version(name))}
    found["python"] = ".".join(str(part) for part in sys.version_info[:3])
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    config = torch.__config__
    return found | parse_torch_config(config.show()) | parse_parallel_info(config.parallel_info())
