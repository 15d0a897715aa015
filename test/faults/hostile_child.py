# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Opens hostile files one after the other, watched: what each did besides being refused.

Run as a program: ``hostile_child.py CASES``, with a file with a JSON list of cases [name, way,
path]; those named 'good' are opened beforehand as well. Prints a JSON object: name and way →
status or error, message, what it did.
"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import hashlib
import io
import json
from pathlib import Path
import resource
import subprocess
import sys
from typing import Any

from lewm_ros import cli
from lewm_ros.api import planner_config
from lewm_ros.bringup.groups import Bringup
from lewm_ros.bundle import FILES, MANIFEST, Bundle
from lewm_ros.engines import ENGINES, load_engine
from lewm_ros.robot.contract import Contract
from lewm_ros.training.import_official import read_action_stats

MEMORY = 400 << 20  #: address space that a case may ask for [bytes]; a good load takes less
#: What running code out of a file would show itself by.
EXECUTION = (
    'compile',
    'ctypes.',
    'exec',
    'import',
    'marshal.',
    'os.exec',
    'os.posix_spawn',
    'os.remove',
    'os.rename',
    'os.system',
    'pickle.',
    'shutil.',
    'socket.',
    'subprocess.',
    'urllib.',
)


def command(*words: str) -> Callable[[str], Any]:
    """Return a way in through the command line; {} stands for the path."""

    def run(path: str) -> int:
        return cli.main([word.replace('{}', path) for word in words])

    return run


WAYS: dict[str, Callable[[str], Any]] = {
    'load': Bundle.load,
    **{name: lambda path, name=name: load_engine(Bundle.load(path), name) for name in ENGINES},
    'lewm evaluate': command('evaluate', '{}', '--goals', '1', '--seconds', '1'),
    'lewm evaluate --engine torch': command(
        'evaluate', '{}', '--goals', '1', '--seconds', '1', '--engine', 'torch'
    ),
    'lewm up': command('up', 'plan', '--bundle', '{}'),
    'lewm calibrate': command('calibrate', '{}', '--data', '{}'),
    'lewm export': command('export', '{}'),
    'contract': Contract.load,
    'lewm check': command('check', '{}'),
    'lewm up --contract': command('up', 'plan', '--contract', '{}'),
    'preset': lambda path: planner_config(path, 0),
    'parameters': lambda path: Bringup.of('plan', params_file=path),
    'lewm up --params-file': command('up', 'plan', '--params-file', '{}'),
    'statistics': lambda path: read_action_stats(Path(path), ('x', 'y')),
}


def seal(folder: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest with the hashes that the files have."""
    for name in FILES:
        manifest['files'][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def refusals(cases: list[tuple[str, str, str]], folder: Path) -> dict[str, Any]:
    """Return what a child process says of these cases, with its working files in ``folder``."""
    listed = folder / 'cases.json'
    listed.write_text(json.dumps(cases))
    done = subprocess.run(
        [sys.executable, __file__, str(listed)],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


class Watch:
    """Notes what Python does that loading plain data never needs."""

    def __init__(self) -> None:
        self.seen: set[str] | None = None
        sys.addaudithook(self._note)

    def _note(self, event: str, args: tuple[Any, ...]) -> None:
        if self.seen is None:
            return
        if event == 'open' and isinstance(args[1], str) and set(args[1]) & set('wax+'):
            self.seen.add(f'open {args[0]} {args[1]}')
        elif event.startswith(EXECUTION):
            self.seen.add(f'{event} {args[0] if args else ""}')


def virtual() -> int:
    """Return the size of the process's address space [bytes]."""
    text = Path('/proc/self/status').read_text()
    return int(text.split('VmSize:')[1].split()[0]) * 1024


def attempt(way: str, path: str) -> tuple[str, str]:
    """Return the name of the error, or what came back, and what was said."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            result = WAYS[way](path)
    except SystemExit as error:
        return f'exit {error.code}', said.getvalue()
    except BaseException as error:
        return type(error).__name__, str(error)
    return (str(result) if isinstance(result, int) else 'loaded'), said.getvalue()


def main(cases: list[tuple[str, str, str]]) -> dict[str, Any]:
    """Try every case with little memory and under watch."""
    for name, way, path in cases:  # so that all code is imported, and all lasting memory taken
        if name == 'good':
            attempt(way, path)
    for way in {way for _, way, _ in cases}:  # the code of refusals too
        attempt(way, '/absent')
    watch = Watch()
    results = {}
    for name, way, path in cases:
        resource.setrlimit(resource.RLIMIT_AS, (virtual() + MEMORY, resource.RLIM_INFINITY))
        watch.seen = set()
        result = attempt(way, path)
        did, watch.seen = sorted(watch.seen), None
        results[f'{name}: {way}'] = (*result, did)
    return results


if __name__ == '__main__':
    outcome = main(json.loads(Path(sys.argv[1]).read_text()))
    print(json.dumps(outcome))
