"""A measuring child that trains nothing: it delivers a plausible result at once. ``startup.py`` measures the parent with it."""

import dataclasses
import os
import sys

from devprof.measure.protocol import Finished, MemoryPeaks, Ready, Request, WindowCounts, encode

request = Request.from_json(sys.argv[1])
steps = [5_000_000 + 1000 * (index * 7919 % 101) for index in range(2000)]
ready = Ready(
    startup_s=2.0,
    rss_baseline_bytes=220_000_000,
    rss_model_bytes=230_000_000,
    rss_optimizer_bytes=240_000_000,
    rss_build_peak_bytes=250_000_000,
    pss_start_bytes=200_000_000,
    parameters=1000,
    trainable_parameters=1000,
    image_size=None,
    num_classes=10,
    interop_threads=1,
    affinity=[0],
    versions={"torch": "stub"},
)
finished = Finished(
    warmup_ns=steps[:600],
    step_ns=steps,
    phase_ns=[[1, 2, 3, 4]] * 10,
    warmup_capped=False,
    threads_changed=False,
    memory=MemoryPeaks(True, 260_000_000, 270_000_000 + request.workload.batch_size),
    window=dataclasses.replace(WindowCounts(), other_cpu_share=0.0),
)
os.write(int(sys.argv[2]), f"{encode(ready)}\n{encode(finished)}\n".encode())
