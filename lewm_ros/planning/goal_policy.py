# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Goal-conditioned policy: a small network computes the commands directly, without a search.

It is trained in one of two ways. An inverse model learns in hindsight which recorded commands led
from one latent to another (GC-IDM, arXiv 2605.08732). A policy learned in imagination follows the
gradient of the latent distance to its goal through a frozen world model, as Dreamer
(arXiv 1912.01603) follows the gradient of a value function.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lewm_ros.errors import ModelError

LAYERS = 4  #: linear layers of the network, with a ReLU between them


@dataclass(frozen=True)
class GoalPolicy:
    """A multilayer perceptron. D latent size, A command size, n blocks.

    Raises ModelError for arrays that do not fit together.
    """

    weights: tuple[np.ndarray, ...]  #: (inputs, outputs) float32 of each layer
    biases: tuple[np.ndarray, ...]  #: (outputs,) float32 of each layer
    blocks: int  #: n, blocks per call; also the distance of the farthest goal in training
    inputs: int  #: 3 D
    outputs: int  #: n A

    def __post_init__(self) -> None:
        sizes = [self.inputs, *(len(bias) for bias in self.biases)]
        shapes = [weight.shape for weight in self.weights]
        if shapes != list(zip(sizes, sizes[1:])) or sizes[-1] != self.outputs:
            raise ModelError(
                f'weights of a policy have shapes {shapes}: expected {LAYERS} layers from '
                f'{self.inputs} to {self.outputs} numbers'
            )
        if not all(np.isfinite(array).all() for array in (*self.weights, *self.biases)):
            raise ModelError('weights of a policy are not finite')

    def commands(self, before: np.ndarray, latent: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Return one normalised command for each of the next n blocks, (n, A) float64.

        Args:
            before: (D,) latent one block earlier.
            latent: (D,) latent at the start of the first block.
            goal: (D,) goal latent, at most n blocks away.

        """
        x = np.concatenate([latent, latent - before, goal - latent]).astype(np.float32)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = (np.maximum(x, 0) if layer else x) @ weight + bias
        return x.reshape(self.blocks, -1).astype(float)
