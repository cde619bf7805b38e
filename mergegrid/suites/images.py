"""Images kept as they were encoded, and decoded when they are asked for.

A part of the data is one Parquet file with the columns `image`, an encoded file, and
`label`. Images are resized and cropped as open_clip does for evaluation: the shorter
side to the model's size, bicubic, and of that the middle.
"""

import io
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, functional

from mergegrid.errors import InputError
from mergegrid.suites.examples import Batch

SCHEMA = pa.schema([("image", pa.binary()), ("label", pa.int64())])

ROWS_AT_ONCE = 512
"""Images that are written together."""

SHARE_OF_MEMORY = 0.25
"""Decoded images are kept in up to this much of the machine's memory, so that many
models are evaluated on them without decoding them anew."""


def write_images(path: Path, rows: Iterable[tuple[bytes, int]]) -> None:
    """Write a part of the data.

    Args:
        path: the file.
        rows: encoded images and their labels.
    """
    with pq.ParquetWriter(path, SCHEMA, compression="none") as writer:
        for group in _groups(rows):
            images, labels = zip(*group, strict=True)
            writer.write_table(
                pa.table({"image": images, "label": labels}, schema=SCHEMA)
            )


def preprocess(image: Image.Image, size: int) -> Tensor:
    """Resize an image, take its middle, and give its pixels.

    Args:
        image: any image.
        size: pixels along each side.

    Returns:
        Bytes [3, size, size].
    """
    given: Any = image  # torchvision takes one, and says that it takes tensors
    resized = functional.resize(given, [size], InterpolationMode.BICUBIC)
    middle: Any = functional.center_crop(resized, [size, size])
    return torch.from_numpy(np.array(middle.convert("RGB"))).permute(2, 0, 1)


class ImageExamples:
    """A part of the data, of which images are decoded as they are asked for.

    Args:
        path: the file that `write_images` wrote.
        size: pixels along each side of the images that models take.
        labels: the first and the last label that the examples choose among, which the
            file counts from 0; None if they choose among all, and the file's are meant.
    """

    def __init__(
        self, path: Path, size: int, labels: tuple[int, int] | None = None
    ) -> None:
        self._path = path
        self._size = size
        self._labels_range = labels
        table = pq.read_table(path)
        self._encoded = table["image"]
        first = labels[0] if labels else 0
        self._label = torch.from_numpy(table["label"].to_numpy().copy()) + first
        self._decoded = _kept.room(self, (len(self._label), 3, size, size))
        self._known = torch.zeros(len(self._label), dtype=torch.bool)

    def __len__(self) -> int:
        """Count the images."""
        return len(self._label)

    def __getitem__(self, indices: Tensor | slice) -> Batch:
        """Decode some of the images, in the order asked for."""
        if isinstance(indices, slice):
            indices = torch.arange(len(self))[indices]
        batch = {"image": self._images(indices), "label": self._label[indices]}
        if self._labels_range is not None:
            for name, label in zip(("first", "last"), self._labels_range, strict=True):
                batch[name] = torch.full_like(indices, label)
        return batch

    def _images(self, indices: Tensor) -> Tensor:
        if self._decoded is None:
            return self._decode(indices)
        wanted = indices[~self._known[indices]].unique()
        if len(wanted):
            self._decoded[wanted] = self._decode(wanted)
            self._known[wanted] = True
        return self._decoded[indices]

    def _decode(self, indices: Tensor) -> Tensor:
        if not len(indices):
            return torch.zeros(0, 3, self._size, self._size, dtype=torch.uint8)
        return torch.stack(list(_threads().map(self._decode_one, indices.tolist())))

    def _decode_one(self, index: int) -> Tensor:
        encoded = self._encoded[index].as_py()
        try:
            with Image.open(io.BytesIO(encoded)) as image:
                return preprocess(image, self._size)
        except OSError as error:
            raise InputError(
                f"Image {index} of {self._path.stem} cannot be decoded: {error}. "
                f"Prepare the data again."
            ) from None


class _Kept:
    """Memory for decoded images, of which there is so much in a process."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._lock = threading.Lock()

    def room(self, owner: object, shape: tuple[int, ...]) -> Tensor | None:
        """Give memory until its owner is gone; None if there is not enough."""
        size = torch.Size(shape).numel()
        with self._lock:
            if size > self._left:
                return None
            self._left -= size
        weakref.finalize(owner, self._give_back, size)
        return torch.empty(shape, dtype=torch.uint8)

    def _give_back(self, size: int) -> None:
        with self._lock:
            self._left += size


_kept = _Kept(
    int(SHARE_OF_MEMORY * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
)
_pool: list[ThreadPoolExecutor] = []


def _threads() -> ThreadPoolExecutor:
    # Pillow decodes and resizes outside Python's lock.
    if not _pool:
        _pool.append(ThreadPoolExecutor(thread_name_prefix="images"))
    return _pool[0]


def _groups(rows: Iterable[tuple[bytes, int]]) -> Iterator[list[tuple[bytes, int]]]:
    group: list[tuple[bytes, int]] = []
    for row in rows:
        group.append(row)
        if len(group) == ROWS_AT_ONCE:
            yield group
            group = []
    if group:
        yield group


def encoded_rows(
    dataset: datasets.Dataset,
    indices: Iterable[int],
    *,
    image: str,
    label: str,
    relabel: Callable[[int], int],
) -> Iterator[tuple[bytes, int]]:
    """Read encoded images from a data set of `datasets`.

    Args:
        dataset: the data set.
        indices: which rows.
        image: the column of images, or of encoded images as bytes.
        label: the column of labels.
        relabel: turns its labels into ours.

    Yields:
        Encoded images and labels.
    """
    if isinstance(dataset.features[image], datasets.Image):
        dataset = dataset.cast_column(image, datasets.Image(decode=False))
    rows: Any = dataset.select(list(indices))  # of which one goes through mappings
    for row in rows:
        found = row[image]
        if isinstance(found, dict):
            found = found["bytes"] or Path(found["path"]).read_bytes()
        yield found, relabel(int(row[label]))
