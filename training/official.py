# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The published form of a LeWM checkpoint: config.json and the names of its tensors.

Only tensors are read from the weights, and only numbers and names from the config, so neither can
run code. Errors name every fault, not just the first one.
"""

from __future__ import annotations

import io
import logging
import re
from typing import Any
import warnings
import zipfile

import torch

from lewm_ros.errors import ModelError, one_line, shown
from lewm_ros.model import LeWorldModel, ModelConfig
from lewm_ros.robot.checks import CheckError, is_name

#: What config.json leaves to the published code: outputs of the first layer of the action
#: encoder, and its hidden layer in widths of its output.
ACTION_SMOOTHED, ACTION_SCALE = 10, 4
#: Width, layers and heads of the encoders by name; their hidden layer has four widths.
VIT_SIZES = {
    'tiny': (192, 12, 3),
    'small': (384, 12, 6),
    'base': (768, 12, 12),
    'large': (1024, 24, 16),
}
#: Blocks and keys of config.json that decide what the network computes.
LAYOUT = {
    'encoder': ('size', 'patch_size', 'image_size'),
    'predictor': (
        'num_frames',
        'depth',
        'heads',
        'mlp_dim',
        'input_dim',
        'hidden_dim',
        'output_dim',
        'dim_head',
    ),
    'action_encoder': ('input_dim', 'emb_dim'),
    'projector': ('input_dim', 'output_dim', 'hidden_dim'),
    'pred_proj': ('input_dim', 'output_dim', 'hidden_dim'),
}
#: Other keys, which have no effect at run time or are implied by the weights.
UNREAD = {
    'pretrained',
    'use_mask_token',
    'dropout',
    'emb_dropout',
    'smoothed_dim',
    'mlp_scale',
    'norm_fn',
}
#: Layers of a ViT block: our names, which are those of transformers 5, and of transformers 4.
TRANSFORMERS_4 = {
    'attention.q_proj': 'attention.attention.query',
    'attention.k_proj': 'attention.attention.key',
    'attention.v_proj': 'attention.attention.value',
    'attention.o_proj': 'attention.output.dense',
    'mlp.fc1': 'intermediate.dense',
    'mlp.fc2': 'output.dense',
}
#: Older ones run code of a file in spite of weights_only (CVE-2025-32434, CVE-2026-24747).
OLDEST_TORCH = (2, 10)
log = logging.getLogger('lewm')


def parse_config(data: Any) -> dict[str, Any]:
    """Check a parsed config.json and return its values by 'block.key'.

    Raises ModelError naming every key that is missing, of the wrong kind, or at odds with
    another one.
    """
    if not isinstance(data, dict):
        raise ModelError(f'holds {type(data).__name__}: expected an object with {list(LAYOUT)}')
    values: dict[str, Any] = {}
    wrong, unread = [], []
    for block, keys in LAYOUT.items():
        part = data.get(block)
        if not isinstance(part, dict):
            found = repr(part) if block in data else 'missing'
            wrong.append(f'{block} is {found}: expected an object with {list(keys)}')
            continue
        for key in keys:
            name, value = f'{block}.{key}', part.get(key)
            values[name] = value
            if name == 'encoder.size':
                fits = isinstance(value, str) and value in VIT_SIZES
                right = f'one of {list(VIT_SIZES)}'
            else:
                fits = type(value) is int and 1 <= value <= 65536
                right = 'a whole number in [1, 65536]'
            if not fits:
                found = repr(value) if key in part else 'missing'
                wrong.append(f'{name} is {found}: expected {right}')
        others = sorted(set(part) - {*keys, *UNREAD})
        unread += [f'{block}.{key}' for key in others if not key.startswith('_')]
    wrong = wrong or _disagreements(values)
    if wrong:
        raise ModelError('; '.join(wrong))
    if unread:
        log.info('note: not read from the config: %s', ', '.join(unread))
    return values | {'predictor.dropout': data['predictor'].get('dropout', 0.0)}


def _disagreements(values: dict[str, Any]) -> list[str]:
    """Name the sizes that differ where the published network has a single one."""
    size = values['encoder.size']
    # If the predictor is wider or narrower than its latents, the published code has further layers,
    # which ours lacks; no published checkpoint has them.
    latents = [
        'predictor.hidden_dim',
        'predictor.output_dim',
        'action_encoder.emb_dim',
        'projector.output_dim',
        'pred_proj.input_dim',
        'pred_proj.output_dim',
    ]
    pairs = [(key, 'predictor.input_dim', values['predictor.input_dim']) for key in latents]
    pairs += [
        ('projector.input_dim', f"the width of encoder '{size}'", VIT_SIZES[size][0]),
        ('pred_proj.hidden_dim', 'projector.hidden_dim', values['projector.hidden_dim']),
    ]
    return [
        f'{key} is {values[key]}, {other} {right}: they must be equal'
        for key, other, right in pairs
        if values[key] != right
    ]


def model_config(
    values: dict[str, Any], tensors: dict[str, torch.Tensor], frameskip: int
) -> ModelConfig:
    """Put the numbers of the network together.

    Args:
        values: from :func:`parse_config`.
        tensors: of the checkpoint; the sizes inside the action encoder are taken from them.
        frameskip: k, ticks in an action block; it divides the block.

    Raises ModelError for a size that our classes do not have.

    """
    width, depth, heads = VIT_SIZES[values['encoder.size']]
    latent = values['predictor.input_dim']
    smoothed = tensors.get('action_encoder.patch_embed.bias')
    hidden = tensors.get('action_encoder.embed.0.bias')
    try:
        return ModelConfig(
            image_size=values['encoder.image_size'],
            encoder='vit',
            encoder_width=width,
            latent_size=latent,
            projector_hidden=values['projector.hidden_dim'],
            predictor_width=latent,
            predictor_depth=values['predictor.depth'],
            predictor_heads=values['predictor.heads'],
            predictor_head_size=values['predictor.dim_head'],
            predictor_mlp=values['predictor.mlp_dim'],
            action_size=values['action_encoder.input_dim'] // frameskip,
            frameskip=frameskip,
            history=values['predictor.num_frames'],
            action_smoothed=ACTION_SMOOTHED if smoothed is None else smoothed.numel(),
            action_hidden=ACTION_SCALE * latent if hidden is None else hidden.numel(),
            dropout=values['predictor.dropout'],
            patch_size=values['encoder.patch_size'],
            encoder_depth=depth,
            encoder_heads=heads,
            encoder_mlp=4 * width,
        )
    except CheckError as error:
        raise ModelError(str(error)) from error


#: What torch.compile and DistributedDataParallel put before the name of every tensor.
WRAPPERS = ('_orig_mod.', 'module.')


def read_tensors(data: bytes) -> dict[str, torch.Tensor]:
    """Read a PyTorch file that holds a flat dictionary of tensors and nothing else.

    Prefixes that torch.compile and DistributedDataParallel add to all names are taken off.

    Raises ModelError for anything else. Content that would run code is not loaded, and an archive
    that unpacks to more bytes than the file has is rejected.
    """
    right = 'expected a state dictionary of tensors and nothing else'
    version = re.match(r'(\d+)\.(\d+)', torch.__version__)
    if version is None or tuple(map(int, version.groups())) < OLDEST_TORCH:
        raise ModelError(
            f'torch {torch.__version__} can be made to run code by such a file '
            '(CVE-2026-24747): install torch 2.10 or newer'
        )
    _check_archive(data)
    try:
        with warnings.catch_warnings():  # about old file formats; the user cannot act on them
            warnings.simplefilter('ignore')
            found = torch.load(io.BytesIO(data), map_location='cpu', weights_only=True)
    except Exception as error:  # torch.load has no common base of its errors
        code = re.search(r'GLOBAL ([\w.]+)', str(error))
        if code:
            reason = f"refused without running it: it refers to '{code[1]}'"
        else:
            reason = f'torch cannot read it as tensors ({type(error).__name__}), is it cut short?'
        raise ModelError(f'{reason}; {right}') from error
    if not isinstance(found, dict):
        raise ModelError(f'holds {type(found).__name__}: {right}')
    nested = [key for key, value in found.items() if isinstance(value, dict)]
    if nested:
        raise ModelError(f'has dictionaries under {nested}: {right}; save one of them by itself')
    others = [
        f'{shown(key)} ({type(value).__name__})'
        for key, value in found.items()
        if not is_name(key) or not isinstance(value, torch.Tensor)
    ]
    if others:
        raise ModelError(f'holds {", ".join(others)}: {right}')
    for key, tensor in found.items():
        if tensor.layout == torch.strided and not tensor.is_meta:
            stored = tensor.untyped_storage().nbytes()
            if stored < tensor.numel() * tensor.element_size():
                raise ModelError(f'{key} repeats {stored} bytes to {shown(list(tensor.shape))}')
    return _unwrapped(found)


def _unwrapped(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Take off the prefixes of a model saved while compiled or distributed."""
    for prefix in WRAPPERS * 2:  # in either order
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    compiled = f'.{WRAPPERS[0]}'  # a part of the model alone
    inner = {name.replace(compiled, '.'): tensor for name, tensor in tensors.items()}
    return inner if len(inner) == len(tensors) else tensors


def _check_archive(data: bytes) -> None:
    """Refuse a zip that unpacks to more than its own size; torch.save does not compress."""
    file = io.BytesIO(data)
    if zipfile.is_zipfile(file):
        try:
            size = sum(entry.file_size for entry in zipfile.ZipFile(file).infolist())
        except (zipfile.BadZipFile, ValueError) as error:
            raise ModelError(f'is a broken zip file ({one_line(error)})') from error
        if size > len(data):
            raise ModelError(f'has {len(data)} bytes and unpacks to {size}: save it uncompressed')


def spelling(tensors: dict[str, torch.Tensor]) -> int:
    """Major version of the transformers library, 4 or 5, that named the ViT's tensors."""
    return 4 if any(name.startswith('encoder.encoder.layer.') for name in tensors) else 5


def official_name(name: str, version: int) -> str:
    """Return what a tensor of ours is called in a checkpoint of this spelling."""
    match = re.fullmatch(r'encoder\.layers\.(\d+)\.(.+)\.(weight|bias)', name)
    if version == 5 or match is None:
        return name
    number, part, kind = match.groups()
    return f'encoder.encoder.layer.{number}.{TRANSFORMERS_4.get(part, part)}.{kind}'


def load_model(config: ModelConfig, tensors: dict[str, torch.Tensor]) -> LeWorldModel:
    """Build the network with a checkpoint's weights, in float32 and eval mode.

    Raises ModelError naming every tensor that is missing, unexpected, of another shape or kind
    of number, or not finite.
    """
    with torch.device('meta'):  # shapes only: wrong sizes must not cost memory
        model = LeWorldModel(config)
    expected = model.state_dict()
    version = spelling(tensors)
    ours = {official_name(name, version): name for name in expected}
    wrong = []
    for what, names in (
        ('missing', ours.keys() - tensors.keys()),
        ('unexpected', tensors.keys() - ours.keys()),
    ):
        if names:
            wrong.append(f'{what} {", ".join(sorted(names))}')
    state = {}
    for official, name in ours.items():
        if official not in tensors:
            continue
        tensor, want = tensors[official], expected[name]
        if tensor.shape != want.shape:
            wrong.append(
                f'{official} has shape {list(tensor.shape)}, by the config {list(want.shape)}'
            )
        elif tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            wrong.append(f'{official} is sparse, quantised or without content')
        elif want.is_floating_point() and not tensor.is_floating_point():
            wrong.append(f'{official} is of {tensor.dtype}, expected floating point')
        elif not tensor.to(want.dtype).isfinite().all():
            wrong.append(f'{official} holds values that are not finite')
        else:  # a copy: tensors that are views of one another cannot be written as safetensors
            state[name] = tensor.detach().to(want.dtype, copy=True).contiguous()
    if wrong:
        raise ModelError('; '.join(wrong))
    model.load_state_dict(state, assign=True)
    return model.eval().requires_grad_(False)
