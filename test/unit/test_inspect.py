# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm inspect` reports what was put into a recording."""

from __future__ import annotations

from dataclasses import replace
import json
import os
from pathlib import Path
import subprocess
import sys

from command_line import lewm
import numpy as np
from PIL import Image
import pytest
from recordings import FRAME, Recorded, command, compressed, drive, episode, frame, joints, write
import yaml

from lewm_ros.bags.contact_sheet import Thinned
from lewm_ros.bags.delay import DelayEstimate
from lewm_ros.bags.episodes import read_episodes
from lewm_ros.cli import main
from lewm_ros.errors import BagError, ObservationError
from lewm_ros.model.config import ModelConfig
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.imaging import from_message
from lewm_ros.time import NS_PER_S
from lewm_ros.training.windows import load_windows

PERIOD = FRAME / NS_PER_S


def following(
    delay: int, frames: int = 120, seed: int = 0, states: bool = False, move: int = 3
) -> list[Recorded]:
    """A recording whose brightness (or shoulder) is the first command ``delay`` frames earlier."""
    generator = np.random.default_rng(seed)
    values = np.repeat(generator.uniform(-0.9, 0.9, frames // move + 1), move)
    messages = []
    for index in range(frames):
        stamp = NS_PER_S + index * FRAME
        shown = values[max(index - delay, 0)]
        grey = np.full((16, 16, 3), 128 if states else round(128 + 100 * shown), dtype=np.uint8)
        messages += [command(stamp - 1, values[index], 0.25), frame(stamp, grey)]
        if states:
            messages.append(joints(stamp, shown, 0.0))
    return messages


def contract_file(folder: Path, **action: object) -> Path:
    """Write the contract of the simulated arm with changed action keys; return its path."""
    source = Path(__file__).resolve().parents[2] / 'config' / 'robots' / 'reacher.yaml'
    data = yaml.safe_load(source.read_text())
    data['action'].update(action)
    if action.get('kind') == 'position':
        data['stop']['mode'] = 'hold'
    path = folder / 'mine.yaml'
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture
def inspected(tmp_path):
    """Return a function that runs the command with --json: status, report, stderr.

    It draws no sheet by default, because a sheet takes a second.
    """

    def run(
        *arguments: object, contract: object = 'reacher', sheet: bool = False
    ) -> tuple[int, dict, str]:
        given = [*arguments, '--contract', contract, '--image-size', 16, '--json']
        given += ['--out', tmp_path / 'sheet.png'] if sheet else []
        status, out, error = lewm('inspect', *given)
        return status, json.loads(out), error

    return run


def test_rates_gaps_episodes_and_windows(tmp_path, inspected):
    """Rates, gaps and episodes are reported; a pause between episodes is not a gap."""
    messages = drive(frames=60)
    hole = range(20 * NS_PER_S + 30 * FRAME, 20 * NS_PER_S + 40 * FRAME)
    messages = [m for m in messages if 'image' not in m.topic or m.logged not in hole]
    bag = write(tmp_path / 'bag', messages)
    status, report, _ = inspected(bag)
    assert status == 0
    (found,) = report['bags']
    topics = {topic['name']: topic for topic in found['topics']}
    camera, joint_states = topics['/lewm/camera/image'], topics['/lewm/joint_states']
    assert (camera['count'], camera['clock'], camera['gaps']) == (110, 'header', 1)
    assert camera['rate_hz'] == pytest.approx(20.0)
    assert camera['longest_gap_s'] == pytest.approx(0.55)
    assert camera['jitter_ms'] == pytest.approx(0.0, abs=1e-6)
    assert (joint_states['count'], joint_states['gaps']) == (120, 0)
    assert topics['/lewm/action']['clock'] == 'log'
    assert topics['/lewm/episode']['rate_hz'] is None
    assert [e['frames'] for e in found['episodes']] == [60, 50]
    assert [e['gaps'] for e in found['episodes']] == [0, 1]
    assert found['episodes'][1]['start_s'] == pytest.approx(10.0)
    assert found['episodes'][1]['seconds'] == pytest.approx(59 * PERIOD)
    assert found['refused'] == {}


def test_windows_are_those_of_training(tmp_path, inspected):
    """The number of windows equals that of training."""
    bag = write(tmp_path / 'bag', drive(frames=40))
    status, report, _ = inspected(bag)
    contract = Contract.load(contract_file(tmp_path))
    sizes = ModelConfig.history, ModelConfig.frameskip
    windows = load_windows([bag], contract, 16, *sizes, tmp_path / 'cache')
    assert status == 0
    assert report['windows'] == len(windows.frames) > 0


def test_jitter_is_the_spread_of_the_intervals(tmp_path, inspected):
    """Jitter is the spread of the intervals: 55 and 45 ms give 10 ms."""
    messages = [episode(NS_PER_S - 2, 1)]
    for index in range(60):
        stamp = NS_PER_S + index * FRAME + index % 2 * 5_000_000
        messages += [command(stamp - 1, 0.1, 0.2), frame(stamp, np.zeros((16, 16, 3), np.uint8))]
    _, report, _ = inspected(write(tmp_path / 'bag', messages))
    jitter = {t['name']: t['jitter_ms'] for t in report['bags'][0]['topics']}
    assert jitter['/lewm/camera/image'] == pytest.approx(10.0)


def keys(rounds: int = 6, seconds: float = 7.0) -> list[Recorded]:
    """A key held for a second: 0.5 at 10 Hz, nothing for 5 s, then 0; the base moves for 1.5 s.

    The brightness of the image shows the position of the base.
    """
    messages, place = [], 0.0
    for number in range(round(rounds * seconds * 20)):
        stamp, at = NS_PER_S + number * FRAME, number / 20 % seconds
        place += 0.5 / 20 if 0.001 < at < 1.5 else 0.0
        if (at < 0.99 or at > 5.99) and number % 2 == 0:
            messages.append(command(stamp - 1, 0.5 if at < 1 else 0.0, 0.0))
        grey = np.full((16, 16, 3), round(40 * place) % 256, dtype=np.uint8)
        messages.append(frame(stamp, grey))
    return messages


def test_commands_of_a_key_that_was_let_go_end(tmp_path, inspected):
    """With action.hold, commands of a released key expire; without it, inspect asks for it.

    Held for ever, they would say that the base drives while it stands.
    """
    bag = write(tmp_path / 'bag', keys())
    _, endless, _ = inspected(bag)
    note = 'commands pause for up to 5.1 s: is the last one held? If not, set action.hold to how'
    assert note in ' '.join(endless['bags'][0]['notes'])
    assert endless['bags'][0]['episodes'][0]['lapsed'] == 0
    path = contract_file(tmp_path, hold=0.6)
    contract = Contract.load(path)
    status, report, _ = inspected(bag, contract=path)
    assert status == 0
    lapsed = report['bags'][0]['episodes'][0]['lapsed']
    assert lapsed == endless['windows'] - report['windows'] > 0
    (note,) = [text for text in report['bags'][0]['notes'] if 'hold' in text]
    assert note == f'{lapsed} windows left out: commands older than action.hold (0.6 s)'
    (episode,) = read_episodes([bag], contract, 16)
    moving = np.diff(episode.images[:, 0, 0, 0].astype(int)) != 0
    windows = load_windows([bag], contract, 16, 1, 5, tmp_path / 'cache')
    forward = windows.blocks[:, 0::2].mean(axis=(1, 2))
    moved = [moving[a:b].any() for a, b in windows.frames[:, [0, -1]]]
    assert set(np.round(forward[np.logical_not(moved)], 6)) == {0.0}
    assert (forward[moved] > 0).all() and len(forward) > 100


def test_where_no_window_is_left_the_hold_is_named(tmp_path):
    """If the hold leaves no window, inspect and training name it.

    For a position command zero is not a stop, so inspect asks whether it is held.
    """
    messages = [m for n, m in enumerate(drive(60, 1)) if 'action' not in m.topic or n < 12]
    bag = write(tmp_path / 'bag', messages)
    path = contract_file(tmp_path, hold=0.1)
    status, _, error = lewm('inspect', bag, '--contract', path, '--image-size', 16, '--json')
    assert status == 2
    assert 'windows left out: commands older than action.hold' in error
    with pytest.raises(BagError, match=r'none older than action.hold \(0.1 s\)'):
        load_windows([bag], Contract.load(path), 16, 3, 5, tmp_path / 'cache')
    path = contract_file(tmp_path, kind='position')
    status, out, _ = lewm('inspect', bag, '--contract', path, '--image-size', 16, '--json')
    assert status == 0
    assert 'commands pause for up to 2.' in out


def test_ranges_saturation_and_constant_dimensions(tmp_path, inspected):
    """Ranges, saturation and constant dimensions are reported.

    A quarter of the commands are at the upper limit, one in twenty beyond the lower one.
    """
    messages = []
    for index in range(80):
        stamp = NS_PER_S + index * FRAME
        value = 1.0 if index % 4 == 0 else -1.5 if index % 20 == 1 else index / 1000
        image = np.full((16, 16, 3), index, dtype=np.uint8)
        messages += [command(stamp - 1, value, 0.25), frame(stamp, image)]
    _, report, _ = inspected(write(tmp_path / 'bag', messages))
    shoulder, elbow = report['actions']
    assert (shoulder['least'], shoulder['greatest'], shoulder['beyond']) == (-1.5, 1.0, 4)
    assert shoulder['saturated'] == pytest.approx(0.3)
    assert not shoulder['constant']
    assert elbow['constant']
    assert (elbow['saturated'], elbow['beyond']) == (0.0, 0)


def test_a_dimension_that_hardly_ever_moves_is_named(tmp_path, capsys):
    """A dimension that moves in only one command of 200 is named as hard to learn."""
    messages = []
    for index in range(400):
        stamp = NS_PER_S + index * FRAME
        image = np.full((16, 16, 3), index % 256, dtype=np.uint8)
        image[0, 0] = 0
        side = 0.3 if index in (100, 101) else 0.0
        messages += [command(stamp - 1, np.sin(index / 9), side), frame(stamp, image)]
    bag = write(tmp_path / 'bag', messages)
    arguments = ['--contract', 'reacher', '--image-size', '16', '--out', str(tmp_path / 's.png')]
    assert main(['inspect', str(bag), *arguments]) == 0
    said = capsys.readouterr().out
    assert (
        '  hardly moves, cannot be learned well: elbow, constant but for 0.50% of the time' in said
    )
    assert said.count('hardly moves') == 1
    assert 'image values: 0 to 255 of 255\n' in said


def test_a_sensor_of_10_bits_without_a_scale_is_named(tmp_path, capsys):
    """Almost black images of a 10-bit sensor are reported, unless the contract has a scale."""
    ramp = np.linspace(0, 1023, 256, dtype='<u2').reshape(16, 16)
    messages = []
    for index in range(20):
        stamp = NS_PER_S + index * FRAME
        messages += [command(stamp - 1, index / 20, 0), frame(stamp, ramp, 'mono16')]
    bag = write(tmp_path / 'bag', messages)
    said = {}
    for scale in None, 1023:
        contract = contract_file(tmp_path)
        data = yaml.safe_load(contract.read_text())
        data['camera']['scale'] = scale
        contract.write_text(yaml.safe_dump(data))
        main(['inspect', str(bag), '--contract', str(contract), '--out', str(tmp_path / 's.png')])
        said[scale] = capsys.readouterr().out
    assert 'image values: 0 to 3 of 255\n  hardly any contrast: ' in said[None]
    assert 'set camera.scale' in said[None]
    assert 'image values: 0 to 255 of 255\n' in said[1023]
    assert 'contrast' not in said[1023]


@pytest.mark.parametrize('kind', ['position', 'effort'])
@pytest.mark.parametrize('move', [1, 3])
@pytest.mark.parametrize('delay', [0, 4, 9])
def test_delay_is_found_in_the_images(tmp_path, delay, move, kind):
    """The delay is found in the images, within a camera period."""
    contract = Contract.load(contract_file(tmp_path, kind=kind))
    estimate = DelayEstimate(contract)
    for part in read_episodes([write(tmp_path / 'bag', following(delay, move=move))], contract, 16):
        estimate.add(part)
    found = estimate.result()
    assert found.seconds == pytest.approx(delay * PERIOD, abs=PERIOD)
    assert found.correlation > found.threshold
    assert (found.action, found.motion) == ('shoulder', 'image')


def test_delay_is_found_in_the_state(tmp_path, inspected):
    """The delay is found in the state if the images show no motion."""
    bag = write(tmp_path / 'bag', following(4, states=True))
    _, report, _ = inspected(bag, contract=contract_file(tmp_path, kind='position'))
    found = report['delay']
    assert found['seconds'] == pytest.approx(4 * PERIOD, abs=PERIOD)
    assert (found['action'], found['motion']) == ('shoulder', 'position[0]')


@pytest.mark.parametrize(('kind', 'field'), [('velocity', 'position'), ('effort', 'velocity')])
def test_delay_of_a_command_that_is_integrated(tmp_path, kind, field):
    """The delay is found if a velocity moves a position, or an effort changes a velocity."""
    contract = Contract.load(contract_file(tmp_path, kind=kind))
    column = contract.state.fields.index(f'{field}[0]')
    (read,) = read_episodes([write(tmp_path / 'bag', following(0))], contract, 16)
    states = np.zeros((len(read.stamps), 4))
    states[5:, column] = np.cumsum(read.actions[:-5, 0]) * PERIOD
    estimate = DelayEstimate(contract)
    estimate.add(replace(read, states=states))
    found = estimate.result()
    assert found.seconds == pytest.approx(4 * PERIOD, abs=PERIOD)
    assert found.motion == f'{field}[0]'


def test_the_contracts_delay_is_taken_off(tmp_path, inspected):
    """The contract's delay is subtracted: only the rest is reported."""
    bag = write(tmp_path / 'bag', following(4))
    path = contract_file(tmp_path, kind='position', delay=0.1)
    _, report, _ = inspected(bag, contract=path)
    assert report['delay']['seconds'] == pytest.approx(0.1, abs=PERIOD)


def test_no_delay_is_made_up(tmp_path, inspected):
    """No delay is reported for noise, or for a robot at rest."""
    messages = [m for m in drive(frames=80) if 'joint' not in m.topic]
    _, report, _ = inspected(write(tmp_path / 'noise', messages))
    assert report['delay']['seconds'] is None
    rest = [m if 'action' not in m.topic else command(m.logged, 0.5, 0.5) for m in drive(frames=30)]
    status, report, _ = inspected(write(tmp_path / 'rest', rest))
    assert status == 0
    assert report['delay']['correlation'] is None


def test_recordings_that_differ_do_not_make_a_delay(tmp_path, inspected):
    """Recordings with different activity do not produce a delay.

    One has large commands and a lively image, the other neither.
    """
    generator = np.random.default_rng(1)
    for name, size in (('lively', 0.9), ('calm', 0.1)):
        messages = []
        for index in range(100):
            stamp = NS_PER_S + index * FRAME
            image = generator.integers(0, round(250 * size), (16, 16, 3), dtype=np.uint8)
            values = generator.uniform(-size, size, 2)
            messages += [command(stamp - 1, *values), frame(stamp, image)]
        write(tmp_path / 'bags' / name, messages)
    _, report, _ = inspected(tmp_path / 'bags')
    assert report['delay']['seconds'] is None


def test_the_contact_sheet_is_drawn(tmp_path, inspected):
    """The contact sheet has the colours of episodes, of gaps and of the images."""
    messages = [m for m in following(0) if not 2.5e9 < m.logged < 3.2e9 or 'image' not in m.topic]
    _, report, _ = inspected(write(tmp_path / 'bag', messages), sheet=True)
    sheet = np.array(Image.open(report['sheet']).convert('RGB')).astype(int)
    assert sheet.shape[0] > 500 and sheet.shape[1] > 1000
    for colour in ((44, 160, 44), (214, 39, 40)):
        assert (np.abs(sheet - colour).max(axis=2) < 3).sum() > 100
    assert sheet.std() > 20
    assert not list(tmp_path.glob('*.partial'))


def test_few_of_many_are_kept_evenly():
    """The items kept are evenly spaced, from the first to near the last."""
    thinned: Thinned[int] = Thinned(24)
    for number in range(10_000):
        thinned.add(number)
    assert 24 <= len(thinned.items) < 48
    assert len(set(np.diff(thinned.items))) == 1
    assert thinned.items[-1] > 9_500


def test_several_bags_and_text(tmp_path, capsys):
    """A bag that does not fit is named, and the others are inspected."""
    good = write(tmp_path / 'bags' / 'good', following(4))
    write(tmp_path / 'bags' / 'poor', [command(1, 0.0, 0.0)])
    out = tmp_path / 'sheet.png'
    assert main(['inspect', str(good.parent), '--contract', 'reacher', '--out', str(out)]) == 0
    said = capsys.readouterr().out
    assert f'bag {good}: 1 episodes, 120 frames in 6.0 s, 105 usable windows' in said
    assert '  problem: camera.topic camera/image (sensor_msgs/msg/Image): not in the bag' in said
    assert '  constant, cannot be learned: elbow' in said
    assert 'delay from command to motion: 0.' in said
    assert said.endswith(f'usable windows: 105 (of 4 frames 0.25 s apart)\ncontact sheet: {out}\n')


def test_nothing_usable_is_said_in_one_line(tmp_path, inspected):
    """Without a usable window, the last line says why, and the report is still printed."""
    messages = following(0, frames=10)
    messages.append(frame(2 * NS_PER_S, np.zeros((16, 16, 3), np.uint8), encoding='yuv'))
    bag = write(tmp_path / 'bag', messages)
    status, report, error = inspected(bag)
    assert status == 2
    assert report['windows'] == 0
    (count,) = report['bags'][0]['refused'].values()
    assert count == 1
    assert error.splitlines()[-1].startswith(
        f'lewm: error: no usable window in [{str(bag)!r}]: 1 episodes, the longest 0.45 s; '
        'a window needs 4 frames 0.25 s apart (0.75 s) with commands in between; refused: 1 x '
    )


def test_messages_that_are_wrong_alike_are_one_reason(tmp_path, inspected):
    """Messages with the same fault share one reason, whatever their numbers.

    Dimensions that are not finite are named.
    """
    messages = drive()
    told = [item for item in messages if item.type == 'std_msgs/msg/Float64MultiArray']
    for item in told[10:30]:
        item.message.data = np.array([item.message.data[0], np.nan])
    _, report, _ = inspected(write(tmp_path / 'bag', messages))
    assert report['bags'][0]['refused'] == {'action data[1] is not finite': 20}
    reasons = set()
    for size in range(5, 14):
        with pytest.raises(ObservationError) as caught:
            from_message(compressed(NS_PER_S, bytes(size)).message)
        reasons.add(str(caught.value))
    assert len(reasons) == 1


def test_a_bag_without_the_topics_is_not_usable(tmp_path, inspected):
    """A bag without the contract's topics is rejected as by `lewm check`, without a sheet."""
    bag = write(tmp_path / 'bag', [command(1, 0.0, 0.0)])
    status, report, error = inspected(bag, sheet=True)
    assert (status, report['sheet']) == (2, None)
    assert 'camera.topic camera/image (sensor_msgs/msg/Image): not in the bag' in error
    assert not (tmp_path / 'sheet.png').exists()


def test_an_image_size_below_one_is_refused(tmp_path, capsys):
    """It is rejected by option name."""
    bag = write(tmp_path / 'bag', following(0, frames=10))
    assert main(['inspect', str(bag), '--contract', 'reacher', '--image-size', '0']) == 2
    assert '--image-size is 0: expected 1 or more' in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_costs_the_sheet_alone(tmp_path, monkeypatch, disk_of):
    """A folder that is not writable costs only the sheet, unless --out asks for it.

    Then it is an error before the bag is read.
    """
    bag = write(tmp_path / 'bag', following(0))
    monkeypatch.chdir(tmp_path)
    disk_of(1000)
    arguments = ['--contract', 'reacher', '--image-size', '16']
    status, out, error = lewm('inspect', bag, *arguments)
    assert (status, error) == (
        0,
        'no contact sheet: report folder .: cannot be written: File too large\n',
    )
    assert 'usable windows: 105' in out and 'contact sheet' not in out
    for place, reason in (
        ('s/sheet.png', 'report folder s: cannot be written: File too large'),
        (str(tmp_path), 'is a folder: expected a file such as'),
    ):
        status, out, error = lewm('inspect', bag, *arguments, '--out', place)
        assert (status, out) == (2, '')
        assert reason in error and error.count('\n') == 1


def test_a_robot_needs_no_torch_and_json_no_matplotlib(tmp_path):
    """With --json a sheet is drawn only if --out is given; torch is for training."""
    bag = write(tmp_path / 'bag', following(0))
    code = (
        'import sys; sys.modules.update(matplotlib=None, PIL=None, torch=None); '
        'from lewm_ros.cli import main; sys.exit(main(sys.argv[1:]))'
    )
    command = [sys.executable, '-c', code, 'inspect', str(bag), '--contract', 'reacher']
    environment = os.environ | {'PYTHONPATH': str(Path(__file__).resolve().parents[2])}
    given = {'cwd': tmp_path, 'env': environment, 'capture_output': True, 'text': True}
    done = subprocess.run([*command, '--json'], check=True, **given)
    report = json.loads(done.stdout)
    assert (report['windows'], report['sheet']) == (105, None)
    drawn = subprocess.run(command, check=False, **given)
    assert drawn.returncode == 2
    assert '-m pip install ' in drawn.stderr and drawn.stderr.endswith(' matplotlib pillow\n')
    assert not list(tmp_path.glob('*.png'))
