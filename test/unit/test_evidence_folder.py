# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The ring buffer of recent messages, and the folder for evidence bags."""

from __future__ import annotations

import os
from pathlib import Path
import shutil
import threading
import time

import pytest
from rosbags.highlevel import AnyReader

from lewm_ros.bags.evidence import UNFINISHED, EvidenceFolder, Message, Ring
from lewm_ros.bags.message_types import TYPES
from lewm_ros.bags.writer import BagFolder, Channel
from lewm_ros.errors import BagError
from lewm_ros.time import NS_PER_S

SCORE = Channel('/lewm/surprise', 'std_msgs/msg/Float32')
EPISODE = Channel('/lewm/episode', 'std_msgs/msg/UInt32', latched=True)


def score(value: float) -> bytes:
    """Serialise a score."""
    kind = TYPES.types['std_msgs/msg/Float32']
    return bytes(TYPES.serialize_cdr(kind(data=value), 'std_msgs/msg/Float32'))


def messages(count: int) -> list[Message]:
    """Return one second of scores."""
    return [(SCORE, NS_PER_S + i * NS_PER_S // count, score(i)) for i in range(count)]


def test_the_ring_holds_the_last_seconds() -> None:
    """The ring drops messages older than its time span."""
    ring = Ring(2.0, 1e6)
    for i in range(100):
        ring.add(SCORE, i * NS_PER_S // 10, b'x')
    stamps = [stamp for _, stamp, _ in ring.snapshot()]
    assert stamps == [i * NS_PER_S // 10 for i in range(79, 100)]


def test_the_ring_holds_no_more_bytes_than_it_may() -> None:
    """The ring stays within its byte limit: large frames shorten the time span."""
    ring = Ring(1000.0, 1000)
    for i in range(50):
        ring.add(SCORE, i, bytes(300))
    assert [stamp for _, stamp, _ in ring.snapshot()] == [47, 48, 49]


def test_what_was_latched_before_is_in_every_snapshot() -> None:
    """The newest latched message is in every snapshot, however old it is."""
    ring = Ring(1.0, 1e6)
    ring.add(EPISODE, 0, b'old')
    ring.add(EPISODE, 1, b'new')
    for i in range(1, 50):
        ring.add(SCORE, i * NS_PER_S // 10, b'x')
    first, second, *_ = ring.snapshot()
    assert first == (EPISODE, second[1], b'new')
    assert [c for c, _, _ in ring.snapshot()].count(EPISODE) == 1


def test_a_clock_that_goes_back_empties_the_ring() -> None:
    """A backward clock jump empties the ring: later stamps do not belong in the next bag."""
    ring = Ring(1.0, 1e6)
    ring.add(SCORE, 100 * NS_PER_S, b'x')
    ring.add(SCORE, 3 * NS_PER_S, b'y')
    assert ring.snapshot() == [(SCORE, 3 * NS_PER_S, b'y')]


def test_a_bag_appears_when_it_is_whole(tmp_path: Path) -> None:
    """A bag appears only when complete: messages in order, metadata and files."""
    folder = EvidenceFolder(tmp_path / 'evidence', 6, 1e6)
    bag = folder.write('first', messages(20), {'about': 'a test'}, {'note.txt': b'seen'})
    assert bag == tmp_path / 'evidence' / 'first'
    with AnyReader([bag]) as reader:
        found = [reader.deserialize(m, c.msgtype).data for c, _, m in reader.messages()]
    assert found == list(range(20))
    assert (bag / 'note.txt').read_bytes() == b'seen'
    assert 'about: a test' in (bag / 'metadata.yaml').read_text()
    assert [p.name for p in (tmp_path / 'evidence').iterdir()].count(UNFINISHED) == 1
    assert not list((tmp_path / 'evidence' / UNFINISHED).iterdir())
    with pytest.raises(BagError, match='exists already'):
        folder.write('first', messages(2), {}, {})


def test_no_more_bags_than_so_many_in_an_hour(tmp_path: Path) -> None:
    """The number of bags per hour is limited, even if the robot is surprised all the time."""
    folder = EvidenceFolder(tmp_path, 2, 1e9)
    for name in ('a', 'b'):
        assert folder.refusal(messages(2)) is None
        folder.write(name, messages(2), {}, {})
    assert 'evidence_per_hour' in str(folder.refusal(messages(2)))
    again = EvidenceFolder(tmp_path, 2, 1e9)  # a node that was restarted
    assert 'evidence_per_hour' in str(again.refusal(messages(2)))
    for age, full in ((3500, True), (3700, False)):
        os.utime(tmp_path / 'a', (time.time() - age,) * 2)
        assert ('evidence_per_hour' in str(again.refusal(messages(2)))) == full


def test_a_bag_that_could_not_be_written_does_not_count(tmp_path: Path, disk_of) -> None:
    """A full disk costs the evidence of its time, not that of the next hour."""
    folder = EvidenceFolder(tmp_path, 1, 1e9)
    disk_of(100)
    with pytest.raises(OSError, match='File too large'):
        folder.write('a', messages(2), {}, {})
    disk_of(1 << 30)
    assert folder.refusal(messages(2)) is None


def test_a_full_folder_takes_nothing_and_loses_nothing(tmp_path: Path) -> None:
    """A full folder accepts no bag and deletes none; bags from earlier runs count."""
    EvidenceFolder(tmp_path, 6, 1e6).write('old', messages(20), {}, {})
    used = EvidenceFolder(tmp_path, 6, 1e6).size
    needed = sum(len(data) for _, _, data in messages(10))
    assert EvidenceFolder(tmp_path, 6, used + needed).refusal(messages(10)) is None
    refusal = EvidenceFolder(tmp_path, 6, used + needed - 1).refusal(messages(10))
    assert refusal is not None and 'evidence_mb' in refusal and str(tmp_path) in refusal
    assert (tmp_path / 'old').is_dir()


def test_a_bag_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """A failed write leaves no unfinished folder, which would count against the limit for ever."""
    folder = EvidenceFolder(tmp_path, 6, 1e6)
    unknown = (Channel('/lewm/other', 'no/msg/Such'), NS_PER_S, b'x')
    with pytest.raises(BagError, match='message type no/msg/Such is unknown'):
        folder.write('bag', [*messages(20), unknown], {}, {'note.txt': b'seen'})
    assert not list((tmp_path / UNFINISHED).iterdir())
    assert folder.size == 0
    assert folder.write('bag', messages(20), {}, {}).is_dir()


def test_what_a_killed_process_was_writing_is_repaired(tmp_path: Path) -> None:
    """The next start completes it, or removes it if it has no message; a bag in use is left."""
    unfinished = tmp_path / 'evidence' / UNFINISHED
    writing = BagFolder(unfinished / 'in_use')
    for message in messages(20):
        writing.write(*message)
    writing.flush()
    shutil.copytree(unfinished / 'in_use', unfinished / 'killed')
    BagFolder(tmp_path / 'begun').write(*messages(1)[0])
    shutil.copytree(tmp_path / 'begun', unfinished / 'begun')
    (unfinished / 'empty').mkdir()
    EvidenceFolder(tmp_path / 'evidence', 6, 1e6)
    assert [p.name for p in unfinished.iterdir()] == ['in_use']
    assert sorted(p.name for p in unfinished.parent.iterdir()) == [UNFINISHED, 'killed']
    with AnyReader([unfinished.parent / 'killed']) as reader:
        assert reader.message_count == 20
    writing.close()


def test_bags_may_be_moved_away_while_the_folder_is_measured(tmp_path: Path) -> None:
    """A user may move bags away at any time: the next event once lost its bag by that."""
    folder = EvidenceFolder(tmp_path / 'evidence', 6, 1e6)
    bag = folder.write('bag', messages(20), {}, {f'{i}.txt': b'' for i in range(200)})
    away, done = tmp_path / 'away', threading.Event()

    def move() -> None:
        while not done.is_set():
            bag.rename(away)
            away.rename(bag)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        for _ in range(200):
            assert folder.refusal(messages(2)) is None
    finally:
        done.set()
        mover.join()
