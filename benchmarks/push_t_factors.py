# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the latents of a Push-T model depend on: agent, place of the T, orientation of the T.

``python benchmarks/push_t_factors.py BUNDLE BAG`` prints, for each of them, the share of the
variance of all latents that it makes when it alone changes. The T turns about its centre of area,
not about the point that its state gives: else its place would change too. For the orientation it
prints the share of each harmonic; one that looks the same after a third of a turn has the third.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

import numpy as np

from lewm_ros.bags.episodes import read_episodes
from lewm_ros.bundle import Bundle
from lewm_ros.engines import load_engine
from lewm_ros.files import find
from lewm_ros.sim import make_task
from lewm_ros.sim.push_t_policy import MIDDLE
from lewm_ros.sim.scripted import rotation

BASES, STEPS = 24, 36  #: states that a factor is changed in, and its values in each
HARMONICS = 6  #: that are printed


def changed(base: np.ndarray, factor: str, step: int, other: np.ndarray) -> np.ndarray:
    """Return a state (10,) at rest with one factor changed; ``other`` is another state."""
    state = np.concatenate([base[:5], np.zeros(5)])
    if factor == 'agent':
        state[:2] = other[:2]
    elif factor == 'place of the T':
        state[2:4] = other[2:4]
    else:
        state[4] += 2 * np.pi * step / STEPS
        state[2:4] += (rotation(base[4]) - rotation(state[4])) @ MIDDLE
    return state


def main() -> None:
    """Measure a bundle."""
    parser = argparse.ArgumentParser(description='What the latents of a Push-T model depend on.')
    parser.add_argument('bundle', help='bundle folder or name')
    parser.add_argument('bag', type=Path, help='bag of gym:gym_pusht/PushT-v0')
    args = parser.parse_args()
    bundle = Bundle.load(find('bundle', args.bundle))
    engine, rng = load_engine(bundle), np.random.default_rng(0)
    size = bundle.manifest.image_size
    latents, states = [], []
    for episode in read_episodes([args.bag], bundle.contract, size):
        latents += [engine.encode(image) for image in episode.images[::10]]
        if episode.states is not None:
            states.append(episode.states[np.isfinite(episode.states).all(axis=1)])
    seen = np.concatenate(states)
    total = np.var(latents, axis=0).sum()
    bases = rng.choice(seen, BASES)
    with closing(make_task('gym:gym_pusht/PushT-v0', size)) as task:
        for factor in ('agent', 'place of the T', 'orientation of the T'):
            found = np.empty((BASES, STEPS, bundle.manifest.latent_size))
            for number, base in enumerate(bases):
                for step in range(STEPS):
                    task.set_state(changed(base, factor, step, rng.choice(seen)))
                    found[number, step] = engine.encode(task.render())
            share = found.var(axis=1).sum(axis=-1).mean() / total
            print(f'{factor}: {share:.3f} of the variance')
    moved = found - found.mean(axis=1, keepdims=True)
    power = np.square(np.abs(np.fft.rfft(moved, axis=1))).sum(axis=(0, 2))[1:]
    shares = ', '.join(f'{p:.2f}' for p in power[:HARMONICS] / power.sum())
    print(f'harmonics of the orientation: {shares}')


if __name__ == '__main__':
    main()
