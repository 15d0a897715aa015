# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""One recording, from start to summary: the bag, its writer, and statistics of each topic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import json
from pathlib import Path
import time
from typing import Any

from lewm_ros.bags.config import RecorderConfig
from lewm_ros.bags.flow import Flow
from lewm_ros.bags.layout import header_stamp
from lewm_ros.bags.recorder import BagRecorder, check_disk
from lewm_ros.bags.writer import BagFolder, Channel
from lewm_ros.errors import BagError

#: Key of the summary in a bag's custom data, as JSON.
SUMMARY = 'lewm_recording'
#: Keys of the summary that should be zero.
LOSSES = ('dropped', 'lost', 'missing', 'gaps')


@dataclass
class Recorded:
    """A topic that is being recorded."""

    channel: Channel
    flow: Flow
    regular: bool  #: has a rate, so that a pause is a gap
    stamped: bool  #: its messages begin with a std_msgs/Header
    heard: float  #: time of the last message, or of the subscription [s], monotonic


class Session:
    """A bag being recorded.

    Raises BagError if the folder exists or the disk is nearly full, OSError where it cannot be
    written.

    Args:
        path: folder of the bag.
        config: gaps, files, queue and disk.
        metadata: custom data of the bag.

    """

    def __init__(self, path: Path, config: RecorderConfig, metadata: Mapping[str, str]) -> None:
        check_disk(path, config.min_free_gb)
        self.path = path
        self.topics: dict[str, Recorded] = {}
        self._gap = config.gap
        self._began = time.monotonic()
        self._bag = BagFolder(path, metadata, config.split_seconds, config.split_gb * 1e9)
        self._recorder = BagRecorder(self._bag, config)

    @property
    def error(self) -> BagError | None:
        """What ended the writing, or None."""
        return self._recorder.error

    @property
    def seconds(self) -> float:
        """How long this has been recording [s]."""
        return time.monotonic() - self._began

    def add(self, channel: Channel, regular: bool, stamped: bool) -> Recorded:
        """Register a topic to be recorded."""
        recorded = Recorded(
            channel, Flow(self._gap, regular, stamped), regular, stamped, heard=time.monotonic()
        )
        self.topics[channel.topic] = recorded
        return recorded

    def take(self, recorded: Recorded, data: bytes, received: int) -> float:
        """Queue a serialised message received at ``received`` [ns]; return the gap before it [s].

        0.0 where there was none. Never blocks; messages that find the queue full are counted by
        :meth:`dropped`.
        """
        recorded.heard = time.monotonic()
        self._recorder.put(recorded.channel, received, data)
        # By the header stamp if there is one: a message that is only late is no gap.
        stamp = header_stamp(data) if recorded.stamped else 0
        return recorded.flow.arrived(stamp or received)

    def dropped(self, topic: str) -> int:
        """Messages of a topic dropped because the queue was full."""
        return self._recorder.dropped[topic]

    def written(self, topic: str) -> int:
        """Messages of a topic in the bag."""
        return self._recorder.written[topic]

    def silence(self, recorded: Recorded) -> float:
        """Time since the last message of a regular topic if that is a gap already, else 0 [s]."""
        silent = time.monotonic() - recorded.heard
        return silent if recorded.regular and silent > self._gap else 0.0

    def metrics(self) -> dict[str, Any]:
        """Metrics of the running recording."""
        flows = {name: r.flow for name, r in self.topics.items()}
        return {
            'bag': self.path,
            'seconds': self.seconds,
            'written': self._recorder.written.total(),
            'waiting_mb': self._recorder.waiting / 1e6,
            'dropped': self._recorder.dropped.total(),
            'lost': sum(f.lost for f in flows.values()),
            'missing': sum(f.missing for f in flows.values()),
            'gaps': sum(f.gaps for f in flows.values()),
            **{f'messages: {name}': flow.messages for name, flow in flows.items()},
        }

    def close(self, **details: Any) -> str:
        """Write what is queued, close the bag and return a summary as text.

        The summary and ``details`` are stored in the bag's metadata too. Raises BagError if a
        message could not be written, or the bag cannot be completed.
        """
        summary = {'seconds': round(self.seconds, 1), **details}
        self._recorder.stop()
        summary['topics'] = {name: self._summary(r) for name, r in sorted(self.topics.items())}
        self._bag.metadata[SUMMARY] = json.dumps(summary)
        try:
            self._bag.close()
        except OSError as error:
            raise BagError(
                f'bag {self.path}: cannot be completed ({error}): make room, then '
                f'`lewm record --repair {self.path}`'
            ) from error
        text = _text(f'{self.path}: {self._bag.size / 1e6:.1f} MB', summary)
        if self.error is not None:
            raise BagError(f'{self.error}; the recording ends there\n{text}') from self.error
        return text

    def _summary(self, recorded: Recorded) -> dict[str, Any]:
        topic, flow = recorded.channel.topic, recorded.flow
        return {
            'messages': self._recorder.written[topic],
            'rate_hz': round(1 / flow.period, 2) if flow.period > 0 else None,
            'dropped': self._recorder.dropped[topic],
            'lost': flow.lost,
            'missing': flow.missing,
            'gaps': flow.gaps,
            'longest_pause': round(flow.longest, 3),
        }


def _text(title: str, summary: Mapping[str, Any]) -> str:
    lines = [f'{title} in {summary["seconds"]:g} s']
    for name, metrics in summary['topics'].items():
        rate = '' if metrics['rate_hz'] is None else f' at {metrics["rate_hz"]:g} Hz'
        losses = [f', {metrics[key]} {key}' for key in LOSSES if metrics[key]]
        lines.append(f'  {name}: {metrics["messages"]} messages{rate}{"".join(losses)}')
    return '\n'.join(lines)
