# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Is a bag from the live recorder worth as much as the same episodes made offline?

.venv/bin/python benchmarks/live_training.py FOLDER [--size 640x480] [--rate 25] [--episodes 420]

Four steps, each skipped if its result is already in FOLDER:

1. live: the simulated arm with its camera, `lewm up plan` and `lewm record` run in real time over
   DDS, while random plans go to the controller; a new episode every five seconds.
2. offline: from the first state of every recorded episode the commands are played again into a
   simulator that waits, and written as `lewm collect` does, with an even camera.
3. `lewm train` on each, with the same training config and several seeds, because two short runs
   on one bag differ as well.
4. `lewm evaluate` of each, on the same goals; and the prediction loss of each on the same
   held-out episodes of the live recording, since those are harder to predict.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader
import yaml

from lewm_ros.bags.episode_writer import BagWriter
from lewm_ros.bringup.groups import profile_variable
from lewm_ros.files import find, share_dir
from lewm_ros.robot.contract import Contract
from lewm_ros.sim import make_task
from lewm_ros.sim.collect import (
    RandomPolicy,
    image_size,
    write_action,
    write_episode,
    write_image,
    write_state,
)
from lewm_ros.time import NS_PER_S

SECONDS = 5.0  #: of an episode
LEAD = 0.4  #: how far ahead random plans are sent [s]


def drive(contract: Contract, namespace: str, episodes: int, seed: int) -> None:
    """Send random plans to the controller, and reset the simulator after every episode."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from std_srvs.srv import Trigger
    from trajectory_msgs.msg import JointTrajectory

    from lewm_ros.nodes.base import NEWEST
    from lewm_ros.nodes.messages import plan_message

    rclpy.init()
    node = rclpy.create_node('driver', namespace=namespace)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    publisher = node.create_publisher(JointTrajectory, 'plan', NEWEST)
    reset: Any = node.create_client(Trigger, 'sim/reset')
    policy = RandomPolicy(contract, np.random.default_rng(seed))
    period = round(contract.period * NS_PER_S)
    if not reset.wait_for_service(60.0):
        raise SystemExit('no simulator')
    until = time.monotonic() + 60.0  # controller and recorder
    while publisher.get_subscription_count() < 1 and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(2.0)
    for number in range(episodes):
        future = reset.call_async(Trigger.Request())
        executor.spin_until_future_complete(future, timeout_sec=10.0)
        if not future.done():
            raise SystemExit('the simulator does not answer')
        policy.reset()
        time.sleep(0.05)  # the controller forgets plans of the last episode when it hears of it
        end = time.monotonic() + SECONDS
        start = node.get_clock().now().nanoseconds
        while time.monotonic() < end:
            now = node.get_clock().now().nanoseconds
            if start < now + LEAD * NS_PER_S:
                actions = np.array([policy.act(0) for _ in range(10)])
                publisher.publish(plan_message(start, period, actions, contract.action))
                start += len(actions) * period
            executor.spin_once(timeout_sec=0.02)
        if number % 20 == 19:
            print(f'episode {number + 1}/{episodes}', flush=True)
    rclpy.shutdown()


def record(args: argparse.Namespace, bag: Path) -> None:
    """Run the simulated robot, the nodes, the recorder and the driver."""
    profile = share_dir() / 'config' / 'fastdds.xml'
    environment = {
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        profile_variable(): str(profile),
        **os.environ,
    }
    height, width = args.size
    space = args.folder.name.replace('-', '_')
    lewm = [sys.executable, '-m', 'lewm_ros.cli']
    values = {
        'contract': str(find('contract', 'reacher')),
        'camera_rate': float(args.rate),
        'image_size': height,
        'image_width': width,
        'seed': args.seed,
    }
    simulator = [sys.executable, '-m', 'lewm_ros.bringup.compose', 'sim_node', '--ros-args']
    simulator += ['-r', f'__ns:=/{space}', '-p', 'autostart:=true']
    simulator += [part for name, value in values.items() for part in ('-p', f'{name}:={value}')]
    driver = [sys.executable, __file__, str(args.folder), '--drive', space]
    driver += ['--episodes', str(args.episodes), '--seed', str(args.seed)]
    commands = (
        simulator,
        [*lewm, 'up', 'plan', '--namespace', space],
        [*lewm, 'record', '--contract', 'reacher', '--namespace', space, '--out', str(bag)],
    )
    running = [subprocess.Popen(command, env=environment) for command in commands]
    try:
        subprocess.run(driver, env=environment, check=True)
    finally:
        for process in reversed(running):
            process.send_signal(signal.SIGINT)
        statuses = [process.wait(60) for process in reversed(running)]
    if any(statuses):
        raise SystemExit(f'recorder, nodes and simulator ended with {statuses}')


def recorded(bag: Path, contract: Contract) -> Iterator[tuple[np.ndarray, int, list[Any]]]:
    """Per episode: its first state (4,), the stamp of that [ns], its commands (stamp, (2,))."""
    state: np.ndarray | None = None
    first = 0
    commands: list[Any] = []
    with AnyReader([bag]) as reader:
        wanted = [c for c in reader.connections if 'image' not in c.topic]
        for connection, stamp, data in reader.messages(wanted):
            name = connection.topic.rpartition('/')[2]
            if name not in ('episode', 'action', 'joint_states'):
                continue
            message: Any = reader.deserialize(data, connection.msgtype)
            if name == 'episode':
                if state is not None and commands:
                    yield state, first, commands
                state, commands = None, commands[-1:]
            elif name == 'action':
                commands.append((stamp, np.array(message.data)))
            elif state is None:
                time_ = message.header.stamp
                first = time_.sec * NS_PER_S + time_.nanosec
                state = np.concatenate([message.position, message.velocity])
    if state is not None and commands:
        yield state, first, commands


def again(args: argparse.Namespace, live: Path, bag: Path) -> None:
    """Play the recorded commands into a waiting simulator."""
    contract = Contract.load(find('contract', 'reacher'))
    task: Any = make_task('reacher', args.size)
    from mujoco import mj_forward  # after the task chose how to render

    step = round(task.timestep * NS_PER_S)
    with BagWriter(bag, f'played again from {live.name}') as out:
        for number, (state, first, commands) in enumerate(recorded(live, contract), start=1):
            task.data.qpos[:], task.data.qvel[:] = np.split(state, 2)
            mj_forward(task.model, task.data)
            write_episode(out, first, number)
            end = min(first + round(SECONDS * NS_PER_S), commands[-1][0])
            ahead = list(commands)
            held = np.zeros(2)
            frame = 0
            for now in range(first, end, step):
                while ahead and ahead[0][0] <= now:
                    stamp, held = ahead.pop(0)
                    write_action(out, contract, max(stamp, first), held)
                if now - first >= frame * NS_PER_S / args.rate:
                    frame += 1
                    write_state(out, contract, now, task.state(), task.joints)
                    write_image(out, contract, now, task.render())
                task.step(held)
    task.close()


def train(args: argparse.Namespace, bag: Path, contract: Path, bundle: Path, seed: int) -> None:
    """Run `lewm train` on one bag."""
    command = [sys.executable, '-m', 'lewm_ros.cli', 'train', '--data', str(bag)]
    command += ['--contract', str(contract), '--out', str(bundle)]
    command += ['--run', str(bundle.with_name(f'run_{bundle.name}'))]
    command += ['--steps', str(args.steps), '--threads', '1', '--seed', str(seed)]
    subprocess.run(command, check=True)


def on_live(args: argparse.Namespace, contract: Path, seed: int) -> dict[str, float]:
    """Prediction loss of both models of a seed on the held-out episodes of the live recording."""
    import torch

    from lewm_ros.model import ARCHITECTURES
    from lewm_ros.training.config import CONFIGS
    from lewm_ros.training.trainer import Trainer
    from lewm_ros.training.windows import load_windows

    robot = Contract.load(contract)
    config = ARCHITECTURES['small'](robot.action.size)
    sizes = config.image_size, config.history, config.frameskip
    found = {}
    made = {}
    for name in ('live', 'offline'):
        windows = load_windows([args.folder / name], robot, *sizes, args.folder / 'cache')
        trainer = Trainer(windows, robot, 'small', CONFIGS['small'], 'cpu', seed)
        state = torch.load(
            args.folder / f'run_bundle_{name}_{seed}' / 'checkpoint.pt', weights_only=True
        )
        trainer.model.load_state_dict(state['model'])
        trainer.model.eval()
        made[name] = trainer
    held_out = np.random.default_rng(seed).permutation(made['live'].held_out)[:2000]
    for name, trainer in made.items():
        trainer.windows = made['live'].windows
        errors = []
        for chosen in np.array_split(held_out, 1 + len(held_out) // 64):
            with torch.no_grad():
                pixels, actions = trainer.batch(chosen)
                latents = trainer.model.encode(pixels)
                predicted = trainer.model.predict(latents[:, :-1], actions)
            errors.append((predicted - latents[:, 1:]).square().mean(dim=(1, 2)))
        found[name] = float(torch.cat(errors).mean())
    return found


def success(args: argparse.Namespace, bundle: Path) -> dict[str, Any]:
    """Run `lewm evaluate` on one bundle, its camera as the recorded one."""
    height, width = args.size
    command = [sys.executable, '-m', 'lewm_ros.cli', 'evaluate', str(bundle), '--json']
    command += ['--goals', str(args.goals), '--image-size', f'{width}x{height}']
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def write_contract(args: argparse.Namespace) -> Path:
    """Write the arm's contract with the crop that makes the recorded image square."""
    values = yaml.safe_load(find('contract', 'reacher').read_text())
    height, width = args.size
    if width != height:
        values['camera']['crop'] = [(width - height) // 2, 0, height, height]
    path = args.folder / 'contract.yaml'
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def main() -> int:
    """Do what is missing, then print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('folder', type=Path, help='bags, runs and bundles go here')
    parser.add_argument('--size', type=image_size, default=(64, 64), help='of the camera')
    parser.add_argument('--rate', type=float, default=20.0, help='of the camera [Hz]')
    parser.add_argument('--episodes', type=int, default=420, help='of 5 s')
    parser.add_argument('--steps', type=int, default=3000, help='of training')
    parser.add_argument('--goals', type=int, default=40, help='of the evaluation')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--seeds', type=int, default=3, help='training runs on each bag')
    parser.add_argument('--until', choices=('live', 'offline'), help='stop after this')
    parser.add_argument('--drive', metavar='NAMESPACE', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if isinstance(args.size, int):
        args.size = (args.size, args.size)
    if args.drive:
        robot = Contract.load(find('contract', 'reacher'))
        drive(robot, args.drive, args.episodes, args.seed)
        return 0
    args.folder.mkdir(parents=True, exist_ok=True)
    contract = write_contract(args)
    bags = {name: args.folder / name for name in ('live', 'offline')}
    if not bags['live'].exists():
        record(args, bags['live'])
    if args.until == 'live':
        return 0
    if not bags['offline'].exists():
        again(args, bags['live'], bags['offline'])
    if args.until == 'offline':
        return 0
    runs = [(name, seed) for seed in range(args.seeds) for name in bags]
    for name, seed in runs:
        bundle = args.folder / f'bundle_{name}_{seed}'
        if not bundle.exists():
            train(args, bags[name], contract, bundle, seed)
    figures: dict[str, Any] = {name: [] for name in bags}
    for name, seed in runs:
        bundle = args.folder / f'bundle_{name}_{seed}'
        provenance = json.loads((bundle / 'manifest.json').read_text())['provenance']
        figures[name].append(
            {
                'seed': seed,
                'frames': provenance['frames'],
                'minutes': provenance['minutes'],
                **provenance['metrics'],
                'success': success(args, bundle),
            }
        )
    same = [on_live(args, contract, seed) for seed in range(args.seeds)]
    ratios = [found['live'] / found['offline'] for found in same]
    figures['on_live_episodes'] = same
    figures['loss_ratios'] = ratios
    figures['median_loss_ratio'] = float(np.median(ratios))
    (args.folder / 'figures.json').write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures, indent=1))
    return 0


if __name__ == '__main__':
    sys.exit(main())
