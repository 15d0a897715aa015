# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""An encoder that is not trained, an ONNX file or a bundle's: only the predictor learns.

The first is DINO-WM's idea; the second refines a bundle with more recordings.
"""

from __future__ import annotations

from dataclasses import replace
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from lewm_ros.bags.episodes import check_view
from lewm_ros.bundle import ENCODER, WEIGHTS, Bundle
from lewm_ros.bundle.bundle import FILE_LIMIT
from lewm_ros.engines.graphs import parse_graph
from lewm_ros.engines.torch_engine import load_model
from lewm_ros.errors import ModelError, one_line
from lewm_ros.evaluation.bags import seen_bags
from lewm_ros.files import atomic_write, read_limited
from lewm_ros.model import LeWorldModel, ModelConfig
from lewm_ros.progress import progress
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.imaging import normalise
from lewm_ros.training.cache import CachedBag
from lewm_ros.training.export import export_weights
from lewm_ros.training.windows import Images, Windows

BATCH = 64  #: images encoded at once, where the graph takes more than one
SAMPLE = 65_536  #: frames at most from which latents are standardised


class FrozenEncoder:
    """Any graph from images (N, 3, S, S), normalised as for our encoders, to vectors (N, D).

    Args:
        path: ONNX file; N is 1 or of any size, S a number.
        threads: of the processor.

    Attributes:
        path: of the file.
        sha256: of its content.
        image_size: S [px].
        latent_size: D.

    Raises ModelError naming the file and what is wrong in it, EngineError without onnxruntime.

    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        from lewm_ros.engines.onnxruntime_engine import make_session

        content = read_limited(path, FILE_LIMIT)
        self.path, self.sha256 = path, hashlib.sha256(content).hexdigest()
        self._model = parse_graph(content, f'encoder {path}')
        self._session = make_session(f'encoder {path}', content, threads, '')
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ModelError(
                f'encoder {path} has inputs {[x.name for x in inputs]} and outputs '
                f'{[x.name for x in outputs]}: expected one of each, images and vectors'
            )
        self._input, shape = inputs[0].name, inputs[0].shape
        count, size = shape[0] if shape else 0, shape[-1] if shape else 0
        if (
            inputs[0].type != 'tensor(float)'
            or shape[1:] != [3, size, size]
            or not isinstance(size, int)
            or (isinstance(count, int) and count != 1)
        ):
            raise ModelError(
                f'encoder {path} reads {inputs[0].type} {shape}: expected tensor(float) '
                '[N, 3, S, S] with N of any size or 1, and S a number'
            )
        self.image_size, self._batch = size, 1 if count == 1 else BATCH
        vectors = self._run(np.zeros((1, size, size, 3), np.uint8))
        if vectors.ndim != 2 or len(vectors) != 1 or vectors.dtype != np.float32:
            raise ModelError(
                f'encoder {path} gives {vectors.dtype} {list(vectors.shape)} for one image: '
                'expected one vector, float32 [1, D]'
            )
        self.latent_size = vectors.shape[1]

    def encoded(self, windows: Windows, cache: Path) -> Windows:
        """Return windows with latents (n, D) float32 in the place of their images.

        Frozen latents never change, so each frame is encoded once, into the folder of its bag in
        the cache.
        """
        return replace(windows, images=Images([self._latents(bag, cache) for bag in windows.bags]))

    def statistics(self, windows: Windows, chosen: np.ndarray) -> tuple[np.ndarray, np.float32]:
        """Mean (D,) and one standard deviation of all dimensions, of some encoded windows.

        The network is designed for latents of about N(0, 1). Features of another scale would be
        negligible beside the position embedding, or would make the loss too large or too small for
        gradient clipping. One factor for all dimensions preserves the encoder's own distances,
        which planning uses; a factor for each would amplify dimensions that hold only noise.

        Raises ModelError if the encoder gives the same vector for all images.
        """
        index = np.unique(windows.frames[chosen])
        latents = windows.images[index[:: 1 + len(index) // SAMPLE]].astype(np.float64)
        mean = latents.mean(axis=0)
        std = np.sqrt(np.square(latents - mean).mean())
        if not std > 1e-6 * np.abs(mean).max():
            raise ModelError(f'encoder {self.path} gives the same vector for all images')
        return mean.astype(np.float32), np.float32(std)

    def graph(self, mean: np.ndarray, std: np.float32) -> bytes:
        """Graph of a bundle: this encoder, and its vectors standardised."""
        from onnx import TensorProto, compose, helper, numpy_helper

        inner = compose.add_prefix(self._model, 'frozen/').graph
        size = self.image_size
        graph = helper.make_graph(
            [
                helper.make_node('Identity', ['pixels'], [f'frozen/{self._input}']),
                *inner.node,
                helper.make_node('Sub', [inner.output[0].name, 'mean'], ['centred']),
                helper.make_node('Div', ['centred', 'std'], ['latent']),
            ],
            'encoder',
            [helper.make_tensor_value_info('pixels', TensorProto.FLOAT, [1, 3, size, size])],
            [helper.make_tensor_value_info('latent', TensorProto.FLOAT, [1, self.latent_size])],
            [
                *inner.initializer,
                numpy_helper.from_array(mean, 'mean'),
                numpy_helper.from_array(np.asarray(std), 'std'),
            ],
        )
        model = helper.make_model(
            graph,
            opset_imports=self._model.opset_import,
            ir_version=max(4, self._model.ir_version),  # 3 wants initialisers among the inputs
        )
        return model.SerializeToString(deterministic=True)

    def check(self, contract: Contract) -> None:
        """Raise ConfigError if the encoder is not for the images of this robot."""

    @property
    def provenance(self) -> dict[str, Any]:
        """What is known of the encoder's own training, for the manifest."""
        return {}

    def architecture(self, trained: ModelConfig) -> ModelConfig:
        """Return that of a bundle with this encoder and a trained model of ``trained``."""
        return trained

    def begin(self, model: LeWorldModel) -> None:
        """Give a new model what is known of its weights: nothing."""

    def files(self, trained: LeWorldModel, mean: np.ndarray, std: np.float32) -> dict[str, bytes]:
        """Files of a bundle, by name, that are not exported from the trained model alone."""
        return {ENCODER: self.graph(mean, std)}

    def _latents(self, bag: CachedBag, cache: Path) -> np.ndarray:
        path = cache / bag.key / f'latents-{self.sha256[:24]}.f32'
        if not path.exists():
            with atomic_write(path) as partial, partial.open('wb') as file:
                starts = range(0, len(bag.images), self._batch)
                for start in progress(starts, desc=f'encode {bag.path.name}', unit='batch'):
                    vectors = self._run(bag.images[start : start + self._batch])
                    if not np.isfinite(vectors).all():
                        raise ModelError(f'encoder {self.path} gives numbers that are not finite')
                    file.write(vectors.tobytes())
        return np.memmap(path, np.float32, 'r').reshape(len(bag.images), self.latent_size)

    def _run(self, images: np.ndarray) -> np.ndarray:
        """Vectors (n, D) of images (n, S, S, 3) uint8."""
        try:
            return self._session.run(None, {self._input: normalise(images)})[0]
        except Exception as error:  # onnxruntime's errors have no common base
            raise ModelError(
                f'encoder {self.path} fails on {len(images)} images: {one_line(error)}'
            ) from error


class BundleEncoder(FrozenEncoder):
    """The encoder of a bundle: the new bundle has the same latents, and the encoder's weights.

    The new predictor begins as the bundle's.

    Args:
        bundle: whose architecture the new model has, too.
        threads: of the processor.

    """

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        super().__init__(bundle.path / ENCODER, threads)
        self._encoder, self._whole = bundle.read(ENCODER), load_model(bundle)
        self._bundle = bundle

    def check(self, contract: Contract) -> None:
        """Compare crop and scale of the camera with those that the encoder was trained under."""
        trained = self._bundle.contract
        replace(trained, camera=contract.camera).check_against_bundle(trained)

    def encoded(self, windows: Windows, cache: Path) -> Windows:
        """Encode the frames, which must be of the view that the encoder was trained on."""
        whose = "the encoder's training data"
        before, camera = self._bundle.spec.camera_size, self._bundle.contract.camera
        for bag in windows.bags:
            check_view(bag.path, bag.summary.camera_size, before, camera, whose)
        return super().encoded(windows, cache)

    @property
    def provenance(self) -> dict[str, Any]:
        """The bags of the bundle and of its own encoder, and how the bundle was trained."""
        of_bag, of_run = ('name', 'sha256', 'held_out_episodes'), ('command', 'config', 'minutes')
        made = self._bundle.manifest.provenance
        bags = [{k: bag[k] for k in of_bag if k in bag} for bag in seen_bags(self._bundle)]
        return {'encoder_bags': bags, 'encoder': {k: made[k] for k in of_run if k in made}}

    def statistics(self, windows: Windows, chosen: np.ndarray) -> tuple[np.ndarray, np.float32]:
        """Return mean 0 and standard deviation 1: the latents stay as they are."""
        return np.zeros(self.latent_size, np.float32), np.float32(1)

    def architecture(self, trained: ModelConfig) -> ModelConfig:
        """Return the bundle's, with the dropout of the training."""
        return replace(self._whole.config, dropout=trained.dropout)

    def begin(self, model: LeWorldModel) -> None:
        """Let the predictor begin as that of the bundle."""
        whole = self._whole.state_dict()
        model.load_state_dict({name: whole[name] for name in model.state_dict()})

    def files(self, trained: LeWorldModel, mean: np.ndarray, std: np.float32) -> dict[str, bytes]:
        """Return the bundle's graph, unchanged, and its encoder's weights beside the trained."""
        self._whole.load_state_dict({**self._whole.state_dict(), **trained.state_dict()})
        return {ENCODER: self._encoder, WEIGHTS: export_weights(self._whole)}


def load_encoder(path: Path, threads: int = 1) -> FrozenEncoder:
    """Load an encoder that is not trained: that of a bundle folder, or an ONNX file.

    Raises ModelError naming the file and what is wrong in it, EngineError without onnxruntime.
    """
    return (
        BundleEncoder(Bundle.load(path), threads) if path.is_dir() else FrozenEncoder(path, threads)
    )
