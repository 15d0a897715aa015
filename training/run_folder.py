# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The folder of a training run: config, metrics, curves, checkpoint, bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
import csv
from pathlib import Path
import shutil
from typing import Any

import yaml

from lewm_ros.errors import ModelError
from lewm_ros.files import PARTIAL, atomic_write, locked
from lewm_ros.training.curves import draw

COLUMNS = (
    'step',
    'seconds',
    'prediction',
    'regulariser',
    'latent_std',
    'effective_rank',
    'validation_prediction',
    'validation_copy_last',
    'validation_latent_std',
    'validation_effective_rank',
    'validation_straightness',
)


class RunFolder:
    """A run's files. Each is written atomically: a killed run leaves complete files.

    Attributes:
        path: the folder.
        config: everything needed to run it again (YAML).
        metrics: one row every LOG_EVERY steps; the validation columns are filled at validations.
        curves: the metrics as an image.
        checkpoint: from which the run continues.
        bundle: the model as of a recent validation.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / 'config.yaml'
        self.metrics = path / 'metrics.csv'
        self.curves = path / 'curves.png'
        self.checkpoint = path / 'checkpoint.pt'
        self.bundle = path / 'bundle'

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Make the folder and keep it to this process. Raises ModelError if another has it."""

        def refuse() -> None:
            raise ModelError(
                f'{self.path}: another run is writing to it; choose another --run folder'
            )

        with locked(self.path / 'lock', refuse):
            for partial in self.path.glob(f'.{self.bundle.name}.*'):  # of a run that was killed
                shutil.rmtree(partial)
            for partial in self.path.glob(f'.*{PARTIAL}'):
                partial.unlink()
            yield

    def begin(self, config: Mapping[str, Any]) -> None:
        """Start a run: its configuration, and metrics without rows."""
        self._replace(self.config, yaml.safe_dump(dict(config), sort_keys=False))
        self._replace(self.metrics, ','.join(COLUMNS) + '\n')

    def go_back(self, step: int) -> None:
        """Drop the rows after a checkpoint's step, which will be written again."""
        with self.metrics.open() as file:
            head, *rows = file.readlines()
        kept = [row for row in rows if row.endswith('\n') and int(row.split(',')[0]) <= step]
        self._replace(self.metrics, ''.join([head, *kept]))

    def add(self, row: Mapping[str, float]) -> None:
        """Append a row of metrics."""
        with self.metrics.open('a', newline='') as file:
            csv.DictWriter(file, COLUMNS, lineterminator='\n').writerow(row)

    def last(self) -> dict[str, float]:
        """Return the newest row of metrics."""
        with self.metrics.open(newline='') as file:
            *_, row = csv.DictReader(file)
        return {key: float(value) for key, value in row.items() if value}

    def draw(self) -> None:
        """Draw the curves anew."""
        with atomic_write(self.curves) as partial:
            draw(self.metrics, partial)

    @staticmethod
    def _replace(path: Path, text: str) -> None:
        with atomic_write(path) as partial:
            partial.write_text(text)
