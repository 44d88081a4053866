"""Power sources of the kernel that are not here: trees of RAPL, hwmon and batteries below a folder, with known true energy.

Every tree has ``advance(t_s)``, which makes its files show what the device would show ``t_s`` seconds after its start, and
``true_j(t_s)``, the energy that its total should have counted until then. Files are rewritten in place with one write of a
fixed width, so that a reader in another process, with the file open, sees the old or the new text and nothing between.
"""

import os

WIDTH = 24
RANGE_UJ = 262_143_328_850


def show(path, value):
    """Write a value so that readers that hold the file open see it change at once."""
    data = f"{value}".ljust(WIDTH).encode() + b"\n"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, data, 0)
    finally:
        os.close(fd)


class Steps:
    """Power that changes in steps: ``Steps(10.0, (5, 30.0))`` is 10 W, and from second 5 on 30 W."""

    def __init__(self, watts, *steps):
        self.steps = [(0.0, float(watts)), *((float(at), float(then)) for at, then in steps)]

    def power_w(self, t_s):
        return [watts for at, watts in self.steps if at <= t_s or at == 0][-1]

    def energy_j(self, t_s):
        ends = [at for at, _ in self.steps[1:]] + [float("inf")]
        return sum(watts * (min(t_s, end) - at) for (at, watts), end in zip(self.steps, ends, strict=True) if t_s > at)

    def mean_w(self, t_s, over_s):
        """The mean over the last whole interval of this length, as a sensor that averages shows it."""
        end = t_s - t_s % over_s
        return self.power_w(0) if end <= 0 else (self.energy_j(end) - self.energy_j(end - over_s)) / over_s


def profile(power):
    return power if isinstance(power, Steps) else Steps(power)


class FakeRapl:
    """A powercap tree.

    Args:
        sysfs: The root of sysfs.
        watts: Power of each zone by its domain: ``package-0``, ``package-0/dram``, ``psys``.
        mmio: Domains that the second tree has too; with a power in ``watts_mmio`` those that only it has.
        mirrors: Packages that show the counter of another one.
        nested: Sub-zones lie inside their zone, not beside it.
    """

    def __init__(self, sysfs, watts, *, mmio=(), mirrors=None, range_uj=RANGE_UJ, start_uj=None, nested=False):
        self.root = sysfs / "class" / "powercap"
        self.watts = {domain: profile(power) for domain, power in watts.items()}
        self.mirrors = mirrors or {}
        self.range_uj = range_uj
        # No two counters begin alike, or they would be taken for mirrors.
        self.start_uj = {domain: 1_000_003 * place + 5_000 for place, domain in enumerate(self.watts)} | (
            start_uj or {}
        )
        self.folders = {}
        self.root.joinpath("intel-rapl").mkdir(parents=True)
        domains = [*self.watts, *self.mirrors]
        for tree, members in (("intel-rapl", domains), ("intel-rapl-mmio", mmio)):
            numbers = {}
            for domain in members:
                around, _, name = domain.rpartition("/")
                inside = sum(1 for other in numbers if other.rpartition("/")[0] == around)
                numbers[domain] = f"{numbers[around]}:{inside}" if around else f"{tree}:{inside}"
                parent = self.folders[domain.rpartition("/")[0], tree] if around and nested else self.root
                self.folders[domain, tree] = folder = parent / numbers[domain]
                folder.mkdir()
                folder.joinpath("name").write_text(name + "\n")
                if range_uj is not None:
                    folder.joinpath("max_energy_range_uj").write_text(f"{range_uj}\n")
        self.advance(0.0)

    def folder(self, domain, tree="intel-rapl"):
        return self.folders[domain, tree]

    def counter(self, domain, tree="intel-rapl"):
        return self.folder(domain, tree) / "energy_uj"

    def set(self, domain, value, tree="intel-rapl"):
        show(self.counter(domain, tree), value)

    def advance(self, t_s):
        for domain, tree in self.folders:
            shown = self.mirrors.get(domain, domain)
            # The second tree has a counter of its own, which began elsewhere.
            raw = self.start_uj[shown] + round(self.watts[shown].energy_j(t_s) * 1e6) + (tree != "intel-rapl") * 77
            self.set(domain, raw % (self.range_uj + 1) if self.range_uj else raw, tree)

    def true_j(self, t_s):
        return sum(
            power.energy_j(t_s)
            for domain, power in self.watts.items()
            if domain.startswith("package") and "/" not in domain
        )


class FakeChip:
    """A hwmon chip.

    Args:
        sysfs: The root of sysfs.
        number: Of its folder ``hwmonN``.
        name: Of its driver.
        watts: Power by channel: ``energy1``, ``power1``, ``average1`` (a power average), or ``curr1`` for voltage times current.
        address: Name of its device; ``None`` without a link to it.
        labels: By file name without ``_label``.
        files: Further files.
        update_ms: What the chip says of its interval, and how often it has a new value.
    """

    def __init__(
        self, sysfs, number, name, watts, *, address="1-0040", labels=None, files=None, update_ms=None, volts=5.0
    ):
        self.watts = {channel: profile(power) for channel, power in watts.items()}
        self.update_s = (update_ms or 1) / 1e3
        self.volts = volts
        link = sysfs / "class" / "hwmon" / f"hwmon{number}"
        link.parent.mkdir(parents=True, exist_ok=True)
        self.folder = link
        if address is not None:
            device = sysfs / "devices" / "bus" / address
            self.folder = device / "hwmon" / f"hwmon{number}"
            self.folder.mkdir(parents=True)
            self.folder.joinpath("device").symlink_to("../../../" + address)
            link.symlink_to(self.folder)
        self.folder.mkdir(exist_ok=True)
        self.folder.joinpath("name").write_text(name + "\n")
        for file, label in (labels or {}).items():
            self.folder.joinpath(f"{file}_label").write_text(label + "\n")
        for file, text in (files or {}).items():
            self.folder.joinpath(file).write_text(f"{text}\n")
        if update_ms is not None:
            self.folder.joinpath("update_interval").write_text(f"{update_ms}\n")
        self.advance(0.0)

    def set(self, file, value):
        show(self.folder / file, value)

    def advance(self, t_s):
        for channel, power in self.watts.items():
            kind, number = channel.rstrip("0123456789"), channel.lstrip("abcdefghijklmnopqrstuvwxyz")
            micro = round(power.mean_w(t_s, self.update_s) * 1e6)
            if kind == "energy":
                self.set(f"energy{number}_input", 123_456 + round(power.energy_j(t_s) * 1e6))
            elif kind == "power":
                self.set(f"power{number}_input", micro)
            elif kind == "average":
                self.set(f"power{number}_average", micro)
            else:
                self.set(f"in{number}_input", round(self.volts * 1e3))
                self.set(f"curr{number}_input", round(micro / self.volts / 1e3))

    def true_j(self, t_s):
        """Of all channels together."""
        return sum(power.energy_j(t_s) for power in self.watts.values())


class FakeBattery:
    """A battery that is being discharged.

    Args:
        sysfs: The root of sysfs.
        name: Of its folder.
        watts: What it gives.
        shows: Its files of power and charge.
        sign: Of the current: -1 with drivers that count a discharging current below zero.
        update_s: Seconds between its new values.
    """

    def __init__(
        self,
        sysfs,
        name="BAT0",
        watts=10.0,
        *,
        shows=("power_now", "energy_now"),
        sign=1,
        status="Discharging",
        update_s=1.0,
    ):
        self.folder = sysfs / "class" / "power_supply" / name
        self.folder.mkdir(parents=True)
        self.power = profile(watts)
        self.shows = shows
        self.sign = sign
        self.update_s = update_s
        self.folder.joinpath("type").write_text("Battery\n")
        self.folder.joinpath("present").write_text("1\n")
        self.set("status", status)
        self.advance(0.0)

    def set(self, file, value):
        show(self.folder / file, value)

    def advance(self, t_s):
        """Volts are 10; a full battery has 50 Wh."""
        watts = self.power.mean_w(t_s, self.update_s)
        left_uwh = 50_000_000 - round(self.power.energy_j(t_s - t_s % self.update_s) / 3600 * 1e6)
        values = {
            "power_now": round(watts * 1e6),
            "voltage_now": 10_000_000,
            "current_now": self.sign * round(watts * 1e5),
            "energy_now": left_uwh,
            "charge_now": left_uwh // 10,
        }
        for file in self.shows:
            self.set(file, values[file])

    def true_j(self, t_s):
        return self.power.energy_j(t_s)


def charger(sysfs, online, *, name="ADP1", kind="Mains"):
    """A charger; its file ``online``, to be shown anew."""
    folder = sysfs / "class" / "power_supply" / name
    folder.mkdir(parents=True)
    folder.joinpath("type").write_text(kind + "\n")
    show(folder / "online", int(online))
    return folder / "online"


def refuse(monkeypatch, code, *paths):
    """Let the kernel refuse to open files, as it does for others than root."""
    real = os.open
    refused = {str(path): code for path in paths}

    def opened(path, *arguments, **named):
        if str(path) in refused:
            raise OSError(refused[str(path)], os.strerror(refused[str(path)]), str(path))
        return real(path, *arguments, **named)

    monkeypatch.setattr(os, "open", opened)
