import errno
import os
from pathlib import Path

import pytest
from fake_meters_kernel import refuse, show

from devprof.meters.kernelfile import KernelFile


@pytest.fixture
def path(tmp_path):
    show(tmp_path / "value", 7)
    return tmp_path / "value"


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_each_reading_is_new_and_one_descriptor_is_kept(path):
    file = KernelFile(path)
    assert file.number() == 7
    held = descriptors()
    show(path, -8)
    assert file.number() == -8
    assert descriptors() == held
    file.close()
    assert descriptors() == held - 1
    assert file.number() == -8
    file.close()


def test_a_removed_file_is_gone_and_comes_back(path):
    file = KernelFile(path)
    file.number()
    path.unlink()
    assert file.number() is None
    assert file.gone
    assert file.trouble == os.strerror(errno.ENOENT)
    show(path, 9)
    assert file.number() == 9
    assert not file.gone


def test_a_device_that_failed_once_is_opened_again(path, monkeypatch):
    file = KernelFile(path)
    file.number()
    real, failures = os.pread, [errno.ENODEV]

    def pread(*arguments):
        if failures:
            raise OSError(failures.pop(), "No such device")
        return real(*arguments)

    monkeypatch.setattr(os, "pread", pread)
    assert file.number() == 7


def test_text_that_is_no_number_is_there(path):
    show(path, "many")
    file = KernelFile(path)
    assert file.number() is None
    assert not file.gone
    assert not file.forbidden
    assert file.trouble == "its text is no number"


@pytest.mark.parametrize(("code", "forbidden"), [(errno.EACCES, True), (errno.EPERM, True), (errno.ENXIO, False)])
def test_permission_is_told_from_other_trouble(path, monkeypatch, code, forbidden):
    refuse(monkeypatch, code, path)
    file = KernelFile(path)
    assert file.number() is None
    assert (file.gone, file.forbidden) == (True, forbidden)


def test_a_pipe_or_a_folder_in_its_place_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path):
        file = KernelFile(place)
        assert file.number() is None
        assert not file.gone
        file.close()
