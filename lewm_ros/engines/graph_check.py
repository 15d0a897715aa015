# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What an ONNX file may be made of: arithmetic of known sizes, and nothing else.

The format allows more than a network needs: tensors in other files, operators out of libraries,
functions, loops and branches, and operators that make a large tensor out of a few numbers. All
of it is refused before a runtime, which would follow it, sees the file.
"""

from __future__ import annotations

from collections.abc import Iterator
import math
from typing import Any

import onnx
from onnx import TensorProto, shape_inference

from lewm_ros.errors import BundleError, one_line, shown

#: Most that all values of a graph together may take for one frame or plan [bytes]; those of the
#: published network take less than a tenth of it.
VALUES_LIMIT = 1 << 32

#: Fields of each message that a file may use; a field that is not here is refused by name.
_DESCRIPTION = {'name', 'doc_string', 'metadata_props'}
_FIELDS = {
    'ModelProto': {
        *_DESCRIPTION,
        'ir_version',
        'opset_import',
        'producer_name',
        'producer_version',
        'domain',
        'model_version',
        'graph',
    },
    'OperatorSetIdProto': {'domain', 'version'},
    'GraphProto': {*_DESCRIPTION, 'node', 'initializer', 'input', 'output', 'value_info'},
    'NodeProto': {*_DESCRIPTION, 'input', 'output', 'op_type', 'domain', 'attribute'},
    'AttributeProto': {*_DESCRIPTION, 'type', 'f', 'i', 's', 't', 'floats', 'ints'},
    'TensorProto': {
        *_DESCRIPTION,
        'dims',
        'data_type',
        'raw_data',
        'float_data',
        'double_data',
        'int32_data',
        'int64_data',
    },
    'ValueInfoProto': {*_DESCRIPTION, 'type'},
    'TypeProto': {'tensor_type', 'denotation'},
    'Tensor': {'elem_type', 'shape'},
    'TensorShapeProto': {'dim'},
    'Dimension': {'dim_value', 'dim_param', 'denotation'},
    'StringStringEntryProto': {'key', 'value'},
}
_DOMAINS = ('', 'ai.onnx')  # two names of the same one: ONNX's own operators
#: Bytes of one number, by the number types that tensors may have.
_TYPES: dict[int, int] = {
    TensorProto.FLOAT: 4,
    TensorProto.DOUBLE: 8,
    TensorProto.INT32: 4,
    TensorProto.INT64: 8,
    TensorProto.BOOL: 1,
}
_DIMENSIONS = 8


def parse_graph(data: bytes) -> Any:
    """Return the onnx.ModelProto of a file's content.

    Raises BundleError, whose text goes on from the file's name, unless it is made of ONNX's own
    operators and of tensors within the file, and the sizes of all values follow from those of
    the inputs and stay below VALUES_LIMIT.
    """
    try:
        model = onnx.load_from_string(data)
    except Exception as error:  # protobuf's errors have no common base
        raise BundleError(f'is no ONNX graph: {one_line(error)}') from error
    # Fields that this onnx does not know, a runtime might.
    model.DiscardUnknownFields()
    for message in _messages(model):
        if isinstance(message, TensorProto):
            _check_tensor(message)
        elif isinstance(message, onnx.NodeProto) and message.domain not in _DOMAINS:
            name = shown(f'{message.domain}.{message.op_type}')
            raise BundleError(f'has operator {name}: expected only those of ONNX')
    _check_sizes(model)
    return model


def _messages(message: Any) -> Iterator[Any]:
    """Yield all messages in a message, and it. Raises BundleError for a field not in _FIELDS."""
    kind = message.DESCRIPTOR.name
    for field, value in message.ListFields():
        if field.name in ('external_data', 'data_location'):
            if value != TensorProto.DEFAULT:
                raise BundleError('keeps tensors outside the file: expected a single-file graph')
        elif field.name not in _FIELDS.get(kind, ()):
            raise BundleError(
                f'has {field.name} in a {kind}: expected operators, and tensors of numbers, only'
            )
        elif field.message_type is not None:
            for part in (value,) if hasattr(value, 'ListFields') else value:
                yield from _messages(part)
    yield message


def _check_tensor(tensor: TensorProto) -> None:
    """Refuse a tensor whose numbers are not as many as its shape says: memory goes by that."""
    name = shown(tensor.name)
    if tensor.data_type not in _TYPES:
        raise BundleError(
            f'has tensor {name} of number type {tensor.data_type}: expected one of {list(_TYPES)}'
        )
    stored = len(tensor.raw_data) / _TYPES[tensor.data_type]
    for numbers in (
        tensor.float_data,
        tensor.double_data,
        tensor.int32_data,
        tensor.int64_data,
    ):
        stored += len(numbers)
    dims = list(tensor.dims)
    if len(dims) > _DIMENSIONS or min(dims, default=0) < 0 or math.prod(dims) != stored:
        raise BundleError(f'has tensor {name} of shape {shown(dims)} with {stored:g} numbers')


def _check_sizes(model: Any) -> None:
    """Infer the shape of every value for one sample, without computing any, and add them up."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    del copy.graph.value_info[:]  # what the file says of its values need not be true
    for value in (*copy.graph.input, *copy.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField('dim_param'):  # the number of samples
                dim.dim_value = 1
    try:
        inferred = shape_inference.infer_shapes(copy, strict_mode=True, data_prop=True)
    except Exception as error:  # InferenceError is no public name
        raise BundleError(f'has values of unknown sizes ({one_line(error)})') from error
    sizes = {}
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField('shape') and all(d.HasField('dim_value') for d in tensor.shape.dim):
            # Floats have no overflow, and do not grow in length. No number type is larger.
            sizes[value.name] = 8 * math.prod(float(abs(d.dim_value)) for d in tensor.shape.dim)
    for node in inferred.graph.node:
        for name in node.output:
            if name and name not in sizes:
                raise BundleError(
                    f'has value {shown(name)} of operator {shown(node.op_type)}, whose size is '
                    'not known before it is computed'
                )
    total = sum(sizes.values())
    if total > VALUES_LIMIT:
        largest = max(sizes, key=sizes.__getitem__)
        raise BundleError(
            f'computes values of {total:.3g} bytes for one sample, {shown(largest)} alone '
            f'{sizes[largest]:.3g}: expected at most {VALUES_LIMIT:.3g}'
        )
