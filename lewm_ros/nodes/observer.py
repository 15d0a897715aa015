# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Base class of the nodes that read latents: checks and stores one stream of observations."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import String, UInt32

from lewm_ros.engines import EngineConfig, load_engine
from lewm_ros.nodes.base import LATCHED, STREAM, LewmNode
from lewm_ros.nodes.figures import Rate
from lewm_ros.nodes.frame_stamps import StampClock
from lewm_ros.nodes.messages import (
    message_class,
    read_action,
    stamp_of,
    vector,
)
from lewm_ros.nodes.parameters import parameters_of
from lewm_ros.robot.fields import JointOrder
from lewm_ros.robot.history import History
from lewm_ros.time import NS_PER_S

#: How often the clock of the commands is checked [s]; a longer silence ends the warning.
CLOCK_PERIOD = 2.0

*ENGINE, PRECISION = parameters_of(EngineConfig)


class ObserverNode(LewmNode):
    """Keeps the history of latents and executed actions of the present episode.

    Latents are ignored until the encoder announces the same model as this node's bundle. The
    history is cleared when the episode changes, the model changes or the clock jumps back;
    ``self.generation`` counts these resets. ``self.lock`` guards the history and everything that
    callbacks share with a worker.
    """

    def configure(self) -> None:
        """Load bundle, contract and engine."""
        self.bundle, self.contract = self.load_bundle()
        self.engine = load_engine(
            self.bundle,
            self.params['engine'],
            provider=self.params['provider'],
            **self.engine_options(),
        )
        self.block = round(self.bundle.block * NS_PER_S)

    def activate(self) -> None:
        """Start with an empty history."""
        self.lock = threading.Lock()
        self.generation = 0
        self.history = self.make_history()
        self._model: str | None = None
        self._episode: int | None = None
        self._latent_rate, self._last_latent = Rate(), time.monotonic()
        applied = self.contract.action.applied
        trained = self.bundle.manifest.joints.get(applied.key, ())
        self._order = JointOrder(applied.fields, trained)
        self._stamps = StampClock('commands', applied.key, ahead=self.contract.action.delay)
        self._last_action = time.monotonic()
        self.subscribe(String, 'model', self._on_model, LATCHED)
        self.subscribe(UInt32, 'episode', self._on_episode, LATCHED)
        kind = message_class(applied.type)
        commands = self.subscribe(kind, applied.topic, self._on_action, STREAM)
        self._commands: str = commands.topic_name
        self.subscribe(Image, 'latent', self._on_latent, STREAM)
        self.every(CLOCK_PERIOD, self._check_clock)

    def cleanup(self) -> None:
        """Drop the model and what it has seen."""
        self.release('engine', 'bundle', 'history')

    def report(self) -> dict[str, Any]:
        """Figures of the latents."""
        return {
            'latents_hz': self._latent_rate.hz,
            'frame_age': time.monotonic() - self._last_latent,
        }

    def observed(self, stamp: int, latent: np.ndarray) -> None:
        """Handle a new latent (D,), already in the history. Must not do heavy computation."""

    def forgotten(self) -> None:
        """Handle a cleared history; called with the lock held."""

    @property
    def model_differs(self) -> bool:
        """Whether the encoder is known to run another model."""
        return self._model is not None and not self.model_agrees

    @property
    def model_agrees(self) -> bool:
        """Whether the encoder runs the model of this node's bundle."""
        return self._model == self.bundle.hash

    def make_history(self) -> History:
        """Create the agent or monitor; return its history, which this class fills."""
        raise NotImplementedError

    def engine_options(self) -> dict[str, Any]:
        """Engine options of this node; see :func:`lewm_ros.engines.load_engine`."""
        return {'threads': self.params['threads'], 'horizon': 1}

    def _forget(self) -> None:
        with self.lock:
            self.history.clear()
            self.generation += 1
            self.forgotten()

    def _on_model(self, message: String, received: int) -> None:
        changed = self._model not in (None, message.data)
        self._model = message.data
        if changed or self.model_differs:
            self._forget()
        text = None
        if not self.model_agrees:
            text = (
                f'the encoder runs model {message.data[:12]}, this node {self.bundle.hash[:12]} '
                f'({self.bundle.path}): latents are ignored until both have the same bundle'
            )
        self.conditions.set('model', text)

    def _on_episode(self, message: UInt32, received: int) -> None:
        if self._episode not in (None, message.data):
            self._forget()
        self._episode = message.data

    def _on_action(self, message: Any, received: int) -> None:
        stamp, values = read_action(message, self.contract.action, received, self._order)
        self._last_action = time.monotonic()
        if self.contract.action.applied.stamp == 'header' and stamp_of(message):
            self._stamps.add(stamp, received)
        self._follow_clock(stamp, self.history.newest_action, 'commands')
        with self.lock:
            self.history.append_action(stamp, values)

    def _check_clock(self) -> None:
        """Warn if the commands are stamped by another clock: they do not fit the frames then."""
        if time.monotonic() - self._last_action > CLOCK_PERIOD:
            self._stamps.clear()
        self.conditions.set('clock', self._stamps.differs(self._commands))

    def _follow_clock(self, stamp: int, newest: int | None, what: str) -> None:
        """Clear the history if a stamp is more than a block before the newest one."""
        if newest is not None and stamp < newest - self.block:
            self.get_logger().warning(
                f'time of {what} jumped back by {(newest - stamp) / NS_PER_S:.2f} s: history '
                'cleared',
                throttle_duration_sec=1.0,
            )
            self._forget()

    def _on_latent(self, message: Image, received: int) -> None:
        if not self.model_agrees:
            if self._model is None:
                self.conditions.set(
                    'model',
                    f'latents arrive, but no model is announced on '
                    f'{self.resolve_topic_name("model")}: they are ignored until it is',
                )
            return
        latent = vector(message, self.bundle.manifest.latent_size)
        stamp = stamp_of(message) or received
        self._follow_clock(stamp, self.history.newest, 'latents')
        with self.lock:
            new = self.history.append_latent(stamp, latent)
        if new:
            self._latent_rate.add()
            self._last_latent = time.monotonic()
            self.observed(stamp, latent)
