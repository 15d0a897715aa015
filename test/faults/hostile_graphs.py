# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""ONNX graphs made to do harm: changes of a good encoder, and what is said of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lewm_ros.bundle import WEIGHTS


def append(model: onnx.ModelProto, operator: str, *inputs: str, **attributes: Any) -> Any:
    """Add a node, whose value nothing uses, in front of a graph's nodes."""
    node = helper.make_node(operator, inputs, ['evil'], **attributes)
    model.graph.node.insert(0, node)
    return model.graph.node[0]


def constant(model: onnx.ModelProto, *numbers: int) -> str:
    """Add a tensor of whole numbers to a graph; return its name."""
    return initialiser(model, np.array(numbers, dtype=np.int64))


def scalar(model: onnx.ModelProto, number: int) -> str:
    """Likewise one number without a shape."""
    return initialiser(model, np.array(number, dtype=np.int64))


def initialiser(model: onnx.ModelProto, array: np.ndarray) -> str:
    """Add a tensor to a graph; return its name."""
    name = f'evil_{len(model.graph.initializer)}'
    model.graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def outside(tensor: onnx.TensorProto, location: str) -> None:
    """Let a tensor's numbers lie in another file."""
    tensor.CopyFrom(numpy_helper.from_array(np.zeros(8, np.float32), tensor.name))
    onnx.external_data_helper.set_external_data(tensor, location, offset=0, length=32)
    tensor.ClearField('raw_data')


def branch(model: onnx.ModelProto, change: Callable[[onnx.GraphProto], Any]) -> None:
    """Add an If whose branches are a changed graph."""
    out = helper.make_tensor_value_info('o', TensorProto.FLOAT, [8])
    weights = numpy_helper.from_array(np.zeros(8, np.float32), 'w')
    node = helper.make_node('Identity', ['w'], ['o'])
    inner = helper.make_graph([node], 'inner', [], [out], [weights])
    change(inner)
    truth = initialiser(model, np.array(True))
    append(model, 'If', truth, then_branch=inner, else_branch=inner)


def ask(model: onnx.ModelProto, operator: str, *shape: int) -> None:
    """Make an initialiser's values that many: a tensor of one number, and its shape."""
    one = constant(model, 1)
    append(model, operator, one, constant(model, *shape))


def function(model: onnx.ModelProto) -> None:
    """Add a function of its own."""
    node = helper.make_node('Identity', ['x'], ['y'])
    opset = helper.make_opsetid('', 20)
    model.functions.append(helper.make_function('evil', 'F', ['x'], ['y'], [node], [opset]))


def wild(model: onnx.ModelProto) -> None:
    """Claim a shape that its numbers do not fill."""
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([1 << 31, 1 << 31, 4])


#: Changes of the encoder's graph, refused where a graph is run.
GRAPHS: dict[str, tuple[Callable[[onnx.ModelProto], Any], str]] = {
    **{
        f'tensor in {location}': (
            lambda m, location=location: outside(m.graph.initializer[0], location),
            'keeps tensors outside the file',
        )
        for location in (WEIGHTS, '../secret', '/etc/passwd')
    },
    'tensor in a file, in an attribute': (
        lambda m: outside(append(m, 'Constant', value=onnx.TensorProto()).attribute[0].t, 'x'),
        'keeps tensors outside the file',
    ),
    'tensor in a file, in a branch': (
        lambda m: branch(m, lambda g: outside(g.initializer[0], 'x')),
        'has g in a AttributeProto',
    ),
    'custom operator': (
        lambda m: append(m, 'Run', domain='example.evil'),
        "has operator 'example.evil.Run'",
    ),
    'custom operator in a branch': (
        lambda m: branch(m, lambda g: setattr(g.node[0], 'domain', 'example.evil')),
        'has g in a AttributeProto',
    ),
    'operator of the runtime': (
        lambda m: append(m, 'EPContext', domain='com.microsoft', ep_cache_context='/etc/passwd'),
        "has operator 'com.microsoft.EPContext'",
    ),
    'function': (function, 'has functions in a ModelProto'),
    'training': (lambda m: m.training_info.add(), 'has training_info in a ModelProto'),
    'sparse tensor': (
        lambda m: m.graph.sparse_initializer.add(dims=[1 << 40]),
        'has sparse_initializer in a GraphProto',
    ),
    'shape that overflows': (wild, 'with '),
    'initialiser of nothing': (
        lambda m: m.graph.initializer.add(name='e', data_type=1, dims=[1 << 40]),
        "has tensor 'e' of shape [1099511627776] with 0 numbers",
    ),
    'texts': (
        lambda m: m.graph.initializer.add(name='e', data_type=8, string_data=[b'x']),
        'has string_data in a TensorProto',
    ),
    'ConstantOfShape': (
        lambda m: append(m, 'ConstantOfShape', constant(m, 1 << 20, 1 << 20)),
        "'evil' alone 8.8e+12",
    ),
    'Expand': (lambda m: ask(m, 'Expand', 1 << 40), "'evil' alone 8.8e+12"),
    'Tile': (lambda m: ask(m, 'Tile', 1 << 40), "'evil' alone 8.8e+12"),
    'Pad': (lambda m: ask(m, 'Pad', 0, 1 << 40), "'evil' alone 8.8e+12"),
    'Range': (
        lambda m: append(m, 'Range', *(scalar(m, n) for n in (0, 1 << 40, 1))),
        "'evil' alone 8.8e+12",
    ),
    'many values': (
        lambda m: [
            m.graph.node.insert(
                0, helper.make_node('ConstantOfShape', [constant(m, 1 << 25)], [f'many_{i}'])
            )
            for i in range(20)
        ],
        'computes values of 5.37e+09 bytes',
    ),
    'size that depends on values': (
        lambda m: append(m, 'NonZero', 'pixels'),
        "has value 'evil' of operator 'NonZero', whose size is not known",
    ),
    'loop': (
        lambda m: append(m, 'Loop', constant(m, 1 << 62), '', body=onnx.GraphProto(name='b')),
        'has g in a AttributeProto',
    ),
    'values that lie about their sizes': (
        lambda m: [
            m.graph.value_info.append(helper.make_tensor_value_info('evil', 7, [1])),
            ask(m, 'Expand', 1 << 40),
        ],
        "'evil' alone 8.8e+12",
    ),
    'other inputs': (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[3], 'dim_value', 1 << 40),
        'encoder.onnx',
    ),
}

#: Content of encoder.onnx that is no such graph.
NO_GRAPHS: dict[str, tuple[bytes, str]] = {
    'noise': (b'\x00noise', 'is no ONNX graph'),
    'empty graph': (b'', "for 'pixels': the manifest needs"),
    'nested messages': (b'\x3a\xff\xff\xff\xff\x07' * 1000, 'is no ONNX graph'),
}


def spoil_graph(name: str, path: Path) -> None:
    """Make a good graph hostile, by the name of the case."""
    if name in NO_GRAPHS:
        path.write_bytes(NO_GRAPHS[name][0])
    else:
        model = onnx.load(path)
        GRAPHS[name][0](model)
        path.write_bytes(model.SerializeToString())
