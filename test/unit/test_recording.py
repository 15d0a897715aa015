# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The recorder's queue and bag: bounds, counts, splitting, other readers, kill -9."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
import json
from pathlib import Path
import signal
import struct
import subprocess
import sys
import threading
import time

from mcap.reader import make_reader
from mcap.records import Chunk, Message
from mcap.stream_reader import StreamReader
from mcap.writer import Writer
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
import yaml

from lewm_ros.bags.config import RecorderConfig
from lewm_ros.bags.mcap_reader import McapFile
from lewm_ros.bags.message_types import TYPES
from lewm_ros.bags.recorder import BagRecorder
from lewm_ros.bags.repair import repair
from lewm_ros.bags.session import SUMMARY, Session
from lewm_ros.bags.topics import topics_of
from lewm_ros.bags.writer import BagFolder, Channel, definition
from lewm_ros.errors import BagError
from lewm_ros.time import NS_PER_S

ROOT = Path(__file__).resolve().parents[2]
IMAGE = Channel('/lewm/camera/image', 'sensor_msgs/msg/Image')
EPISODE = Channel('/lewm/episode', 'std_msgs/msg/UInt32', latched=True)
START = 1_700_000_000 * NS_PER_S
FRAME = NS_PER_S // 30
NO_MINIMUM = RecorderConfig(min_free_gb=0.0)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    """`lewm record --out` below a file is refused with the reason."""
    (tmp_path / 'file').write_bytes(b'')
    with pytest.raises(BagError, match=r'file/bag: cannot be created \(Not a directory\)$'):
        Session(tmp_path / 'file' / 'bag', NO_MINIMUM, {})


def image(stamp: int, height: int = 4, width: int = 6, value: int = 0) -> bytes:
    """Serialise an rgb8 frame of one colour with a stamp [ns]."""
    types = TYPES.types
    time_type, header_type = types['builtin_interfaces/msg/Time'], types['std_msgs/msg/Header']
    message = types[IMAGE.type](
        header=header_type(time_type(*divmod(stamp, NS_PER_S)), 'camera'),
        height=height,
        width=width,
        encoding='rgb8',
        is_bigendian=0,
        step=3 * width,
        data=np.full(3 * height * width, value, dtype=np.uint8),
    )
    return bytes(TYPES.serialize_cdr(message, IMAGE.type))


def number(value: int) -> bytes:
    """Serialise a std_msgs/UInt32."""
    return struct.pack('<HHI', 0x0100, 0, value)


def write(bag: BagFolder, count: int, first: int = 0) -> None:
    """Put frames at 30 Hz into a bag, and an episode number before each thirtieth."""
    for index in range(first, first + count):
        stamp = START + index * FRAME
        if index % 30 == 0:
            bag.write(EPISODE, stamp, number(index // 30))
        bag.write(IMAGE, stamp, image(stamp, value=index % 256))


# The bag.


def test_a_bag_reads_back_in_rosbags_and_in_mcap(tmp_path):
    """Data, receive stamps, types, hashes, QoS and metadata survive; every chunk has a CRC."""
    bag = BagFolder(tmp_path / 'bag', {'lewm_command': 'lewm record'})
    write(bag, 60)
    bag.close()
    with AnyReader([bag.path]) as reader:
        frames = [(t, bytes(raw)) for c, t, raw in reader.messages() if c.topic == IMAGE.topic]
        topics = {c.topic: c for c in reader.connections}
        decoded = reader.deserialize(frames[7][1], IMAGE.type)
    assert frames == [(START + i * FRAME, image(START + i * FRAME, value=i)) for i in range(60)]
    assert decoded.data[0] == 7
    assert topics[EPISODE.topic].msgcount == 2
    assert topics[EPISODE.topic].digest == TYPES.hash_rihs01(EPISODE.type)
    (qos,) = topics[EPISODE.topic].ext.offered_qos_profiles
    assert (qos.durability.name, qos.reliability.name, qos.depth) == (
        'TRANSIENT_LOCAL',
        'RELIABLE',
        1,
    )
    about = yaml.safe_load((bag.path / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    assert about['version'] == 9
    assert about['message_count'] == 62
    assert about['custom_data'] == {'lewm_command': 'lewm record'}
    assert about['duration']['nanoseconds'] == 59 * FRAME

    with (bag.path / 'bag_0.mcap').open('rb') as stream:
        records = StreamReader(stream, emit_chunks=True).records
        chunks = [r for r in records if isinstance(r, Chunk)]
        assert all(c.uncompressed_crc and c.compression == 'zstd' for c in chunks)
        stream.seek(0)
        summary = make_reader(stream, validate_crcs=True).get_summary()
        stream.seek(0)
        found = list(make_reader(stream, validate_crcs=True).iter_messages(IMAGE.topic))
    assert [m.log_time for _, _, m in found] == [t for t, _ in frames]
    assert {s.encoding for s in summary.schemas.values()} == {'ros2msg'}
    assert summary.statistics.message_count == 62


def test_files_roll_over_by_time_and_by_size_and_by_a_jump_back(tmp_path):
    """Each closed file is complete and listed in metadata.yaml at once; all files form one bag."""
    bag = BagFolder(tmp_path / 'long', split_seconds=0.999)
    write(bag, 75)
    early = yaml.safe_load((bag.path / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    assert early['relative_file_paths'] == ['long_0.mcap', 'long_1.mcap']
    assert early['message_count'] == 62
    with AnyReader([bag.path]) as reader:
        assert reader.message_count == 62
    bag.close()
    with AnyReader([bag.path]) as reader:
        assert [m[1] for m in reader.messages()] == sorted(m[1] for m in reader.messages())
        assert reader.message_count == 78

    large = BagFolder(tmp_path / 'large', split_bytes=5000)
    for index in range(60):
        noise = np.random.default_rng(index).bytes(3 * 24)
        large.write(IMAGE, START + index * FRAME, image(START)[:-72] + noise)
        large.flush()
    large.close()
    assert len(list(large.path.glob('*.mcap'))) > 1

    jumped = BagFolder(tmp_path / 'jumped')
    write(jumped, 2, first=100)
    write(jumped, 2)
    jumped.close()
    assert len(list(jumped.path.glob('*.mcap'))) == 2

    late = BagFolder(tmp_path / 'late')  # by less than its length, but more than a second
    write(late, 60)
    write(late, 2)
    late.close()
    assert len(list(late.path.glob('*.mcap'))) == 2


def test_an_empty_recording_is_a_whole_bag(tmp_path):
    """A recording without messages is a valid bag."""
    bag = BagFolder(tmp_path / 'bag')
    bag.close()
    bag.close()
    with AnyReader([bag.path]) as reader:
        assert reader.message_count == 0


def test_an_existing_folder_and_an_unknown_type_are_refused(tmp_path):
    """Nothing is ever overwritten; a type without a definition could not be read back."""
    with pytest.raises(BagError, match='exists already; choose another name'):
        BagFolder(tmp_path)
    with pytest.raises(BagError, match='my_msgs/msg/Odd is unknown'):
        definition('my_msgs/msg/Odd')


# The queue and its thread.


class SlowBag(BagFolder):
    """A bag on a disk that blocks until it is released."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.busy, self.let_go = threading.Event(), threading.Event()

    def write(self, channel: Channel, stamp: int, data: bytes) -> None:
        self.busy.set()
        assert self.let_go.wait(20)
        super().write(channel, stamp, data)


@pytest.mark.parametrize('bound', ['bytes', 'messages'])
def test_a_full_queue_drops_the_newest_and_counts_by_topic(tmp_path, monkeypatch, bound):
    """The queue is bounded by bytes and by count; everything that was queued is written."""
    bag = SlowBag(tmp_path / 'bag')
    if bound == 'messages':
        monkeypatch.setattr('lewm_ros.bags.recorder.QUEUE_MESSAGES', 10)
    recorder = BagRecorder(bag, replace(NO_MINIMUM, queue_mb=1.0))
    assert recorder.put(EPISODE, START, number(1))
    assert bag.busy.wait(10)
    # The message being written counts towards the bytes until it is written.
    size = 1_000 if bound == 'messages' else 100_000
    room = 10 if bound == 'messages' else (1_000_000 - len(number(1))) // size
    taken = [recorder.put(IMAGE, START + i, bytes(size)) for i in range(room + 5)]
    assert taken == [True] * room + [False] * 5
    assert recorder.dropped == {IMAGE.topic: 5}
    bag.let_go.set()
    recorder.stop()
    bag.close()
    assert recorder.written == {IMAGE.topic: room, EPISODE.topic: 1}
    assert recorder.waiting == 0
    with AnyReader([bag.path]) as reader:
        assert reader.message_count == room + 1


def test_what_is_queued_is_on_the_disk_within_the_flush_period(tmp_path):
    """The mcap package reads it while the recorder runs, even if no further message comes."""
    bag = BagFolder(tmp_path / 'bag')
    recorder = BagRecorder(bag, replace(NO_MINIMUM, flush_seconds=0.2))
    for index in range(10):
        recorder.put(IMAGE, START + index, image(START))
    time.sleep(0.6)
    assert len(readable(bag.path / 'bag_0.mcap')) == 10
    recorder.stop()
    bag.close()


def test_too_little_free_disk_is_refused_and_ends_a_recording(tmp_path, monkeypatch):
    """Recording stops before the disk is full, with both figures; the bag is still complete."""
    with pytest.raises(BagError, match=r': not recording: only .* min_free_gb is 100000$'):
        Session(tmp_path / 'a' / 'b', RecorderConfig(min_free_gb=1e5), {})
    assert not (tmp_path / 'a').exists()
    bag = BagFolder(tmp_path / 'bag')
    recorder = BagRecorder(bag, RecorderConfig(flush_seconds=0.05, min_free_gb=1e-9))
    recorder.put(IMAGE, START, image(START))
    usage = type('Usage', (), {'free': 0})
    monkeypatch.setattr('lewm_ros.bags.recorder.shutil.disk_usage', lambda path: usage)
    end = time.monotonic() + 10
    while recorder.error is None and time.monotonic() < end:
        time.sleep(0.01)
    assert 'only 0.00 GB of the disk are free' in str(recorder.error)
    assert not recorder.put(IMAGE, START + 1, image(START))
    assert recorder.dropped == {IMAGE.topic: 1}
    recorder.stop()
    bag.close()
    with AnyReader([bag.path]) as reader:
        assert reader.message_count == 1


def test_a_disk_that_fails_ends_the_recording_with_the_reason(tmp_path):
    """An exception in the writer thread is kept in ``error``, not swallowed."""
    bag = BagFolder(tmp_path / 'bag')
    recorder = BagRecorder(bag, NO_MINIMUM)
    recorder.put(Channel('/odd', 'my_msgs/msg/Odd'), START, b'')
    recorder.stop()
    assert 'my_msgs/msg/Odd is unknown' in str(recorder.error)


def test_a_session_that_could_not_write_everything_is_an_error(tmp_path, disk_of):
    """What ended the writing is raised at the end, with what is in the bag, or how to repair it."""
    early = Session(tmp_path / 'early', NO_MINIMUM, {})
    early.take(early.add(IMAGE, regular=True, stamped=True), image(START), START)
    odd = early.add(Channel('/odd', 'my_msgs/msg/Odd'), regular=False, stamped=False)
    early.take(odd, b'', START)
    with pytest.raises(
        BagError, match=r'(?s)Odd is unknown.*; the recording ends there\n.*1 messages'
    ) as info:
        early.close()
    assert str(info.value).count('my_msgs') == 1
    with AnyReader([early.path]) as reader:
        assert reader.message_count == 1

    full = Session(tmp_path / 'full', replace(NO_MINIMUM, split_seconds=1.0), {})
    camera = full.add(IMAGE, regular=True, stamped=True)
    full.take(camera, image(START), START)
    full._recorder.stop()  # what is queued is written
    disk_of(100)
    with pytest.raises(BagError, match=r'full: cannot be completed .*`lewm record --repair'):
        full.close()


def test_a_session_sums_up_what_became_of_every_topic(tmp_path):
    """Text and JSON metadata count the messages, losses and gaps of every topic."""
    session = Session(tmp_path / 'bag', NO_MINIMUM, {'lewm_command': 'x'})
    camera = session.add(IMAGE, regular=True, stamped=True)
    episode = session.add(EPISODE, regular=False, stamped=False)
    session.take(episode, number(1), START)
    pauses = [session.take(camera, image(START + i * FRAME), START) for i in [*range(30), 60, 61]]
    assert pauses[:30] == [0.0] * 30
    assert pauses[30] == pytest.approx(31 / 30)
    camera.flow.lost = 2
    assert session.silence(episode) == session.silence(camera) == 0.0
    metrics = session.metrics()
    assert (metrics['lost'], metrics['missing'], metrics['gaps']) == (2, 30, 1)
    text = session.close(episodes=1)
    assert '/lewm/camera/image: 32 messages at 30 Hz, 2 lost, 30 missing, 1 gaps' in text
    assert '/lewm/episode: 1 messages\n' in text + '\n'
    about = yaml.safe_load((tmp_path / 'bag/metadata.yaml').read_text())
    data = about['rosbag2_bagfile_information']['custom_data']
    summary = json.loads(data[SUMMARY])
    assert (data['lewm_command'], summary['episodes']) == ('x', 1)
    assert summary['topics'][IMAGE.topic] == {
        'messages': 32,
        'rate_hz': 30.0,
        'dropped': 0,
        'lost': 2,
        'missing': 30,
        'gaps': 1,
        'longest_pause': 1.033,
    }


# kill -9.

KILLED = """
import sys, time, numpy as np
from pathlib import Path
from lewm_ros.bags.writer import BagFolder, Channel
from lewm_ros.bags.recorder import BagRecorder
folder, split = Path(sys.argv[1]), float(sys.argv[2])
recorder = BagRecorder(BagFolder(folder, split_seconds=split))
channel = Channel('/lewm/camera/image', 'sensor_msgs/msg/Image')
noise = np.random.default_rng(0).integers(0, 256, 640 * 480 * 3, dtype=np.uint8)
noise[: noise.size // 2] = 0  # about as compressible as an image
began = time.monotonic()
for index in range(10_000):
    time.sleep(max(began + index / 30 - time.monotonic(), 0))
    assert recorder.put(channel, time.time_ns(), index.to_bytes(8, 'little') + noise.tobytes())
    print(index, flush=True)
"""


def readable(path: Path) -> list[Message]:
    """Messages that the mcap package reads sequentially from a file without an index."""
    found = []
    with path.open('rb') as stream:
        try:
            for record in StreamReader(stream, validate_crcs=True).records:
                if isinstance(record, Message):
                    found.append(record)
        except Exception:  # where the file is cut
            pass
    return found


def test_kill_9_at_30_hz_640x480_costs_no_more_than_the_last_seconds(tmp_path):
    """mcap reads all but the last seconds as is, rosbags after a repair; repair is idempotent.

    The bag is split every 2 s; files that were closed are in metadata.yaml without a repair.
    """
    folder = tmp_path / 'bag'
    command = [sys.executable, '-c', KILLED, str(folder), '2.0']
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    sent = 0
    while sent < 180:
        sent = int(process.stdout.readline()) + 1
    process.send_signal(signal.SIGKILL)
    sent += process.stdout.read().count('\n')
    process.wait()

    saved = [m for i in range(3) for m in readable(folder / f'bag_{i}.mcap')]
    indices = [int.from_bytes(m.data[:8], 'little') for m in saved]
    assert indices == list(range(len(saved)))
    assert sent - len(saved) <= 2 * 30, 'flushed every second'
    with AnyReader([folder]) as reader:
        assert reader.message_count >= 110  # two closed files of 2 s

    *closed, last = repair(folder)
    assert all(r.whole for r in closed)
    assert 'repaired' in str(last)
    with AnyReader([folder]) as reader:
        assert reader.message_count == len(saved)
        assert [m[1] for m in reader.messages()] == [m.log_time for m in saved]
    assert all(r.whole for r in repair(folder))


def test_repair_leaves_out_a_damaged_chunk_and_keeps_the_rest(tmp_path):
    """A flipped byte loses only its chunk; the QoS of the topics is kept."""
    bag = BagFolder(tmp_path / 'bag')
    for second in range(3):
        write(bag, 30, first=30 * second)
        bag.flush()
    folder, path = bag.path, bag.path / 'bag_0.mcap'
    with pytest.raises(BagError, match='is being recorded: stop the recorder first'):
        repair(folder)
    del bag  # never closed: no index
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    (report,) = repair(folder)
    assert report.damaged == 1
    assert '1 truncated or damaged chunks left out' in str(report)
    with AnyReader([folder]) as reader:
        assert reader.message_count == 62
        (episode,) = [c for c in reader.connections if c.topic == EPISODE.topic]
        assert episode.ext.offered_qos_profiles[0].durability.name == 'TRANSIENT_LOCAL'


def test_repair_goes_on_behind_a_hole(tmp_path):
    """An overwritten chunk header, as left by a bad sector, loses only its chunk."""
    bag = BagFolder(tmp_path / 'bag')
    ends = []
    for second in range(4):
        write(bag, 30, first=30 * second)
        bag.flush()
        ends.append(bag.size)
    folder, path = bag.path, bag.path / 'bag_0.mcap'
    del bag
    data = path.read_bytes()
    path.write_bytes(data[: ends[0]] + bytes(60) + data[ends[0] + 60 :])
    (report,) = repair(folder)
    assert report.damaged == 1
    with AnyReader([folder]) as reader:
        assert reader.message_count == 3 * 31


@pytest.mark.parametrize('old', [b'cut: {', b'a: 1'])
def test_repair_keeps_metadata_that_it_cannot_read(tmp_path, old):
    """The unreadable file is kept next to the new one; readable custom data are carried over."""
    bag = BagFolder(tmp_path / 'bag', {'lewm_command': 'lewm record'})
    write(bag, 30)
    bag.close()
    about, damaged = bag.path / 'metadata.yaml', bag.path / 'metadata.yaml.damaged'
    repair(bag.path)
    assert 'lewm_command: lewm record' in about.read_text()
    assert not damaged.exists()
    about.write_bytes(old)
    repair(bag.path)
    assert damaged.read_bytes() == old
    with AnyReader([bag.path]) as reader:
        assert reader.message_count == 31  # 30 frames and an episode


def test_repair_leaves_an_intact_bag_as_it_is(tmp_path):
    """Metadata of other recorders has what ours has not, such as compression and custom types."""
    bag = BagFolder(tmp_path / 'bag')
    write(bag, 30)
    bag.close()
    about = bag.path / 'metadata.yaml'
    about.write_text(about.read_text().replace("compression_mode: ''", 'compression_mode: MESSAGE'))
    before = about.read_bytes()
    assert b'MESSAGE' in before
    (report,) = repair(bag.path)
    assert report.whole and about.read_bytes() == before
    about.unlink()
    repair(bag.path)
    assert about.exists()


@pytest.mark.parametrize(('encoding', 'says'), [('json', "messages in 'json'"), ('', 'no schema')])
def test_repair_refuses_what_it_would_change(tmp_path, encoding, says):
    """A topic that is not CDR, or has no schema, would be lost or mislabelled."""
    path = tmp_path / 'bag_0.mcap'
    with path.open('wb') as file:
        writer = Writer(file, chunk_size=100)
        writer.start('ros2', 'another recorder')
        schema = writer.register_schema('std_msgs/msg/String', 'jsonschema', b'{}')
        channel = writer.register_channel('/cmd', encoding or 'cdr', schema if encoding else 0)
        for stamp in range(9):
            writer.add_message(channel, stamp, b'{"data": "go"}', stamp)
        writer.flush()
    before = path.read_bytes()
    with pytest.raises(BagError, match=rf'/cmd has {says}: expected cdr messages with a schema'):
        repair(tmp_path)
    assert path.read_bytes() == before and not (tmp_path / 'metadata.yaml').exists()


def test_repair_refuses_a_bag_of_compressed_files(tmp_path):
    """Its metadata would leave them out."""
    bag = BagFolder(tmp_path / 'bag')
    write(bag, 3)
    bag.close()
    (bag.path / 'bag_1.mcap.zstd').write_bytes(b'')
    with pytest.raises(BagError, match=r'bag_1\.mcap\.zstd: decompress these first'):
        repair(bag.path)


@pytest.mark.parametrize('repeated', [{'repeat_schemas': False}, {'repeat_channels': False}])
def test_definitions_need_not_be_repeated_at_the_end(tmp_path, repeated, monkeypatch):
    """Summaries without schemas or channels are valid MCAP: reading and repair find them."""

    def plain(stream, *args, **kwargs):
        return Writer(stream, *args, **kwargs, **repeated)

    monkeypatch.setattr('lewm_ros.bags.writer.Writer', plain)
    bag = BagFolder(tmp_path / 'bag')
    write(bag, 30)
    bag.close()
    path = bag.path / 'bag_0.mcap'
    found = McapFile(path, Counter())
    assert {t.type for t in found.topics.values()} == {IMAGE.type, EPISODE.type}
    assert found.counts().total() == 31
    (bag.path / 'metadata.yaml').unlink()
    (report,) = repair(bag.path)
    assert report.whole and report.messages == 31
    about = yaml.safe_load((bag.path / 'metadata.yaml').read_text())
    assert about['rosbag2_bagfile_information']['message_count'] == 31


def test_repair_of_something_else_is_refused(tmp_path):
    """A folder without MCAP files is refused."""
    with pytest.raises(BagError, match='no .mcap file in it'):
        repair(tmp_path)


def test_topics_are_those_of_the_contract_and_of_the_nodes(reacher_contract):
    """Only camera and command are required; every topic type has a RIHS01 hash."""
    topics = {t.name: t for t in topics_of(reacher_contract)}
    assert {n for n, t in topics.items() if t.required} == {'camera/image', 'action'}
    assert {'joint_states', 'latent', 'plan', 'surprise', 'anomaly', 'model', 'episode'} <= set(
        topics
    )
    for topic in topics.values():
        assert definition(topic.type)[1].startswith('RIHS01_')
    camera = replace(reacher_contract.camera, stamp='log')
    other = {t.name: t.stamp for t in topics_of(replace(reacher_contract, camera=camera))}
    assert (other['camera/image'], other['action']) == ('log', 'header')  # as inspect counts
