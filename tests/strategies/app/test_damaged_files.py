"""Files that are no data: each error names the file and what is wrong with it."""

import gzip
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_datasets import cifar_bytes, idx_bytes, images_and_labels, write_cifar, write_idx

from strategies.app.config import DataConfig
from strategies.app.data import open_part
from strategies.app.streams import DataError

IMAGES, LABELS = images_and_labels(60, (28, 28), 0)


def read(name, folder):
    part = open_part(DataConfig(data=name, data_dir=str(folder)), "train")
    return part.images(np.arange(len(part.labels())))


def assert_refused(name, path, content, reason):
    """Reading fails when a file has this content, and the error names the file and the reason."""
    path.write_bytes(content)
    folder = path.parent if name == "mnist" else path.parents[1]
    with pytest.raises(DataError, match=re.escape(str(path))) as error:
        read(name, folder)
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("kind", "content", "reason"),
    [
        ("labels-idx1", b"", "truncated: 4 bytes are missing"),
        ("labels-idx1", idx_bytes(LABELS)[:-5], "truncated: 5 bytes are missing"),
        ("labels-idx1", idx_bytes(LABELS) + b"x", "goes on after the 60 labels"),
        ("labels-idx1", idx_bytes(IMAGES), "no IDX file of bytes with 1 axes: it begins with 00000803, not 00000801"),
        ("labels-idx1", b"<html>not found</html>", "no IDX file"),
        (
            "labels-idx1",
            idx_bytes(np.where(np.arange(60) == 7, 10, LABELS).astype(np.uint8)),
            "the label 10 of sample 7",
        ),
        ("labels-idx1", idx_bytes(LABELS[:0]), "announces 0 values"),
        ("images-idx3", idx_bytes(IMAGES)[:-9], "truncated: 9 bytes are missing"),
        ("images-idx3", idx_bytes(IMAGES)[:10], "truncated: 6 bytes are missing"),
        ("images-idx3", idx_bytes(IMAGES[:, :27]), "images of 27x28, not 28x28"),
        ("images-idx3", idx_bytes(IMAGES[:59]), "has 59 images, but there are 60 labels"),
        ("images-idx3", idx_bytes(LABELS), "with 3 axes"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_idx_file_is_named(tmp_path, kind, content, reason, packed):
    write_idx(tmp_path, packed=packed)
    path = tmp_path / f"train-{kind}-ubyte{'.gz' * packed}"
    assert_refused("mnist", path, gzip.compress(content) if packed else content, reason)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"no gzip" + data])
def test_a_damaged_archive_is_named(tmp_path, damage):
    write_idx(tmp_path, packed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=re.escape(f"{path} cannot be read")):
        read("mnist", tmp_path)


def test_files_that_are_not_there_are_listed(tmp_path):
    with pytest.raises(DataError, match=r"the train labels are not in .*train-labels-idx1-ubyte, train-labels-idx1"):
        read("mnist", tmp_path)
    with pytest.raises(DataError, match=r"the batches of CIFAR-10 are not in .*cifar-10-python\.tar\.gz"):
        read("cifar10", tmp_path)


@pytest.mark.parametrize("version", ["python", "binary"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_missing_batch_is_named(tmp_path, version, packed):
    write_cifar(tmp_path, version)
    (folder,) = tmp_path.iterdir()
    (path,) = folder.glob("data_batch_3*")
    path.unlink()
    if packed:
        import tarfile

        with tarfile.open(tmp_path / f"cifar-10-{version}.tar.gz", "w:gz") as archive:
            archive.add(folder, folder.name)
        for left in folder.iterdir():
            left.unlink()
        folder.rmdir()
    with pytest.raises(DataError, match="lacks data_batch_3"):
        read("cifar10", tmp_path)


COLOURED, CLASSES = images_and_labels(12, (3, 32, 32), 0)


class Evil:
    def __reduce__(self):
        return (print, ("this must never be run",))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (cifar_bytes(COLOURED, CLASSES, "python")[:-20], "truncated or no batch"),
        (b"", "truncated or no batch"),
        (pickle.dumps([1, 2]), "no lists 'labels' and 'data'"),
        (pickle.dumps({b"labels": CLASSES.tolist()}), "no lists 'labels' and 'data'"),
        (cifar_bytes(COLOURED[:, :, :31], CLASSES, "resaved"), "(12, 3072)"),
        (cifar_bytes(COLOURED, CLASSES[:11], "resaved"), "(11, 3072)"),
        (cifar_bytes(COLOURED.astype(float), CLASSES, "resaved"), "float64 pixels"),
        (cifar_bytes(COLOURED, CLASSES + 5, "resaved"), "is no class, there are only 10"),
        (cifar_bytes(COLOURED, CLASSES.astype(int) + 300, "resaved"), "labels that are no classes"),
        (pickle.dumps({b"labels": Evil(), b"data": 0}), "builtins.print, which no batch of CIFAR has"),
    ],
)
def test_a_damaged_pickled_batch_is_named_and_runs_no_code(tmp_path, content, reason, capsys):
    write_cifar(tmp_path, "python")
    assert_refused("cifar10", tmp_path / "cifar-10-batches-py" / "data_batch_2", content, reason)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (cifar_bytes(COLOURED, CLASSES, "binary")[:-1], "no multiple of 3073"),
        (b"", "is empty"),
        (cifar_bytes(COLOURED, CLASSES + 200, "binary"), "is no class"),
    ],
)
def test_a_damaged_binary_batch_is_named(tmp_path, content, reason):
    write_cifar(tmp_path, "binary")
    assert_refused("cifar10", tmp_path / "cifar-10-batches-bin" / "data_batch_5.bin", content, reason)


def test_a_truncated_archive_of_batches_is_named(tmp_path):
    write_cifar(tmp_path, "python", packed=True)
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(DataError, match=re.escape(str(path))):
        read("cifar10", tmp_path)


@settings(deadline=None, max_examples=60)
@given(data=st.binary(max_size=200), name=st.sampled_from(["mnist", "python", "binary"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data, name):
    folder = tmp_path_factory.mktemp("any")
    if name == "mnist":
        write_idx(folder)
        (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS)[:4] + data)
    else:
        write_cifar(folder, name, count=1)
        (path,) = folder.glob("*/data_batch_1*")
        path.write_bytes(data)
    try:
        read("mnist" if name == "mnist" else "cifar10", folder)
    except DataError as error:
        reason = str(error)
    else:
        reason = str(folder)
    assert str(folder) in reason
