# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Random checkpoints in the published layout, and the published model without our modules."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

State = dict[str, torch.Tensor]
#: Width, layers and heads by encoder name; 'nano' is for these tests.
SIZES = {'nano': (16, 2, 2), 'tiny': (192, 12, 3)}


def config(size: str = 'nano') -> dict:
    """Return the published config.json, or one of a very small network."""
    width, nano = SIZES[size][0], size == 'nano'
    hidden = 24 if nano else 2048
    mlp = {'input_dim': width, 'output_dim': width, 'hidden_dim': hidden}
    return {
        'encoder': {
            'size': size,
            'patch_size': 4 if nano else 14,
            'image_size': 12 if nano else 224,
        },
        'predictor': {
            'num_frames': 3,
            'depth': 2 if nano else 6,
            'heads': 4 if nano else 16,
            'mlp_dim': 40 if nano else 2048,
            'input_dim': width,
            'hidden_dim': width,
            'output_dim': width,
            'dim_head': 8 if nano else 64,
            'dropout': 0.1,
            'emb_dropout': 0.0,
        },
        'action_encoder': {'input_dim': 10, 'emb_dim': width},
        'projector': {**mlp, 'norm_fn': {'_target_': 'torch.nn.BatchNorm1d', '_partial_': True}},
        'pred_proj': mlp,
    }


def layout(data: dict) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of a checkpoint, by its name in transformers 5."""
    width, depth, _ = SIZES[data['encoder']['size']]
    p = data['predictor']
    patch, inner, mlp = data['encoder']['patch_size'], p['heads'] * p['dim_head'], p['mlp_dim']
    places = (data['encoder']['image_size'] // patch) ** 2 + 1
    shapes: dict[str, tuple[int, ...]] = {
        'encoder.embeddings.cls_token': (1, 1, width),
        'encoder.embeddings.position_embeddings': (1, places, width),
        'predictor.pos_embedding': (1, p['num_frames'], width),
        'action_encoder.patch_embed.weight': (10, data['action_encoder']['input_dim'], 1),
        'action_encoder.patch_embed.bias': (10,),
    }

    def layer(name: str, *shape: int, bias: bool = True) -> None:
        shapes[f'{name}.weight'] = shape
        if bias:
            shapes[f'{name}.bias'] = shape[:1]

    layer('encoder.embeddings.patch_embeddings.projection', width, 3, patch, patch)
    layer('encoder.layernorm', width)
    for i in range(depth):
        block = f'encoder.layers.{i}'
        for name in 'qkvo':
            layer(f'{block}.attention.{name}_proj', width, width)
        layer(f'{block}.mlp.fc1', 4 * width, width)
        layer(f'{block}.mlp.fc2', width, 4 * width)
        layer(f'{block}.layernorm_before', width)
        layer(f'{block}.layernorm_after', width)
    for i in range(p['depth']):
        block = f'predictor.transformer.layers.{i}'
        layer(f'{block}.attn.norm', width)
        layer(f'{block}.attn.to_qkv', 3 * inner, width, bias=False)
        layer(f'{block}.attn.to_out.0', width, inner)
        layer(f'{block}.mlp.net.0', width)
        layer(f'{block}.mlp.net.1', mlp, width)
        layer(f'{block}.mlp.net.4', width, mlp)
        layer(f'{block}.adaLN_modulation.1', 6 * width, width)
    layer('predictor.transformer.norm', width)
    layer('action_encoder.embed.0', 4 * width, 10)
    layer('action_encoder.embed.2', width, 4 * width)
    for name in ('projector', 'pred_proj'):
        hidden = data[name]['hidden_dim']
        layer(f'{name}.net.0', hidden, width)
        layer(f'{name}.net.1', hidden)
        layer(f'{name}.net.3', width, hidden)
        shapes[f'{name}.net.1.running_mean'] = shapes[f'{name}.net.1.running_var'] = (hidden,)
        shapes[f'{name}.net.1.num_batches_tracked'] = ()
    return shapes


def checkpoint(data: dict) -> State:
    """Return random weights with no trivial tensor, modulation and statistics included."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in layout(data).items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith('num_batches_tracked'):
            state[name] = torch.tensor(1000)
        elif name.endswith('running_var') or (len(shape) == 1 and name.endswith('weight')):
            state[name] = 1 + 0.8 * noise.tanh()
        elif len(shape) == 1 or ('embeddings.' in name and len(shape) == 3):
            state[name] = 0.3 * noise
        else:
            state[name] = noise / max(1, noise[0].numel()) ** 0.5
    return state


def older(state: State) -> State:
    """Return the same checkpoint with the names of transformers 4."""
    names = {
        'encoder.layers.': 'encoder.encoder.layer.',
        'attention.q_proj': 'attention.attention.query',
        'attention.k_proj': 'attention.attention.key',
        'attention.v_proj': 'attention.attention.value',
        'attention.o_proj': 'attention.output.dense',
        'mlp.fc1': 'intermediate.dense',
        'mlp.fc2': 'output.dense',
    }
    renamed = {}
    for key, tensor in state.items():
        for new, old in names.items():
            key = key.replace(new, old) if key.startswith('encoder.') else key
        renamed[key] = tensor
    return renamed


class Published:
    """The published model, written directly from the layout, without our modules."""

    def __init__(self, data: dict, state: State) -> None:
        self.data, self.state = data, state

    def linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.state[f'{name}.weight'], self.state.get(f'{name}.bias'))

    def norm(self, name: str, x: torch.Tensor, eps: float = 1e-5) -> torch.Tensor:
        weight, bias = self.state[f'{name}.weight'], self.state[f'{name}.bias']
        return functional.layer_norm(x, weight.shape, weight, bias, eps)

    def project(self, name: str, x: torch.Tensor) -> torch.Tensor:
        one = f'{name}.net.1'
        statistics = [
            self.state[f'{one}.{k}'] for k in ('running_mean', 'running_var', 'weight', 'bias')
        ]
        h = functional.batch_norm(self.linear(f'{name}.net.0', x), *statistics)
        return self.linear(f'{name}.net.3', functional.gelu(h))

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) to (B, D), with torch's own transformer layers."""
        width, depth, heads = SIZES[self.data['encoder']['size']]
        patch, s = self.data['encoder']['patch_size'], self.state
        kernel = s['encoder.embeddings.patch_embeddings.projection.weight'].flatten(1)
        x = functional.unfold(pixels, patch, stride=patch).transpose(1, 2) @ kernel.T
        x = x + s['encoder.embeddings.patch_embeddings.projection.bias']
        token = s['encoder.embeddings.cls_token'].expand(len(x), 1, width)
        x = torch.cat([token, x], dim=1) + s['encoder.embeddings.position_embeddings']
        for i in range(depth):
            layer = nn.TransformerEncoderLayer(
                width, heads, 4 * width, 0.0, 'gelu', 1e-12, batch_first=True, norm_first=True
            )
            block = f'encoder.layers.{i}'
            weights = {}
            for kind in ('weight', 'bias'):
                weights[f'self_attn.in_proj_{kind}'] = torch.cat(
                    [s[f'{block}.attention.{name}_proj.{kind}'] for name in 'qkv']
                )
                for theirs, ours in (
                    ('self_attn.out_proj', 'attention.o_proj'),
                    ('linear1', 'mlp.fc1'),
                    ('linear2', 'mlp.fc2'),
                    ('norm1', 'layernorm_before'),
                    ('norm2', 'layernorm_after'),
                ):
                    weights[f'{theirs}.{kind}'] = s[f'{block}.{ours}.{kind}']
            layer.load_state_dict(weights)
            x = layer.eval()(x)
        return self.project('projector', self.norm('encoder.layernorm', x, 1e-12)[:, 0])

    def predict(self, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """(B, T, D) and (B, T, k·A) to (B, T, D)."""
        p, s = self.data['predictor'], self.state
        c = actions @ s['action_encoder.patch_embed.weight'][:, :, 0].T
        c = self.linear('action_encoder.embed.0', c + s['action_encoder.patch_embed.bias'])
        c = self.linear('action_encoder.embed.2', functional.silu(c))
        x = z + s['predictor.pos_embedding'][:, : z.shape[1]]
        for i in range(p['depth']):
            block = f'predictor.transformer.layers.{i}'
            six = self.linear(f'{block}.adaLN_modulation.1', functional.silu(c)).chunk(6, dim=-1)
            h = functional.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + six[1]) + six[0]
            qkv = self.linear(f'{block}.attn.to_qkv', self.norm(f'{block}.attn.norm', h))
            q, k, v = qkv.unflatten(-1, (3, p['heads'], p['dim_head'])).permute(2, 0, 3, 1, 4)
            h = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            h = self.linear(f'{block}.attn.to_out.0', h.transpose(1, 2).flatten(2))
            x = x + six[2] * h
            h = functional.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + six[4]) + six[3]
            h = self.linear(f'{block}.mlp.net.1', self.norm(f'{block}.mlp.net.0', h))
            x = x + six[5] * self.linear(f'{block}.mlp.net.4', functional.gelu(h))
        x = self.norm('predictor.transformer.norm', x)
        return self.project('pred_proj', x.flatten(0, 1)).unflatten(0, z.shape[:2])

    @torch.no_grad()
    def difference(self, model: nn.Module) -> float:
        """Largest difference of a model's latents and predictions from the published ones."""
        generator = torch.Generator().manual_seed(1)
        size = self.data['encoder']['image_size']
        pixels = torch.randn(3, 3, size, size, generator=generator)
        actions = torch.randn(1, 3, self.data['action_encoder']['input_dim'], generator=generator)
        z = self.encode(pixels)[None]
        return max(
            (model.encode(pixels[None]) - z).abs().max().item(),
            (model.predict(z, actions) - self.predict(z, actions)).abs().max().item(),
        )
