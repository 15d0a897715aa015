# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm evaluate --episodes`: starts and goals from recorded episodes, as in the paper."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
import json
from pathlib import Path
import re

from command_line import lewm
import cv2
import numpy as np
import pytest

from lewm_ros.bags.episodes import Episode
from lewm_ros.bundle import Bundle
from lewm_ros.engines import load_engine
from lewm_ros.errors import BagError, ConfigError
from lewm_ros.evaluation.closed_loop import PlannerPolicy
from lewm_ros.evaluation.recorded import Resumed, draw_pairs, lead_of, read_recorded
from lewm_ros.files import find
from lewm_ros.planning import PlannerConfig
from lewm_ros.sim import TASKS, Reacher, make_task
from lewm_ros.sim.collect import START, collect_task, simulate
from lewm_ros.time import NS_PER_S

FRAME = NS_PER_S // 20
LEAD = 0.5  #: [s]


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bag of three 4 s episodes of the arm that no bundle was trained on."""
    out = tmp_path_factory.mktemp('recorded') / 'bag'
    collect_task('reacher', out, episodes=3, seconds=4.0, seed=77)
    return out


@pytest.fixture(scope='module')
def reacher() -> Bundle:
    """Return models/reacher."""
    return Bundle.load(find('bundle', 'reacher'))


def turning(speed: float, frames: int = 52) -> Episode:
    """Return an arm whose shoulder turns at a speed [rad/s]; its elbow marks the speed."""
    stamps = NS_PER_S + np.arange(frames) * FRAME
    shoulder = speed * np.arange(frames) / 20
    rest = np.ones(frames)
    states = np.stack([shoulder, speed * rest, speed * rest, 0 * rest], axis=1)
    ticks = np.stack([np.arange(frames), rest], axis=1)  # 20 ms after each frame
    return Episode(stamps, np.empty(0), stamps + FRAME * 2 // 5, ticks, states)


@pytest.mark.parametrize('name', TASKS)
def test_a_task_goes_on_from_a_recorded_state(name):
    """Restoring positions and velocities reproduces the states and images that follow."""
    with closing(make_task(name, 64, seed=3)) as task:
        command = np.array(task.model.actuator_ctrlrange[:, 1])
        task.step(0.7 * command, 100)
        task.perturb('light')
        recorded = task.state()
        task.step(-command, 60)
        expected = task.state()
        task.reset()
        task.step(command, 30)
        task.perturb('colour')
        task.set_state(recorded)
        assert task.time == 0
        np.testing.assert_array_equal(task.state(), recorded)
        image = task.render()
        np.testing.assert_array_equal(task.set_goal(recorded[: len(task.joints)]), image)
        task.step(-command, 60)
        np.testing.assert_allclose(task.state(), expected, atol=1e-6)
        for state in (recorded[1:], np.full(len(recorded), np.nan)):
            with pytest.raises(ConfigError, match='position and velocity of'):
                task.set_state(state)


@pytest.mark.parametrize('name', TASKS)
def test_an_image_shows_the_present_state(name):
    """The frame after steps is the one of the state then, not of the physics step before."""
    with closing(make_task(name, 64, seed=3)) as task:
        task.model.opt.timestep = 0.02  # a step that shows
        for share in (0.7, -1.0, 1.0):
            task.step(share * np.array(task.model.actuator_ctrlrange[:, 1]), 9)
            image = task.render()
            task.set_state(task.state())
            np.testing.assert_array_equal(task.render(), image)


def test_states_come_back_from_the_bag(bag, reacher):
    """Every frame has a state; the velocity is zero in the first frame and not in the middle."""
    with closing(make_task('reacher', 16)) as arm:
        episodes = read_recorded(reacher, [bag], arm)
    assert [e.states.shape for e in episodes] == [(80, 4)] * 3
    assert (np.diff(episodes[0].stamps) == FRAME).all()
    assert (episodes[0].states[0, 2:] == 0).all() and episodes[0].states[40, 2:].any()


def test_what_was_recorded_before_a_start_is_repeated(bag, reacher):
    """The recorded commands and motion are replayed up to the start; a plan begins there."""
    with closing(make_task('reacher', 64)) as arm:
        recorded = read_recorded(reacher, [bag], arm)
        (pair, other), _ = draw_pairs(recorded, Reacher, 1.0, 0.8, 2, 0)
        engine = load_engine(reacher, horizon=PlannerConfig().rollout_blocks(reacher.spec))
        planner = PlannerPolicy(reacher, reacher.contract, engine, PlannerConfig(), arm)
        for chosen in (pair, other, replace(pair, phase=0.0)):
            planner.plan_times.clear()
            assert lead_of(reacher) == pytest.approx(0.8)
            assert chosen.lead == 16 * FRAME and len(chosen.commands) == 16
            episode, begin = next(
                (e, int(np.flatnonzero(found)[0]))
                for e in recorded
                if (found := (e.states == chosen.state).all(axis=1)).any()
            )
            arm.set_state(chosen.state)
            arm.set_goal(chosen.goal)
            events = list(
                simulate(
                    arm,
                    reacher.contract,
                    Resumed(planner, chosen),
                    1.0,
                    20.0,
                    chosen.phase,
                    START,
                    chosen.held,
                )
            )
            start = START + chosen.lead
            states = np.array([v for k, t, v in events if k == 'state' and t <= start])
            if chosen.phase:  # else commands come at the times of the frames, as in other tasks
                np.testing.assert_allclose(states, episode.states[begin : begin + 17], atol=1e-9)
            np.testing.assert_array_equal(chosen.goal, episode.states[begin + 36, :2])
            sent = [(t, v) for k, t, v in events if k == 'action']
            acted = [(t, v) for t, v in sent if t >= start]
            assert acted[0][0] < start + FRAME and all(np.any(v) for _, v in acted)
            # Of the plan that begins at the start, and the one a block later.
            assert [t for t, _ in planner.forecasts] == [start - 5 * FRAME, start]
            assert len(planner.plan_times) == 2


def test_a_goal_lies_its_offset_after_the_start():
    """Both are in one episode, equally often in each; no start repeats; the seed decides."""
    episodes = [turning(speed) for speed in (0.5, 1.0, 2.0)]
    pairs, solved = draw_pairs(episodes, Reacher, 1.25, LEAD, 48, seed=0)
    assert solved == 0
    speeds = np.array([p.state[2] for p in pairs])
    turned = np.array([p.goal[0] - p.state[0] for p in pairs])
    np.testing.assert_allclose(turned, (LEAD + 1.25) * speeds)
    assert {s: int((speeds == s).sum()) for s in (0.5, 1.0, 2.0)} == {0.5: 16, 1.0: 16, 2.0: 16}
    assert len({tuple(p.state) for p in pairs}) == 48
    again, _ = draw_pairs(episodes, Reacher, 1.25, LEAD, 48, seed=0)
    np.testing.assert_array_equal([p.state for p in pairs], [p.state for p in again])
    other, _ = draw_pairs(episodes, Reacher, 1.25, LEAD, 48, seed=1)
    assert not np.array_equal([p.state for p in pairs], [p.state for p in other])


def test_the_repeated_commands_are_those_of_the_lead():
    """There is one per control period, at its phase, plus the one in force at the beginning."""
    for pair in draw_pairs([turning(1.0)], Reacher, 1.25, LEAD, 16, seed=0)[0]:
        begin = round(pair.state[0] * 20)
        np.testing.assert_array_equal(pair.commands[:, 0], np.arange(begin, begin + 10))
        assert pair.held[0] == begin - 1 and pair.phase == pytest.approx(0.02)
        assert pair.lead == 10 * FRAME


def test_a_start_at_its_goal_is_left_out_and_counted():
    """No pair is taken from an arm that hardly moves."""
    pairs, solved = draw_pairs([turning(0.01), turning(1.0)], Reacher, 1.25, LEAD, 10, seed=0)
    assert {p.state[2] for p in pairs} == {1.0}
    assert 8 <= solved <= 11


def test_no_goal_lies_across_a_gap():
    """A missing frame is not replaced by a neighbour."""
    whole = turning(1.0)
    keep = np.arange(52) != 40
    gap = replace(whole, stamps=whole.stamps[keep], states=whole.states[keep])
    pairs, _ = draw_pairs([gap], Reacher, 1.25, LEAD, 15, seed=0)  # 11 to 26 but 15
    assert 40 * 0.05 not in np.round([p.goal[0] for p in pairs], 6)
    with pytest.raises(BagError, match=r'15 pairs of states 1\.25 s apart in one episode'):
        draw_pairs([gap], Reacher, 1.25, LEAD, 16, seed=0)


def test_a_goal_of_another_episode():
    """Start and goal are never from the same episode."""
    episodes = [turning(speed) for speed in (0.5, 1.0, 2.0)]
    pairs, _ = draw_pairs(episodes, Reacher, None, LEAD, 60, seed=0)
    assert all(p.state[2] != p.goal[1] for p in pairs)
    assert {p.goal[1] for p in pairs} == {0.5, 1.0, 2.0}
    with pytest.raises(BagError, match='0 pairs of states in two episodes'):
        draw_pairs(episodes[:1], Reacher, None, LEAD, 1, seed=0)


def test_a_table_with_a_row_for_each_offset(bag, tmp_path):
    """Each row holds offset, budget and successes, in the table and in the JSON output."""
    words = ('evaluate', 'reacher', '--episodes', bag)
    status, out, err = lewm(*words, '--cross', '--goals', '2', '--json')
    assert status == 0, err
    rows = json.loads(out)['offsets']
    assert [(r['offset'], r['budget']) for r in rows] == [(25, 50), (None, 50)]
    assert all(r['planner']['episodes'] == r['random']['episodes'] == 2 for r in rows)
    assert rows[0]['planner']['successes'] == 2
    assert all(r['random']['successes'] == 0 for r in rows)
    assert all(r['planner']['plan_median'] > 0 and r['random']['plan_median'] is None for r in rows)
    figure = tmp_path / 'offsets.png'
    options = ('--offset', '5', '10', '--budget', '8', '--goals', '1', '--figure', figure)
    status, out, err = lewm(*words, *options)
    assert status == 0, err
    assert cv2.imread(str(figure)).std() > 10
    note, head, *table = out.splitlines()
    assert head.split()[:3] == ['offset', 'budget', 'reached'] and 'control steps' in note
    assert [row.split()[:2] for row in table] == [['5', '8'], ['10', '8']]
    assert all(row.split()[2].endswith('/1') and row.endswith(' ms') for row in table)


def test_only_episodes_that_the_bundle_has_not_seen(bag, reacher, monkeypatch):
    """Of a bag that the bundle was trained on, only held-out episodes are read."""
    from lewm_ros.bags.hashes import bag_hashes
    from lewm_ros.evaluation import bags

    used = {'sha256': bag_hashes(bag), 'held_out_episodes': [1]}
    monkeypatch.setattr(bags, 'trained_bags', lambda bundle: [used])
    with closing(make_task('reacher', 16)) as arm:
        (episode,) = read_recorded(reacher, [bag], arm)
        assert NS_PER_S * 14 < episode.stamps[0] < NS_PER_S * 16  # the second of the three
        used['held_out_episodes'] = []
        with pytest.raises(BagError, match='no episode that .*reacher was not trained on'):
            read_recorded(reacher, [bag], arm)


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        ('--offset 0', r'--offset is \[0\]: expected more than 0'),
        ('--budget 0', '--budget is 0: expected more than 0'),
        ('--offset 200', '0 pairs of states 10 s apart in one episode'),
        ('--seconds 3', '--seconds only has a meaning without --episodes'),
        ('--trials 3', '--trials only has a meaning with --voe'),
        ('--voe', '--voe and --episodes exclude each other'),
    ],
)
def test_what_cannot_be_is_refused(bag, words, said):
    """The error says what is wrong, with status 2."""
    status, _, err = lewm('evaluate', 'reacher', '--episodes', bag, *words.split())
    assert status == 2
    assert re.search(said, err)


def test_offset_without_episodes_and_a_bag_of_another_robot(bag):
    """The error names the missing option, or the topic that the bag lacks."""
    status, _, err = lewm('evaluate', 'reacher', '--offset', '25')
    assert status == 2 and '--offset only has a meaning with --episodes' in err
    status, _, err = lewm('evaluate', 'push', '--episodes', bag)
    assert status == 2 and 'no topic cmd_vel' in err
