"""JPEG files to train from, generated once, and the data set that reads, decodes and augments them.

The files stand for photographs: what matters is what they cost to read and decode. They have the commonest size of ImageNet's
pictures, 500x375 pixels, in quality 90, and smooth noise with edges and grain makes them nearly 100 KB each; the files of
ImageNet's training set have 108 KB on average. After the first pass the kernel serves them from its page cache.

Pillow, torchvision and torch are imported when files are made or read, not before.
"""

from __future__ import annotations

import io
import math
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devprof.atomic import write_atomically
from devprof.errors import MissingExtraError, WorkloadError
from devprof.paths import cache_folder
from devprof.workloads.compat import ensure_torchvision_operators

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

__all__ = ["JPEG_FILES", "JpegData", "default_folder", "make_jpegs", "prepare_jpegs"]

JPEG_FILES = 64
_WIDTH, _HEIGHT, _QUALITY = 500, 375, 90
# Part of the folder's name: pictures that were made in another way are never mixed with these.
_VERSION = 1

# Mean and standard deviation of ImageNet's channels, as torchvision's transforms use them.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)

# The usual random crop of C. Szegedy et al., arXiv 1409.4842: its share of the area, and its width by its height.
_AREA = (0.08, 1.0)
_ASPECT = (3 / 4, 4 / 3)
_CROP_TRIES = 10


def default_folder() -> Path:
    """Where files are kept for later runs unless a folder is given."""
    return cache_folder() / "jpeg"


def prepare_jpegs() -> None:
    """Make the files of the default folder in a process of its own, so that no measured run makes them in its start-up.

    A failure is not reported here: the first run that needs the files meets it again, and becomes a row that says so.
    """
    script = "from devprof.workloads.jpeg import default_folder, make_jpegs; make_jpegs(default_folder())"
    subprocess.run([sys.executable, "-c", script], check=False, stderr=subprocess.DEVNULL)


def make_jpegs(folder: Path, *, count: int = JPEG_FILES, seed: int = 0) -> tuple[Path, ...]:
    """Generate JPEG files of 500x375 pixels, quality 90; those that are there already are kept.

    Args:
        folder: Their folder is made in here; its name says how they were made.
        count: Number of files; enough that one file alone is not in the processor's cache all the time.
        seed: Of the pictures.

    Returns:
        The files, in order.

    Raises:
        MissingExtraError: If Pillow is not installed.
        WorkloadError: If the files cannot be written.
    """
    own = folder / f"v{_VERSION}-{_WIDTH}x{_HEIGHT}-q{_QUALITY}-seed{seed}"
    paths = tuple(own / f"{index:04d}.jpg" for index in range(count))
    try:
        own.mkdir(parents=True, exist_ok=True)
        for index, path in enumerate(paths):
            if not path.exists():
                write_atomically(path, _encode(seed, index))
    except OSError as error:
        raise WorkloadError(f"no JPEG files can be made in {own}: {error}") from error
    return paths


def _encode(seed: int, index: int) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    _picture(np.random.default_rng((seed, index))).save(buffer, format="JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _pillow() -> Any:
    try:
        import PIL.Image
        import PIL.ImageDraw
    except ImportError as error:
        raise MissingExtraError("train", "PIL", "training from JPEG files") from error
    return PIL


def _picture(generator: np.random.Generator) -> Image.Image:
    """Noise of equal strength in every octave, as photographs have, with shapes that have edges, and grain."""
    import numpy as np

    pil = _pillow()
    size = (_WIDTH, _HEIGHT)
    values = np.full((_HEIGHT, _WIDTH, 3), 128.0)
    for step in (128, 64, 32, 16, 8, 4, 2):
        coarse = generator.normal(0.0, 14.0, (_HEIGHT // step + 2, _WIDTH // step + 2, 4)).astype(np.float32)
        # The fourth layer is brightness, which varies more than colour does.
        smooth = [np.asarray(pil.Image.fromarray(coarse[..., layer]).resize(size)) for layer in range(4)]
        values += 0.4 * np.stack(smooth[:3], axis=-1) + smooth[3][..., None]
    for _ in range(12):
        mask = pil.Image.new("L", size)
        left, top = generator.integers((_WIDTH, _HEIGHT))
        width, height = generator.integers(20, 200, 2)
        draw = pil.ImageDraw.Draw(mask)
        shape = draw.ellipse if generator.random() < 0.5 else draw.rectangle
        shape((int(left), int(top), int(left + width), int(top + height)), fill=1)
        values += np.asarray(mask)[..., None] * generator.normal(0.0, 40.0, 3)
    values += generator.normal(0.0, 10.0, (_HEIGHT, _WIDTH, 1))
    picture: Image.Image = pil.Image.fromarray(values.clip(0, 255).astype(np.uint8))
    return picture


class JpegData:
    """A map-style data set: open, decode, random crop and flip, to a tensor, normalise; as vision models are trained.

    Args:
        paths: JPEG files.
        shape: (height, width) of the samples.
        num_classes: Targets are 0 to ``num_classes - 1``, in turn.
        samples: Length of the data set; files are used again if they are fewer.
        seed: Of crops and flips, which follow the order of access.

    Raises:
        MissingExtraError: If Pillow or torchvision is not installed.
    """

    def __init__(
        self, paths: Sequence[Path], shape: tuple[int, int], num_classes: int, *, samples: int, seed: int = 0
    ) -> None:
        self._image = _pillow().Image
        ensure_torchvision_operators()
        try:
            from torchvision.transforms import functional
        except ImportError as error:
            raise MissingExtraError("train", "torchvision", "training from JPEG files") from error
        self._functional = functional
        self._paths = tuple(os.fspath(path) for path in paths)
        self._shape = list(shape)
        self._num_classes = num_classes
        self._samples = samples
        self._random = random.Random(seed)

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with self._image.open(self._paths[index % len(self._paths)]) as file:
            picture = file.convert("RGB")
        box = _crop(self._random, *picture.size)
        picture = self._functional.resized_crop(picture, *box, self._shape)
        if self._random.random() < 0.5:
            picture = self._functional.hflip(picture)
        sample: torch.Tensor = self._functional.normalize(self._functional.to_tensor(picture), _MEAN, _STD)
        return sample, index % self._num_classes


def _crop(generator: random.Random, width: int, height: int) -> tuple[int, int, int, int]:
    """A random crop as (top, left, height, width); the whole picture if no draw fits into it.

    torchvision draws the same from torch's global random state, which belongs to the model that is trained.
    """
    for _ in range(_CROP_TRIES):
        area = width * height * generator.uniform(*_AREA)
        aspect = math.exp(generator.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = generator.randint(0, height - crop_height)
            return top, generator.randint(0, width - crop_width), crop_height, crop_width
    return 0, 0, height, width
