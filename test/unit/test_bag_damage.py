# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Cut, damaged and hostile bags: intact data is read, the rest is counted or rejected.

LEWM_DAMAGE_CASES sets how many damaged copies each test tries.
"""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
import json
import os
from pathlib import Path
import struct
import subprocess
import sys

import lz4.frame
import numpy as np
import pytest
from recordings import (
    MCAP,
    SQLITE3,
    Recorded,
    chunk,
    command,
    drive,
    frame,
    noise,
    record,
    text,
    write,
    write_mcap,
)
from rosbags.rosbag2 import CompressionMode
import zstandard

from lewm_ros.bags.episodes import ReadReport, read_episodes
from lewm_ros.bags.mcap_reader import McapFile
from lewm_ros.bags.raw import ROOM
from lewm_ros.errors import BagError
from lewm_ros.time import NS_PER_S

ROOT = Path(__file__).resolve().parents[2]
CASES = int(os.environ.get('LEWM_DAMAGE_CASES', '40'))
MAGIC = b'\x89MCAP0\r\n'
IMAGE = 'sensor_msgs/msg/Image'


def damage(sound: bytes, rng: np.random.Generator, cut: bool) -> bytes:
    """A copy that is truncated, or has up to 20 flipped bits and perhaps a run of random bytes."""
    if cut:
        return sound[: rng.integers(len(sound))]
    data = bytearray(sound)
    for _ in range(rng.integers(1, 21)):
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    if rng.random() < 0.3:
        start, length = rng.integers(len(data)), rng.integers(1, 300)
        data[start : start + length] = rng.bytes(len(data[start : start + length]))
    return bytes(data)


def read_apart(paths: list[Path], sound: Path) -> list[dict]:
    """Read bags in one separate process; return a result for each."""
    contract = ROOT / 'config' / 'robots' / 'reacher.yaml'
    script = Path(__file__).with_name('reading_child.py')
    done = subprocess.run(
        [sys.executable, script, contract, sound, *paths],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    after = paths[len(results)].name if len(results) < len(paths) else 'the last'
    assert done.returncode == 0, f'at {after}: status {done.returncode}\n{done.stderr}'
    assert len(results) == len(paths)
    return results


def assert_bounded(results: list[dict]) -> None:
    """No bag takes 10 s, or more than 64 MB plus twice its size above the idle process."""
    for done in results:
        size = os.path.getsize(done['path']) / 1e6
        assert done['seconds'] < 10, done
        assert done['megabytes'] < 64 + 2 * size, done


@pytest.fixture(scope='module')
def sound_bags(tmp_path_factory):
    """One recording in every storage format and compression, as single files."""
    folder = tmp_path_factory.mktemp('sound')
    messages = drive(40, 3)
    write_mcap(folder / 'chunks.mcap', messages)
    write_mcap(folder / 'lz4.mcap', messages, 'lz4')
    write_mcap(folder / 'plain.mcap', messages, '', crc=False)
    write_mcap(folder / 'killed.mcap', messages, summary=False)
    write_mcap(folder / 'loose.mcap', messages, None, summary=False)
    for storage in (MCAP, SQLITE3):
        for mode in (CompressionMode.MESSAGE, CompressionMode.FILE, CompressionMode.NONE):
            bag = write(folder / f'{storage.name}_{mode.name}', messages, storage, mode)
            (file,) = (p for p in bag.iterdir() if p.name != 'metadata.yaml')
            file.rename(folder / file.name.lower())
    return sorted(p for p in folder.iterdir() if p.is_file())


@pytest.mark.parametrize('cut', [True, False], ids=['cut', 'flipped'])
def test_any_damage_is_read_or_refused_with_a_reason(tmp_path, sound_bags, cut):
    """Damage never causes a crash, a hang or high memory use; missing data has a reason."""
    rng = np.random.default_rng(cut)
    paths = []
    for index in range(CASES):
        sound = sound_bags[index % len(sound_bags)]
        paths.append(tmp_path / f'{index}_{sound.name}')
        paths[-1].write_bytes(damage(sound.read_bytes(), rng, cut))
    results = read_apart(paths, sound_bags[0])
    assert_bounded(results)
    for done in results:
        assert all(reason.strip() for reason in done['reasons'])
        # Without a CRC, flipped bits in images go unnoticed; missing frames do not.
        assert done['frames'] == 120 or done['reasons'], done
    outcomes = Counter('read' if r['frames'] == 120 else 'in part' for r in results if r['frames'])
    outcomes['refused'] = sum(not r['frames'] for r in results)
    peak = max(r['megabytes'] for r in results)
    print(f'{CASES} {"cut" if cut else "flipped"}: {dict(outcomes)}, peak {peak:.0f} MB')


def chunk_ends(data: bytes) -> list[tuple[int, int]]:
    """Start and end (exclusive) of each chunk of an intact MCAP file [bytes]."""
    found, at = [], len(MAGIC)
    while True:
        kind, length = struct.unpack_from('<BQ', data, at)
        if kind == 15:
            return found
        if kind == 6:
            found.append((at, at + 9 + length))
        at += 9 + length


@pytest.mark.parametrize('compression', ['zstd', 'lz4', ''])
@pytest.mark.parametrize('cut', [True, False], ids=['cut', 'flipped'])
def test_every_whole_chunk_is_recovered_and_nothing_else(
    tmp_path, reacher_contract, compression, cut
):
    """Frames of undamaged chunks are recovered bit for bit, and no frame of a damaged chunk."""
    path = tmp_path / 'bag.mcap'
    chunks = write_mcap(path, drive(40, 3), compression)
    sound = path.read_bytes()
    places = chunk_ends(sound)
    assert len(places) == len(chunks) > 5
    rng = np.random.default_rng(7)
    for _ in range(CASES):
        damaged = damage(sound, rng, cut)
        path.write_bytes(damaged)
        # A chunk can be read without its opcode and its times.
        whole = [
            damaged[a + 1 : a + 9] + damaged[a + 25 : b] == sound[a + 1 : a + 9] + sound[a + 25 : b]
            for a, b in places
        ]
        if not whole[0] and damaged[places[-1][1] :] != sound[places[-1][1] :]:
            continue  # both copies of the channel records are damaged
        wanted = {
            m.logged for spared, part in zip(whole, chunks) if spared for m in part
            if m.type == IMAGE
        }  # fmt: skip
        problems: Counter[str] = Counter()
        file = McapFile(path, problems)
        camera = [number for number, topic in file.topics.items() if topic.type == IMAGE]
        found = [logged for _, logged, _ in file.messages(camera, problems)]
        file.close()
        assert sorted(found) == sorted(wanted)
        assert problems or all(whole)
        if wanted:
            report = ReadReport()
            episodes = list(read_episodes([path], reacher_contract, 16, report))
            alone = report.refused['frame of an episode without commands']
            assert sum(len(e.stamps) for e in episodes) + alone == len(wanted)
            assert alone < 3
            for episode in episodes:
                for stamp, image in zip(episode.stamps, episode.images):
                    number, index = divmod(int(stamp), 10 * NS_PER_S)
                    np.testing.assert_array_equal(
                        image, noise(100 * number + index * 20 // NS_PER_S)
                    )


def test_a_lost_head_costs_its_chunk_only(tmp_path, reacher_contract):
    """A wrong byte in a chunk header or an index costs at most that chunk; reading continues."""
    path = tmp_path / 'bag.mcap'
    chunks = write_mcap(path, drive(30, 1))
    sound = path.read_bytes()
    start, end = chunk_ends(sound)[1]
    frames = [sum(m.type == IMAGE for m in part) for part in chunks]
    for at in [*range(start, start + 60), *range(end, end + 35)]:
        data = bytearray(sound)
        data[at] ^= 0x15
        path.write_bytes(data)
        report = ReadReport()
        list(read_episodes([path], reacher_contract, 16, report))
        assert report.frames >= sum(frames) - frames[1], at


@pytest.mark.parametrize(
    ('at', 'bit', 'hidden', 'others'),
    [
        (2, 1, slice(None), {'bag.mcap: chunk that ends inside a record': 1}),
        (-1, 8, slice(1), {}),
    ],
    ids=['length', 'kind'],
)
def test_a_damaged_record_is_counted_without_a_crc_too(tmp_path, at, bit, hidden, others):
    """A damaged record is counted even without a CRC, as in bags from rosbags.

    A wrong length hides the rest of the chunk, a wrong opcode one message.
    """
    path = tmp_path / 'bag.mcap'
    chunks = write_mcap(path, drive(30, 1), '', crc=False)
    data = bytearray(path.read_bytes())
    start, _ = chunk_ends(bytes(data))[1]
    length = start + 9 + 32 + 8 + 1  # of the first record of an uncompressed chunk
    assert data[length - 1] == 5
    data[length + at] ^= bit
    path.write_bytes(data)
    problems: Counter[str] = Counter()
    file = McapFile(path, problems)
    found = list(file.messages(file.topics, problems))
    lost = len(chunks[1][hidden])
    assert len(found) == sum(map(len, chunks)) - lost
    assert problems == {'bag.mcap: message counted in the summary was not found': lost, **others}


def bombs() -> dict[str, bytes]:
    """Files of a few kilobytes that would expand to hundreds of megabytes."""
    many = bytes(300 << 20)
    unsaid = zstandard.ZstdCompressor(write_content_size=False).compress(many)
    packed = {'zstd': zstandard.compress(many), 'lz4': lz4.frame.compress(many)}

    def raw_chunk(data: bytes, name: str, size: int) -> bytes:
        head = struct.pack('<QQQI', 0, 0, size, 0) + text(name)
        return record(6, head + struct.pack('<Q', len(data)) + data)

    honest = len(many)
    chunks = {
        'claims': raw_chunk(packed['zstd'], 'zstd', honest),
        'claims far more': raw_chunk(packed['zstd'], 'zstd', 1 << 62),
        'claims nothing': raw_chunk(packed['zstd'], 'zstd', 1000),
        'does not say': raw_chunk(unsaid, 'zstd', 1000),
        'lz4 claims': raw_chunk(packed['lz4'], 'lz4', honest),
        'lz4 claims nothing': raw_chunk(packed['lz4'], 'lz4', 1000),
        'long record': struct.pack('<BQ', 5, 1 << 60),
        'long chunk': struct.pack('<BQ', 6, 1 << 60),
        'long record in a chunk': chunk(struct.pack('<BQ', 5, 1 << 60), 'zstd'),
        'long text': record(4, struct.pack('<HHI', 1, 1, 1 << 31)),
    }
    return {name: MAGIC + record(1, text('ros2') + text('')) + c for name, c in chunks.items()}


def test_what_claims_to_become_huge_is_refused_before_memory_is_taken(tmp_path, sound_bags):
    """Data that claims a huge size is rejected before memory is allocated.

    It lies in chunks of either compression, in records, or in compressed messages.
    """
    paths = []
    for name, data in bombs().items():
        paths.append(tmp_path / f'{name.replace(" ", "_")}.mcap')
        paths[-1].write_bytes(data)
    many = zstandard.compress(bytes(300 << 20))
    for storage in (MCAP, SQLITE3):
        messages = [Recorded('/lewm/camera/image', IMAGE, 1, many), command(2, 0, 0)]
        paths.append(write(tmp_path / f'message_{storage.name}', messages, storage))
    results = read_apart(paths, sound_bags[0])
    for done in results:
        assert done['megabytes'] < 64, done
        assert done['frames'] == 0 and done['reasons'], done
    assert 'chunk that claims 314572800 bytes' in str(results[0]['reasons'])
    assert 'compressed message that claims' in str(results[-1]['reasons'])


def test_a_large_image_that_compresses_well_is_no_bomb(tmp_path, reacher_contract):
    """A black 4K frame, 25 MB compressed to 25 kB, is read: it is no decompression bomb."""
    black = np.zeros((2160, 3840, 3), dtype=np.uint8)
    assert black.nbytes < ROOM
    path = tmp_path / 'bag.mcap'
    write_mcap(path, [command(NS_PER_S, 0, 0), frame(NS_PER_S, black)])
    assert path.stat().st_size < 100_000
    (episode,) = read_episodes([path], reacher_contract, 16)
    assert len(episode.stamps) == 1


@pytest.mark.parametrize('name', ['bag.mcap', 'bag.db3', 'bag.mcap.zstd', 'bag.db3.zstd'])
@pytest.mark.parametrize('data', [b'', b'x', bytes(5000), b'SQLite format 3\0', MAGIC * 20])
def test_what_is_no_bag_is_refused_by_name(tmp_path, reacher_contract, name, data):
    """A file with a bag's extension but other content is rejected by name."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BagError, match=rf'{name}: cannot be read as rosbag2 \(.+\)'):
        list(read_episodes([tmp_path / name], reacher_contract, 16))


def test_random_bytes_are_no_message(reacher_contract, tmp_path):
    """Undecodable messages in an intact file are counted and affect nothing else."""
    rng = np.random.default_rng(3)
    messages = drive(10, 1)
    sizes = [*accumulate(rng.integers(1, 9, 60).tolist())]
    for index, size in enumerate(sizes):
        for item in messages[1:4]:
            body = b'\0\1\0\0' + rng.bytes(size)
            messages.append(Recorded(item.topic, item.type, 20 * NS_PER_S + index, body))
    report = ReadReport()
    (episode,) = read_episodes([write(tmp_path / 'bag', messages)], reacher_contract, 16, report)
    assert len(episode.stamps) == 10
    assert report.refused.total() == 180
