# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""How fast recordings are read, by format: `python benchmarks/bags.py [--size 224]`.

Each bag holds the same frames, which compress badly, 224 px or larger, and a command for each.
The figure is the megabytes of raw images that are read, decoded and split into episodes per second.
It is the best of three runs with the files in the page cache.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import tempfile
import time

import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from lewm_ros.bags.episode_writer import BagWriter
from lewm_ros.bags.episodes import read_episodes
from lewm_ros.bags.message_types import TYPES
from lewm_ros.files import find
from lewm_ros.robot.contract import Contract
from lewm_ros.time import NS_PER_S

MODES = {
    'mcap': (StoragePlugin.MCAP, CompressionMode.NONE),
    'mcap, zstd chunks': (StoragePlugin.MCAP, CompressionMode.STORAGE),
    'mcap, zstd messages': (StoragePlugin.MCAP, CompressionMode.MESSAGE),
    'mcap, zstd file': (StoragePlugin.MCAP, CompressionMode.FILE),
    'sqlite3': (StoragePlugin.SQLITE3, CompressionMode.NONE),
}


def write(path: Path, mode: tuple[StoragePlugin, CompressionMode], frames: int, size: int) -> None:
    """Write frames at 50 Hz, and a command with each."""
    noise = np.random.default_rng(0).integers(0, 256, 4 * size * size * 3, dtype=np.uint8)
    writer = Writer(path, version=9, storage_plugin=mode[0])
    if mode[1] != CompressionMode.NONE:
        writer.set_compression(mode[1], CompressionFormat.ZSTD)
    kinds = {'/lewm/camera/image': 'sensor_msgs/msg/Image'}
    kinds['/lewm/action'] = 'std_msgs/msg/Float64MultiArray'
    with writer:
        links = {
            topic: writer.add_connection(topic, kind, typestore=TYPES)
            for topic, kind in kinds.items()
        }
        maker = BagWriter.make
        for index in range(frames):
            stamp = NS_PER_S + index * NS_PER_S // 50
            seconds, rest = divmod(stamp, NS_PER_S)
            time_ = maker('builtin_interfaces/msg/Time', sec=seconds, nanosec=rest)
            image = maker(
                'sensor_msgs/msg/Image',
                header=maker('std_msgs/msg/Header', stamp=time_, frame_id='camera'),
                height=size,
                width=size,
                encoding='rgb8',
                is_bigendian=0,
                step=3 * size,
                data=noise[index * 997 % (3 * size * size) :][: 3 * size * size],
            )
            layout = maker('std_msgs/msg/MultiArrayLayout', dim=[], data_offset=0)
            command = maker('std_msgs/msg/Float64MultiArray', layout=layout, data=np.zeros(2))
            for (topic, kind), message in zip(kinds.items(), (image, command)):
                writer.write(links[topic], stamp, TYPES.serialize_cdr(message, kind))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--size', type=int, default=224, help='of the images [px]')
    parser.add_argument('--frames', type=int, default=1500)
    args = parser.parse_args()
    contract = Contract.load(find('contract', 'reacher'))
    megabytes = args.frames * args.size**2 * 3 / 1e6
    print(f'{args.frames} frames of {args.size} px, {megabytes:.0f} MB')
    for name, mode in MODES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'bag'
            write(path, mode, args.frames, args.size)
            best = float('inf')
            for _ in range(3):
                start = time.perf_counter()
                frames = sum(len(e.stamps) for e in read_episodes([path], contract, 224))
                best = min(best, time.perf_counter() - start)
            if frames != args.frames:
                raise SystemExit(f'{name}: {frames} frames read of {args.frames}')
            print(f'{name:24}{megabytes / best:8.0f} MB/s')


if __name__ == '__main__':
    main()
