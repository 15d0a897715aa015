# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Package metadata: versions, dependencies, entry points, files and pins are consistent."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

import lewm_ros
from lewm_ros.bringup import groups as bringup
from lewm_ros.robot import contract

ROOT = Path(__file__).resolve().parents[2]
#: Import name → name on PyPI, where they differ.
ON_PYPI = {'PIL': 'pillow', 'cv2': 'opencv-python-headless', 'yaml': 'pyyaml'}
#: What `make test-jazzy` installs of this package.
JAZZY_EXTRAS = ('cpu', 'sim', 'record', 'ros')
#: Import name → rosdep key of the runtime dependencies that every distribution packages.
ROSDEP = {
    'cv2': 'python3-opencv',
    'numpy': 'python3-numpy',
    'tqdm': 'python3-tqdm',
    'yaml': 'python3-yaml',
}


def plain(requirement: str) -> str:
    """Name of a requirement, without extras and version, in PyPI's normal form."""
    return re.split(r'[\[<>=!~; ]', requirement, maxsplit=1)[0].lower().replace('_', '-')


def requirements(setup_py: SimpleNamespace) -> list[str]:
    """All requirements of setup.py, extras included."""
    return [r for group in setup_py.extras_require.values() for r in group] + (
        setup_py.install_requires
    )


@pytest.fixture(scope='module')
def setup_py() -> SimpleNamespace:
    """Return the arguments that setup.py passes to setuptools."""
    code = (
        'import setuptools, sys; from distutils.core import run_setup;'
        'd = run_setup("setup.py", stop_after="init");'
        'print(repr({k: getattr(d, k) for k in ("packages", "package_dir", "package_data",'
        ' "data_files", "entry_points", "install_requires", "extras_require")}'
        ' | {"version": d.get_version(), "license": d.get_license()}))'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return SimpleNamespace(**ast.literal_eval(done.stdout.splitlines()[-1]))


@pytest.fixture(scope='module')
def package_xml():
    """The parsed and validated package.xml."""
    from catkin_pkg.package import parse_package

    package = parse_package(str(ROOT / 'package.xml'))
    warnings: list[str] = []
    package.validate(warnings)
    assert not warnings
    return package


def imported_packages(*folders: str) -> set[str]:
    """Top-level names of everything that is imported under these folders."""
    names = set()
    for path in (p for folder in folders for p in (ROOT / folder).rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split('.')[0])
    return names - set(sys.stdlib_module_names) - {'lewm_ros', 'lewm_ros.training'}


def ros_packages() -> set[str]:
    """ROS packages that the nodes import, or whose message types a contract may name."""
    types = {*contract.IMAGE_TYPES, *contract.ACTION_TYPES, *contract.STATE_TYPES}
    named = {name.split('/')[0] for name in types}
    ros = re.compile(r'.*_msgs|std_srvs|rclpy|(rcl|builtin)_interfaces|ament_index_python')
    return named | {name for name in imported_packages('lewm_ros') if ros.fullmatch(name)}


def test_versions_and_licence_agree(setup_py, package_xml):
    """package.xml, setup.py and the package itself state the same version and licence."""
    assert package_xml.version == setup_py.version == lewm_ros.__version__
    assert package_xml.licenses == [setup_py.license] == ['Apache-2.0']
    assert package_xml.licenses[0].file == 'LICENSE'
    licence = (ROOT / 'LICENSE').read_text()
    assert 'Apache License' in licence
    assert 'END OF TERMS AND CONDITIONS' in licence


def test_package_xml_is_an_ament_python_package(package_xml):
    """It has format 3, the build type ament_python and a maintainer with an e-mail address."""
    assert package_xml.package_format == 3
    assert package_xml.get_build_type() == 'ament_python'
    assert all(re.fullmatch(r'[^@ ]+@[^@ ]+\.\w+', m.email) for m in package_xml.maintainers)


def test_changelog_knows_the_version_or_what_is_forthcoming():
    """The newest entry of the catkin changelog is this version's or the forthcoming one's."""
    text = (ROOT / 'CHANGELOG.rst').read_text()
    newest = re.search(r'^(\S+)(?: \(\d{4}-\d{2}-\d{2}\))?\n-+$', text, re.MULTILINE)
    assert newest
    assert newest[1] in ('Forthcoming', lewm_ros.__version__)


def test_ros_dependencies_are_declared_for_both_ways_to_install(setup_py, package_xml):
    """Every imported ROS package is in package.xml (rosdep) and in the [ros] extra (PyPI)."""
    keys = {d.name for d in package_xml.exec_depends}
    wheels = {plain(r) for r in setup_py.extras_require['ros']}
    for name in ros_packages():
        assert name in keys
        assert f'ros-{name.replace("_", "-")}' in wheels
    assert {d.replace('ros-', '', 1).replace('-', '_') for d in wheels} == ros_packages()


def test_launch_comes_with_ros_only(setup_py, package_xml):
    """Dependencies of `ros2 launch` and `ros2 run` are in package.xml, never pip requirements."""
    needed = {'launch', 'launch_ros', 'ros2launch', 'ros2run'}
    assert needed <= {d.name for d in package_xml.exec_depends}
    assert not [r for r in requirements(setup_py) if 'launch' in plain(r)]


def test_every_import_has_a_requirement(setup_py, package_xml):
    """Every import of the package and of training is covered by a requirement in setup.py."""
    known = {plain(r) for r in requirements(setup_py)}
    names = imported_packages('lewm_ros', 'training') - ros_packages() - {'launch', 'launch_ros'}
    missing = {n for n in names if ON_PYPI.get(n, n.replace('_', '-')) not in known}
    assert not missing - {'cv_bridge'}
    assert {plain(r) for r in setup_py.install_requires} == {ON_PYPI.get(n, n) for n in ROSDEP}
    assert set(ROSDEP.values()) <= {d.name for d in package_xml.exec_depends}


def test_onnxruntime_is_chosen_by_extra(setup_py):
    """CPU and GPU builds exclude each other, so neither is a base requirement."""
    assert not [r for r in setup_py.install_requires if 'onnx' in r]
    assert [plain(r) for r in setup_py.extras_require['cpu']] == ['onnxruntime', 'onnx']
    assert [plain(r) for r in setup_py.extras_require['gpu']] == ['onnxruntime-gpu', 'onnx']


def test_entry_points_name_functions_that_exist(setup_py):
    """Each console script is callable, and each node that bringup starts has one."""
    scripts = dict(s.split(' = ') for s in setup_py.entry_points['console_scripts'])
    for target in scripts.values():
        module, function = target.split(':')
        assert callable(getattr(import_module(module), function)), target
    nodes = {name: f'lewm_ros.bringup.programs:{name}' for name in bringup.NODES}
    assert scripts == nodes | {'lewm': 'lewm_ros.cli:main'}


def test_every_module_is_in_a_package_that_is_installed(setup_py):
    """No folder with Python files is left out, for example because __init__.py is missing."""
    places = {'lewm_ros': 'lewm_ros', 'training': 'lewm_ros.training'}
    for top, name in places.items():
        for path in (ROOT / top).rglob('*.py'):
            inner = path.parent.relative_to(ROOT / top).parts
            assert '.'.join([name, *inner]) in setup_py.packages, path
    assert (ROOT / 'lewm_ros' / 'training').resolve() == ROOT / 'training'


def test_every_data_file_is_installed(setup_py):
    """Contracts, presets, launch files, models, MJCF and py.typed are all installed."""
    share = 'share/lewm_ros'
    installed = {
        f'{folder}/{Path(file).name}' for folder, files in setup_py.data_files for file in files
    }
    expected = {
        f'{share}/{path.relative_to(ROOT)}'
        for folder in ('config', 'launch', 'models')
        for path in (ROOT / folder).rglob('*')
        if path.is_file() and path.parent.name != '__pycache__'
    }
    assert f'{share}/config/robots/reacher.yaml' in expected
    marker = 'share/ament_index/resource_index/packages/lewm_ros'
    others = {f'{share}/package.xml', f'{share}/hook/programs.dsv', marker}
    assert installed == expected | others
    patterns = setup_py.package_data['lewm_ros']
    found = {p for pattern in patterns for p in (ROOT / 'lewm_ros').glob(pattern)}
    other = {
        p for p in (ROOT / 'lewm_ros').rglob('*') if p.is_file() and p.suffix not in ('.py', '.pyc')
    }
    assert found == other


def pins(name: str) -> dict[str, str]:
    """Return the version of each package that a constraints file pins."""
    lines = (ROOT / name).read_text().splitlines()
    found = [line for line in lines if line and not line.startswith('#')]
    assert all(re.fullmatch(r'[\w.-]+==[\w.+]+', pin) for pin in found)
    return {plain(pin): pin.split('==')[1] for pin in found}


def test_constraints_pin_every_direct_requirement(setup_py):
    """Each requirement has an exact pin, and no pin is left over."""
    build_tools = {'setuptools', 'colcon-core'}
    wanted = {plain(r) for r in requirements(setup_py)} | build_tools
    assert set(pins('constraints.txt')) == wanted


def test_jazzy_has_the_versions_of_ubuntu_2404_and_otherwise_the_same(setup_py):
    """Each package that `make test-jazzy` installs is pinned; only ROS and Ubuntu pins differ."""
    extras = setup_py.extras_require
    wanted = [*setup_py.install_requires, *(r for e in JAZZY_EXTRAS for r in extras[e])]
    jazzy, kilted = pins('constraints-jazzy.txt'), pins('constraints.txt')
    recipe = (ROOT / 'Makefile').read_text().partition('$(JAZZY_STAMP): setup.py')[2]
    assert f"-e '.[{','.join(JAZZY_EXTRAS)}]'" in recipe
    for name in set(jazzy) - {plain(r) for r in wanted}:
        assert re.search(rf'\s{name}\s', recipe), name
    assert set(jazzy) >= {plain(r) for r in wanted}
    different = {n for n in jazzy if not n.startswith('ros-') and jazzy[n] != kilted.get(n)}
    ubuntu = {'numpy', 'opencv-python-headless', 'pyyaml', 'setuptools', 'wheel'}
    assert different == ubuntu


def test_installed_versions_are_the_pinned_ones():
    """The installed versions are the ones pinned in the constraints file."""
    if not Path(sys.prefix, '.lewm_ros').exists():
        pytest.skip('not an environment that `make` builds')
    from importlib.metadata import PackageNotFoundError, version

    jazzy = Path(sys.prefix).name == '.venv-jazzy'
    for name, wanted in pins('constraints-jazzy.txt' if jazzy else 'constraints.txt').items():
        try:
            found = version(name)
        except PackageNotFoundError:
            others = {'dm-control', 'gym-pusht', 'ogbench', 'pymunk'}  # of `make test-tasks`
            assert name in {'onnxruntime', 'onnxruntime-gpu'} | others
            continue
        assert found.split('+')[0] == wanted, name


@pytest.mark.parametrize('name', ['reacher', 'push', 'two_room', 'dm_reacher', 'cube', 'tiny'])
def test_bundles_tell_nothing_of_the_machine_they_were_made_on(name, tiny_bundle):
    """Exported graphs contain no source paths; commands of shipped bundles use relative paths."""
    folder = tiny_bundle.path if name == 'tiny' else ROOT / 'models' / name
    for file in folder.iterdir():
        data = file.read_bytes()
        assert b'site-packages' not in data and str(ROOT).encode() not in data, file.name
    commands = folder.joinpath('manifest.json').read_text()
    assert name == 'tiny' or not re.search(r' /\w', commands)
