import random
import sys

import pytest
import torch
from PIL import Image

from devprof.errors import MissingExtraError, WorkloadError
from devprof.workloads import jpeg
from devprof.workloads.jpeg import JpegData, default_folder, make_jpegs, prepare_jpegs


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_jpegs(tmp_path_factory.mktemp("jpeg"), count=3)


def test_files_are_photographs_in_size(files):
    assert len(set(files)) == 3
    for path in files:
        with Image.open(path) as picture:
            assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (500, 375))
        assert 70_000 < path.stat().st_size < 140_000
    assert len({path.read_bytes() for path in files}) == 3


def test_files_are_made_once_and_depend_on_the_seed_only(tmp_path, files):
    again = make_jpegs(tmp_path, count=1)
    assert again[0].read_bytes() == files[0].read_bytes()
    again[0].write_bytes(b"kept")
    assert make_jpegs(tmp_path, count=1)[0].read_bytes() == b"kept"
    other = make_jpegs(tmp_path, count=1, seed=1)
    assert other[0].read_bytes() != files[0].read_bytes()


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkloadError, match="no JPEG files can be made in"):
        make_jpegs(tmp_path / "file", count=1)


def test_files_are_kept_for_later_runs_in_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("DEVPROF_CACHE", str(tmp_path))
    prepare_jpegs()
    found = sorted(tmp_path.rglob("*.jpg"))
    before = [path.stat().st_mtime_ns for path in found]
    assert make_jpegs(default_folder()) == tuple(found)
    assert [path.stat().st_mtime_ns for path in found] == before


def make_data(files, **changes):
    return JpegData(files, (20, 30), 2, **{"samples": 5, "seed": 0} | changes)


def test_samples_are_normalised_images_of_the_models_size(files):
    data = make_data(files)
    samples = [data[index] for index in range(len(data))]
    assert [label for _, label in samples] == [0, 1, 0, 1, 0]
    pixels = torch.stack([sample for sample, _ in samples])
    assert pixels.shape == (5, 3, 20, 30)
    assert pixels.dtype == torch.float32
    assert -2.2 < pixels.min() < 0 < pixels.max() < 2.7


def test_augmentation_follows_the_seed_and_leaves_torchs_random_state_alone(files):
    state = torch.get_rng_state()
    first, same, other = make_data(files), make_data(files), make_data(files, seed=1)
    values = first[0][0]
    assert torch.equal(values, same[0][0])
    assert not torch.equal(values, other[0][0])
    assert not torch.equal(values, first[0][0])
    assert torch.equal(torch.get_rng_state(), state)


def test_crops_lie_in_the_picture_and_have_the_usual_shapes():
    generator = random.Random(1)
    crops = [jpeg._crop(generator, 500, 375) for _ in range(500)]
    assert all(0 <= top <= 375 - height and 0 <= left <= 500 - width for top, left, height, width in crops)
    assert all(0.08 * 0.98 < height * width / (500 * 375) <= 1 for _, _, height, width in crops)
    assert all(3 / 4 * 0.98 < width / height < 4 / 3 * 1.02 for _, _, height, width in crops)


def test_a_picture_that_no_crop_fits_is_taken_whole():
    assert jpeg._crop(random.Random(0), 1000, 10) == (0, 0, 10, 1000)


def test_missing_pillow_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"devprof\[train\]"):
        make_jpegs(tmp_path, count=1)


def test_missing_torchvision_names_the_extra(monkeypatch, files):
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    with pytest.raises(MissingExtraError, match=r"devprof\[train\]"):
        make_data(files)
