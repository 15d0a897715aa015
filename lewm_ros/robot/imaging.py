# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Image preprocessing, shared by training and runtime so that both see bit-identical images.

decode (any common ROS encoding to RGB) → crop → resize → (H, W, 3) uint8, and then
:func:`normalise` to the float image that the encoder reads. The uint8 image is what training
caches; everything here is deterministic numpy and OpenCV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from lewm_ros.errors import ObservationError

if TYPE_CHECKING:
    from lewm_ros.robot.contract import Camera

#: ImageNet statistics, as the published model uses (le-wm utils.py), for RGB in [0, 1].
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)

# encoding: (dtype, channels, conversion to RGB or None for "as it is")
_ENCODINGS = {
    'rgb8': (np.uint8, 3, None),
    '8UC3': (np.uint8, 3, None),
    'bgr8': (np.uint8, 3, cv2.COLOR_BGR2RGB),
    'rgba8': (np.uint8, 4, cv2.COLOR_RGBA2RGB),
    'bgra8': (np.uint8, 4, cv2.COLOR_BGRA2RGB),
    'mono8': (np.uint8, 1, cv2.COLOR_GRAY2RGB),
    '8UC1': (np.uint8, 1, cv2.COLOR_GRAY2RGB),
    'mono16': (np.uint16, 1, cv2.COLOR_GRAY2RGB),
    '16UC1': (np.uint16, 1, cv2.COLOR_GRAY2RGB),
    'yuyv': (np.uint8, 2, cv2.COLOR_YUV2RGB_YUY2),
    'yuv422_yuy2': (np.uint8, 2, cv2.COLOR_YUV2RGB_YUY2),
    'uyvy': (np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422': (np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    # OpenCV names a Bayer pattern by its second row, hence the swapped letters.
    'bayer_rggb8': (np.uint8, 1, cv2.COLOR_BayerBG2RGB),
    'bayer_bggr8': (np.uint8, 1, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg8': (np.uint8, 1, cv2.COLOR_BayerGR2RGB),
    'bayer_grbg8': (np.uint8, 1, cv2.COLOR_BayerGB2RGB),
    'bayer_rggb16': (np.uint16, 1, cv2.COLOR_BayerBG2RGB),
    'bayer_bggr16': (np.uint16, 1, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg16': (np.uint16, 1, cv2.COLOR_BayerGR2RGB),
    'bayer_grbg16': (np.uint16, 1, cv2.COLOR_BayerGB2RGB),
}
ENCODINGS = tuple(_ENCODINGS)
#: Largest relative difference of aspect ratios that are the same.
SHAPE_TOLERANCE = 0.01
#: Most pixels of a compressed image (8K): its header may claim any size.
MOST_PIXELS = 7680 * 4320
_DEPTH_HEADER = 12  #: header that compressedDepth puts before the image [bytes]


def decode(
    encoding: str,
    height: int,
    width: int,
    step: int,
    data: object,
    big_endian: bool = False,
    scale: float | None = None,
) -> np.ndarray:
    """Turn the fields of a sensor_msgs/Image into RGB, (height, width, 3) uint8.

    ``data`` is any buffer of bytes; ``step`` is the row length in bytes, padding included;
    ``scale`` is the 16-bit value that becomes white, known only from the robot's contract. By
    default it is 65535, but 16UC1 requires a scale. Raises ObservationError for an unknown
    encoding or sizes that disagree.
    """
    if encoding not in _ENCODINGS:
        raise ObservationError(
            f"image encoding '{encoding}' is not supported: expected one of {list(ENCODINGS)}"
        )
    _require_scale(encoding, scale)
    dtype, channels, conversion = _ENCODINGS[encoding]
    raw = np.frombuffer(data, dtype=np.uint8)  # type: ignore[call-overload]
    row = width * channels * np.dtype(dtype).itemsize
    if height <= 0 or width <= 0:
        raise ObservationError(f'image is {width}x{height} pixels: expected at least 1x1')
    if channels == 2 and width % 2:  # YUV 4:2:2: two pixels share their colour
        raise ObservationError(f'image is {width} pixels wide: {encoding} needs an even width')
    if step < row:
        raise ObservationError(
            f'image step is {step} bytes: a row of {width} {encoding} pixels needs {row}'
        )
    if raw.size != height * step:
        raise ObservationError(
            f'image has {raw.size} bytes: height {height} x step {step} needs {height * step}'
        )
    pixels = np.ascontiguousarray(raw.reshape(height, step)[:, :row])
    if dtype is np.uint16:
        pixels = _to_bytes(pixels.view('>u2' if big_endian else '<u2'), scale)
    pixels = pixels.reshape(height, width, channels)
    return pixels if conversion is None else cv2.cvtColor(pixels, conversion)


def _require_scale(encoding: str, scale: float | None) -> None:
    if encoding == '16UC1' and scale is None:
        raise ObservationError(
            'image encoding 16UC1 does not define which value is white: set camera.scale in the '
            'contract to that value, such as 4000 for depths of up to 4 m in mm'
        )


def _to_bytes(words: np.ndarray, scale: float | None) -> np.ndarray:
    """Convert uint16 values to uint8 brightness; ``scale`` (or 65535) becomes white."""
    if scale is not None:
        brightness = words.astype(np.float32) * np.float32(65535 / scale)
        words = np.minimum(brightness, 65535).astype(np.uint16)
    return (words >> 8).astype(np.uint8)


def stored_encoding(form: str) -> str:
    """Return the encoding of the pixels in a compressed image; '' if its format does not name it.

    image_transport writes the encoding of the raw image, and that to which it was converted before
    compression, if it was: 'bayer_rggb8; jpeg compressed mono8', '8UC3; png compressed '.
    """
    source, _, how = form.partition(';')
    converted = how.partition('compressed')[2].strip()
    return converted if converted in _ENCODINGS else source.strip()


def decode_compressed(
    data: object, form: str = '', scale: float | None = None, order: str | None = None
) -> np.ndarray:
    """Decode a JPEG or PNG (sensor_msgs/CompressedImage data) to RGB, (H, W, 3) uint8.

    ``form`` is the ``format`` field of the message as image_transport writes it, such as
    '16UC1; compressedDepth png'. Single-channel images and 8UC3 are read by its encoding as in
    :func:`decode`, of which 8UC3 in the ``order`` 'rgb' (default) or 'bgr'. Without an encoding,
    16-bit images count as 16UC1. ``scale`` is as for :func:`decode`. Raises ObservationError.
    """
    buffer = np.frombuffer(data, dtype=np.uint8)  # type: ignore[call-overload]
    encoding = stored_encoding(form)
    if 'compressedDepth' in form:
        if encoding not in ('16UC1', 'mono16') or 'rvl' in form:
            raise ObservationError(
                f"image format '{form}' is not supported: of compressedDepth only 16UC1 as PNG is "
                'read (depth in mm); set the camera driver to that, or record the raw topic'
            )
        buffer = buffer[_DEPTH_HEADER:]
    claimed = _claimed_pixels(buffer)
    if claimed > MOST_PIXELS:
        raise ObservationError(
            f'compressed image claims {claimed} pixels: expected at most {MOST_PIXELS}'
        )
    if claimed and not _complete(buffer.tobytes()):  # some decoders make up what is missing
        raise ObservationError('compressed image is cut short')
    image = cv2.imdecode(buffer, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH) if claimed else None
    if image is None:
        raise ObservationError('compressed image cannot be decoded: expected JPEG or PNG')
    if image.ndim == 3:  # 8UC3 is compressed as it is, as if it were BGR
        encoding = '8UC3' if encoding == '8UC3' and order != 'bgr' else 'bgr8'
    elif _ENCODINGS.get(encoding, ())[:2] != (image.dtype, 1):
        encoding = 'mono8' if image.dtype == np.uint8 else '16UC1'
    _require_scale(encoding, scale)
    if image.dtype == np.uint16:
        image = _to_bytes(image, scale)
    conversion = _ENCODINGS[encoding][2]
    return image if conversion is None else cv2.cvtColor(image, conversion)


def _claimed_pixels(data: np.ndarray) -> int:
    """Return the pixels that a JPEG or PNG header claims; 0 if it is neither, or truncated."""
    head = data.tobytes() if data.size < 64 else data[:64].tobytes()
    if head.startswith(b'\x89PNG\r\n\x1a\n') and len(head) >= 24:
        return int.from_bytes(head[16:20]) * int.from_bytes(head[20:24])
    at = 2 if head.startswith(b'\xff\xd8') else data.size
    while at + 9 <= data.size and data[at] == 0xFF:
        marker, length = data[at + 1], int(data[at + 2]) << 8 | int(data[at + 3])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a start of frame
            height, width = data[at + 5 : at + 9].view('>u2')
            return int(height) * int(width)
        at += 1 if marker == 0xFF else 2 + length  # a fill byte, or a segment
    return 0


def _complete(data: bytes) -> bool:
    """Return whether the end is there: IEND of a PNG, an EOI marker after a JPEG's last scan.

    No marker occurs within the coded pixels of a JPEG; cameras pad its end.
    """
    if data.startswith(b'\x89PNG'):
        return b'IEND' in data
    return data.rfind(b'\xff\xd9') > data.rfind(b'\xff\xda')


def from_message(message: Any, camera: Camera | None = None) -> np.ndarray:
    """Decode a sensor_msgs Image or CompressedImage, rclpy's or rosbags', to RGB uint8.

    ``camera`` is of the contract, for its ``scale`` and ``order``. Raises ObservationError as
    :func:`decode` and :func:`decode_compressed` do.
    """
    scale, order = (None, None) if camera is None else (camera.scale, camera.order)
    if hasattr(message, 'format'):
        return decode_compressed(message.data, message.format, scale, order)
    return decode(
        'bgr8' if message.encoding == '8UC3' and order == 'bgr' else message.encoding,
        message.height,
        message.width,
        message.step,
        message.data,
        bool(message.is_bigendian),
        scale,
    )


def unstated_order(message: Any, camera: Camera) -> str | None:
    """Return a warning if neither an image nor the contract states the channel order."""
    compressed = hasattr(message, 'format')
    encoding = stored_encoding(message.format) if compressed else message.encoding
    if encoding != '8UC3' or camera.order is not None:
        return None
    return (
        'image encoding 8UC3 does not state the order of its colours and is read as RGB; '
        'set camera.order in the contract to rgb or bgr'
    )


def other_view(size: tuple[int, int], before: tuple[int, int], cropped: bool) -> str | None:
    """Say what makes an image another view than those before; None for the same one.

    Sizes are (width, height) [px]. Without a crop, images of one aspect ratio are the same view.
    """
    if cropped and size != before:
        return 'size, on which camera.crop depends'
    ratio = size[0] * before[1] / (size[1] * before[0])
    return None if cropped or abs(ratio - 1) <= SHAPE_TOLERANCE else 'aspect ratio'


def prepare(
    rgb: np.ndarray, size: int, crop: tuple[int, int, int, int] | None = None
) -> np.ndarray:
    """Crop (x, y, width, height in [px]) and resize RGB uint8 to (size, size, 3) uint8.

    Resizing is by area when shrinking and bilinear when enlarging; the aspect ratio is not
    kept, so choose a square crop. Raises ObservationError where the crop does not fit.
    """
    height, width = rgb.shape[:2]
    if crop is not None:
        x, y, w, h = crop
        if x + w > width or y + h > height:
            raise ObservationError(
                f'camera.crop {list(crop)} does not fit an image of {width}x{height} pixels'
            )
        rgb = rgb[y : y + h, x : x + w]
        height, width = h, w
    if (height, width) != (size, size):
        shrink = height >= size and width >= size
        rgb = cv2.resize(
            rgb, (size, size), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR
        )
    return np.ascontiguousarray(rgb)


def normalise(image: np.ndarray) -> np.ndarray:
    """Turn prepared images (..., S, S, 3) uint8 into (..., 3, S, S) float32.

    (value / 255 − mean) / std with ImageNet statistics. A lookup table of the 256 possible values
    makes the result bit-identical for every caller and batch size.
    """
    result = np.empty((*image.shape[:-3], 3, *image.shape[-3:-1]), dtype=np.float32)
    flat = result.reshape(-1, *result.shape[-3:])
    for each, planes in zip(image.reshape(-1, *image.shape[-3:]), flat):
        for channel, table, plane in zip(cv2.split(each), _TABLE, planes):
            cv2.LUT(channel, table, dst=plane)
    return result


_TABLE = ((np.arange(256, dtype=np.float32)[None] / 255 - MEAN[:, None]) / STD[:, None]).astype(
    np.float32
)
