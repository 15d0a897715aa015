# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The image transform: every encoding against hand-made pixels; training equals run time."""

from __future__ import annotations

import array
import tracemalloc
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from recordings import frame

from lewm_ros.errors import ObservationError
from lewm_ros.robot.contract import Camera
from lewm_ros.robot.imaging import (
    ENCODINGS,
    MEAN,
    STD,
    decode,
    decode_compressed,
    from_message,
    normalise,
    prepare,
    unstated_order,
)

RED, GREEN, BLUE = 200, 100, 50
#: The repeated 2 x 2 tile of each Bayer pattern.
BAYER = {
    'rggb': [[RED, GREEN], [GREEN, BLUE]],
    'bggr': [[BLUE, GREEN], [GREEN, RED]],
    'gbrg': [[GREEN, BLUE], [RED, GREEN]],
    'grbg': [[GREEN, RED], [BLUE, GREEN]],
}
#: 2 rows of 3 different pixels, RGB.
PIXELS = np.array(
    [[[255, 0, 10], [20, 230, 30], [40, 50, 210]], [[1, 2, 3], [250, 251, 252], [90, 80, 70]]],
    dtype=np.uint8,
)
GREY = np.array([[0, 100, 255], [7, 8, 9]], dtype=np.uint8)
ALPHA = np.full((2, 3, 1), 77, dtype=np.uint8)


def packed(pixels: np.ndarray, padding: int = 0) -> tuple[int, int, int, bytes]:
    """Height, width, step and data of an image message whose rows end in ``padding`` bytes."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
    # The padding is bright, so that reading it as pixels would show.
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=199)
    return height, width, padded.shape[1], padded.tobytes()


@pytest.mark.parametrize('padding', [0, 1, 5, 64])
@pytest.mark.parametrize(
    ('encoding', 'pixels', 'expected'),
    [
        ('rgb8', PIXELS, PIXELS),
        ('8UC3', PIXELS, PIXELS),
        ('bgr8', PIXELS[..., ::-1], PIXELS),
        ('rgba8', np.concatenate([PIXELS, ALPHA], axis=2), PIXELS),
        ('bgra8', np.concatenate([PIXELS[..., ::-1], ALPHA], axis=2), PIXELS),
        ('mono8', GREY, np.repeat(GREY[..., None], 3, axis=2)),
        ('8UC1', GREY, np.repeat(GREY[..., None], 3, axis=2)),
        # The high byte is the brightness, whatever the low byte.
        ('mono16', GREY.astype('<u2') * 256 + 201, np.repeat(GREY[..., None], 3, axis=2)),
    ],
)
def test_plain_encodings_give_exact_rgb(encoding, pixels, expected, padding):
    """Each plain encoding decodes to the exact pixels, with and without row padding."""
    image = decode(encoding, *packed(pixels, padding))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)


def test_big_endian_mono16_is_not_byte_swapped():
    """``is_bigendian`` decides which byte of mono16 is the high one."""
    words = (GREY.astype(np.uint16) * 256 + 201).astype('>u2')
    image = decode('mono16', *packed(words, padding=3), big_endian=True)
    np.testing.assert_array_equal(image, np.repeat(GREY[..., None], 3, axis=2))
    swapped = decode('mono16', *packed(words), big_endian=False)
    assert (swapped == 201).all()


@pytest.mark.parametrize(('pattern', 'tile'), BAYER.items())
def test_bayer_patterns_name_their_first_row(pattern, tile):
    """A uniform colour decodes to that colour from each Bayer pattern, in RGB order."""
    raw = np.tile(np.array(tile, dtype=np.uint8), (4, 5))
    image = decode(f'bayer_{pattern}8', *packed(raw, padding=2))
    assert image.shape == (8, 10, 3)
    assert (image == [RED, GREEN, BLUE]).all()


@pytest.mark.parametrize(
    ('encoding', 'order'),
    [('yuv422_yuy2', 'yuyv'), ('yuyv', 'yuyv'), ('uyvy', 'uyvy'), ('yuv422', 'uyvy')],
)
def test_yuv_is_red_where_v_is_high(encoding, order):
    """BT.601 red, grey and blue decode correctly in both byte orders."""
    values = {'red': (81, 90, 240), 'grey': (126, 128, 128), 'blue': (41, 240, 110)}
    expected = {'red': (255, 0, 0), 'grey': (128, 128, 128), 'blue': (0, 0, 255)}
    for colour, (y, u, v) in values.items():
        data = bytes({'y': y, 'u': u, 'v': v}[letter] for letter in order)
        image = decode(encoding, 1, 2, 4, data)
        assert np.abs(image.astype(int) - expected[colour]).max() <= 3, colour


def test_every_listed_encoding_decodes():
    """Every encoding in the table decodes to (H, W, 3) uint8."""
    sizes = {'rgb8': 3, '8UC3': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4}
    for encoding in ENCODINGS:
        two = any(part in encoding for part in ('16', 'yuy', 'yuv', 'yvy'))
        size = sizes.get(encoding, 2 if two else 1)
        image = decode(encoding, 4, 6, 6 * size, bytes(24 * size), scale=4000)
        assert (image.shape, image.dtype) == ((4, 6, 3), np.uint8), encoding


@pytest.mark.parametrize('kind', [bytes, bytearray, memoryview, lambda d: array.array('B', d)])
def test_any_byte_buffer_is_read(kind):
    """Data may be any byte buffer: array.array (rclpy), memoryview or numpy (rosbags)."""
    height, width, step, data = packed(PIXELS)
    np.testing.assert_array_equal(decode('rgb8', height, width, step, kind(data)), PIXELS)
    view = np.frombuffer(data, dtype=np.uint8)
    np.testing.assert_array_equal(decode('rgb8', height, width, step, view), PIXELS)


@pytest.mark.parametrize(
    ('arguments', 'names'),
    [
        (('rgb16', 2, 2, 12, bytes(24)), ("'rgb16'", 'bgr8')),
        (('', 2, 2, 6, bytes(12)), ("''", 'rgb8')),
        (('rgb8', 2, 2, 5, bytes(10)), ('step is 5', 'needs 6')),
        (('mono16', 2, 3, 5, bytes(10)), ('step is 5', 'needs 6')),
        (('rgb8', 2, 2, 6, bytes(11)), ('11 bytes', 'needs 12')),
        (('rgb8', 2, 2, 6, bytes(13)), ('13 bytes', 'needs 12')),
        (('rgb8', 2, 2, 6, b''), ('0 bytes', 'needs 12')),
        (('rgb8', 0, 2, 6, b''), ('2x0', 'at least 1x1')),
        (('rgb8', 2, 0, 0, b''), ('0x2', 'at least 1x1')),
        (('yuv422_yuy2', 2, 3, 6, bytes(12)), ('3 pixels wide', 'even width')),
    ],
)
def test_image_that_disagrees_with_itself_is_refused(arguments, names):
    """An unknown encoding, or sizes that disagree, raise one line with the numbers."""
    with pytest.raises(ObservationError) as caught:
        decode(*arguments)
    for name in names:
        assert name in str(caught.value)
    assert '\n' not in str(caught.value)


def test_png_decodes_exactly_and_jpeg_closely():
    """Compressed images decode to RGB: PNG exactly, JPEG within a few grey levels."""
    ramp = np.linspace(0, 255, 48, dtype=np.uint8)
    rgb = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8(90)), axis=-1)
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    png = cv2.imencode('.png', bgr)[1].tobytes()
    np.testing.assert_array_equal(decode_compressed(png), rgb)
    jpeg = array.array('B', cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    assert np.abs(decode_compressed(jpeg).astype(int) - rgb).mean() < 3


def test_grey_png_becomes_three_equal_channels():
    """A one-channel PNG gives RGB with equal channels."""
    image = decode_compressed(cv2.imencode('.png', GREY)[1].tobytes())
    np.testing.assert_array_equal(image, np.repeat(GREY[..., None], 3, axis=2))


@pytest.mark.parametrize('big_endian', [False, True])
def test_depth_is_seen_by_the_contracts_scale(big_endian):
    """Depth is linear from 0 (black) to the scale and beyond (white); no scale is an error."""
    depth = np.array([[0, 1000, 2000], [3999, 4000, 65535]], dtype='>u2' if big_endian else '<u2')
    image = decode('16UC1', *packed(depth, 3), big_endian=big_endian, scale=4000)
    np.testing.assert_array_equal(image[..., 0], [[0, 63, 127], [255, 255, 255]])
    np.testing.assert_array_equal(image[..., 1:], image[..., :1].repeat(2, axis=2))
    with pytest.raises(ObservationError, match='set camera.scale'):
        decode('16UC1', *packed(depth, 3), big_endian=big_endian)


@pytest.mark.parametrize('big_endian', [False, True])
def test_the_scale_makes_the_brightest_of_a_10_bit_sensor_white(big_endian):
    """With a scale, a 10-bit sensor covers all grey levels; without, only 0 to 3 of 255."""
    order = '>u2' if big_endian else '<u2'
    grey = np.array([[0, 4, 511], [512, 1019, 1023]], dtype=order)
    image = decode('mono16', *packed(grey, 3), big_endian=big_endian, scale=1023)
    np.testing.assert_array_equal(image[..., 0], [[0, 1, 127], [128, 254, 255]])
    np.testing.assert_array_equal(image[..., 1:], image[..., :1].repeat(2, axis=2))
    dark = decode('mono16', *packed(grey, 3), big_endian=big_endian)
    np.testing.assert_array_equal(dark[..., 0], [[0, 0, 1], [2, 3, 3]])


@pytest.mark.parametrize(('pattern', 'tile'), BAYER.items())
def test_the_scale_holds_for_bayer_patterns_of_16_bits(pattern, tile):
    """A uniform colour from a 12-bit Bayer sensor decodes to that colour."""
    raw = np.tile(np.array(tile, dtype='<u2') * 16, (4, 5))
    image = decode(f'bayer_{pattern}16', *packed(raw, padding=2), scale=4095)
    assert (image == [RED, GREEN, BLUE]).all()


DEPTH = np.linspace(500, 4000, 48, dtype=np.uint16).reshape(6, 8)
DEPTH_PNG = cv2.imencode('.png', DEPTH)[1].tobytes()


@pytest.mark.parametrize(
    ('form', 'data'),
    [
        ('16UC1; png compressed ', DEPTH_PNG),
        ('png', DEPTH_PNG),
        ('mono16; png compressed ', DEPTH_PNG),
        ('16UC1; compressedDepth png', bytes(12) + DEPTH_PNG),
        ('16UC1; compressedDepth', bytes(12) + DEPTH_PNG),  # as older versions wrote it
    ],
)
def test_depth_in_a_png_is_the_image_of_the_raw_depth(form, data):
    """Depth in a PNG gives the same image as raw depth; it was once read as 8 bits."""
    raw = decode('16UC1', *packed(DEPTH), scale=4000)
    assert raw.max() == 255
    np.testing.assert_array_equal(decode_compressed(data, form, 4000), raw)
    if 'mono16' not in form:
        with pytest.raises(ObservationError, match='16UC1 .* set camera.scale'):
            decode_compressed(data, form)


def test_colours_of_16_bits_in_a_png_are_seen_by_their_high_bytes():
    """16-bit colours in a PNG are read by their high bytes, or by the scale if there is one."""
    words = PIXELS[..., ::-1].astype(np.uint16) * 256 + 201
    png = cv2.imencode('.png', words)[1].tobytes()
    np.testing.assert_array_equal(decode_compressed(png, 'rgb16; png compressed bgr16'), PIXELS)
    assert decode_compressed(png, '', 1000).min() > 50


@pytest.mark.parametrize('form', ['32FC1; compressedDepth png', '16UC1; compressedDepth rvl'])
def test_a_form_of_compressed_depth_that_is_not_read_is_named(form):
    """An unsupported form of compressedDepth is rejected with one reason for all frames."""
    reasons = set()
    for data in bytes(12) + DEPTH_PNG, bytes(9):
        with pytest.raises(ObservationError) as caught:
            decode_compressed(data, form, 4000)
        reasons.add(str(caught.value))
    (reason,) = reasons
    assert f"'{form}' is not supported: of compressedDepth only 16UC1 as PNG" in reason


@pytest.mark.parametrize(('pattern', 'tile'), BAYER.items())
def test_a_bayer_pattern_compressed_as_grey_is_seen_in_colour(pattern, tile):
    """A Bayer image compressed as grey is debayered, but not one that has colours already."""
    raw = np.tile(np.array(tile, dtype=np.uint8), (4, 5))
    png = cv2.imencode('.png', raw)[1].tobytes()
    image = decode_compressed(png, f'bayer_{pattern}8; png compressed ')
    assert (image == [RED, GREEN, BLUE]).all()
    jpeg = cv2.imencode('.jpg', np.full((8, 8, 3), (BLUE, GREEN, RED), np.uint8))[1].tobytes()
    image = decode_compressed(jpeg, f'bayer_{pattern}8; jpeg compressed bgr8')
    assert np.abs(image.astype(int) - [RED, GREEN, BLUE]).max() < 4


def test_a_bayer_image_that_was_converted_to_grey_stays_grey():
    """image_transport converts it before compression, and says so after 'compressed'."""
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    png = cv2.imencode('.png', grey)[1].tobytes()
    image = decode_compressed(png, 'bayer_rggb8; png compressed mono8')
    np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize(('order', 'seen'), [(None, 1), ('rgb', 1), ('bgr', -1)])
def test_the_contract_states_the_order_of_8uc3(order, seen):
    """``camera.order`` applies to 8UC3 alone: other encodings state their own order."""
    camera = Camera('/camera', order=order)
    image = from_message(frame(1, PIXELS, '8UC3').message, camera)
    np.testing.assert_array_equal(image, PIXELS[..., ::seen])
    image = from_message(frame(1, PIXELS, 'rgb8').message, camera)
    np.testing.assert_array_equal(image, PIXELS)
    # image_transport compresses 8UC3 as it is, in the order that imencode takes for BGR.
    png = cv2.imencode('.png', PIXELS)[1]
    packed = SimpleNamespace(format='8UC3; png compressed ', data=png)
    np.testing.assert_array_equal(from_message(packed, camera), PIXELS[..., ::seen])
    assert (unstated_order(packed, camera) is None) == (order is not None)


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_a_compressed_image_cannot_claim_any_size(suffix):
    """A huge size in a compressed header is rejected: 60000 x 60000 would take 11 GB."""
    data = bytearray(cv2.imencode(suffix, GREY)[1].tobytes())
    if suffix == '.png':
        data[16:24] = (60000).to_bytes(4) * 2
    else:
        at = data.index(b'\xff\xc0')
        data[at + 5 : at + 9] = (60000).to_bytes(2) * 2
    with pytest.raises(ObservationError, match='claims 3600000000 pixels'):
        decode_compressed(bytes(data))


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_a_compressed_image_that_is_cut_is_refused(suffix):
    """A compressed image is rejected wherever it is cut.

    Some versions of OpenCV would fill the rest of the image with grey.
    """
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    data = cv2.imencode(suffix, image)[1].tobytes()
    for end in range(len(data) - 4):  # a PNG's last four bytes are a checksum
        with pytest.raises(ObservationError, match='cut short|cannot be decoded'):
            decode_compressed(data[:end])
    with pytest.raises(ObservationError, match='compressed image is cut short'):
        decode_compressed(data[: len(data) // 2])


def test_a_jpeg_cut_after_the_image_within_it_is_refused():
    """A JPEG cut after an embedded preview is rejected: the preview's end is not the image's."""
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    data = cv2.imencode('.jpg', image)[1].tobytes()
    preview = b'\xff\xe1' + (len(data) + 2).to_bytes(2) + data
    whole = data[:2] + preview + data[2:]
    np.testing.assert_array_equal(decode_compressed(whole), decode_compressed(data))
    with pytest.raises(ObservationError, match='cut short'):
        decode_compressed(whole[:-40])


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_bytes_after_the_end_of_a_compressed_image_do_no_harm(suffix):
    """Bytes after the end of a compressed image are ignored; some cameras pad their buffers."""
    data = cv2.imencode(suffix, PIXELS)[1].tobytes()
    np.testing.assert_array_equal(decode_compressed(data + bytes(100)), decode_compressed(data))


@pytest.mark.parametrize(
    ('height', 'width', 'step'),
    [(2**31, 2**31, 2**32 - 1), (2**31, 1, 3), (1, 2**31, 2**32 - 1), (2**32 - 1, 2, 6)],
)
def test_huge_declared_sizes_are_refused_before_anything_is_allocated(height, width, step):
    """Huge declared sizes are rejected before anything is allocated."""
    tracemalloc.start()
    with pytest.raises(ObservationError, match='step|bytes'):
        decode('rgb8', height, width, step, bytes(12))
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


@pytest.mark.parametrize('data', [b'', b'no image at all', bytes(300)])
def test_undecodable_compressed_image_is_refused(data):
    """Data that is neither JPEG nor PNG is rejected."""
    with pytest.raises(ObservationError, match='cannot be decoded: expected JPEG or PNG'):
        decode_compressed(data)


def test_crop_takes_x_before_y():
    """The crop is (x, y, width, height); an image of the model's size is not resampled."""
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    cropped = prepare(image, 16, crop=(31, 7, 16, 16))
    np.testing.assert_array_equal(cropped, image[7:23, 31:47])
    assert cropped.flags.c_contiguous


@pytest.mark.parametrize('crop', [(50, 0, 11, 16), (0, 30, 16, 11), (60, 40, 1, 1)])
def test_crop_outside_the_image_is_refused(crop):
    """A crop outside the image is rejected with the crop and the image size."""
    with pytest.raises(ObservationError) as caught:
        prepare(np.zeros((40, 60, 3), dtype=np.uint8), 16, crop=crop)
    assert str(list(crop)) in str(caught.value)
    assert '60x40' in str(caught.value)


@pytest.mark.parametrize('shape', [(480, 640), (64, 64), (30, 40), (64, 32), (200, 64), (1, 1)])
@pytest.mark.parametrize('size', [64, 224])
def test_prepared_image_has_the_model_size(shape, size):
    """Any image becomes a contiguous (size, size, 3) uint8; a uniform colour stays the same."""
    image = np.full((*shape, 3), (10, 120, 240), dtype=np.uint8)
    ready = prepare(image, size)
    assert (ready.shape, ready.dtype) == ((size, size, 3), np.uint8)
    assert ready.flags.c_contiguous
    assert (ready == (10, 120, 240)).all()


def test_shrinking_averages_areas():
    """Downscaling averages areas: a one-pixel checkerboard becomes its mean."""
    board = (np.indices((8, 8)).sum(axis=0) % 2 * 200).astype(np.uint8)
    assert (prepare(np.repeat(board[..., None], 3, axis=2), 4) == 100).all()


def test_normalise_is_the_published_formula():
    """Every value of every channel equals (x / 255 − mean) / std, to float32 rounding."""
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = np.stack([every, every.T, every[::-1]], axis=-1)
    expected = (image.astype(np.float64) / 255 - MEAN) / STD
    result = normalise(image)
    assert (result.shape, result.dtype) == ((3, 16, 16), np.float32)
    np.testing.assert_allclose(result, expected.transpose(2, 0, 1), rtol=0, atol=1e-6)


def test_normalise_gives_equal_bits_alone_and_in_a_batch():
    """Normalising a batch (training) and single frames (robot) gives equal bits."""
    images = np.random.default_rng(1).integers(0, 256, (4, 3, 20, 20, 3), dtype=np.uint8)
    batch = normalise(images)
    assert batch.shape == (4, 3, 3, 20, 20)
    for i, j in np.ndindex(4, 3):
        assert normalise(images[i, j]).tobytes() == batch[i, j].tobytes()
