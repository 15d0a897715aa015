# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Makes the images of docs/watching.md: `make images`.

Runs the simulated demo and `lewm watch` beside it, waits for a teleport of the arm, and saves
what the topics and the terminal show a moment later.
"""

from __future__ import annotations

import os
from pathlib import Path
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import cv2
from diagnostic_msgs.msg import DiagnosticArray
import matplotlib
import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont
import rclpy
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker, MarkerArray

from lewm_ros.nodes.anomalies import EVENTS
from lewm_ros.nodes.diagnostics import values_of
from lewm_ros.robot.imaging import from_message

HERE = Path(__file__).parent / 'images'
LEWM = [sys.executable, '-m', 'lewm_ros.cli']
TELEPORTS = 3  #: events to wait for; the image is taken while the last one lasts
MOMENT = 0.1  #: after its beginning [s], at least
PATIENCE = 120.0  #: for all of it [s]
SIZE = (80, 24)  #: of the terminal [columns, lines]
PALETTE = {
    2: '#808080',
    30: '#000000',
    31: '#f14c4c',
    41: '#cd3131',
    42: '#0dbc79',
    43: '#e5e510',
    44: '#2472c8',
    47: '#cccccc',
    97: '#ffffff',
}
INK, PAPER = '#d4d4d4', '#1e1e1e'


def main() -> None:
    """Run, wait, save."""
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    HERE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        given = {'goals': 5, 'random_goals': 0, 'teleports': 4 * TELEPORTS, 'out': folder}
        parameters = [a for k, v in given.items() for a in ('-p', f'trial_node.{k}:={v}')]
        parameters += ['-p', 'view_node.rate:=5.0']  # leave the processor to the demo
        demo = subprocess.Popen([*LEWM, 'up', 'demo', *parameters])
        master, slave = pty.openpty()
        environment = os.environ | {'COLUMNS': str(SIZE[0]), 'LINES': str(SIZE[1])}
        watch = subprocess.Popen(
            [*LEWM, 'watch'], stdin=slave, stdout=slave, stderr=slave, env=environment
        )
        os.close(slave)
        try:
            heard, text = observe(master, demo)
            watch.send_signal(signal.SIGINT)
            text += drain(master)
        finally:
            for process in (watch, demo):
                process.send_signal(signal.SIGINT)
                process.wait(20)
    for name in ('plot', 'image', 'plan', 'expected'):
        save(name, from_message(heard[name]))
    save('marker', marker_image(heard['marker']))
    terminal_image(text.rpartition('\x1b[?1049l')[2]).save(HERE / 'watch.png', optimize=True)


def observe(terminal: int, demo: subprocess.Popen[bytes]) -> tuple[dict[str, Any], str]:
    """Return the newest message of each output, and what the terminal got so far."""
    rclpy.init()
    node = rclpy.create_node('make_images', namespace='lewm')
    heard: dict[str, tuple[float, Any]] = {}
    opened: list[float] = []

    def on_anomaly(message: DiagnosticArray) -> None:
        for status in message.status:
            values = values_of(status)
            if not values['end']:
                opened.append(time.monotonic())

    for name in ('plot', 'image', 'marker', 'plan', 'expected'):
        kind = MarkerArray if name == 'marker' else Image
        node.create_subscription(
            kind, f'view/{name}', lambda m, n=name: heard.update({n: (time.monotonic(), m)}), 1
        )
    node.create_subscription(DiagnosticArray, 'anomaly', on_anomaly, EVENTS)
    text, began = '', time.monotonic()
    # What was expected is drawn once, the rest again and again.
    while (
        len(opened) < TELEPORTS
        or len(heard) < 5
        or min(at for name, (at, _) in heard.items() if name != 'expected') < opened[-1] + MOMENT
    ):
        if demo.poll() is not None or time.monotonic() > began + PATIENCE:
            seconds = time.monotonic() - began
            raise SystemExit(f'{len(opened)} events in {seconds:.0f} s: expected {TELEPORTS}')
        rclpy.spin_once(node, timeout_sec=0.02)
        if select.select([terminal], [], [], 0.0)[0]:
            text += os.read(terminal, 65536).decode(errors='ignore')
    rclpy.shutdown()
    return {name: message for name, (_, message) in heard.items()}, text


def drain(terminal: int) -> str:
    """Read what a program writes until it ends."""
    data = b''
    try:
        while select.select([terminal], [], [], 10.0)[0]:
            data += os.read(terminal, 65536)
    except OSError:
        pass  # the other side is closed
    return data.decode(errors='ignore')


def save(name: str, image: np.ndarray) -> None:
    """Save RGB as a PNG with few colours, which is small."""
    few = PILImage.fromarray(image).quantize(128, dither=PILImage.Dither.NONE)
    few.save(HERE / f'{name}.png', optimize=True)


def marker_image(message: MarkerArray, scale: int = 520) -> np.ndarray:
    """Draw boxes and text of a MarkerArray seen along z, x to the right, y down."""
    image = np.full((340, 640, 3), 48, np.uint8)
    origin = np.array([60, 255])
    for marker in message.markers:
        colour = [round(255 * c) for c in (marker.color.r, marker.color.g, marker.color.b)]
        centre = origin + scale * np.array([marker.pose.position.x, marker.pose.position.y])
        if marker.type == Marker.CUBE:
            half = scale * np.array([marker.scale.x, marker.scale.y]) / 2
            first, last = (tuple((centre + s * half).round().astype(int)) for s in (-1, 1))
            layer = image.copy()
            cv2.rectangle(layer, first, last, colour, cv2.FILLED)
            image = cv2.addWeighted(layer, marker.color.a, image, 1 - marker.color.a, 0)
            continue
        size = scale * marker.scale.z / 42
        lines = marker.text.split('\n')
        for row, line in enumerate(lines):
            font = cv2.FONT_HERSHEY_SIMPLEX
            width = cv2.getTextSize(line, font, size, 2)[0][0]
            down = 1.4 * scale * marker.scale.z * (row + 0.7 - len(lines) / 2)
            at = (round(centre[0] - width / 2), round(centre[1] + down))
            cv2.putText(image, line, at, font, size, colour, 2, cv2.LINE_AA)
    note = 'drawn with OpenCV from the message on view/marker, not by RViz'
    cv2.putText(image, note, (60, 325), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (150,) * 3, 1, cv2.LINE_AA)
    return image


def terminal_image(text: str) -> PILImage.Image:
    """Draw text with ANSI colours as a terminal would."""
    fonts = Path(matplotlib.get_data_path()) / 'fonts' / 'ttf'
    font = ImageFont.truetype(str(fonts / 'DejaVuSansMono.ttf'), 13)
    width, height = round(font.getlength('M')), 15
    lines = text.strip('\r\n').split('\r\n')
    image = PILImage.new('RGB', (width * (SIZE[0] + 2), height * (len(lines) + 1)), PAPER)
    draw = ImageDraw.Draw(image)
    for row, line in enumerate(lines):
        x, y = width, height // 2 + row * height
        ink, paper = INK, PAPER
        for code, piece in re.findall(r'(?:\x1b\[([\d;]*)m)?([^\x1b]*)', line):
            for number in map(int, filter(None, code.split(';'))):
                if number == 0:
                    ink, paper = INK, PAPER
                elif 40 <= number < 48:
                    paper = PALETTE[number]
                else:
                    ink = PALETTE.get(number, ink)
            for character in piece:
                draw.rectangle((x, y, x + width - 1, y + height - 1), paper)
                draw.text((x, y), character, ink, font)
                x += width
    return image


if __name__ == '__main__':
    main()
