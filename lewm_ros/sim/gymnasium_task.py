# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Any Gymnasium environment as a task: ``gym:ID``, such as ``gym:gym_pusht/PushT-v0``.

The environment needs rgb_array rendering and a Box of finite actions. Goals also need access to its
state, for reading and setting it. Evaluation also needs a criterion of success.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
import re
from typing import Any, NamedTuple

import cv2
import numpy as np

from lewm_ros.errors import ConfigError
from lewm_ros.install import missing_package
from lewm_ros.robot.checks import MOST
from lewm_ros.robot.contract import Contract
from lewm_ros.sim.rendering import choose_backend
from lewm_ros.sim.task import Judge, Task

#: Prefix of the names of such tasks.
PREFIX = 'gym:'
#: Resets at most to find a goal that is not reached yet.
DRAWS = 100


class StateAccess(NamedTuple):
    """Getter and setter of an environment's full state (X,) float64."""

    get: Callable[[], np.ndarray]
    set: Callable[[np.ndarray], None]


class GymnasiumTask(Task):
    """A Gymnasium environment as a task; terminated and truncated are ignored.

    A goal is a full state. It is reached where the environment's own ``achieves(state, goal)``
    says so; Gymnasium has no such method, and an environment that is to be evaluated needs one.

    Args:
        image_size: height and width of the camera image [px], or one number for both.
        seed: of resets and goals.

    Raises ConfigError where gymnasium or the environment is missing, or it has no camera image or
    no Box of finite actions.

    """

    env_id: str
    kind = ''  #: of its actions; empty: position if zero is not a valid action, else effort

    unit = 'of state'

    def __init__(self, image_size: int | tuple[int, int] = 64, seed: int = 0) -> None:
        self._size = (image_size, image_size) if isinstance(image_size, int) else image_size
        if min(self._size) < 1:
            raise ConfigError(f'image size is {image_size}: expected at least 1')
        self._robot = self.robot()
        self._env = self.make()
        self.rng = np.random.default_rng(seed)
        self.goal = None
        self._steps = 0
        self.reset()
        self._access = self.access(self._env)

    @classmethod
    def robot(cls) -> Contract:
        """Draft a contract from the action space; positions if zero is not a valid action."""
        return _drafted(cls)

    @classmethod
    def make(cls) -> Any:
        """Make the environment, without a limit of steps."""
        return make_environment(cls.env_id)

    @property
    def environment(self) -> Any:
        """The environment itself, without wrappers."""
        return self._env.unwrapped

    @staticmethod
    def period_of(env: Any) -> float | None:
        """Return the duration of a step [s]; None if the environment does not give it."""
        rate = env.metadata.get('render_fps')
        return getattr(env.unwrapped, 'dt', None) or (1 / rate if rate else None)

    @staticmethod
    def access(env: Any) -> StateAccess | None:
        """Return the state access of an environment; None if it has none."""
        return state_access(env)

    @classmethod
    def judge(cls) -> Judge:
        """Return a separate environment, which draws and judges goals."""
        return cls()

    @classmethod
    def goal_of(cls, state: np.ndarray) -> np.ndarray:
        """Return the state itself."""
        return state

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def reset(self) -> None:
        """Reset the environment with a seed of its own."""
        self._env.reset(seed=int(self.rng.integers(2**31)))
        self._steps = 0

    @property
    def state_text(self) -> str:
        """What the numbers of a state are."""
        return f'the full state of {self.name}'

    def set_state(self, state: np.ndarray) -> None:
        """Put the environment in a state (X,) at time 0."""
        self._put(state)
        self._steps = 0

    @property
    def time(self) -> float:
        """Simulated time since the last reset [s]."""
        return self._steps * self.timestep

    @property
    def timestep(self) -> float:
        """Time of one step of the environment [s]."""
        return self._robot.period

    def step(self, action: np.ndarray, steps: int = 1) -> None:
        """Step under a held action (A,); the end of an episode is ignored."""
        space = self._env.action_space
        given = np.clip(np.reshape(action, space.shape).astype(space.dtype), space.low, space.high)
        for _ in range(steps):
            self._env.step(given)
        self._steps += steps

    def render(self) -> np.ndarray:
        """Return the camera image of the present state, (H, W, 3) uint8 RGB."""
        try:
            image = self._draw()
        except _missing_parts() as error:
            raise ConfigError(f'{self.name} does not render: {error}') from error
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ConfigError(
                f'{self.name} renders {image.dtype} of shape {image.shape}: expected uint8 of '
                'shape (height, width, 3)'
            )
        height, width = self._size
        if image.shape[:2] == self._size:
            return image
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)

    def _draw(self) -> np.ndarray:
        return np.asarray(self._env.render())

    def state(self) -> np.ndarray:
        """Return the full state, (X,) float64; empty if the environment does not give it."""
        return np.empty(0) if self._access is None else self._access.get()

    def sample_goal(self, far: float | None = None) -> np.ndarray:
        """Draw a goal (X,) as :meth:`goal_near` does; there is no measure of distance."""
        return self.goal_near(self.state(), self.rng, far)

    def goal_near(
        self, pose: np.ndarray, rng: np.random.Generator, far: float | None = None
    ) -> np.ndarray:
        """Draw a state (X,) as the environment's resets do, which does not count as ``pose``.

        The world stays as it is. Raises ConfigError where resets draw no such state.
        """
        if far is not None and np.isfinite(far):
            raise ConfigError(
                f'far is {far}, but {self.name} has no distance measure: leave it out'
            )
        before = self._told().get()
        try:
            for _ in range(DRAWS):
                self._env.reset(seed=int(rng.integers(2**31)))
                goal = self.state()
                if not self._counts(pose, goal):
                    return goal
        finally:
            self._put(before)
        raise ConfigError(
            f'{self.name}: the states of {DRAWS} resets all count as the present one: take goals '
            'from recorded episodes (lewm evaluate --episodes)'
        )

    def set_goal(self, goal: np.ndarray) -> np.ndarray:
        """Make a state (X,) the goal; return its image, (H, W, 3) uint8 RGB."""
        self.goal = self._checked(goal)
        return self.goal_image()

    def goal_image(self) -> np.ndarray:
        """Return the image of the goal. Raises ConfigError without one."""
        if self.goal is None:
            raise ConfigError('no goal is set')
        before = self._told().get()
        self._put(self.goal)
        image = self.render().copy()
        self._put(before)
        return image

    def pose_errors(self, pose: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """How far each number of a state (X,) is from that of the goal, (X,)."""
        return np.abs(np.asarray(pose) - goal)

    def errors(self, goal: np.ndarray) -> np.ndarray:
        """How far each number of the state is from that of a goal, (X,)."""
        return self.pose_errors(self.state(), goal)

    def achieves(self, pose: np.ndarray, goal: np.ndarray) -> bool:
        """Whether a state (X,) counts as the goal, by the environment's own criterion."""
        judge = getattr(self.environment, 'achieves', None)
        if judge is None:
            raise ConfigError(
                f'{self.name} does not say when a goal is reached: expected a method '
                'achieves(state, goal) -> bool of the environment (docs/tasks.md)'
            )
        return bool(judge(pose, goal))

    def reached(self) -> bool:
        """Whether the goal is reached as the world stands."""
        return self.goal is not None and self.achieves(self.state(), self.goal)

    def perturb(self, kind: str) -> None:
        """Put the environment in another state. Raises ConfigError for other kinds."""
        if kind != 'teleport':
            raise ConfigError(f"{self.name} has no perturbation '{kind}': expected 'teleport'")
        self._put(self.sample_goal())

    def _counts(self, pose: np.ndarray, goal: np.ndarray) -> bool:
        try:
            return self.achieves(pose, goal)
        except ConfigError:  # there is no criterion
            return False

    def _told(self) -> StateAccess:
        if self._access is None:
            raise ConfigError(
                f'{self.name} cannot report and restore its state, so it has no goals: expected '
                'methods get_state() and set_state(state) of the environment, of an array '
                'of 1 to 128 numbers (docs/tasks.md)'
            )
        return self._access

    def _checked(self, state: np.ndarray) -> np.ndarray:
        state, size = np.asarray(state, dtype=float), len(self._told().get())
        if state.shape != (size,) or not np.isfinite(state).all():
            raise ConfigError(f'state is {state.tolist()}: expected {size} numbers, finite')
        return state

    def _put(self, state: np.ndarray) -> None:
        self._told().set(self._checked(state))


@cache
def environment_task(env_id: str, kind: type[GymnasiumTask] = GymnasiumTask) -> type[GymnasiumTask]:
    """Return the task of an environment, which is made when the task is."""
    return type(kind.__name__, (kind,), {'env_id': env_id, 'name': PREFIX + env_id})


def registered_id(env_id: str) -> str:
    """Return the ID alone of ``MODULE:ID``, where the module registers it."""
    return env_id.rpartition(':')[2]


def make_environment(env_id: str, told: bool = True, **options: Any) -> Any:
    """Make a Gymnasium environment that renders images, without a limit of steps.

    Args:
        env_id: its id, with or without the module that registers it.
        told: whether its metadata lists its render modes; else it is known to render.
        options: of its own.

    Raises ConfigError where it is missing or has no rgb_array rendering.
    """
    try:
        import gymnasium
    except ImportError as error:
        raise ConfigError(f'task {PREFIX}{env_id}: {missing_package("gymnasium")}') from error
    with suppress(ConfigError):  # it may render without OpenGL
        choose_backend()
    namespace, slash, _ = env_id.partition('/')
    try:
        if (
            slash
            and ':' not in namespace
            and all(spec.namespace != namespace for spec in gymnasium.registry.values())
        ):
            import_module(namespace)  # which registers it, by the custom of such packages
        env = gymnasium.make(
            env_id,
            render_mode='rgb_array',
            max_episode_steps=-1,
            disable_env_checker=True,
            **options,
        )
    except _missing_parts(TypeError) as error:  # it may have no render_mode
        raise ConfigError(f'task {PREFIX}{env_id}: {error}') from error
    if told and 'rgb_array' not in env.metadata.get('render_modes', ()):
        raise ConfigError(
            f'task {PREFIX}{env_id} has the render modes {env.metadata.get("render_modes")}: '
            "expected 'rgb_array' among them"
        )
    return env


def _missing_parts(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """Exceptions of unknown environments and of missing environment packages."""
    from gymnasium.error import Error

    return Error, ImportError, *others


def state_access(env: Any) -> StateAccess | None:
    """Find how to get and set the state; None if there is no way.

    By methods ``get_state()`` and ``set_state(state)``, by positions and velocities of a MuJoCo
    environment, or by an attribute ``state`` of numbers, as in classic control; after a reset. A
    way counts if it gives and takes an array of 1 to 128 finite numbers.
    """
    inner = env.unwrapped

    def positions_and_velocities() -> np.ndarray:
        return np.concatenate([inner.data.qpos, inner.data.qvel])

    def put_both(state: np.ndarray) -> None:
        inner.set_state(*np.split(state, [len(inner.data.qpos)]))

    def put_attribute(state: np.ndarray) -> None:
        before = np.asarray(inner.state)
        inner.state = state.astype(before.dtype).reshape(before.shape)[()]

    ways = [
        StateAccess(positions_and_velocities, put_both),
        StateAccess(lambda: np.atleast_1d(inner.state), put_attribute),
    ]
    if hasattr(inner, 'get_state') and hasattr(inner, 'set_state'):
        ways.insert(0, StateAccess(inner.get_state, inner.set_state))
    for way in ways:
        get = partial(_numbers, way.get)
        with suppress(Exception):  # of an environment that has no such way, or another one
            state = get()
            if 1 <= len(state) <= MOST and np.isfinite(state).all():
                way.set(state)
                return StateAccess(get, way.set)
    return None


def _numbers(get: Callable[[], Any]) -> np.ndarray:
    state = np.array(get(), dtype=float)
    if state.ndim != 1:  # such as an image
        raise ConfigError(f'the state has the shape {state.shape}: expected a row of numbers')
    return state


@cache
def _drafted(task: type[GymnasiumTask]) -> Contract:
    """Draft the contract of an environment from its action space, and from what it tells.

    Raises ConfigError where the actions are no Box of finite numbers, or its period is unknown.
    """
    env = task.make()
    try:
        env.reset(seed=0)
        access = task.access(env)
        return _contract(task, env, 0 if access is None else len(access.get()))
    finally:
        env.close()


def _contract(task: type[GymnasiumTask], env: Any, states: int) -> Contract:
    space, name = env.action_space, task.name
    low, high = (
        np.reshape(getattr(space, k, np.nan), -1).astype(float).round(6) for k in ('low', 'high')
    )
    real = np.issubdtype(getattr(space, 'dtype', None) or int, np.floating)
    if not (real and np.isfinite(low).all() and np.isfinite(high).all()):
        raise ConfigError(
            f'task {name} has the actions {space}: expected a Box of finite floating-point numbers'
        )
    period = task.period_of(env)
    if period is None:
        raise ConfigError(
            f"task {name} does not say how long a step is: expected metadata 'render_fps' of the "
            'environment'
        )
    kind = task.kind or ('effort' if ((low <= 0) & (high >= 0)).all() else 'position')
    paths = [f'data[{i}]' for i in range(len(low))]
    array = 'std_msgs/msg/Float64MultiArray'
    return Contract.parse(
        {
            'name': re.sub(r'\W+', '_', task.env_id).strip('_').lower(),
            'camera': {'topic': 'camera/image', 'type': 'sensor_msgs/msg/Image'},
            'action': {
                'topic': 'action',
                'type': array,
                'fields': paths,
                'names': [f'action_{i}' for i in range(len(low))],
                'units': ['1'] * len(low),
                'kind': kind,
                'low': low.tolist(),
                'high': high.tolist(),
            },
            'state': {
                'topic': 'sim/state',
                'type': array,
                'fields': [f'data[{i}]' for i in range(states)],
            }
            if states
            else None,
            'rates': {'control': round(1 / period, 6)},
            'stop': {'mode': 'hold' if kind == 'position' else 'zero'},
        }
    )
