import signal

import pytest

from devprof.measure.outcome import classify_end, is_out_of_memory, oom_kill_count


@pytest.mark.parametrize(
    "text",
    [
        "RuntimeError: [enforce fail at alloc_cpu.cpp:122] DefaultCPUAllocator: can't allocate memory: you tried ...",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "MemoryError",
        "ImportError: libtorch_cpu.so: failed to map segment from shared object",
        "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)",
        "NvMapMemAllocInternalTagged: 1075072515 error 12",
        "OSError: [Errno 12] Cannot allocate memory",
    ],
)
def test_allocators_words_are_known(text):
    assert is_out_of_memory(text)
    assert classify_end(1, f"Traceback\n{text}\n", oom_kills=0)[0] == "oom"


def test_a_kill_counts_as_out_of_memory_only_with_evidence():
    assert classify_end(-signal.SIGKILL, "", oom_kills=1)[0] == "oom"
    assert classify_end(-signal.SIGKILL, "", oom_kills=0)[0] == "killed"
    assert classify_end(-signal.SIGKILL, "", oom_kills=None)[0] == "killed"


def test_a_crash_keeps_the_last_line():
    assert classify_end(-signal.SIGSEGV, "a\nlast words\n\n", oom_kills=0) == ("crashed", "SIGSEGV: last words")
    assert classify_end(3, "", oom_kills=0) == ("crashed", "the process ended with exit code 3: no output")
    assert classify_end(-250, "", oom_kills=0)[1].startswith("signal 250")


def test_the_kernels_count_is_a_number_on_linux():
    count = oom_kill_count()
    assert count is None or count >= 0
