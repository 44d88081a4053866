"""A measuring child whose steps are naps: all that a meter needs of a child, without torch. ``python timed_stub.py REQUEST FD``."""

import os
import sys
import time

from devprof.measure.protocol import Finished, MemoryPeaks, Ready, Request, WindowCounts, encode
from devprof.measure.spans import Spans
from devprof.measure.timing import Timer


def main(request, descriptor):
    with os.fdopen(descriptor, "w", encoding="utf-8", buffering=1) as pipe:

        def send(event):
            pipe.write(encode(event) + "\n")

        send(
            Ready(
                startup_s=0.1,
                rss_baseline_bytes=None,
                rss_model_bytes=None,
                rss_optimizer_bytes=None,
                rss_build_peak_bytes=None,
                pss_start_bytes=None,
                parameters=1,
                trainable_parameters=1,
                image_size=None,
                num_classes=None,
                interop_threads=1,
                affinity=[0],
                versions={},
            )
        )
        spans = Spans(send, sys.stdin.fileno() if request.metered else None)
        spans.idle("idle-before", request.idle_s)
        timer = Timer(
            lambda: None,
            min_time_s=request.min_time_s,
            min_steps=request.min_steps,
            stop_ns=time.perf_counter_ns() + round(request.stop_after_s * 1e9),
            max_window_s=request.max_window_s,
        )
        with spans.span("window"):
            steps = timer.measure(lambda: time.sleep(0.005), lambda: spans.enough("window"))
        spans.idle("idle-after", request.idle_s)
        memory, counts = MemoryPeaks(reset=True), WindowCounts()
        send(Finished(steps[:1], steps, [], False, False, memory, counts, spans=spans.finish()))


if __name__ == "__main__":
    main(Request.from_json(sys.argv[1]), int(sys.argv[2]))
