from hypothesis import given
from hypothesis import strategies as st

from devprof.device.torch_config import parse_parallel_info, parse_torch_config

X86 = """PyTorch built with:
  - GCC 13.3
  - C++ Version: 202002
  - Intel(R) oneAPI Math Kernel Library Version 2024.2-Product Build 20240605 for Intel(R) 64 architecture applications
  - Intel(R) MKL-DNN v3.12.0 (Git Hash 80afa71)
  - OpenMP 201511 (a.k.a. OpenMP 4.5)
  - LAPACK is enabled (usually provided by MKL)
  - CPU capability usage: AVX512
  - Build settings: BLAS_INFO=mkl, BUILD_TYPE=Release, CXX_FLAGS= -O2 -Wall, LAPACK_INFO=mkl, USE_CUDA=0,
"""
JETSON = """PyTorch built with:
  - GCC 11.4
  - OpenMP 201511 (a.k.a. OpenMP 4.5)
  - NNPACK is enabled
  - CPU capability usage: NO AVX
  - CUDA Runtime 12.6
  - CuDNN 90.3
  - Build settings: BLAS_INFO=open, LAPACK_INFO=open, USE_CUDA=ON,
"""
PARALLEL = """ATen/Parallel:
\tat::get_num_threads() : 2
\tat::get_num_interop_threads() : 4
OpenMP 201511 (a.k.a. OpenMP 4.5)
\tomp_get_max_threads() : 3
std::thread::hardware_concurrency() : 8
Environment variables:
\tOMP_NUM_THREADS : [not set]
ATen parallel backend: OpenMP
"""


def without_hash(facts):
    return {name: fact for name, fact in facts.items() if name != "torch_config"}


def test_the_libraries_of_an_x86_build():
    assert without_hash(parse_torch_config(X86)) == {
        "compiler": "GCC 13.3",
        "blas": "mkl",
        "lapack": "mkl",
        "mkl": "2024.2-Product",
        "mkldnn": "3.12.0",
        "openmp": "201511",
        "cpu_capability": "AVX512",
    }


def test_the_libraries_of_a_jetson_build():
    assert without_hash(parse_torch_config(JETSON)) == {
        "compiler": "GCC 11.4",
        "blas": "open",
        "lapack": "open",
        "openmp": "201511",
        "cpu_capability": "NO AVX",
        "cuda_runtime": "12.6",
        "cudnn": "90.3",
    }


def test_two_texts_have_two_hashes():
    first, second = parse_torch_config(X86), parse_torch_config(X86 + " ")
    assert first["torch_config"] != second["torch_config"]
    assert len(first["torch_config"]) == 12


def test_threads_and_backend():
    assert parse_parallel_info(PARALLEL) == {
        "parallel_backend": "OpenMP",
        "parallel_threads": "2",
        "parallel_interop_threads": "4",
        "omp_max_threads": "3",
        "hardware_concurrency": "8",
    }


def test_the_installed_torch_is_understood():
    import torch

    config = parse_torch_config(torch.__config__.show())
    assert {"blas", "openmp", "cpu_capability"} <= set(config)
    assert parse_parallel_info(torch.__config__.parallel_info())["parallel_threads"] == str(torch.get_num_threads())


pieces = st.sampled_from([*X86.split(), *PARALLEL.split(), "\n", " - ", ": "]) | st.text(max_size=5)


@given(st.text() | st.lists(pieces).map(" ".join))
def test_no_text_makes_the_parsers_raise(text):
    for facts in (parse_torch_config(text), parse_parallel_info(text)):
        assert all(isinstance(fact, str) and fact for fact in facts.values())
