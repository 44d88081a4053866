"""Small data sets in the file formats of the real ones, written by the tests that read them."""

import gzip
import io
import pickle
import struct
import tarfile

import numpy as np

COUNTS = {"train": 60, "t10k": 20}


def images_and_labels(count, shape, seed):
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(count) % 10).astype(np.uint8)
    # A class is told by its brightness, so that there is something to learn.
    images = generator.integers(0, 20, (count, *shape)) + 23 * labels.reshape(-1, *[1] * len(shape))
    return images.astype(np.uint8), labels


def idx_bytes(values):
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def write_idx(folder, *, packed=False, counts=COUNTS, dotted=False):
    """Four IDX files of 28x28 images; returns what is in them."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {}
    for seed, (part, count) in enumerate(counts.items()):
        images, labels = content[part] = images_and_labels(count, (28, 28), seed)
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            name = f"{part}-{kind.replace('-', '.') if dotted else kind}-ubyte"
            data = idx_bytes(values)
            (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(data) if packed else data)
    return content


CIFAR_BATCHES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]


def cifar_batches(count=12):
    return {name: images_and_labels(count, (3, 32, 32), seed) for seed, name in enumerate(CIFAR_BATCHES)}


def python2_pickle(labels, flat):
    """A batch as the official files have it: pickled by Python 2, whose strings no pickler of Python 3 writes."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    def number(value):
        return b"J" + struct.pack("<i", value)

    def numbers(values):
        return b"](" + b"".join(number(int(value)) for value in values) + b"e"

    kind = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
    kind += b"(K\x03" + text(b"|") + b"NNN" + number(-1) + number(-1) + b"K\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + b"K\x00\x85" + text(b"b") + b"\x87R"
    shape = number(flat.shape[0]) + number(flat.shape[1]) + b"\x86"
    pixels = b"T" + struct.pack("<i", flat.size) + flat.tobytes()
    array += b"(K\x01" + shape + kind + b"\x89" + pixels + b"tb"
    entries = text(b"batch_label") + text(b"training batch 1 of 5") + text(b"labels") + numbers(labels)
    return b"\x80\x02}(" + entries + text(b"data") + array + text(b"filenames") + numbers([]) + b"u."


def cifar_bytes(images, labels, version):
    """One batch: ``binary``, ``python`` (as the official files) or ``resaved`` (pickled again by Python 3)."""
    flat = images.reshape(len(images), -1)
    if version == "binary":
        return np.column_stack([labels, flat]).astype(np.uint8).tobytes()
    if version == "python":
        return python2_pickle(labels, flat)
    return pickle.dumps({b"labels": labels.tolist(), b"data": flat, b"filenames": []}, protocol=2)


def write_cifar(folder, version, *, packed=False, count=12):
    """One version of CIFAR-10 with a few images per batch; returns what is in the batches."""
    folder.mkdir(parents=True, exist_ok=True)
    content = cifar_batches(count)
    ending, inside = (".bin", "cifar-10-batches-bin") if version == "binary" else ("", "cifar-10-batches-py")
    files = {f"{name}{ending}": cifar_bytes(*batch, version) for name, batch in content.items()}
    if not packed:
        (folder / inside).mkdir()
        for name, data in files.items():
            (folder / inside / name).write_bytes(data)
        return content
    with tarfile.open(
        folder / ("cifar-10-binary.tar.gz" if version == "binary" else "cifar-10-python.tar.gz"), "w:gz"
    ) as archive:
        # The official archives have their batches in no order.
        for name, data in reversed(files.items()):
            member = tarfile.TarInfo(f"{inside}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content
