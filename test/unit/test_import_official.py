# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm import-official`: what it reads and rejects, and parity with the published network."""

from __future__ import annotations

from collections.abc import Callable
import io
import json
from pathlib import Path
import zipfile

from exports import kept_in
import numpy as np
from published import SIZES, Published, State, checkpoint, config, older
import pytest
import torch
from torch import nn

from lewm_ros.bundle import Bundle
from lewm_ros.cli import main
from lewm_ros.engines import load_engine
from lewm_ros.errors import ConfigError, ModelError
from lewm_ros.model import ARCHITECTURES, LeWorldModel
from lewm_ros.training import export, import_official, official
from lewm_ros.training.import_official import choose_contract, read_action_stats


def load(data: dict, state: State) -> LeWorldModel:
    """Build the network from a config and a checkpoint, as the command does."""
    values = official.parse_config(data)
    return official.load_model(official.model_config(values, state, 5), state)


@pytest.fixture(autouse=True)
def _nano_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(official.VIT_SIZES, 'nano', SIZES['nano'])


@pytest.fixture
def import_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exports: Path
) -> Callable[..., int]:
    """Return a function that runs the command on a checkpoint, with further arguments."""
    # Exporting dominates the time, and longer rollouts have their own tests.
    monkeypatch.setattr(import_official, 'HORIZON', 2)
    monkeypatch.setattr(export, 'export_graphs', kept_in(exports, weights=True))

    def run(state: object, *arguments: str) -> int:
        torch.save(state, tmp_path / 'weights.pt')
        (tmp_path / 'config.json').write_text(json.dumps(config()))
        files = [str(tmp_path / 'weights.pt'), str(tmp_path / 'config.json')]
        return main(['import-official', *files, '--out', str(tmp_path / 'bundle'), *arguments])

    return run


def test_the_published_checkpoint_is_the_published_network():
    """The published checkpoint loads as the paper preset and computes the published function."""
    data = config('tiny')
    state = checkpoint(data)
    model = load(data, older(state))
    assert len(state) == 303
    assert sum(p.numel() for p in model.parameters()) == 18_034_478
    assert model.config == ARCHITECTURES['paper'](2)
    assert Published(data, state).difference(model) < 1e-4


def test_both_spellings_give_the_published_function():
    """Parameter names of transformers 4 and 5 give the same weights."""
    state = checkpoint(config())
    new, old = load(config(), state), load(config(), older(state))
    assert (official.spelling(state), official.spelling(older(state))) == (5, 4)
    assert Published(config(), state).difference(new) < 1e-5
    for name, tensor in new.state_dict().items():
        assert torch.equal(tensor, old.state_dict()[name]), name


@pytest.mark.parametrize(
    'part',
    [
        'encoder.layernorm',
        'encoder.layers.0.layernorm_after',
        'encoder.layers.1.mlp',
        'projector.net.1',
        'projector.net.2',
        'action_encoder.embed.1',
        'predictor.transformer.layers.0.attn.norm',
        'predictor.transformer.layers.1.mlp.net.0',
        'predictor.transformer.layers.0.adaLN_modulation.0',
        'predictor.transformer.layers.1.norm2',
        'predictor.transformer.norm',
        'pred_proj.net.1',
    ],
)
def test_the_comparison_notices_a_part_left_out(part):
    """The comparison detects any missing part, above all one of two consecutive norms."""
    state = checkpoint(config())
    model = load(config(), state)
    model.set_submodule(part, nn.Identity())
    assert Published(config(), state).difference(model) > 1e-2


def test_every_wrong_tensor_is_named():
    """One message names all wrong tensors: missing, unexpected, wrong shape or kind, not finite."""
    state = older(checkpoint(config()))
    lost = 'encoder.encoder.layer.1.attention.attention.key.bias'
    del state[lost], state['predictor.pos_embedding']
    state |= {'encoder.pooler.dense.weight': torch.zeros(1), 'extra': torch.zeros(1)}
    state['encoder.layernorm.bias'] = torch.zeros(17)
    state['pred_proj.net.3.bias'] = torch.zeros(16, dtype=torch.int8)
    state['projector.net.3.bias'] = torch.full((16,), torch.nan)
    state['projector.net.0.bias'] = torch.zeros(24).to_sparse()
    with pytest.raises(ModelError) as error:
        load(config(), state)
    text = str(error.value)
    assert f'missing {lost}, predictor.pos_embedding; ' in text
    assert 'unexpected encoder.pooler.dense.weight, extra; ' in text
    assert 'encoder.layernorm.bias has shape [17], by the config [16]' in text
    assert 'pred_proj.net.3.bias is of torch.int8' in text
    assert 'projector.net.3.bias holds values that are not finite' in text
    assert 'projector.net.0.bias is sparse' in text
    assert '\n' not in text


@pytest.mark.parametrize(
    'prefix', ['_orig_mod.', 'module.', 'module._orig_mod.', '_orig_mod.module.']
)
def test_the_checkpoint_of_a_wrapped_model_is_read(prefix):
    """Prefixes of torch.compile and DistributedDataParallel are removed if all names have them."""

    def read(state):
        file = io.BytesIO()
        torch.save(state, file)
        return official.read_tensors(file.getvalue())

    state = checkpoint(config())
    assert read({prefix + name: tensor for name, tensor in state.items()}).keys() == state.keys()
    part = {name.replace('encoder.', 'encoder._orig_mod.', 1): t for name, t in state.items()}
    assert part.keys() != state.keys() == read(part).keys()
    mixed = {prefix + name if n else name: t for n, (name, t) in enumerate(state.items())}
    outer = prefix.partition('.')[0]
    assert [name.startswith(f'{outer}.') for name in read(mixed)] == [
        n > 0 for n in range(len(mixed))
    ]


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_become_float32(dtype):
    """Other precisions become float32, even mixed ones.

    The BatchNorm of a half-precision checkpoint is often float32.
    """
    state = checkpoint(config())
    mixed = {
        k: v.to(dtype) if 'proj.' not in k and v.is_floating_point() else v
        for k, v in state.items()
    }
    model = load(config(), mixed)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert Published(config(), state).difference(model) < 0.1


def test_a_file_that_would_run_code_is_refused_before_it_does(import_files, tmp_path, capsys):
    """A checkpoint that would run code is rejected before it does, with what it would call."""

    class Trap:
        def __reduce__(self) -> tuple:
            return open, (str(tmp_path / 'sprung'), 'w')

    assert import_files({**checkpoint(config()), 'trap': Trap()}) == 2
    text = capsys.readouterr().err
    assert "weights.pt: refused without running it: it refers to 'io.open'" in text
    assert text.count('\n') == 1
    assert not (tmp_path / 'sprung').exists() and not (tmp_path / 'bundle').exists()


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        ({'state_dict': {'a': torch.zeros(1)}, 'epoch': 3}, r"dictionaries under \['state_dict'\]"),
        ({'a': torch.zeros(1), 'epoch': 3, 7: torch.zeros(1)}, r"'epoch' \(int\), 7 \(Tensor\)"),
        ([torch.zeros(1)], 'holds list: expected a state dictionary'),
        ({'\x1b[2J': torch.zeros(1)}, r"holds '\\x1b\[2J' \(Tensor\)"),
        (
            {'a': torch.zeros(1).expand(1 << 20, 1 << 20)},
            r'a repeats 4 bytes to \[1048576, 1048576',
        ),
        (nn.Linear(1, 1), r"refers to 'torch\.nn\.modules\.linear\.Linear'"),
    ],
)
def test_other_contents_are_refused_by_what_they_are(content, says, tmp_path):
    """Nested dictionaries, other values and whole modules are rejected by what they are."""
    torch.save(content, tmp_path / 'weights.pt')
    with pytest.raises(ModelError, match=says):
        official.read_tensors((tmp_path / 'weights.pt').read_bytes())


def test_a_file_that_unpacks_to_much_more_is_refused():
    """A file that unpacks to far more than its size is rejected: 300 kB that hold 64 MB."""
    plain, packed = io.BytesIO(), io.BytesIO()
    torch.save({'a': torch.zeros(1 << 24)}, plain)
    source = zipfile.ZipFile(plain)
    with zipfile.ZipFile(packed, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name in source.namelist():
            archive.writestr(name, source.read(name))
    assert list(official.read_tensors(plain.getvalue())) == ['a']
    with pytest.raises(ModelError, match=r'has \d{5,6} bytes and unpacks to 671'):
        official.read_tensors(packed.getvalue())


def test_an_old_torch_reads_no_foreign_file(monkeypatch):
    """An old torch is rejected, because its ``weights_only`` does not stop foreign code."""
    for version in ('2.9.1', '2.5.0a0+872d972e41.nv24.8', '1.13'):
        monkeypatch.setattr(torch, '__version__', version)
        with pytest.raises(ModelError, match='install torch 2.10 or newer'):
            official.read_tensors(b'')


@pytest.mark.parametrize('data', [b'', b'no checkpoint', b'PK\x03\x04 cut short'])
def test_bytes_that_are_no_checkpoint_are_refused(data):
    """Empty, foreign or truncated files are rejected as a checkpoint."""
    with pytest.raises(ModelError, match='torch cannot read it as tensors'):
        official.read_tensors(data)


@pytest.mark.parametrize(
    ('block', 'key', 'value', 'says'),
    [
        ('encoder', None, None, r"encoder is None: expected an object with \['size'"),
        ('encoder', 'size', 'huge', r"encoder.size is 'huge': expected one of \['tiny'"),
        ('encoder', 'image_size', 30, 'image_size is 30: expected a multiple of 4'),
        ('encoder', 'image_size', [12, 12], r'encoder.image_size is \[12, 12\]: expected a whole'),
        ('predictor', 'heads', True, 'predictor.heads is True: expected a whole number'),
        ('predictor', 'depth', 0, r'predictor.depth is 0: .* in \[1, 65536\]'),
        ('predictor', 'dropout', 'x', "dropout is 'x'"),
        ('predictor', 'hidden_dim', 8, 'predictor.hidden_dim is 8, predictor.input_dim 16: they'),
        ('action_encoder', 'emb_dim', 8, 'action_encoder.emb_dim is 8, predictor.input_dim 16'),
        ('projector', 'input_dim', 8, "projector.input_dim is 8, the width of encoder 'nano' 16"),
        ('pred_proj', 'hidden_dim', 8, 'pred_proj.hidden_dim is 8, projector.hidden_dim 24'),
    ],
)
def test_a_wrong_config_is_refused_by_key(block, key, value, says):
    """A wrong config is rejected with the key, the value and what is expected."""
    data = config()
    data[block] = value if key is None else data[block] | {key: value}
    with pytest.raises(ModelError, match=says):
        load(data, {})


def test_all_missing_keys_of_a_config_are_named():
    """One message names all missing config keys; keys of Hydra and of training are ignored."""
    data = config() | {'_target_': 'os.system'}
    del data['projector'], data['predictor']['heads'], data['predictor']['dropout']
    data['encoder'] = {'patch_size': 4, 'pretrained': False}
    with pytest.raises(ModelError) as error:
        official.parse_config(data)
    missing = [part.split(' is missing')[0] for part in str(error.value).split('; ')]
    assert missing == ['encoder.size', 'encoder.image_size', 'predictor.heads', 'projector']
    with pytest.raises(ModelError, match='holds list'):
        official.parse_config([])


def test_the_action_block_is_divided_by_contract_or_by_five(reacher_contract):
    """The action size comes from the contract; without one, the frameskip is the published 5."""
    assert choose_contract(10, 'reacher') == (reacher_contract, 5)
    assert choose_contract(6, 'reacher')[1] == 3
    placeholder, frameskip = choose_contract(15, None)
    assert (placeholder.action.names, frameskip) == (('action_0', 'action_1', 'action_2'), 5)
    with pytest.raises(ConfigError, match='has 2 action dimensions, .*input_dim is 7'):
        choose_contract(7, 'reacher')
    with pytest.raises(ConfigError, match='input_dim is 7, not a multiple of the published 5'):
        choose_contract(7, None)


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        ('mean: [0, 1]', r"std is None: expected one for each of \['x', 'y'\]"),
        ('{"mean": [0, 1, 2], "std": [1, 1]}', 'mean is 3 entries'),
        ('{mean: [0, .nan], std: [1, 1]}', 'mean of y is nan: expected a finite number'),
        ('{mean: [0, 0], std: [0, 1]}', 'std of x is 0: expected a finite number above 0'),
        ('[1, 2]', "holds list: expected 'mean' and 'std'"),
        ('{mean: [', 'line 1: not YAML'),
    ],
)
def test_wrong_action_statistics_are_refused(text, says, tmp_path):
    """Wrong action statistics are rejected with the key, the dimension and what is expected."""
    (tmp_path / 'stats').write_text(text)
    with pytest.raises(ModelError, match=says):
        read_action_stats(tmp_path / 'stats', ('x', 'y'))


@pytest.mark.parametrize('history', [1, 2, 3])
def test_an_imported_bundle_runs_in_every_history(history, import_files, tmp_path, capsys, caplog):
    """The exported graphs compute the published function, for every history."""
    state = checkpoint(config())
    caplog.set_level('INFO', 'lewm')
    (tmp_path / 'stats.json').write_text('{"mean": [0.5, 1e-05], "std": [2, 3]}')
    stats = ['--action-stats', str(tmp_path / 'stats.json')]
    asked = ['--history', str(history)] if history < 3 else []  # the window is the default
    assert import_files(state, *asked, '--contract', 'reacher', *stats) == 0
    bundle = Bundle.load(tmp_path / 'bundle')
    manifest = bundle.manifest
    assert (manifest.history, manifest.window, manifest.frameskip) == (history, 3, 5)
    assert manifest.action_mean == (0.5, 1e-05) and manifest.action_std == (2, 3)
    assert manifest.camera_period == bundle.contract.period == 0.05
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    shapes = ((history, 16), (history - 1, 10), (4, manifest.horizon, 10))
    inputs = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    ours, reference = (load_engine(bundle, name) for name in ('onnxruntime', 'reference'))
    np.testing.assert_allclose(ours.encode(image), reference.encode(image), atol=1e-5)
    rolled = ours.rollout(*inputs)
    np.testing.assert_allclose(rolled, reference.rollout(*inputs), atol=1e-4)
    context, past, plans = (torch.from_numpy(array) for array in inputs)
    blocks = torch.cat([past.expand(4, -1, -1), plans[:, :1]], dim=1)
    first = Published(config(), state).predict(context.expand(4, -1, -1), blocks)[:, -1]
    np.testing.assert_allclose(rolled[:, 0], first, atol=1e-4)
    assert bundle.hash in capsys.readouterr().out
    assert not [text for text in caplog.messages if 'note' in text]


def test_what_was_assumed_is_said_and_what_was_read_is_kept(import_files, tmp_path, caplog):
    """Without contract and statistics, notes state the assumptions; provenance is stored."""
    state = checkpoint(config())
    # Views of one tensor, as some tools save them, are written as separate tensors.
    joint = torch.stack([state['encoder.layernorm.weight'], state['encoder.layernorm.bias']])
    state['encoder.layernorm.weight'], state['encoder.layernorm.bias'] = joint
    caplog.set_level('INFO', 'lewm')
    assert import_files(state, '--history', '1') == 0
    notes = [text for text in caplog.messages if text.startswith('note:')]
    assert 'action_0, action_1 within -1 and 1' in notes[0] and '--contract' in notes[0]
    assert 'mean 0 and std 1' in notes[1] and len(notes) == 2
    manifest = Bundle.load(tmp_path / 'bundle').manifest
    assert manifest.contract.name == 'placeholder' and manifest.name == 'bundle'
    assert manifest.action_mean == (0, 0) and manifest.action_std == (1, 1)
    provenance = manifest.provenance
    assert (provenance['weights'], provenance['tensors']) == ('weights.pt', len(state))
    assert provenance['spelling'] == 'transformers 5' and len(provenance['config_sha256']) == 64


@pytest.mark.parametrize('history', ['0', '4'])
def test_a_history_beyond_the_window_is_refused(history, import_files, capsys):
    """A history beyond the window gives one line and status 2."""
    assert import_files(checkpoint(config()), '--history', history) == 2
    assert capsys.readouterr().err == (
        f'lewm: error: --history is {history}: expected 1 to 3, num_frames of the config\n'
    )


def test_files_that_cannot_be_used_are_named(import_files, tmp_path, capsys):
    """An invalid config, a missing weights file and a folder in the way are named."""
    (tmp_path / 'bundle').mkdir()  # an empty folder is not in the way
    (tmp_path / 'bundle/notes.txt').write_text('')
    assert import_files({}) == 2
    assert 'exists and is not a bundle' in capsys.readouterr().err
    (tmp_path / 'bundle/notes.txt').unlink()
    (tmp_path / 'config.json').write_text('{"encoder": ')
    files = [str(tmp_path / name) for name in ('weights.pt', 'config.json', 'bundle')]
    assert main(['import-official', files[0], files[1], '--out', files[2]]) == 2
    assert 'config.json: is not JSON' in capsys.readouterr().err
    assert main(['import-official', 'absent.pt', files[1], '--out', files[2]]) == 2
    assert 'absent.pt: No such file' in capsys.readouterr().err
