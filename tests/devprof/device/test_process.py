import os
import subprocess
import sys

import psutil
import pytest

from devprof.device.process import process_age_s


def test_age_is_that_of_this_process(monkeypatch):
    monkeypatch.delenv("DEVPROF_PROCFS", raising=False)
    age_s = process_age_s()
    if age_s is None:
        pytest.skip("the kernel does not say")
    import time

    assert age_s == pytest.approx(time.time() - psutil.Process().create_time(), abs=5.0)


def test_a_new_process_is_young_and_its_name_may_be_anything(tmp_path):
    odd = tmp_path / "a (b) 1 2"
    odd.symlink_to(sys.executable)
    script = "from devprof.device.process import process_age_s; print(process_age_s())"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([str(odd), "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "None" or 0 <= float(done.stdout) < 60


@pytest.mark.parametrize("text", ["", "12 (python) S 1", "12 (python) " + "x " * 40])
def test_a_kernel_that_does_not_say_gives_nothing(monkeypatch, text):
    monkeypatch.setattr("devprof.device.process.read_text", lambda path: text)
    assert process_age_s() is None
