"""What torch says of its own build, from the texts of ``torch.__config__``; torch itself is not imported here.

The texts are made for people and change from release to release: what is not found is absent, and nothing raises.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

__all__ = ["parse_parallel_info", "parse_torch_config"]

_CONFIG = {
    "compiler": r"^\s*-\s*((?:GCC|clang|MSVC) \S+)",
    "blas": r"\bBLAS_INFO=([^,\s]+)",
    "lapack": r"\bLAPACK_INFO=([^,\s]+)",
    "mkl": r"Math Kernel Library Version (\S+)",
    "mkldnn": r"MKL-DNN v(\S+)",
    "openmp": r"^\s*-\s*OpenMP (\d+)",
    "cpu_capability": r"^\s*-\s*CPU capability usage: *(\S.*?)\s*$",
    "cuda_runtime": r"^\s*-\s*CUDA Runtime (\S+)",
    "cudnn": r"^\s*-\s*CuDNN (\S+)",
}
_PARALLEL = {
    "parallel_backend": r"^\s*ATen parallel backend: *(\S.*?)\s*$",
    "parallel_threads": r"at::get_num_threads\(\)\s*: *(\d+)",
    "parallel_interop_threads": r"at::get_num_interop_threads\(\)\s*: *(\d+)",
    "omp_max_threads": r"omp_get_max_threads\(\)\s*: *(\d+)",
    "mkl_max_threads": r"mkl_get_max_threads\(\)\s*: *(\d+)",
    "hardware_concurrency": r"hardware_concurrency\(\)\s*: *(\d+)",
}


def parse_torch_config(text: str) -> dict[str, str]:
    """Facts in what ``torch.__config__.show()`` returns.

    Returns:
        ``torch_config``, a hash of the whole text, and of the following what it names: ``compiler``, ``blas``, ``lapack``,
        ``mkl``, ``mkldnn``, ``openmp`` (date of the standard), ``cpu_capability``, ``cuda_runtime``, ``cudnn``.
    """
    digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:12]
    return {"torch_config": digest, **_found(_CONFIG, text)}


def parse_parallel_info(text: str) -> dict[str, str]:
    """Facts in what ``torch.__config__.parallel_info()`` returns.

    Returns:
        Of the following what it names: ``parallel_backend``, ``parallel_threads``, ``parallel_interop_threads``,
        ``omp_max_threads``, ``mkl_max_threads``, ``hardware_concurrency``.
    """
    return _found(_PARALLEL, text)


def _found(patterns: Mapping[str, str], text: str) -> dict[str, str]:
    matches = {name: re.search(pattern, text, re.MULTILINE | re.ASCII) for name, pattern in patterns.items()}
    return {name: match[1] for name, match in matches.items() if match}
