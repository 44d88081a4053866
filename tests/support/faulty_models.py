"""Models that misbehave, for tests of what becomes of them: each a factory for ``module:factory`` names."""

import gc
import os
import signal
import sys
import time

import torch
from torch import nn


class _Small(nn.Module):
    input_shape = (4,)
    num_classes = 3

    def __init__(self, on_step=None, at=0):
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.on_step, self.at, self.steps = on_step, at, 0

    def forward(self, inputs):
        self.steps += 1
        if self.on_step is not None and self.steps > self.at:
            self.on_step()
        return self.head(inputs)


def good():
    return _Small()


def noisy():
    print('{"event": "finished", "step_ns": "not from the harness"}', flush=True)
    return _Small()


def hangs():
    return _Small(lambda: time.sleep(3600))


def segfaults():
    return _Small(lambda: os.kill(os.getpid(), signal.SIGSEGV), at=3)


def killed():
    return _Small(lambda: os.kill(os.getpid(), signal.SIGKILL), at=3)


def exits():
    return _Small(lambda: os._exit(7))


def too_big():
    return _Small(lambda: torch.empty(1 << 50))


def wrong_shape():
    model = _Small()
    model.input_shape = (5,)
    return model


def not_a_module():
    return object()


def takes_over_the_process():
    """Library code that changes what the whole process has: threads, grad mode, default type, folder, signals, collector."""
    torch.set_num_threads(3)
    torch.set_default_dtype(torch.float64)
    model = _Small()
    torch.set_default_dtype(torch.float32)
    os.chdir("/")
    gc.disable()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdout.close()
    return model.float()


def tegra_out_of_memory():
    def fail():
        raise RuntimeError("NVML_SUCCESS == r INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp, please report a bug")

    return _Small(fail)
