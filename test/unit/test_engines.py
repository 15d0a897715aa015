# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""All engines compute the same from a bundle, and reject what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Any

from networks import tiny_config
import numpy as np
import onnx
import pytest

from lewm_ros import cli
from lewm_ros.bundle import FILES, Bundle, Manifest, write_bundle
from lewm_ros.bundle.manifest import WEIGHTS
from lewm_ros.engines import ENGINES, Engine, describe, load_engine, torch_engine
from lewm_ros.engines.base import cpu_has_bf16
from lewm_ros.engines.graphs import rollout_graph
from lewm_ros.errors import EngineError, ModelError
from lewm_ros.model import LeWorldModel
from lewm_ros.training.export import export_files

TOLERANCE = 1e-4  # relative to the largest value
AVAILABLE = [name for name in ENGINES if name != 'openvino' or find_spec('openvino')]


@pytest.fixture(scope='module')
def engines(tiny_bundle: Bundle) -> dict[str, Engine]:
    """Return every engine, running the same bundle."""
    return {name: load_engine(tiny_bundle, name) for name in AVAILABLE}


def inputs(samples: int, steps: int = 5, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Return context (3, 8), past (2, 10) and actions (samples, steps, 10)."""
    rng = np.random.default_rng(seed)
    shapes = ((3, 8), (2, 10), (samples, steps, 10))
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)


def error(value: np.ndarray, reference: np.ndarray) -> float:
    """Return the largest difference, relative to the largest reference value."""
    assert value.shape == reference.shape
    assert value.dtype == reference.dtype == np.float32
    return float(np.abs(value - reference).max() / np.abs(reference).max())


def with_files(bundle: Bundle, folder: Path, **graphs: bytes) -> Bundle:
    """Return a copy of a bundle with other graphs and matching hashes."""
    files = {name: bundle.read(name) for name in FILES}
    for name, data in graphs.items():
        files[f'{name}.onnx'] = data
    return write_bundle(folder / 'changed', replace(bundle.manifest, files={}), dict(files))


def test_engines_name_themselves(engines: dict[str, Engine]) -> None:
    """Engines report their name and provider."""
    assert {name: engine.name for name, engine in engines.items()} == {n: n for n in AVAILABLE}
    assert describe(engines['reference']) in ('reference (cpu, f32)', 'reference (cuda, f32)')
    assert engines['onnxruntime'].provider.endswith('ExecutionProvider')
    assert engines['torch'].provider in ('cpu', 'cuda')


def test_latents_agree(engines: dict[str, Engine]) -> None:
    """All engines give the same latent for an image, and different latents for different images."""
    rng = np.random.default_rng(0)
    latents = []
    for brightest in (255, 60, 5):
        image = rng.integers(0, brightest, (32, 32, 3), dtype=np.uint8)
        latents.append(engines['reference'].encode(image))
        for engine in engines.values():
            assert error(engine.encode(image), latents[-1]) < TOLERANCE
        assert latents[-1].shape == (8,)
    assert error(latents[0], latents[1]) > 100 * TOLERANCE


@pytest.mark.parametrize('samples', [1, 7, 64])
@pytest.mark.parametrize('steps', [1, 3, 5])
def test_rollouts_agree(engines: dict[str, Engine], samples: int, steps: int) -> None:
    """All engines agree for any number of samples and any horizon up to the graph's."""
    arrays = inputs(samples, steps)
    expected = engines['reference'].rollout(*arrays)
    assert expected.shape == (samples, steps, 8)
    for engine in engines.values():
        assert error(engine.rollout(*arrays), expected) < TOLERANCE


@pytest.mark.parametrize('name', AVAILABLE)
def test_shorter_horizon_is_a_prefix(engines: dict[str, Engine], name: str) -> None:
    """A shorter rollout is a prefix: later actions do not change earlier latents."""
    context, past, actions = inputs(7)
    whole = engines[name].rollout(context, past, actions)
    for steps in range(1, 5):
        part = engines[name].rollout(context, past, actions[:, :steps])
        assert error(part, np.ascontiguousarray(whole[:, :steps])) < 1e-6


@pytest.mark.parametrize('name', AVAILABLE)
def test_samples_are_independent(engines: dict[str, Engine], name: str) -> None:
    """A sample's latents do not depend on the samples beside it, except for rounding."""
    context, past, actions = inputs(64)
    whole = engines[name].rollout(context, past, actions)
    alone = engines[name].rollout(context, past, actions[5:6])
    assert error(alone, whole[5:6]) < 1e-5


@pytest.mark.parametrize('name', AVAILABLE)
@pytest.mark.parametrize('changed', [0, 1, 2])
def test_every_input_matters(engines: dict[str, Engine], name: str, changed: int) -> None:
    """Context, past and actions all change the prediction: no input is dropped."""
    arrays = list(inputs(2))
    before = engines[name].rollout(*arrays)
    arrays[changed] = inputs(2, seed=1)[changed]
    assert error(engines[name].rollout(*arrays), before) > 100 * TOLERANCE


@pytest.mark.parametrize('name', AVAILABLE)
def test_any_layout_and_float_type(engines: dict[str, Engine], name: str) -> None:
    """Strided and float64 arrays give what contiguous float32 ones give."""
    arrays = inputs(3)
    strange = [np.asfortranarray(array.astype(float)) for array in arrays]
    assert error(engines[name].rollout(*strange), engines[name].rollout(*arrays)) < 1e-6


@pytest.mark.parametrize('name', AVAILABLE)
@pytest.mark.parametrize(
    ('which', 'shape', 'words'),
    [
        (0, (2, 8), r'context has shape \(2, 8\): the model reads \(3, 8\)'),
        (1, (2, 9), r'past has shape \(2, 9\): the model reads \(2, 10\)'),
        (2, (4, 7, 10), r'actions have shape \(4, 7, 10\).*N in \[1, 6\]'),
        (2, (4, 0, 10), r'actions have shape \(4, 0, 10\)'),
        (2, (0, 5, 10), r'actions have shape \(0, 5, 10\)'),
        (2, (5, 10), r'actions have shape \(5, 10\)'),
        (2, (4, 5, 2), r'actions have shape \(4, 5, 2\)'),
    ],
)
def test_wrong_shapes_are_named(
    engines: dict[str, Engine], name: str, which: int, shape: tuple[int, ...], words: str
) -> None:
    """Inputs of the wrong shape are rejected with both shapes."""
    arrays = list(inputs(4))
    arrays[which] = np.zeros(shape, dtype=np.float32)
    with pytest.raises(ModelError, match=words):
        engines[name].rollout(*arrays)


@pytest.mark.parametrize('name', AVAILABLE)
@pytest.mark.parametrize(
    ('shape', 'kind'), [((64, 64, 3), 'uint8'), ((3, 32, 32), 'uint8'), ((32, 32, 3), 'float32')]
)
def test_wrong_image_is_named(
    engines: dict[str, Engine], name: str, shape: tuple[int, ...], kind: str
) -> None:
    """An image of the wrong size, layout or dtype is rejected."""
    with pytest.raises(ModelError, match=r'image has shape .*the model reads \(32, 32, 3\), uint8'):
        engines[name].encode(np.zeros(shape, dtype=kind))


def test_unknown_engine_is_refused_by_name(tiny_bundle: Bundle) -> None:
    """An unknown engine is rejected with the choices, and so is an invalid number of threads."""
    with pytest.raises(EngineError, match=r"'tflite'.*onnxruntime.*torch"):
        load_engine(tiny_bundle, 'tflite')
    with pytest.raises(EngineError, match='threads is 0'):
        load_engine(tiny_bundle, threads=0)


def test_providers_are_passed_through_or_named(tiny_bundle: Bundle) -> None:
    """A provider of the runtime is used and reported; any other is rejected with the choices."""
    provider = 'CPUExecutionProvider'
    engine = load_engine(tiny_bundle, provider=provider)
    assert describe(engine) == f'onnxruntime ({provider}, f32)'
    with pytest.raises(EngineError, match=r"provider is 'QNNExecutionProvider'.*CPUExecution"):
        load_engine(tiny_bundle, provider='QNNExecutionProvider')
    with pytest.raises(EngineError, match="provider is 'abacus'"):
        load_engine(tiny_bundle, 'torch', provider='abacus')


LET_GO = """
import os, signal, sys, threading
from lewm_ros.bundle import Bundle
from lewm_ros.engines import load_engine
from lewm_ros.bringup.supervisor import StopSignals
signals = StopSignals()
engines = [load_engine(Bundle.load(sys.argv[1]), 'openvino') for _ in range(3)]
del engines[0]  # the first before the others, the last in another thread
thread = threading.Thread(target=engines.clear)
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGINT)
sys.exit(not signals.seen)
"""


def test_a_stop_signal_after_engines_were_let_go(tiny_bundle: Bundle) -> None:
    """A stop signal after engines are deleted is handled.

    OpenVINO once left the main thread with a freed signal stack, and the next signal killed the
    process.
    """
    pytest.importorskip('openvino')
    command = [sys.executable, '-c', LET_GO, str(tiny_bundle.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_openvino_device_that_is_not_there(tiny_bundle: Bundle) -> None:
    """A missing OpenVINO device is rejected with the devices found."""
    pytest.importorskip('openvino')
    with pytest.raises(EngineError, match=r"provider is 'NPU7': OpenVINO finds \['CPU'"):
        load_engine(tiny_bundle, 'openvino', provider='NPU7')


def test_precision(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """'auto' selects bf16 only where the CPU supports it; bf16 elsewhere is an error."""
    monkeypatch.setattr(torch_engine, 'cpu_has_bf16', lambda: True)
    context, past, actions = inputs(16)
    expected = load_engine(tiny_bundle, 'reference').rollout(context, past, actions)
    for precision in ('auto', 'bf16'):
        engine = load_engine(tiny_bundle, 'torch', precision=precision, provider='cpu')
        assert engine.precision == 'bf16'
        assert error(engine.rollout(context, past, actions), expected) < TOLERANCE
        coarse = engine.rollout(context, past, actions, exact=False)
        assert TOLERANCE < error(coarse, expected) < 0.1
    assert load_engine(tiny_bundle, 'torch', precision='f32').precision == 'f32'
    monkeypatch.setattr(torch_engine, 'cpu_has_bf16', lambda: False)
    assert load_engine(tiny_bundle, 'torch', precision='auto', provider='cpu').precision == 'f32'
    with pytest.raises(EngineError, match="precision is 'bf16': torch on this processor has no"):
        load_engine(tiny_bundle, 'torch', precision='bf16', provider='cpu')
    with pytest.raises(EngineError, match="precision is 'bf16': onnxruntime has no"):
        load_engine(tiny_bundle, precision='bf16')
    with pytest.raises(EngineError, match=r"precision is 'fp8': expected one of.*'bf16'"):
        load_engine(tiny_bundle, precision='fp8')
    assert load_engine(tiny_bundle, precision='auto').precision == 'f32'


@pytest.mark.parametrize(
    ('info', 'has'),
    [
        ('processor : 0\nflags\t\t: fpu avx512f avx512_bf16 sse\n', True),
        ('flags\t\t: fpu amx_bf16 amx_tile\n', True),
        ('flags\t\t: fpu avx2 avx512f\n', False),
        ('Features\t: fp asimd i8mm bf16\n', True),
        ('Features\t: fp asimd\n', False),
        ('', False),
    ],
)
def test_processors_with_bf16(info: str, has: bool) -> None:
    """bf16 support is read from /proc/cpuinfo of x86 and Arm CPUs."""
    assert cpu_has_bf16(info) is has


@pytest.mark.parametrize('name', AVAILABLE)
def test_engine_of_a_shorter_horizon(
    tiny_bundle: Bundle, engines: dict[str, Engine], name: str
) -> None:
    """An engine loaded for a shorter horizon gives equal latents and rejects longer rollouts."""
    context, past, actions = inputs(4)
    whole = engines[name].rollout(context, past, actions)
    short = load_engine(tiny_bundle, name, horizon=3)
    part = short.rollout(context, past, actions[:, :3])
    assert error(part, np.ascontiguousarray(whole[:, :3])) < 1e-6
    with pytest.raises(ModelError, match=r'\(4, 4, 10\).*N in \[1, 3\]'):
        short.rollout(context, past, actions[:, :4])
    for horizon in (0, 7):
        with pytest.raises(EngineError, match=rf'horizon is {horizon} blocks: .* has 1 to 6'):
            load_engine(tiny_bundle, name, horizon=horizon)


def test_graph_of_a_shorter_horizon_is_smaller(tiny_bundle: Bundle) -> None:
    """A graph of a shorter horizon lacks the later steps' nodes, which a runtime would compute."""
    nodes = [
        len(onnx.load_from_string(rollout_graph(tiny_bundle, n)).graph.node) for n in (1, 3, 6)
    ]
    whole = len(onnx.load_from_string(tiny_bundle.read('rollout.onnx')).graph.node)
    assert nodes[0] < 0.4 * nodes[1] < 0.4 * nodes[2]
    assert nodes[2] <= whole


def test_graphs_of_the_other_encoder_are_read(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Graphs of a ViT, and of a context of one frame, run too: all operators are standard ONNX."""
    vit = {'patch_size': 16, 'encoder_depth': 2, 'encoder_heads': 2, 'encoder_mlp': 32}
    config = tiny_config(2, encoder='vit', **vit)
    files = export_files(LeWorldModel(config), 2, history=1)
    sizes = {'architecture': config.to_dict(), 'history': 1, 'horizon': 2}
    manifest = replace(tiny_bundle.manifest, files={}, calibration=(), **sizes)
    bundle = write_bundle(tmp_path / 'vit', manifest, dict(files))
    image = np.zeros((32, 32, 3), np.uint8)
    latent = load_engine(bundle, 'torch').encode(image)
    assert error(load_engine(bundle).encode(image), latent) < TOLERANCE


def test_weights_are_checked_where_they_are_read(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Only the engine that reads the weights checks them; the torch engine names the file."""
    files: dict[str, bytes | Path] = {name: tiny_bundle.path / name for name in FILES}
    for data in (b'', b'PK no tensors', tiny_bundle.read(WEIGHTS)[:-8]):
        manifest = replace(tiny_bundle.manifest, files={})
        bundle = write_bundle(tmp_path / 'other', manifest, files | {WEIGHTS: data})
        load_engine(bundle)
        says = r'bundle .*other: weights\.safetensors is not a safetensors file \(.+\)$'
        with pytest.raises(ModelError, match=says):
            load_engine(bundle, 'torch')


def test_graphs_written_anew_are_of_the_same_weights(
    make_tiny_bundle: Callable[..., Bundle], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`lewm export` keeps weights and rollouts up to the old horizon, and drops thresholds."""
    path, old = tmp_path / 'tiny', make_tiny_bundle(1, 3, 2)
    shutil.copytree(old.path, path)
    assert cli.main(['export', str(path), '--horizon', '3']) == 0
    bundle = Bundle.load(path)
    assert f'{bundle.hash[:12]}, was {old.hash[:12]}' in capsys.readouterr().out
    assert bundle.manifest.horizon == 3 and not bundle.manifest.calibration
    assert bundle.read(WEIGHTS) == old.read(WEIGHTS)
    manifest, rng = bundle.manifest, np.random.default_rng(0)
    block = len(manifest.action_mean) * manifest.frameskip
    context = rng.normal(size=(manifest.history, manifest.latent_size)).astype(np.float32)
    past = rng.normal(size=(manifest.history - 1, block)).astype(np.float32)
    actions = rng.normal(size=(2, 3, block)).astype(np.float32)
    after = load_engine(bundle).rollout(context, past, actions)
    before = load_engine(old).rollout(context, past, actions[:, :2])
    np.testing.assert_allclose(after[:, :2], before, rtol=1e-5, atol=1e-6)


def test_onnxruntime_engine_needs_no_torch(tiny_bundle: Bundle) -> None:
    """A process that encodes and rolls out with onnxruntime does not import torch."""
    code = f"""
import sys
import numpy as np
from lewm_ros.bundle import Bundle
from lewm_ros.engines import load_engine
engine = load_engine(Bundle.load({str(tiny_bundle.path)!r}))
engine.encode(np.zeros((32, 32, 3), np.uint8))
engine.rollout(np.zeros((3, 8)), np.zeros((2, 10)), np.zeros((4, 5, 10)))
heavy = ('torch', 'onnxscript', 'safetensors', 'lewm_ros.model', 'rclpy')
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


@pytest.mark.parametrize(
    ('engine', 'module', 'packages'),
    [
        ('onnxruntime', 'onnxruntime', ('onnxruntime onnx', 'onnxruntime-gpu')),
        ('onnxruntime', 'onnx', ('onnxruntime onnx',)),
        ('openvino', 'openvino', ('openvino onnx',)),
        ('torch', 'torch', ('torch onnx',)),
        ('torch', 'safetensors', ('torch onnx', 'safetensors')),
    ],
)
def test_missing_package_names_what_to_install(
    tiny_bundle: Bundle, engine: str, module: str, packages: tuple[str, ...]
) -> None:
    """If the engine's package cannot be imported, the error says what to install."""
    code = f"""
import sys
sys.modules[{module!r}] = None  # Python's own way to make an import fail
from lewm_ros.bundle import Bundle
from lewm_ros.engines import load_engine
from lewm_ros.errors import EngineError
try:
    load_engine(Bundle.load({str(tiny_bundle.path)!r}), {engine!r})
except EngineError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert '-m pip install ' in done.stdout
    for words in packages:
        assert words in done.stdout


def test_file_that_is_no_graph(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A file that is not a graph is rejected by name in one line, even if its hash is right."""
    bundle = with_files(tiny_bundle, tmp_path, rollout=b'\x00noise')
    with pytest.raises(ModelError, match=r'rollout\.onnx') as caught:
        load_engine(bundle)
    assert '\n' not in str(caught.value)


def test_swapped_graphs(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A graph whose inputs differ from the manifest's is rejected by name."""
    bundle = with_files(tiny_bundle, tmp_path, encoder=tiny_bundle.read('rollout.onnx'))
    with pytest.raises(ModelError, match=r"encoder.onnx has .* 'pixels'"):
        load_engine(bundle)


def external(model: onnx.ModelProto) -> None:
    """Move the first tensor to another file, as exporters of large networks do."""
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, 'encoder.onnx.data', offset=0, length=32)
    tensor.ClearField('raw_data')


def custom(model: onnx.ModelProto) -> None:
    """Add an operator of a custom domain, as quantisers do."""
    node = onnx.helper.make_node('Attention', ['pixels'], ['x'], domain='com.microsoft')
    model.graph.node.insert(0, node)


@pytest.mark.parametrize('name', [n for n in AVAILABLE if n in ('onnxruntime', 'openvino')])
@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (external, r'encoder\.onnx keeps .* in another file: expected a single-file graph'),
        (custom, r"encoder\.onnx has operator 'com\.microsoft\.Attention'"),
    ],
)
def test_graphs_of_other_makers(
    tiny_bundle: Bundle, tmp_path: Path, name: str, change: Any, says: str
) -> None:
    """Graphs with external tensors or custom operators are rejected by name."""
    model = onnx.load_from_string(tiny_bundle.read('encoder.onnx'))
    change(model)
    bundle = with_files(tiny_bundle, tmp_path, encoder=model.SerializeToString())
    with pytest.raises(ModelError, match=says):
        load_engine(bundle, name)


def changed(manifest: Manifest, **values: Any) -> Manifest:
    """Return a manifest with other sizes, architecture included."""
    return replace(manifest, files={}, architecture={**manifest.architecture, **values}, **values)


def test_manifest_of_another_model(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Both engines reject sizes that the files do not have, with the file's name."""
    files: dict[str, bytes | Path] = {name: tiny_bundle.path / name for name in FILES}
    manifest = changed(tiny_bundle.manifest, history=4)
    bundle = write_bundle(tmp_path / 'other', manifest, files)
    with pytest.raises(ModelError, match=r"rollout.onnx has .*\[3, 8\] for 'context'.*\[4, 8\]"):
        load_engine(bundle)
    with pytest.raises(ModelError, match=r'weights\.safetensors does not fit'):
        load_engine(bundle, 'torch')


def test_architecture_of_another_version(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """An unknown architecture key raises ModelError."""
    files: dict[str, bytes | Path] = {name: tiny_bundle.path / name for name in FILES}
    architecture = {**tiny_bundle.manifest.architecture, 'gadgets': 3}
    manifest = replace(tiny_bundle.manifest, files={}, architecture=architecture)
    bundle = write_bundle(tmp_path / 'other', manifest, files)
    with pytest.raises(ModelError, match='gadgets'):
        load_engine(bundle, 'torch')
