# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Who may import whom: the walls between the parts, read from the syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEADER = '# Copyright 2026 The lewm_ros developers\n# SPDX-License-Identifier: Apache-2.0\n'

#: What a part of the package may import of the package, besides itself. Parts that are not
#: listed (nodes, bringup, cli) may import any part that BARRED does not keep from them.
ALLOWED = {
    'errors': set(),
    'plainfile': set(),
    'json_reader': {'errors'},
    'yaml_reader': {'errors', 'plainfile'},
    'tensors': {'errors', 'json_reader'},
    'checks': {'errors'},
    'contract': {'checks', 'errors', 'yaml_reader'},
    'imaging': {'errors'},
    'history': {'contract', 'errors'},
    'safety': {'contract', 'errors'},
    'share': {'errors'},
    'manifest': {'checks', 'contract', 'errors'},
    'bundle': {'contract', 'errors', 'json_reader', 'manifest', 'plainfile', 'tensors'},
    'model': {'errors'},
    'engines': {'bundle', 'errors', 'imaging', 'manifest', 'model', 'tensors'},
    'planning': {'contract', 'errors', 'history'},
    'surprise': {'contract', 'errors', 'history'},
    'sim': {'contract', 'errors'},
    'view': {'errors', 'history'},
    'bagfiles': {'history'},
    'recording': {'bagfiles', 'contract', 'errors', 'history', 'yaml_reader'},
}
#: What a part may import of nothing, not even inside a function: prefixes of module names.
BARRED = {
    'nodes': ('lewm_training',),
    'bringup': ('lewm_training', 'lewm_ros.nodes'),
    'training': ('lewm_ros.nodes', 'lewm_ros.bringup'),
    'planning': ('torch', 'onnxruntime', 'cv2'),
    'surprise': ('torch', 'onnxruntime', 'cv2'),
    'safety': ('torch', 'onnxruntime', 'cv2'),
    'history': ('torch', 'onnxruntime', 'cv2'),
}
#: ROS belongs to the nodes, the launch system to one file, and code in a file to nobody.
ROS = (
    'rclpy',
    'rcl_interfaces',
    'builtin_interfaces',
    'diagnostic_msgs',
    'geometry_msgs',
    'lifecycle_msgs',
    'nav_msgs',
    'sensor_msgs',
    'std_msgs',
    'std_srvs',
    'trajectory_msgs',
    'visualization_msgs',
)
LAUNCH = ('launch', 'launch_ros')
UNSAFE = ('pickle', 'marshal', 'shelve', 'dill', 'joblib')


def sources(*folders: str) -> list[Path]:
    """Every Python file under these folders of the repository."""
    return sorted(p for folder in folders for p in (ROOT / folder).rglob('*.py'))


def imported(node: ast.AST, package: str = '') -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a syntax tree imports, in functions too.

    ``from a import b`` gives a.b, which may be a module or a name in one; a relative import
    is resolved against ``package``. What is imported for type checkers only is left out: it
    is not there when the program runs.
    """
    children = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING':
        children = iter(node.orelse)
    elif isinstance(node, ast.Import):
        for alias in node.names:
            yield node.lineno, alias.name
    elif isinstance(node, ast.ImportFrom):
        parents = package.split('.')[: len(package.split('.')) + 1 - node.level]
        base = '.'.join([*(parents if node.level else []), *filter(None, [node.module])])
        for alias in node.names:
            yield node.lineno, f'{base}.{alias.name}'
    for child in children:
        yield from imported(child, package)


def within(module: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a module is one of these or lies under one of them."""
    return any(f'{module}.'.startswith(f'{prefix}.') for prefix in prefixes)


def violations(path: str, source: str) -> list[str]:
    """Imports of a file, by its path in the repository, that go through a wall."""
    parts = Path(path).with_suffix('').parts
    part = parts[1] if parts[0] == 'lewm_ros' else parts[0]
    found = []
    for line, module in imported(ast.parse(source), '.'.join(parts[:-1])):
        inner = module.split('.')[1] if module.startswith('lewm_ros.') else None
        if inner is not None and part in ALLOWED and inner not in {part, *ALLOWED[part]}:
            if inner != '__version__':
                found.append(f'{path}:{line}: {part} imports {module}')
        elif within(module, BARRED.get(part, ())):
            found.append(f'{path}:{line}: {part} imports {module}')
        elif within(module, ROS) and part != 'nodes':
            found.append(f'{path}:{line}: {module} outside nodes/')
        elif within(module, LAUNCH) and part != 'launching':
            found.append(f'{path}:{line}: {module} outside launching.py')
        elif within(module, UNSAFE):
            found.append(f'{path}:{line}: {module} can run code from a file')
    return found


def test_imports_keep_their_direction():
    """No file of the package or of training imports through a wall."""
    files = sources('lewm_ros', 'training')
    assert len(files) > 20
    found = [text for p in files for text in violations(str(p.relative_to(ROOT)), p.read_text())]
    assert not found, '\n'.join(found)


@pytest.mark.parametrize(
    ('path', 'source'),
    [
        ('lewm_ros/history.py', 'import torch'),
        ('lewm_ros/safety.py', 'def f():\n    from torch import nn'),
        ('lewm_ros/planning/cem.py', 'import torch.nn as nn'),
        ('lewm_ros/planning/cem.py', 'from lewm_ros import model'),
        ('lewm_ros/planning/cem.py', 'from ..nodes import base'),
        ('lewm_ros/surprise/score.py', 'from lewm_ros.bundle import Bundle'),
        ('lewm_ros/surprise/score.py', 'if TYPE_CHECKING:\n    pass\nelse:\n    import torch'),
        ('lewm_ros/contract.py', 'import lewm_ros.history'),
        ('lewm_ros/engines/torch_engine.py', 'from lewm_ros.planning import cem'),
        ('lewm_ros/bringup.py', 'from lewm_ros.nodes.encoder import main'),
        ('lewm_ros/cli.py', 'import rclpy'),
        ('lewm_ros/bringup.py', 'from launch import LaunchDescription'),
        ('lewm_ros/sim/reacher.py', 'from sensor_msgs.msg import Image'),
        ('lewm_ros/nodes/planner.py', 'import lewm_training.bags'),
        ('lewm_ros/nodes/planner.py', 'def f():\n    from lewm_training import bags'),
        ('lewm_ros/bundle.py', 'import pickle'),
        ('training/train.py', 'from lewm_ros.nodes import messages'),
        ('training/train.py', 'from lewm_ros import bringup'),
        ('training/bags.py', 'from rclpy.serialization import serialize_message'),
    ],
)
def test_import_through_a_wall_is_found(path, source):
    """The check itself notices each kind of forbidden import, lazy and relative ones too."""
    assert len(violations(path, source)) == 1


@pytest.mark.parametrize(
    ('path', 'source'),
    [
        ('lewm_ros/history.py', 'import numpy as np\nfrom lewm_ros.errors import LewmError'),
        ('lewm_ros/planning/cem.py', 'from lewm_ros.planning.costs import weights'),
        ('lewm_ros/nodes/base.py', 'import rclpy\nfrom lewm_ros.planning import cem'),
        ('lewm_ros/planning/cem.py', 'if TYPE_CHECKING:\n    from lewm_ros.bundle import Bundle'),
        ('lewm_ros/model/__init__.py', 'import torch\nfrom .config import ModelConfig'),
        ('training/train.py', 'import torch\nfrom lewm_training.bags import read_episodes'),
    ],
)
def test_import_within_the_walls_passes(path, source):
    """What the design allows is not reported."""
    assert violations(path, source) == []


def test_runtime_core_loads_without_torch():
    """Planning, surprise, history, safety and the engines' front import no torch, at run time."""
    modules = [
        '.'.join(p.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
        for p in sources('lewm_ros/planning', 'lewm_ros/surprise')
    ]
    modules += ['lewm_ros.history', 'lewm_ros.safety', 'lewm_ros.bundle', 'lewm_ros.engines']
    code = f'import {", ".join(modules)}, sys; sys.exit("torch" in sys.modules)'
    subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT, timeout=60)


@pytest.mark.parametrize(
    'path',
    [*sources('lewm_ros', 'training', 'launch', 'test', 'benchmarks'), ROOT / 'setup.py'],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_every_source_file_has_licence_and_docstring(path):
    """Copyright and licence are the first two lines, and a docstring says what the file is."""
    text = path.read_text()
    assert text.startswith(HEADER)
    assert ast.get_docstring(ast.parse(text))
