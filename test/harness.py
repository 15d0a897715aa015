# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Real nodes in their own processes, and a test node that talks to them."""

from __future__ import annotations

from collections.abc import Callable
import gc
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import time
from types import TracebackType
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.time import Time

ROOT = Path(__file__).resolve().parents[1]
#: Time for a program to end by itself [s]. One that is killed while it takes a message from Fast
#: DDS's shared memory keeps a lock; its publishers then wait a second for each message.
ENDS = 3.0


class Process:
    """A program under test. Use it as a context manager, which always ends the program."""

    def __init__(self, command: list[str], domain: int, folder: Path) -> None:
        paths = [str(ROOT), os.environ.get('PYTHONPATH', '')]
        environment = os.environ | {
            'ROS_DOMAIN_ID': str(domain),
            'PYTHONPATH': os.pathsep.join(p for p in paths if p),
            'PYTHONUNBUFFERED': '1',
        }
        self._log = folder / f'{time.monotonic_ns()}.log'
        self._file = self._log.open('wb')
        self._process = subprocess.Popen(
            command, env=environment, cwd=folder, stdout=self._file, stderr=subprocess.STDOUT
        )

    @property
    def output(self) -> str:
        """All output so far."""
        return self._log.read_text()

    @property
    def running(self) -> bool:
        """Whether the program is still running."""
        return self._process.poll() is None

    def nodes(self) -> dict[str, int]:
        """Return the process ids of the nodes of `lewm up --processes` by name."""
        found = {}
        for folder in Path('/proc').glob('[0-9]*'):
            try:
                parent = int(folder.joinpath('stat').read_text().rpartition(')')[2].split()[1])
                words = folder.joinpath('cmdline').read_text().split('\0')
            except (OSError, ValueError):  # it has ended
                continue
            if parent == self._process.pid and 'lewm_ros.bringup.compose' in words:
                found[words[words.index('lewm_ros.bringup.compose') + 1]] = int(folder.name)
        return found

    def segments(self) -> set[str]:
        """Return the Fast DDS shared-memory segments that the process has mapped."""
        maps = Path(f'/proc/{self._process.pid}/maps').read_text()
        return set(re.findall(r'/dev/shm/fast(?:dds|rtps)_\S+', maps))

    @property
    def takes_signals(self) -> bool:
        """Whether SIGTERM is handled or blocked, so that a signal sent from now on is handled."""
        try:
            status = Path(f'/proc/{self._process.pid}/status').read_text()
        except OSError:
            return False
        masks = re.findall(r'^Sig(?:Blk|Cgt):\s*(\w+)$', status, re.MULTILINE)
        return any(int(mask, 16) >> (signal.SIGTERM - 1) & 1 for mask in masks)

    def send(self, number: signal.Signals) -> None:
        """Send a signal without waiting for the program to end."""
        self._process.send_signal(number)

    def end(self, *signals: signal.Signals, timeout: float = 20.0) -> int:
        """Send signals 30 ms apart and return the exit status."""
        for number in signals or (signal.SIGINT,):
            self._process.send_signal(number)
            time.sleep(0.03)
        return self._process.wait(timeout)

    def wait(self, timeout: float = 40.0) -> int:
        """Return the exit status of a program that ends by itself."""
        return self._process.wait(timeout)

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.running:
            try:
                self.end(signal.SIGTERM, timeout=ENDS)
            except subprocess.TimeoutExpired:  # for example stopped by SIGSTOP
                self._process.kill()
                self._process.wait()
        self._file.close()
        if kind is not None:
            print(self.output)


class Bench:
    """The test's own node: publishes, subscribes and waits. All names are relative to /lewm."""

    def __init__(self, domain: int, folder: Path) -> None:
        self.domain, self.folder = domain, folder
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = Node('bench', namespace='lewm', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._made: list[Node] = []
        self.diagnostics: dict[str, tuple[int, str, dict[str, str]]] = {}
        self._reported: dict[str, int] = {}  # stamp of each newest report [ns]
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def close(self) -> None:
        """Destroy the nodes and shut down the context."""
        self._executor.shutdown()
        for node in (*self._made, self.node):
            node.destroy_node()
        rclpy.shutdown(context=self._context)
        if self._made:  # reference cycles keep them in the domain until collected
            self._made.clear()
            gc.collect()

    def nodes(self, *names: str, **parameters: Any) -> Process:
        """Start nodes in one process, all with the same parameters."""
        given = [a for k, v in parameters.items() for a in ('-p', f'{k}:={v}')]
        ros = ['--ros-args', '-r', '__ns:=/lewm', *given]
        if 'encoder_node' in names:  # both subscribe to the camera
            for name in ('encoder_node', 'view_node'):
                ros += ['-r', f'{name}:image:=camera/image']
        command = [sys.executable, '-m', 'lewm_ros.bringup.compose', *names, *ros]
        return Process(command, self.domain, self.folder)

    def run(self, kind: type[Node], name: str, **options: Any) -> Any:
        """Create a node in this process and spin it like the bench's own."""
        node = kind(name, namespace='lewm', context=self._context, **options)
        self._made.append(node)
        self._executor.add_node(node)
        return node

    def program(self, name: str, *arguments: str) -> Process:
        """Start a node as its console script does."""
        code = f'import sys; from lewm_ros.bringup.programs import *; sys.exit({name}_node())'
        ros = ['--ros-args', '-r', '__ns:=/lewm', *arguments]
        return Process([sys.executable, '-c', code, *ros], self.domain, self.folder)

    def lewm(self, *arguments: str) -> Process:
        """Start the command line."""
        command = [sys.executable, '-m', 'lewm_ros.cli', *arguments]
        return Process(command, self.domain, self.folder)

    def publisher(self, kind: type, topic: str, qos: Any = 10) -> Any:
        """Create a publisher and wait until it has a subscription."""
        publisher = self.node.create_publisher(kind, topic, qos)
        self.until(lambda: publisher.get_subscription_count() > 0, f'nobody listens to {topic}')
        return publisher

    def listen(self, kind: type, topic: str, qos: Any = 10) -> list[Any]:
        """Subscribe; return the list that messages are appended to, as (monotonic [s], msg)."""
        heard: list[Any] = []
        self.node.create_subscription(
            kind, topic, lambda m: heard.append((time.monotonic(), m)), qos
        )
        return heard

    def call(self, kind: type, name: str, **fields: Any) -> Any:
        """Call a service and return its response."""
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready, f'no service {name}')
        future = client.call_async(kind.Request(**fields))
        self.until(future.done, f'{name} does not answer')
        self.node.destroy_client(client)
        return future.result()

    def change(self, node: str, *transitions: int) -> None:
        """Take a node through lifecycle transitions; each must succeed."""
        for number in transitions:
            transition = Transition(id=number)
            done = self.call(ChangeState, f'{node}/change_state', transition=transition)
            assert done.success, f'{node}: transition {number} failed'

    def now(self) -> int:
        """Return the current time [ns]."""
        return self.node.get_clock().now().nanoseconds

    def spin(self, seconds: float) -> None:
        """Spin for some time [s]."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left, 0.05))

    def until(self, done: Callable[[], Any], what: str, timeout: float = 40.0) -> None:
        """Spin until ``done()`` is true; fail the test with ``what`` at the timeout."""
        end = time.monotonic() + timeout
        while not done():
            assert time.monotonic() < end, what() if callable(what) else what
            self._executor.spin_once(timeout_sec=0.05)

    def active(self, *names: str) -> None:
        """Wait until the nodes report that they are active."""
        for name in names:
            self.until(
                lambda name=name: self.figures(name).get('lifecycle') == 'active',
                f'{name} is not active',
                60.0,
            )

    def figures(self, node: str) -> dict[str, str]:
        """Return the newest diagnostics values of a node."""
        return self.diagnostics.get(f'lewm/{node}', (0, '', {}))[2]

    def report(self, node: str) -> dict[str, str]:
        """Return a node's diagnostics values from a report made after this call."""
        begin = self.now()
        self.until(lambda: self._reported.get(f'lewm/{node}', 0) >= begin, f'{node}: no report')
        return self.figures(node)

    def text(self, node: str) -> str:
        """Return the newest diagnostics text of a node."""
        return self.diagnostics.get(f'lewm/{node}', (0, '', {}))[1]

    def says(self, node: str, *texts: str, timeout: float = 40.0) -> None:
        """Wait until the diagnostics text of a node contains all these; it comes once a second."""
        self.until(
            lambda: all(text in self.text(node) for text in texts),
            lambda: f'{node} does not say {texts}, but: {self.text(node)}',
            timeout,
        )

    def content(self, *nodes: str, timeout: float = 40.0) -> None:
        """Wait until the diagnostics text of the nodes is 'ok'."""
        self.until(
            lambda: {self.text(node) for node in nodes} == {'ok'},
            lambda: f'not content: {[self.text(node) for node in nodes]}',
            timeout,
        )

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        stamp = Time.from_msg(message.header.stamp).nanoseconds
        for status in message.status:
            self._reported[status.name] = stamp
            values = {v.key: v.value for v in status.values}
            self.diagnostics[status.name] = (status.level[0], status.message, values)
