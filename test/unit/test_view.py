# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What an operator sees: images and text say what the trace holds, and nothing else."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from lewm_ros.nodes.markers import LENGTH, gauge
from lewm_ros.nodes.messages import header
from lewm_ros.time import NS_PER_S
from lewm_ros.view import camera, canvas, plot
from lewm_ros.view.scale import decades, height
from lewm_ros.view.screen import LABELS, ROWS, screen
from lewm_ros.view.trace import MAX_ANOMALIES, Anomaly, Level, Trace

START = 1_000 * NS_PER_S
RATE = 20


def traced(scores: list[float], threshold: float | None = 16.0, span: float = 60.0) -> Trace:
    """A trace of scores at 20 Hz, the first one at START."""
    trace = Trace(span)
    trace.threshold = threshold
    for index, score in enumerate(scores):
        trace.add(START + index * NS_PER_S // RATE, score, index / RATE)
    return trace


def snapped(scores: list[float], threshold: float | None = 16.0, later: float = 0.0, **options):
    """Snapshot of such a trace, ``later`` [s] after its last score."""
    return traced(scores, threshold, **options).snapshot((len(scores) - 1) / RATE + later)


def anomaly(index: int, end: int | None = None, kind: str = 'surprise', name: str = '1') -> Anomaly:
    """An event that starts at score ``index`` and ends at score ``end``."""
    stamps = [None if i is None else START + i * NS_PER_S // RATE for i in (index, end)]
    return Anomaly(kind, name, stamps[0], stamps[1], 150.0)


# The trace.


@pytest.mark.parametrize(
    ('score', 'threshold', 'later', 'level'),
    [
        (7.9, 16.0, 0.0, Level.NORMAL),
        (8.0, 16.0, 0.0, Level.RAISED),
        (math.nan, 16.0, 0.0, Level.RAISED),
        (math.inf, 16.0, 0.0, Level.RAISED),
        (7.9, 16.0, 2.5, Level.SILENT),
        (99.0, None, 0.0, Level.UNCALIBRATED),
    ],
)
def test_level_follows_the_newest_score(score, threshold, later, level):
    """Half of the threshold is raised; silence and a missing threshold have levels of their own."""
    assert snapped([1.0, 1.0, score], threshold, later).level is level


def test_nothing_heard_is_silence():
    """Before the first score the level is SILENT, and everything can still be drawn."""
    empty = Trace(60.0).snapshot(5.0)
    assert empty.level is Level.SILENT
    assert empty.silent == math.inf
    assert math.isnan(empty.score)
    assert empty.rate == 0
    assert plot.plot(empty).shape == (plot.HEIGHT, canvas.WIDTH, 3)
    assert camera.annotated(None, None, None, empty).shape[1] == canvas.WIDTH
    assert any('no scores' in line for line in screen(empty, 'x', []))
    assert len(gauge(empty, header(1, 'f')).markers) == 3


def test_an_open_anomaly_is_the_level_whatever_the_scores_say():
    """An open anomaly sets the level even if scores are low or missing."""
    trace = traced([1.0] * 40)
    trace.note(anomaly(10, kind='frozen_camera'))
    assert trace.snapshot(2.0).level is Level.ANOMALY
    assert trace.snapshot(60.0).level is Level.ANOMALY
    assert 'frozen_camera' in trace.snapshot(2.0).headline()
    trace.note(anomaly(10, 20, kind='frozen_camera'))
    assert trace.snapshot(2.0).level is Level.NORMAL
    assert len(trace.snapshot(2.0).anomalies) == 1


def test_an_open_anomaly_before_the_first_score_has_no_duration():
    """If it opened before the first score, its duration is unknown and not shown."""
    trace = Trace(60.0)
    trace.note(anomaly(0, kind='frame_gap'))
    assert trace.snapshot(5.0).headline() == 'surprise --   open: frame_gap'


def test_anomalies_of_a_node_that_died_end_where_the_next_one_begins():
    """Their closing edges never arrive; anomalies that had ended keep their end."""
    trace = traced([1.0] * 40)
    trace.note(anomaly(5, name='7'))
    trace.note(anomaly(10, kind='drift'))
    trace.note(anomaly(2, 4))
    assert len(trace.snapshot(2.0).open) == 2
    begun = START + 20 * NS_PER_S // RATE
    trace.nothing_open(begun)
    seen = trace.snapshot(2.0)
    assert seen.level is Level.NORMAL
    assert [a.end for a in seen.anomalies] == [START + 4 * NS_PER_S // RATE, begun, begun]


def test_time_goes_on_after_the_last_score():
    """Scores age by the steady clock, whatever clock stamps them, and drop out of the span."""
    trace = traced([1.0] * 41, span=5.0)
    now = trace.snapshot(2.0)
    assert now.times[[0, -1]] == pytest.approx([-2.0, 0.0])
    assert now.rate == pytest.approx(RATE)
    later = trace.snapshot(6.5)
    assert later.times[[0, -1]] == pytest.approx([-5.0, -4.5])
    assert later.silent == pytest.approx(4.5)
    assert later.rate == 0


def test_a_stamp_that_goes_back_clears_the_trace():
    """When a bag restarts, the scores of the previous pass are cleared."""
    trace = traced([1.0] * 10)
    trace.note(anomaly(5))
    trace.add(START, 3.0, 1.0)
    assert trace.snapshot(1.0).scores.tolist() == [3.0]
    assert not trace.snapshot(1.0).anomalies


def test_a_trace_is_bounded():
    """Only scores within the span and the newest events are kept."""
    trace = traced([1.0] * 1000, span=5.0)
    assert len(trace._scores) == 5 * RATE + 1
    for index in range(MAX_ANOMALIES + 5):
        trace.note(anomaly(index, index + 1, name=str(index)))
    kept = trace.snapshot(0.0).anomalies
    assert len(kept) == MAX_ANOMALIES
    assert kept[-1].id == str(MAX_ANOMALIES + 4)


# The scale.


def test_an_open_anomaly_outlasts_many_that_ended():
    """Of more anomalies than are kept, the one that lasts is kept, and is the level."""
    trace = Trace(10.0)
    trace.threshold = 5.0
    trace.add(NS_PER_S, 1.0, 0.0)
    trace.note(Anomaly('drift', '0', NS_PER_S))
    for index in range(1, 2 * MAX_ANOMALIES):
        trace.note(Anomaly('surprise', str(index), index * NS_PER_S, (index + 1) * NS_PER_S))
    found = trace.snapshot(0.1)
    assert found.level is Level.ANOMALY and [a.id for a in found.open] == ['0']
    assert len(found.anomalies) == MAX_ANOMALIES


def test_decades_hold_threshold_and_scores():
    """The axis has whole decades, at most six from the top; non-finite values are ignored."""
    assert decades(np.array([1.0, 5.0]), 16.0) == (-1, 2)
    assert decades(np.array([0.02, 5.0]), 16.0) == (-2, 2)
    assert decades(np.array([1.0]), 1600.0) == (-1, 4)
    assert decades(np.array([1e-9, 500.0]), 16.0) == (-3, 3)
    assert decades(np.array([math.nan, math.inf, 0.0]), None) == (-1, 2)


def test_a_score_that_is_no_number_is_at_the_top():
    """NaN and infinite scores are at the top, zero at the bottom."""
    scores = np.array([0.0, 0.1, 1.0, 100.0, math.inf, math.nan])
    assert height(scores, -1, 2) == pytest.approx([0, 0, 1 / 3, 1, 1, 1])


# The images.


def has(image: np.ndarray, colour: canvas.Colour) -> np.ndarray:
    """Mask of the pixels of an image (H, W, 3) that nearly have a colour."""
    return (np.abs(image.astype(int) - colour) <= 12).all(axis=-1)


def curve(image: np.ndarray) -> np.ndarray:
    """Mask of the blue pixels of an image (H, W, 3), thin lines included."""
    return image[..., 2].astype(int) - image[..., 0] > 40


@pytest.mark.parametrize('threshold', [1.0, 16.0, 70.0])
def test_plot_draws_the_threshold_where_it_is(threshold):
    """A dashed red line is in the row of the threshold, with its alpha; without one, no line."""
    trace = traced([0.5] * 40, threshold)
    trace.alpha = 0.05
    image = plot.plot(trace.snapshot(2.0))
    row = round(float(plot.y_of(np.array([threshold]), -1, 2)[0]))
    red = has(image, canvas.THRESHOLD)[:, plot.LEFT + 1 : plot.RIGHT]
    assert red[row].mean() > 0.5
    others = np.delete(red[plot.TOP : plot.BOTTOM], row - plot.TOP, axis=0)
    assert others.mean(axis=1).max() < 0.2  # only the text
    assert trace.snapshot(2.0).threshold_text() == f'threshold {threshold:g} (alpha 0.05)'
    trace.threshold = None
    assert not has(plot.plot(trace.snapshot(2.0)), canvas.THRESHOLD)[plot.TOP :].any()


@pytest.mark.parametrize('score', [0.3, 3.0, 90.0])
def test_plot_draws_the_scores_where_they_are(score):
    """The curve is in the row of the score, over the columns of its time span only."""
    image = plot.plot(snapped([score] * 601))  # 30 of 60 s
    row = round(float(plot.y_of(np.array([score]), -1, 2)[0]))
    blue = curve(image)
    middle = round(float(plot.x_of(np.array([-30.0]), 60.0)[0]))
    assert blue[row - 1 : row + 2, middle + 2 : plot.RIGHT - 5].any(axis=0).all()
    assert not blue[plot.TOP : plot.BOTTOM, : middle - 2].any()
    assert not blue[plot.TOP : row - 4].any()


def test_plot_leaves_gaps_open_and_marks_what_is_no_number():
    """There is no line where no score was received, and a red mark at the top for NaN."""
    trace = traced([2.0] * 200, span=60.0)
    for index in range(600, 801):
        score = math.nan if index == 700 else 2.0
        trace.add(START + index * NS_PER_S // RATE, score, index / RATE)
    image = plot.plot(trace.snapshot(40.0))
    column = {i: round(float(plot.x_of(np.array([(i - 800) / RATE]), 60.0)[0])) for i in (400, 700)}
    row = round(float(plot.y_of(np.array([2.0]), -1, 2)[0]))
    blue = curve(image)[row - 2 : row + 3]
    assert not blue[:, column[400] - 20 : column[400]].any()
    assert blue[:, column[700] - 20 : column[700] - 3].any(axis=0).all()
    assert has(image, canvas.THRESHOLD)[plot.TOP + 4, column[700]]


def test_plot_shows_a_single_score_between_gaps():
    """A single score between two gaps is drawn: it may be the peak."""
    trace = traced([1.0] * 200)
    trace.add(START + 400 * NS_PER_S // RATE, 60.0, 20.0)
    for index in range(600, 700):
        trace.add(START + index * NS_PER_S // RATE, 1.0, index / RATE)
    seen = trace.snapshot(699 / RATE)
    column = round(float(plot.x_of(np.array([-299 / RATE]), 60.0)[0]))
    row = round(float(plot.y_of(np.array([60.0]), -1, 2)[0]))
    assert curve(plot.plot(seen))[row - 1 : row + 2, column - 1 : column + 2].all()


def test_plot_shades_events_over_their_time():
    """Shading runs from start to end, or to now if open; events outside the span have none."""
    trace = traced([2.0] * 1201)
    trace.note(anomaly(300, 600))
    trace.note(anomaly(900, kind='frame_gap'))
    trace.note(anomaly(-2000, -1900, name='9'))
    line = plot.plot(trace.snapshot(60.0))[plot.TOP + 3]
    surprise, gap = has(line, plot.SHADES['surprise']), has(line, plot.OTHER_SHADE)
    columns = {s: round(float(plot.x_of(np.array([s - 60.0]), 60.0)[0])) for s in (15, 30, 45)}
    assert surprise[columns[15] + 1 : columns[30] - 1].mean() > 0.95  # except the grid
    assert gap[columns[45] + 1 : plot.RIGHT - 1].mean() > 0.95
    assert not surprise[: columns[15] - 1].any()
    assert not surprise[columns[30] + 2 :].any()


def test_images_fit_into_one_segment_of_shared_memory():
    """Messages larger than 512 KiB do not fit into a segment of Fast DDS by default."""
    seen = snapped([2.0] * 10)
    frame = np.zeros((1080, 1920, 3), np.uint8)
    for image in (
        plot.plot(seen),
        camera.annotated(frame, frame, None, seen),
    ):
        assert image.dtype == np.uint8
        assert image.nbytes < 2**19 - 2**12


@pytest.mark.parametrize('level', list(Level))
def test_headline_has_the_colour_and_the_word_of_the_level(level):
    """Word and colour both show the level, so that colour-blind operators can read it."""
    scores = {Level.RAISED: 9.0}.get(level, 1.0)
    threshold = None if level is Level.UNCALIBRATED else 16.0
    trace = traced([scores] * 5, threshold)
    if level is Level.ANOMALY:
        trace.note(anomaly(3))
    seen = trace.snapshot(0.2 + 5.0 * (level is Level.SILENT))
    assert seen.level is level
    assert has(canvas.headline(seen)[2], canvas.LEVELS[level])[:60].all()
    assert screen(seen, 'x', [])[2].startswith(f' {level.value} ')


def test_camera_and_goal_stand_side_by_side_whole():
    """Aspect ratios are kept; the crop is outlined; the border has the colour of the level."""
    wide = np.full((100, 400, 3), (0, 200, 0), np.uint8)
    tall = np.full((400, 100, 3), (0, 0, 200), np.uint8)
    trace = traced([1.0] * 5)
    calm = camera.annotated(wide, tall, (100, 0, 100, 100), trace.snapshot(0.2))
    rows, columns = np.nonzero(has(calm, (0, 200, 0)))
    assert columns.min() == 0
    assert columns.max() == camera.CELL[0] - 1
    assert rows.max() - rows.min() + 1 == 80
    rows, columns = np.nonzero(has(calm, (0, 0, 200)))
    assert rows.max() - rows.min() + 1 == 240
    assert columns.min() > camera.CELL[0]
    assert has(calm, canvas.PAPER)[canvas.HEADLINE + 100 : canvas.HEADLINE + 140, [80, 160]].all()
    trace.note(anomaly(3))
    alarmed = camera.annotated(wide, tall, None, trace.snapshot(0.2))
    assert has(alarmed[canvas.HEADLINE + 2], canvas.LEVELS[Level.ANOMALY])[10:300].all()
    assert not has(alarmed, canvas.LEVELS[Level.ANOMALY])[canvas.HEADLINE :, 330:].any()


# The marker.


def boxes(seen) -> dict[str, object]:
    """The markers by namespace."""
    return {m.ns: m for m in gauge(seen, header(START, 'camera_optical')).markers}


def test_marker_bar_reaches_its_mark_at_the_threshold():
    """The bar spans a hundredth to ten times the threshold; colour and word follow the level."""
    lengths = {}
    for score in (0.16, 1.6, 16.0, 160.0, 1e6):
        found = boxes(snapped([score] * 3))
        lengths[score] = found['score'].scale.x
        left = found['score'].pose.position.x - found['score'].scale.x / 2
        assert left == pytest.approx(0, abs=1e-3)
    assert list(lengths.values()) == pytest.approx([0.001, 1 / 3, 2 / 3, LENGTH, LENGTH])
    calm, high = boxes(snapped([1.0] * 3)), boxes(snapped([12.0] * 3))
    assert calm['threshold'].pose.position.x == pytest.approx(2 / 3)
    assert calm['label'].text.startswith('normal\nsurprise 1\n')
    assert high['label'].text.startswith('raised\n')
    assert calm['score'].color.g > calm['score'].color.r
    assert high['score'].color.r > high['score'].color.g


def test_marker_can_be_shown_without_any_transform_and_vanishes_by_itself():
    """Frame id, pose and scales are valid, so RViz needs no transform; a lifetime is set."""
    for marker in boxes(snapped([1.0] * 3)).values():
        assert marker.header.frame_id == 'camera_optical'
        assert marker.lifetime.sec > 0
        assert marker.pose.orientation.w == 1.0
        assert marker.color.a > 0
        text = marker.ns == 'label'
        assert marker.scale.z > 0
        assert (marker.scale.x > 0) != text
    assert 'threshold' not in boxes(snapped([1.0] * 3, None))


# The terminal.


def test_screen_fits_80_columns_and_24_lines():
    """Even with many events, long names and notes; no escape sequence unless asked for."""
    trace = traced([2.0] * 1200)
    for index in range(20):
        trace.note(anomaly(index, index + 1, kind='frozen_camera', name=str(1000 + index)))
    trace.note(anomaly(1000))
    lines = screen(trace.snapshot(60.0), 'lewm watch /' + 'x' * 90, ['note ' * 30], 80)
    assert max(map(len, lines)) <= 80
    assert len(lines) < 24
    assert '\x1b' not in ''.join(lines)
    coloured = screen(trace.snapshot(60.0), 'x', [], 80, colour=True)
    assert '\x1b[1;97;41m ANOMALY \x1b[0m' in coloured[2]
    plain = [re.sub(r'\x1b\[[\d;]*m', '', line) for line in coloured]
    assert plain == screen(trace.snapshot(60.0), 'x', [], 80)
    assert max(map(len, screen(trace.snapshot(60.0), 'x', [], 200))) > 100


def test_curve_is_as_high_as_the_score_and_dashed_at_the_threshold():
    """The peak reaches above the row that carries the threshold's value."""
    scores = [1.0] * 1200
    scores[600] = 90.0
    lines = screen(snapped(scores, 12.0), 'x', [], 80)
    curve = lines[4 : 4 + ROWS]
    assert curve[0].startswith('   100 ')
    assert curve[-1].startswith('   0.1 ')
    labelled = [row for row in curve if row.startswith('    12 ')]
    assert labelled == [curve[2]]  # (log 12 + 1) / 3 of the height
    assert labelled[0][LABELS:].count('-') == 71  # all but the peak's column
    assert curve[0][LABELS:].count('█') + curve[0][LABELS:].count('▇') == 1
    assert all('-' not in row for row in curve if row is not labelled[0])
    assert all('-' not in row for row in screen(snapped(scores, None), 'x', [])[4 : 4 + ROWS])


def test_screen_lists_events_with_kind_time_and_peak():
    """The newest event is first; an open one is marked as open."""
    trace = traced([2.0] * 200)
    trace.note(anomaly(20, 30, kind='frame_gap', name='4'))
    trace.note(anomaly(100, name='5'))
    lines = screen(trace.snapshot(10.0), 'x', ['nobody publishes /y'])
    at = lines.index('events received: 1 frame_gap, 1 surprise')
    assert re.fullmatch(r'  \d\d:\d\d:\d\d  surprise +#5 +open for 5.0 s +peak 150', lines[at + 1])
    assert re.fullmatch(r'  \d\d:\d\d:\d\d  frame_gap +#4 +0.50 s +peak 150 s', lines[at + 2])
    assert lines[-1] == 'nobody publishes /y'


def test_not_calibrated_is_said():
    """The screen says so, so that a lack of events is not taken for normal operation."""
    lines = screen(snapped([500.0] * 20, None), 'x', [])
    assert lines[2].startswith(' not calibrated   surprise 500   no threshold, no events')
