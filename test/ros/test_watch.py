# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm watch` as a user runs it: into a pipe, in a terminal, with and without a robot."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys

from diagnostic_msgs.msg import DiagnosticArray
from harness import ROOT, Bench
import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Float32
from test_view_node import Robot

from lewm_ros.nodes.base import LATCHED
from lewm_ros.nodes.goals import goal_message
from lewm_ros.planning.config import GoalConfig
from lewm_ros.planning.goal import Goal

WATCH = [sys.executable, '-m', 'lewm_ros.cli', 'watch']


class Terminal:
    """`lewm watch` in a pseudo-terminal of 80 x 24; it is killed on exit."""

    def __init__(self, bench: Bench, *arguments: str, **environment: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*WATCH, *arguments],
            cwd=ROOT,
            env=os.environ
            | {'ROS_DOMAIN_ID': str(bench.domain), 'COLUMNS': '80', 'LINES': '24'}
            | environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self.text = ''

    def read(self) -> str:
        """Return everything it has written so far."""
        try:
            while select.select([self._master], [], [], 0.0)[0]:
                self.text += os.read(self._master, 65536).decode(errors='replace')
        except OSError:
            pass  # it has ended
        return self.text

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


def test_once_prints_one_plain_frame_and_ends(bench: Bench):
    """Goal, level, values with alpha, curve and events are printed without colour."""
    robot = Robot(bench)
    goal = Goal(GoalConfig(0.1, 0.0), 0.05)
    goal.set(np.zeros(3), 1, 0.0)
    bench.node.create_publisher(DiagnosticArray, 'goal_status', LATCHED).publish(
        goal_message(goal, None, 'reacher', 1)
    )
    robot.event(bench.now(), bench.now() + 10**9, kind='frame_gap')
    with bench.lewm('watch', '--once', '--window', '30') as process:
        robot.wait()
        for _ in range(12):
            if process.running:
                robot.report(alpha=0.01, threshold=16.0)
                robot.see(2.0, 5)
        assert process.wait() == 0
        lines = process.output.splitlines()
        assert lines[0].startswith('lewm watch /lewm   goal: active ')
        assert 5 < float(lines[0].split()[-2]) < 40
        assert lines[2] == ' normal   surprise 2   threshold 16 (alpha 0.01)'
        assert sum('█' in line for line in lines) >= 2
        assert any(line.strip() == '-30 s' + ' ' * 64 + 'now' for line in lines)
        assert re.search(r'frame_gap +#1 +1\.00 s', process.output)
        assert '\x1b' not in process.output
        assert len(lines) < 24


def test_silence_is_said_by_name_with_status_1(bench: Bench):
    """Without a publisher, and with a silent one, the topic is named."""
    with bench.lewm('watch', '--seconds', '3', '--namespace', 'arm/left/') as process:
        assert process.wait() == 1
        assert ' no scores ' in process.output
        name = '/arm/left/surprise/contributions'
        assert re.search(rf'no scores on {name} for [23] s \(publishers: 0\)', process.output)
    bench.node.create_publisher(Image, 'surprise/contributions', 10)
    with bench.lewm('watch', '--once') as process:
        assert process.wait() == 1
        assert re.search(r'for \d s \(publishers: 1\)', process.output)


def test_a_terminal_is_drawn_live_and_left_as_it_was(bench: Bench):
    """Colours, open events, at most 80 columns; Ctrl-C gives status 0 and leaves the last frame."""
    robot = Robot(bench)
    with Terminal(bench) as terminal:
        robot.wait()
        robot.see(1.0, 10)
        bench.until(lambda: '\x1b[30;42m normal ' in terminal.read(), terminal.read)
        assert terminal.text.startswith('\x1b[?1049h')
        robot.event(robot.see(120.0, 2), kind='drift')
        robot.see(120.0, 4)
        bench.until(lambda: '\x1b[1;97;41m ANOMALY ' in terminal.read(), terminal.read)
        terminal.process.send_signal(signal.SIGINT)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(10) == 0
        shown, left, after = terminal.read().rpartition('\x1b[?1049l')
        assert left
        assert shown.endswith('\x1b[?25h')
        assert 'ANOMALY' in after
        assert re.search(r'drift +#1 +open for', after)
        # Ctrl-C may cut a sequence: the next one follows at once.
        sequence = r'\x1b(?:\[[?\d;]*(?:[a-zA-Z]|(?=\x1b))|(?=\x1b))'
        plain = re.sub(sequence, '', shown).replace('\r', '')
        assert '\x1b' not in plain
        assert max(map(len, plain.splitlines())) <= 80
        assert 'Traceback' not in terminal.text


def test_no_color_is_heeded(bench: Bench):
    """NO_COLOR applies in a terminal too; --seconds exits and leaves the last frame."""
    robot = Robot(bench, threshold=None)
    with Terminal(bench, '--seconds', '6', NO_COLOR='1') as terminal:
        robot.wait()
        while terminal.process.poll() is None:
            robot.see(50.0, 4)
            terminal.read()  # a terminal that nobody reads fills, and writing to it waits
        assert terminal.process.returncode == 0
        after = terminal.read().rpartition('\x1b[?1049l')[2]
        assert ' not calibrated   surprise 50   no threshold, no events' in after
        assert not re.search(r'\x1b\[[\d;]*m', terminal.text)


def test_a_broken_message_is_part_of_the_screen(bench: Bench):
    """A malformed message is named on the screen, without a log line in between."""
    publisher = bench.node.create_publisher(Image, 'surprise/contributions', 10)
    bench.node.create_publisher(Float32, 'surprise/threshold', LATCHED)
    with bench.lewm('watch', '--seconds', '6') as process:
        bench.until(publisher.get_subscription_count, 'nobody listens')
        while process.running:
            publisher.publish(Image(encoding='rgb8', height=2, width=2))
            bench.spin(0.2)
        assert process.wait() == 1
        assert 'not one row of 32FC1' in process.output
        assert 'Traceback' not in process.output
        assert '[ERROR]' not in process.output


@pytest.mark.parametrize(
    ('arguments', 'named'),
    [
        ((), 'no terminal: give --once or --seconds'),
        (('--once', '--window', '1'), "'seconds' is out of range: expected 5 to 600"),
    ],
)
def test_bad_input_is_one_line(bench: Bench, arguments, named):
    """The error is one line, with status 2."""
    with bench.lewm('watch', *arguments) as process:
        assert process.wait() == 2
        assert named in process.output
        assert process.output.count('\n') == 1


def test_watching_disturbs_nobody(bench: Bench):
    """It publishes only diagnostics and standard topics, under a unique node name."""
    robot = Robot(bench)
    heard = bench.listen(DiagnosticArray, '/diagnostics')
    with bench.lewm('watch', '--seconds', '10') as first, bench.lewm('watch', '--seconds', '10'):
        robot.wait()
        bench.until(
            lambda: len({s.name for _, m in heard for s in m.status}) == 2, 'not two of them'
        )
        mine = {t for t, _ in bench.node.get_topic_names_and_types()}
        for topic in mine:
            for offer in bench.node.get_publishers_info_by_topic(topic):
                if offer.node_name.startswith('watch_'):
                    assert topic.rpartition('/')[2] in (
                        'diagnostics',
                        'transition_event',
                        'parameter_events',
                        'rosout',
                    )
        assert first.running
