# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Windows of several bags: held-out shares, refused copies and rates, memory use."""

from __future__ import annotations

import json
import logging
from pathlib import Path
import resource
import shutil
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from recordings import FRAME, assert_equal, command, drive, episode, frame, noise, write

from lewm_ros.bags.episodes import read_episodes
from lewm_ros.bags.images import ImageBuffer, ImageFile
from lewm_ros.errors import BagError
from lewm_ros.time import NS_PER_S
from lewm_ros.training import cache as bag_cache
from lewm_ros.training.windows import load_windows

ROOT = Path(__file__).resolve().parents[2]
SIZE, HISTORY, FRAMESKIP = 16, 3, 2
OF_EPISODE = 1 + 3 * 30  # messages that drive() makes


@pytest.fixture(scope='module')
def bags(tmp_path_factory) -> list[Path]:
    """Return three bags of noise: five episodes, two, and one; all images differ."""
    folder = tmp_path_factory.mktemp('bags')
    messages = drive(30, 8)
    cuts = [0, 5 * OF_EPISODE, 7 * OF_EPISODE, 8 * OF_EPISODE]
    return [
        write(folder / name, messages[start:stop])
        for name, start, stop in zip('abc', cuts, cuts[1:])
    ]


@pytest.fixture
def load(reacher_contract, tmp_path):
    """Return load_windows with a cache of the test's own."""
    return lambda *bags: load_windows(
        bags, reacher_contract, SIZE, HISTORY, FRAMESKIP, tmp_path / 'cache'
    )


def test_several_bags_are_one_after_the_other(bags, load, reacher_contract):
    """Images, blocks and episodes of each bag are the same as when it is loaded alone."""
    together = load(*bags)
    assert [b.summary.episodes for b in together.bags] == [5, 2, 1]
    assert np.unique(together.episodes).tolist() == list(range(8))
    for number, bag in enumerate(bags):
        alone, here = load(bag), together.sources == number
        np.testing.assert_array_equal(
            together.images[together.frames[here]], alone.images[alone.frames]
        )
        np.testing.assert_array_equal(together.blocks[here], alone.blocks)
    chosen = np.random.default_rng(0).permutation(len(together.frames))[:40]
    images = np.concatenate([e.images for e in read_episodes(bags, reacher_contract, SIZE)])
    np.testing.assert_array_equal(
        together.images[together.frames[chosen]], images[together.frames[chosen]]
    )


def test_each_bag_gives_its_share_of_held_out_episodes(bags, load):
    """Two or more episodes hold out at least one, a single one none; other bags do not matter."""
    windows = load(*bags)
    train, held_out = windows.split(0.4, seed=3)
    assert sorted([*train, *held_out]) == list(range(len(windows.frames)))
    assert not set(windows.episodes[train]) & set(windows.episodes[held_out])
    of_bag = [
        len(set(windows.episodes[held_out][windows.sources[held_out] == i])) for i in range(3)
    ]
    assert of_bag == [2, 1, 0]
    alone = load(bags[0])
    kept = held_out[windows.sources[held_out] == 0]
    assert alone.split(0.4, seed=3)[1].tolist() == kept.tolist()


def test_of_bags_with_one_episode_whole_bags_are_held_out(load, tmp_path):
    """Whole bags are held out then; a single episode is refused."""
    messages = drive(30, 3)
    single = [
        write(tmp_path / str(i), messages[i * OF_EPISODE : (i + 1) * OF_EPISODE]) for i in range(3)
    ]
    windows = load(*single)
    train, held_out = windows.split(0.1, seed=0)
    assert len(set(windows.sources[held_out])) == 1 and len(set(windows.sources[train])) == 2
    with pytest.raises(BagError, match='1 episode with usable windows: training needs at least 2'):
        load(single[0]).split(0.1, seed=0)


@pytest.mark.parametrize('again', ['a', 'copy', 'folder'])
def test_a_recording_given_twice_is_refused(load, tmp_path, again):
    """A recording is recognised by its path, by its content, and as part of a folder."""
    shutil.copytree(write(tmp_path / 'folder' / 'a', drive(30, 2)), tmp_path / 'copy')
    second = {'a': tmp_path / 'folder' / 'a'}.get(again, tmp_path / again)
    with pytest.raises(BagError, match=r'bag .* has the content of .*folder/a, given before'):
        load(tmp_path / 'folder' / 'a', second)


def test_bags_of_other_camera_rates_are_refused(load, tmp_path):
    """20 and 10 Hz do not mix; rates within 10 % do, and the longer bag's is kept."""
    fast = write(tmp_path / 'fast', drive(60, 2))
    messages = drive(60, 2)
    frames = [m for m in messages if m.topic.endswith('image')]
    slow = write(tmp_path / 'slow', [m for m in messages if m not in frames[1::2]])
    with pytest.raises(BagError, match=r'slow has 10 frames a second, .*fast 20|fast has 20 '):
        load(fast, slow)
    near = [episode(NS_PER_S - 2, 1)]
    for index in range(40):
        stamp = NS_PER_S + index * FRAME * 11 // 10
        near += [command(stamp - 1, index / 40, 0.1), frame(stamp, noise(5000 + index))]
    both = load(fast, write(tmp_path / 'near', near))
    assert both.camera_period == pytest.approx(0.05)


def test_a_bag_without_windows_is_named_and_left_out(load, bags, tmp_path, caplog):
    """A recording that was cut short is skipped with a warning."""
    short = write(tmp_path / 'short', drive(3, 1))
    with caplog.at_level(logging.WARNING, logger='lewm'):
        assert len(load(short, bags[0]).bags) == 1
    assert 'short: 1 episodes, 3 frames, 0 windows' in caplog.text


def test_only_a_bag_that_is_new_is_read(bags, load, tmp_path, monkeypatch):
    """Adding a bag reads only that bag; changed content under the same name is noticed."""
    read = []

    def counted(paths, *args, **options):
        read.extend(paths)
        return read_episodes(paths, *args, **options)

    monkeypatch.setattr(bag_cache, 'read_episodes', counted)
    load(bags[0])
    load(*bags)
    assert read == bags
    write(tmp_path / 'new', drive(30, 2))
    load(tmp_path / 'new')
    (file,) = (tmp_path / 'new').glob('*.mcap')
    write(tmp_path / 'other', drive(30, 3)[OF_EPISODE:])
    (other,) = (tmp_path / 'other').glob('*.mcap')
    file.write_bytes(other.read_bytes())
    changed = load(tmp_path / 'new')
    assert read[3:] == [tmp_path / 'new'] * 2
    assert changed.blocks.max() > 3


def test_files_are_hashed_once(bags, load, tmp_path, monkeypatch):
    """Hashes are cached; a damaged cache is recomputed."""
    hashed = []
    digest = bag_cache.hashlib.file_digest

    def counted(stream, name):
        hashed.append(stream.name)
        return digest(stream, name)

    monkeypatch.setattr(bag_cache.hashlib, 'file_digest', counted)
    load(*bags)
    load(*bags)
    assert len(hashed) == 3
    (tmp_path / 'cache' / 'hashes.json').write_text('{"half')
    load(*bags)
    assert len(hashed) == 6


def test_what_a_killed_run_left_in_the_cache_is_removed(bags, load, tmp_path):
    """Half a cache may take tens of gigabytes."""
    left = tmp_path / 'cache' / 'partial-123'
    left.mkdir(parents=True)
    (left / 'images.u8').write_bytes(b'half')
    load(bags[2])
    assert not left.exists()


def test_spilled_episodes_equal_those_in_memory(reacher_contract, tmp_path):
    """This holds with frames that are late, duplicate, or too early to belong to an episode."""
    messages = drive(40, 3)
    frames = [i for i, m in enumerate(messages) if m.topic.endswith('image')]
    for one in (frames[3], frames[50], frames[51], frames[90]):
        messages[one], messages[one + 6] = messages[one + 6], messages[one]
    messages.insert(frames[20], messages[frames[18]])  # duplicate stamp: stored, then dropped
    bag = write(tmp_path / 'bag', messages)
    expected = list(read_episodes([bag], reacher_contract, SIZE))
    with (tmp_path / 'spill').open('w+b', buffering=0) as file:
        found = list(read_episodes([bag], reacher_contract, SIZE, spill=file))
        assert all(isinstance(e.images, np.memmap) for e in found)
        assert_equal(found, expected)
    images = np.concatenate([e.images for e in expected])
    assert (tmp_path / 'spill').read_bytes() == images.tobytes()


@pytest.mark.parametrize('kind', ['memory', 'file'])
def test_images_are_brought_into_any_order(tmp_path, kind):
    """Any subset can be taken in any order, repeatedly."""
    rng = np.random.default_rng(2)
    with (tmp_path / 'images').open('w+b', buffering=0) as file:
        subject = ImageBuffer() if kind == 'memory' else ImageFile(file)
        given = []
        for count, kept in ((100, 80), (70, 70), (5, 0), (9, 1)):
            images = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
            for image in images:
                subject.add(image)
            order = rng.permutation(count)[:kept]
            given.append((subject.take(order), images[order]))
        for found, expected in given:
            np.testing.assert_array_equal(found, expected)


def test_an_image_left_out_costs_no_memory(tmp_path):
    """The images that follow move up by one, and few are held in memory meanwhile."""
    with (tmp_path / 'images').open('w+b', buffering=0) as file:
        subject = ImageFile(file)
        for index in range(300):
            subject.add(np.full((64, 64, 3), index % 256, dtype=np.uint8))
        tracemalloc.start()
        images = subject.take(np.delete(np.arange(300), 7))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (images[6:9, 0, 0, 0] == [6, 8, 9]).all()
    assert peak < 20 * 64 * 64 * 3


def test_a_full_disk_is_said(reacher_contract, bags, tmp_path):
    """The error names the file, whether an image fits partly or not at all."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (5000, 5 * SIZE * SIZE * 3):
        with (tmp_path / 'spill').open('w+b', buffering=0) as file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
            try:
                with pytest.raises(BagError, match='spill: cannot hold the images'):
                    list(read_episodes([bags[0]], reacher_contract, SIZE, spill=file))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)


LIMITED = """
import json, resource, sys
from pathlib import Path
import torch
from lewm_ros.robot.contract import Contract
from lewm_ros.training.trainer import Trainer
from lewm_ros.training.config import TrainConfig
from lewm_ros.training.windows import load_windows
from training_child import ARCHITECTURES, tiny

contract, small, large, cache, size, limit = sys.argv[1:]
contract = Contract.load(contract)
torch.set_num_threads(1)
ARCHITECTURES['small'] = lambda actions: tiny(actions, int(size))

def train(bag):
    windows = load_windows([Path(bag)], contract, int(size), 3, 2, Path(cache))
    trainer = Trainer(windows, contract, 'small', TrainConfig(2, 4, 1e-4, 8), 'cpu', 0)
    (row,) = trainer.run(4)
    for start in range(0, len(trainer.train), 32):  # most images are looked at
        trainer.batch(trainer.train[start : start + 8])
    return {'step': row['step'], 'bytes': windows.bags[0].images.nbytes}

train(small)  # what is imported and allocated once
# All memory that is not mapped from a file; the kernel itself keeps the limit.
status = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines())
most = int(status['VmData'].split()[0]) * 1024 + int(limit)
resource.setrlimit(resource.RLIMIT_DATA, (most, most))
print(json.dumps(train(large)))
"""


def test_a_bag_larger_than_the_memory_trains(tmp_path, reacher_contract):
    """A bag over twice as large as the memory limit is cached and trained on."""
    size, limit = 128, 64_000_000
    numbers = (str(size), str(limit))

    def recorded(*counts):
        for number, count in enumerate(counts, start=1):
            start = number * 1000 * NS_PER_S
            yield episode(start - 2, number)
            for index in range(count):
                stamp = start + index * FRAME
                yield command(stamp - 1, index % 7, index % 5)
                yield frame(stamp, images[index % 16])

    images = [noise(index, size) for index in range(16)]
    small = write(tmp_path / 'small', recorded(30, 30))
    large = write(tmp_path / 'large', recorded(2600, 60))
    contract = ROOT / 'config' / 'robots' / 'reacher.yaml'
    done = subprocess.run(
        [sys.executable, '-c', LIMITED, contract, small, large, tmp_path / 'cache', *numbers],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found['step'] == 4
    assert found['bytes'] == 2660 * size * size * 3 > 2 * limit
