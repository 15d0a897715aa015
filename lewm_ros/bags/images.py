# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Images of the episode being read: in memory, or in a file where memory is too small."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from lewm_ros.errors import BagError


class ImageBuffer:
    """Prepared images (S, S, 3) uint8, in the order of arrival."""

    def __init__(self) -> None:
        self._images = np.empty((0,), dtype=np.uint8)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, image: np.ndarray) -> None:
        """Append an image."""
        # One array that grows in place: stacking a list would need twice the memory.
        if self._count == len(self._images):
            room = max(64, self._count * 5 // 4)
            if not self._count:
                self._images = np.empty((0, *image.shape), dtype=np.uint8)
            self._images.resize((room, *image.shape), refcheck=False)
        self._images[self._count] = image
        self._count += 1

    def copy(self, place: int) -> np.ndarray:
        """Return a copy of an image."""
        return self._images[place].copy()

    def take(self, order: np.ndarray) -> np.ndarray:
        """Return the images at indices (n,), each used once, as (n, S, S, 3); clear the buffer."""
        self._arrange(order)
        images = self._images
        images.resize((len(order), *images.shape[1:]), refcheck=False)
        self._images, self._count = np.empty((0,), dtype=np.uint8), 0
        return images

    def _arrange(self, order: np.ndarray) -> None:
        """Move the image at index ``order[i]`` to index i.

        Frames are only slightly late, so few images have to be held in the meantime.
        """
        moved = np.flatnonzero(order != np.arange(len(order)))
        needed = set(order[moved].tolist())
        held: dict[int, np.ndarray] = {}
        for place in moved.tolist():
            source = int(order[place])
            needed.discard(source)
            image = held.pop(source) if source in held else self.copy(source)
            if place in needed:
                held[place] = self.copy(place)
            self._put(place, image)

    def _put(self, place: int, image: np.ndarray) -> None:
        self._images[place] = image


class ImageFile(ImageBuffer):
    """The same in a file, one episode after the other; returned arrays are mapped from it.

    Args:
        file: unbuffered, open for reading and writing; holds only the images.

    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._start = file.seek(0, 2)  # of this episode [bytes]
        self._shape: tuple[int, ...] = (0, 0, 3)

    def add(self, image: np.ndarray) -> None:
        """Append an image. Raises BagError where the disk is full."""
        # Written, not mapped: a full disk is then an error and not a crash.
        self._shape = image.shape
        try:
            whole = self._file.write(image.data) == image.nbytes
        except OSError as error:
            raise BagError(f'{self._file.name}: cannot hold the images ({error})') from error
        if not whole:
            raise BagError(f'{self._file.name}: cannot hold the images (the disk is full)')
        self._count += 1

    def copy(self, place: int) -> np.ndarray:
        """Read an image back."""
        size = int(np.prod(self._shape))
        self._file.seek(self._start + place * size)
        image = np.frombuffer(self._file.read(size), dtype=np.uint8).reshape(self._shape)
        self._file.seek(0, 2)
        return image

    def take(self, order: np.ndarray) -> np.ndarray:
        """Return the images of some places, mapped; truncate the file after them."""
        self._arrange(order)
        start, count, shape = self._start, len(order), self._shape
        self._start = self._file.seek(start + count * int(np.prod(shape)))
        self._file.truncate()
        self._count = 0
        if not count:
            return np.empty((0, *shape), dtype=np.uint8)
        return np.memmap(self._file, np.uint8, 'r', start, (count, *shape))

    def _put(self, place: int, image: np.ndarray) -> None:
        self._file.seek(self._start + place * image.nbytes)
        self._file.write(image.data)
        self._file.seek(0, 2)
