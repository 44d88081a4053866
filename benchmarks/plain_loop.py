"""A training loop as anybody writes it, without devprof: the yardstick of ``fidelity.py``. Prints the median step.

python benchmarks/plain_loop.py MODEL BATCH THREADS WARM_S WINDOW_S
"""

import statistics
import sys
import time

import torch

MODEL, BATCH, THREADS, WARM_S, WINDOW_S = sys.argv[1], *map(float, sys.argv[2:])
torch.set_num_threads(int(THREADS))
torch.manual_seed(0)

if MODEL.startswith("seed:"):
    from devprof.workloads.seeds import SEEDS  # only the network itself is devprof's

    seed = SEEDS[MODEL]
    model, shape, classes = seed.build(seed.input_shape, seed.num_classes), seed.input_shape, seed.num_classes
else:
    from devprof.workloads.compat import ensure_torchvision_operators

    ensure_torchvision_operators()
    import timm

    model, shape, classes = timm.create_model(MODEL), (3, 224, 224), 1000

inputs, targets = torch.randn(int(BATCH), *shape), torch.randint(classes, (int(BATCH),))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
model.train()


def train(seconds: float, at_least: int) -> list[float]:
    """Seconds of each step."""
    times: list[float] = []
    while sum(times) < seconds or len(times) < at_least:
        start = time.perf_counter()
        loss = torch.nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - start)
    return times


train(WARM_S, 5)
print(statistics.median(train(WINDOW_S, 5)))
