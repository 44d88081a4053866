"""Fleets, tables of step times and settings for tests of the planner; nothing here is measured."""

from hypothesis import strategies as st

from devprof.plan.settings import ClientState, PlannerSettings
from devprof.records import Estimate, Link

LINK = Link(up_mbps=80.0, down_mbps=80.0)
SURE = {"step_noise": 0.0}


class Table:
    """Affine step times by device: (constant, per sample); upper bounds of time and energy are ``spread`` times the centre."""

    def __init__(self, lines, spread=1.0, memory_per_sample=None, power_w=None):
        self.lines = lines
        self.spread = spread
        self.memory_per_sample = memory_per_sample
        self.power_w = power_w or {}
        self.asked = []

    def estimate(self, device, batch_size):
        self.asked.append((device, batch_size))
        if device not in self.lines:
            return None
        constant_s, per_sample_s = self.lines[device]
        step_s = constant_s + per_sample_s * batch_size
        memory = None if self.memory_per_sample is None else float(self.memory_per_sample * batch_size)
        energy = None if device not in self.power_w else self.power_w[device] * step_s
        return Estimate(
            step_s,
            step_s / self.spread,
            step_s * self.spread,
            "known-pair",
            memory_hi_bytes=memory,
            energy_per_step_j=energy,
            energy_per_step_j_hi=None if energy is None else energy * self.spread,
        )


def client(name, device="fast", samples=160, **more):
    return ClientState(
        **({"client": name, "device": device, "processor": "cpu", "samples": samples, "link": LINK} | more)
    )


def fleet(fast, slow):
    return [client(f"f{i}") for i in range(fast)] + [client(f"s{i}", "slow") for i in range(slow)]


SPEEDS = Table({"fast": (0.1, 0.0), "slow": (0.5, 0.0)})


LINES = {"a": (0.2, 0.01), "b": (0.01, 0.05), "c": (1.0, 0.2)}


@st.composite
def fleets(draw):
    count = draw(st.integers(1, 8))
    return [
        ClientState(
            client=f"c{index}",
            device=draw(st.sampled_from(["a", "b", "c", "unknown"])),
            processor="cpu",
            samples=draw(st.integers(0, 500)),
            link=Link(draw(st.floats(0.1, 1000)), draw(st.floats(0.1, 1000)), draw(st.floats(0, 2))),
            startup_s=draw(st.floats(0, 20)),
            memory_limit_bytes=draw(st.none() | st.integers(1, 200)),
            overhead_s=draw(st.floats(0, 10)),
            fixed_sd_s=draw(st.floats(0, 5)),
            energy_budget_j=draw(st.none() | st.floats(0, 1000)),
            rounds_left_out=draw(st.integers(0, 8)),
        )
        for index in range(count)
    ]


@st.composite
def options(draw):
    epochs = draw(st.integers(1, 5))
    return PlannerSettings(
        local_epochs=epochs,
        batch_size=draw(st.sampled_from([8, 16])),
        batch_sizes=draw(st.sampled_from([(), (8,), (4, 16, 64), (32, 128)])),
        min_steps=draw(st.integers(1, 8)),
        max_epochs=draw(st.none() | st.integers(epochs, 10)),
        miss_risk=draw(st.floats(0.001, 0.5)),
        coverage=draw(st.floats(0.1, 1.0)),
        server_s=draw(st.floats(0, 100)),
        deadline_s=draw(st.none() | st.floats(0.01, 1000)),
        critical_batch_size=draw(st.floats(0, 1000)),
        step_noise=draw(st.floats(0, 1)),
        energy_budget_j=draw(st.none() | st.floats(0.01, 10_000)),
        allow_unknown_energy=draw(st.booleans()),
        turn_after_rounds=draw(st.none() | st.integers(1, 6)),
        turn_factor=draw(st.floats(1, 10)),
    )


# Of the device ``c`` no power is known.
POWER = {"a": 5.0, "b": 20.0}
TABLE = st.builds(lambda spread: Table(LINES, spread=spread, memory_per_sample=1, power_w=POWER), st.floats(1, 3))
PAYLOAD = st.floats(0, 1e7)
