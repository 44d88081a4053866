"""Stand-ins for meters inside chips and on other hosts: NVML as a module and as a library, a Pi 5's ``vcgencmd``, a clock."""

import os
import shutil
import subprocess
import time
import types

from devprof.meters.base import Channel, MeterInfo, MeterLostError, Reading

# --- NVML -------------------------------------------------------------------------------------------------------------------

STUB_SOURCE = r"""
/* A libnvidia-ml.so.1 whose GPUs take a constant power: the counter is power times the time since boot, every 20 ms.
   STUB_NVML_WATTS: watts of each GPU, "150,30". STUB_NVML_COUNTER: steady, frozen or absent. STUB_NVML_INSTANT: 1 or 0.
   STUB_NVML_LOST: while a file of this name exists, the GPUs are lost. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct { unsigned index; double watts; } gpu_t;
typedef struct {
    unsigned field, scope; long long timestamp, latency; unsigned type, result;
    union { double d; unsigned u; unsigned long long ull; } value;
} field_t;
static gpu_t gpus[8];
static unsigned count;
static int ready;

static const char *setting(const char *name, const char *usual) { const char *s = getenv(name); return s ? s : usual; }
static int lost(void) { const char *path = getenv("STUB_NVML_LOST"); return path && access(path, F_OK) == 0; }
static int state(void) { return !ready ? 1 : lost() ? 15 : 0; }

int nvmlInitWithFlags(unsigned flags) {
    char text[128];
    (void)flags;
    snprintf(text, sizeof text, "%s", setting("STUB_NVML_WATTS", "150"));
    count = 0;
    for (char *part = strtok(text, ","); part && count < 8; part = strtok(NULL, ",")) {
        gpus[count].index = count;
        gpus[count].watts = atof(part);
        count++;
    }
    ready++;
    return 0;
}
int nvmlShutdown(void) { return ready && ready-- ? 0 : 1; }
const char *nvmlErrorString(int code) { (void)code; return "stub error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "999.1"); return state(); }
int nvmlDeviceGetCount_v2(unsigned *found) { *found = count; return state(); }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, gpu_t **gpu) {
    if (index >= count) return 2;
    *gpu = &gpus[index];
    return state();
}
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, gpu_t **gpu) {
    unsigned domain, number, slot;
    if (sscanf(bus, "%x:%x:%x", &domain, &number, &slot) != 3 || number < 1) return 6;
    return nvmlDeviceGetHandleByIndex_v2(number - 1, gpu);
}
int nvmlDeviceGetIndex(gpu_t *gpu, unsigned *index) { *index = gpu->index; return state(); }
int nvmlDeviceGetName(gpu_t *gpu, char *text, unsigned size) { (void)gpu; snprintf(text, size, "Stub GPU"); return state(); }
int nvmlDeviceGetUUID(gpu_t *gpu, char *text, unsigned size) {
    snprintf(text, size, "GPU-%08x-0000-0000-0000-000000000000", gpu->index);
    return state();
}
int nvmlDeviceGetArchitecture(gpu_t *gpu, unsigned *kind) { (void)gpu; *kind = 9; return state(); }
int nvmlDeviceGetMigMode(gpu_t *gpu, unsigned *now, unsigned *later) { (void)gpu; *now = *later = 0; return 3; }
int nvmlDeviceGetPowerManagementLimitConstraints(gpu_t *gpu, unsigned *least, unsigned *most) {
    (void)gpu;
    *least = 100000;
    *most = 700000;
    return state();
}
int nvmlDeviceGetPowerUsage(gpu_t *gpu, unsigned *milliwatts) { *milliwatts = (unsigned)(gpu->watts * 1e3); return state(); }
int nvmlDeviceGetFieldValues(gpu_t *gpu, int asked, field_t *fields) {
    for (int i = 0; i < asked; i++) {
        int known = fields[i].field == 186 && strcmp(setting("STUB_NVML_INSTANT", "1"), "0") != 0;
        fields[i].result = known ? 0 : 3;
        fields[i].type = 1;
        fields[i].value.u = (unsigned)(gpu->watts * 1e3);
    }
    return state();
}
int nvmlDeviceGetTotalEnergyConsumption(gpu_t *gpu, unsigned long long *millijoules) {
    const char *kind = setting("STUB_NVML_COUNTER", "steady");
    struct timespec now;
    if (strcmp(kind, "absent") == 0) return 3;
    clock_gettime(CLOCK_MONOTONIC, &now);
    unsigned long long ticks = (unsigned long long)now.tv_sec * 50 + now.tv_nsec / 20000000;
    *millijoules = strcmp(kind, "frozen") == 0 ? 1000 : (unsigned long long)(ticks * 20 * gpu->watts);
    return state();
}
"""


def build_stub_nvml(folder):
    """A folder with the stub library for ``LD_LIBRARY_PATH``; ``None`` where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    source = folder / "stub_nvml.c"
    source.write_text(STUB_SOURCE)
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source], check=True)
    return folder


def stub_nvml_environment(folder, watts="150", **settings):
    """What a process needs to take the stub for NVML; settings are those in its source, without their prefix."""
    own = {f"STUB_NVML_{name.upper()}": str(value) for name, value in settings.items()}
    return {"LD_LIBRARY_PATH": str(folder), "STUB_NVML_WATTS": watts, **own}


class FakeNvmlError(Exception):
    """What the module raises, with the number of the library's answer."""

    def __init__(self, value):
        super().__init__(f"error {value}")
        self.value = value


class FakeGpu:
    """A GPU in the time of a fake clock: constant watts, a counter that is renewed every ``update_s``."""

    def __init__(self, watts=150.0, *, update_s=0.02, name="Fake GPU", uuid=None):
        self.watts = watts
        self.update_s = update_s
        self.name = name
        self.uuid = uuid
        self.counter_scale = 1.0
        self.counter_start_mj = 5_000_000
        self.instant_mw = "power"
        self.field = {"nvmlReturn": 0, "valueType": 1}
        self.failures = {}
        self.mig = False
        self.architecture = 9


class FakeNvml(types.ModuleType):
    """The module ``pynvml`` over fake GPUs; ``failures`` maps a function's name to the error that it gives."""

    NVMLError = FakeNvmlError

    def __init__(self, *gpus, clock):
        super().__init__("pynvml")
        self.gpus = list(gpus)
        self.clock = clock
        self.failures = {}
        self.running = 0
        for index, gpu in enumerate(self.gpus):
            gpu.uuid = gpu.uuid or f"GPU-{index:08d}-aaaa"

    def _check(self, function, gpu=None):
        for failures in (self.failures, gpu.failures if gpu else {}):
            if function in failures:
                raise FakeNvmlError(failures[function])

    def nvmlInit(self):
        self._check("nvmlInit")
        self.running += 1

    def nvmlShutdown(self):
        self._check("nvmlShutdown")
        self.running -= 1

    def nvmlSystemGetDriverVersion(self):
        return "999.1"

    def nvmlDeviceGetCount(self):
        self._check("nvmlDeviceGetCount")
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index):
        return self.gpus[index]

    def nvmlDeviceGetIndex(self, gpu):
        return self.gpus.index(gpu)

    def nvmlDeviceGetHandleByPciBusId(self, bus):
        number = int(bus.split(":")[-2], 16) - 1
        if not 0 <= number < len(self.gpus):
            raise FakeNvmlError(6)
        return self.gpus[number]

    def nvmlDeviceGetHandleByUUID(self, uuid):
        if uuid.startswith("MIG-known"):
            return "instance"
        raise FakeNvmlError(6)

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, instance):
        return self.gpus[-1]

    def nvmlDeviceGetName(self, gpu):
        return gpu.name

    def nvmlDeviceGetUUID(self, gpu):
        return gpu.uuid

    def nvmlDeviceGetArchitecture(self, gpu):
        self._check("nvmlDeviceGetArchitecture", gpu)
        return gpu.architecture

    def nvmlDeviceGetMigMode(self, gpu):
        self._check("nvmlDeviceGetMigMode", gpu)
        return [int(gpu.mig), int(gpu.mig)]

    def nvmlDeviceGetPowerManagementLimitConstraints(self, gpu):
        self._check("nvmlDeviceGetPowerManagementLimitConstraints", gpu)
        return [100_000, 300_000]

    def nvmlDeviceGetPowerUsage(self, gpu):
        self._check("nvmlDeviceGetPowerUsage", gpu)
        return round(gpu.watts * 1e3)

    def nvmlDeviceGetFieldValues(self, gpu, fields):
        self._check("nvmlDeviceGetFieldValues", gpu)
        assert fields == [186]
        value = round(gpu.watts * 1e3) if gpu.instant_mw == "power" else gpu.instant_mw
        return [types.SimpleNamespace(**gpu.field, value=types.SimpleNamespace(uiVal=value))]

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu):
        self._check("nvmlDeviceGetTotalEnergyConsumption", gpu)
        ticks = int(self.clock() / 1e9 / gpu.update_s)
        return gpu.counter_start_mj + round(ticks * gpu.update_s * gpu.watts * 1e3 * gpu.counter_scale)


class FakeClock:
    """Nanoseconds that pass only when somebody waits, and a little with every look."""

    def __init__(self, start_ns=1_000_000_000, look_ns=1_000):
        self.t_ns = start_ns
        self.look_ns = look_ns

    def __call__(self):
        self.t_ns += self.look_ns
        return self.t_ns

    def sleep(self, seconds):
        self.t_ns += round(seconds * 1e9)


# --- Raspberry Pi 5 ---------------------------------------------------------------------------------------------------------

# Rail, volts, share of the whole power, channels of its current and its voltage: as firmware of a Pi 5 names them.
RAILS = (
    ("3V7_WL_SW", 3.7, 0.04, 0, 8),
    ("3V3_SYS", 3.3, 0.06, 1, 9),
    ("1V8_SYS", 1.8, 0.07, 2, 10),
    ("DDR_VDD2", 1.1, 0.05, 3, 11),
    ("DDR_VDDQ", 0.6, 0.02, 4, 12),
    ("1V1_SYS", 1.1, 0.06, 5, 13),
    ("0V8_SYS", 0.8, 0.12, 6, 14),
    ("VDD_CORE", 0.9, 0.54, 7, 15),
    ("3V3_DAC", 3.3, 0.01, 17, 20),
    ("3V3_ADC", 3.3, 0.01, 18, 21),
    ("0V8_AON", 0.8, 0.01, 16, 19),
    ("HDMI", 5.1, 0.01, 22, 23),
)


def adc_text(power_w, rails=RAILS):
    """The answer of ``vcgencmd pmic_read_adc`` of a Pi 5 whose rails take so much together."""
    lines = [f"{name + '_A':>15} current({a})={power_w * share / volts:.8f}A" for name, volts, share, a, _ in rails]
    lines += [f"{name + '_V':>15} volt({v})={volts:.8f}V" for name, volts, _, _, v in rails]
    return "\n".join([*lines, "       EXT5V_V volt(24)=5.14870000V", "        BATT_V volt(25)=0.00000000V", ""])


class FakePi5:
    """A Raspberry Pi 5: its device tree below ``sys`` and a ``vcgencmd`` in ``bin`` that prints a file.

    Args:
        folder: Where all this is made.
        power_w: Watts of all rails together, at a time since the start.
    """

    def __init__(self, folder, power_w=lambda _t_s: 4.0):
        self.folder = folder
        self.power_w = power_w
        self._adc = folder / "adc.txt"
        self.describe("raspberrypi,5-model-b\0brcm,bcm2712\0", "Raspberry Pi 5 Model B Rev 1.0\0")
        self.tool(f"while IFS= read -r line; do printf '%s\\n' \"$line\"; done < {self._adc}")
        self.advance(0.0)

    def describe(self, compatible, model):
        base = self.folder / "sys" / "firmware" / "devicetree" / "base"
        base.mkdir(parents=True, exist_ok=True)
        (base / "compatible").write_text(compatible)
        (base / "model").write_text(model)

    def tool(self, script):
        tool = self.folder / "bin" / "vcgencmd"
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f'#!/bin/sh\n[ "$1" = pmic_read_adc ] || exit 1\n{script}\n')
        tool.chmod(0o755)

    def say(self, text):
        """Let the tool print this from now on; it never sees half of it."""
        new = self._adc.with_suffix(".new")
        new.write_text(text)
        new.replace(self._adc)

    def advance(self, t_s):
        """Show what the board would at a time since its start."""
        self.say(adc_text(self.power_w(t_s)))

    def environment(self):
        """What a process needs to take this for its board."""
        return {
            "DEVPROF_SYSFS": str(self.folder / "sys"),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }


# --- Another host -----------------------------------------------------------------------------------------------------------


PATIENCE_S = 20.0


def until(look, *, what="nothing happened"):
    """What a look gives as soon as it gives something."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = look()
        if found:
            return found
    raise AssertionError(what)


class ScriptedMeter:
    """A meter that gives what it was told to, stamped by a clock; ``None`` in place of readings: it is lost."""

    def __init__(self, info=None):
        channels = (Channel("supply", "sensor", update_s=0.1), Channel("total", "counter", headline=False))
        self.info = info or MeterInfo("bench", "bench-supply/1", channels, detail="model 1", notes=("a note",))
        self.script = []
        self.closed = False

    def read(self):
        if not self.script:
            return ()
        readings = self.script.pop(0)
        if readings is None:
            raise MeterLostError("unplugged")
        return readings

    def close(self):
        self.closed = True


class SteadyMeter(ScriptedMeter):
    """A meter of constant power on a host with a clock of its own: watts and joules since the start."""

    def __init__(self, power_w, clock):
        super().__init__()
        self.power_w = power_w
        self._clock = clock
        self._start_ns = clock()

    def read(self):
        t_ns = self._clock()
        energy_j = self.power_w * (t_ns - self._start_ns) / 1e9
        return [Reading(t_ns, "supply", power_w=self.power_w), Reading(t_ns, "total", energy_j=energy_j)]
