"""A calibration's child that needs no torch: a model has three operators per batch size, and names say what goes wrong."""

import os
import signal
import sys
import time

from devprof.measure.calibration import (
    Begun,
    OperatorCall,
    Prepared,
    Timed,
    Traced,
    TraceRequest,
    decode_message,
    encode_message,
)
from devprof.measure.protocol import Failed


def send(event):
    os.write(int(sys.argv[1]), (encode_message(event) + "\n").encode())


def trace(model, batch_sizes):
    if model.endswith("slow"):
        time.sleep(60)
    if model.endswith("bad"):
        return Traced(model, (), "it cannot be traced")
    names = [f"{model} {size} {number}" for size in batch_sizes for number in range(3)]
    return Traced(model, tuple(OperatorCall(name, "conv", 2.0, 3.0) for name in names))


def time_operator(index, name):
    send(Begun(index))
    if "killed" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "crashed" in name:
        print("the library gave up")
        sys.exit(3)
    if "interrupted" in name:
        os.kill(os.getppid(), signal.SIGINT)
    if "hangs" in name or "interrupted" in name:
        time.sleep(60)
    send(Timed(index, "error", "too odd") if "odd" in name else Timed(index, "ok", None, 0.5, 0.75, 1.0, 3))
    if "last words" in name:
        send(Failed("error", "the accelerator is lost"))
        sys.exit()


request = decode_message(sys.stdin.read())
if isinstance(request, TraceRequest):
    for wanted in request.models:
        send(trace(wanted, request.batch_sizes))
else:
    if request.operators[0].signature == "unable":
        send(Failed("error", "no such accelerator"))
        sys.exit()
    send(Prepared({"torch": "stub"}))
    for position, operator in enumerate(request.operators):
        time_operator(position, operator.signature)
