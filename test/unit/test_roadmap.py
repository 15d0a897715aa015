# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The roadmap: travel times from recordings, paths through them, and plans that follow them."""

from __future__ import annotations

from dataclasses import replace
import hashlib
import io
import json
from pathlib import Path
import shutil
from typing import Any

import numpy as np
from point_mass import (
    CONFIG,
    NO_NETWORK,
    REST,
    SIZE,
    TICKS,
    PointMass,
    at,
    idle,
    point_mass_bundle,
)
import pytest

from lewm_ros import cli
from lewm_ros.bundle import (
    CARD,
    MANIFEST,
    ROADMAP,
    Bundle,
    Calibration,
    rewrite_manifest,
    write_bundle,
)
from lewm_ros.bundle.roadmap_file import read_roadmap, write_roadmap
from lewm_ros.errors import ModelError
from lewm_ros.planning import PlanningAgent, RecedingHorizonPlanner
from lewm_ros.planning.config import GoalConfig
from lewm_ros.planning.goal import Goal
from lewm_ros.planning.roadmap import (
    LIMITS,
    Recorded,
    Roadmap,
    build,
    extend,
    field_cost,
    time_to_goal,
)
from lewm_ros.robot.contract import Contract
from lewm_ros.time import NS_PER_S

BLOCK, SPEED = 0.25, 1.0


def drive(points: list[tuple[float, float]], seed: int = 0, noise: float = 0.005) -> Recorded:
    """Record a robot that moves along a line at ``SPEED``, seen at 20 Hz: latents (n, 4)."""
    corners = np.array(points)
    lengths = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    along = np.arange(0, lengths.sum(), SPEED / 20)
    distance = np.concatenate([[0], np.cumsum(lengths)])
    place = np.stack([np.interp(along, distance, axis) for axis in corners.T], axis=1)
    place = place + np.random.default_rng(seed).normal(0, noise, place.shape)
    stamps = NS_PER_S + np.arange(len(along)) * (NS_PER_S // 20)
    return stamps, np.pad(place, [(0, 0), (0, 2)]).astype(np.float32)


def spot(x: float, y: float) -> np.ndarray:
    """Latent of a place."""
    return np.array([x, y, 0, 0], dtype=np.float32)


def make(*ways: list[tuple[float, float]], cap: int = 1000, times: int = 3) -> Roadmap:
    """Build a roadmap of routes, each driven several times."""
    return build([drive(way, seed) for way in ways for seed in range(times)], BLOCK, 5, cap)[0]


#: A route around a wall between (0, 0) and (1, 0).
ROUND = [(0.0, 0.0), (0.0, 0.6), (1.0, 0.6), (1.0, 0.0)]


@pytest.fixture(scope='module')
def detour() -> Roadmap:
    """Return the roadmap of a robot that drove around a wall, there and back."""
    return make(ROUND, ROUND[::-1])


def test_times_are_those_of_the_recordings(detour: Roadmap) -> None:
    """The time is the route's length divided by the speed, even where the goal is close by."""
    field = detour.field(spot(1, 0))
    assert field.value(spot(1, 0)) == pytest.approx(0, abs=0.02)
    assert field.value(spot(1, 0.3)) == pytest.approx(0.3, rel=0.2)
    assert field.value(spot(0.5, 0.6)) == pytest.approx(1.1, rel=0.2)
    assert field.value(spot(0, 0)) == pytest.approx(2.2, rel=0.2)
    assert field.locate(spot(0, 0))[1] and field.locate(spot(0.5, 0.6))[1]


def test_edges_have_a_direction() -> None:
    """A route recorded in one direction does not connect its ends in the other."""
    one_way = make([(0, 0), (1, 0)])
    there, back = one_way.field(spot(1, 0)), one_way.field(spot(0, 0))
    assert there.locate(spot(0, 0))[1]
    assert not back.locate(spot(1, 0))[1]
    assert there.value(spot(0, 0)) < 1.3 < 10 < back.value(spot(1, 0))


def test_recordings_join_where_they_meet() -> None:
    """Two episodes that cross give a route that neither of them took."""
    crossing = make([(0, 0), (1, 0)], [(0.5, -0.5), (0.5, 0.5)])
    field = crossing.field(spot(0.5, 0.5))
    assert field.locate(spot(0, 0))[1]
    assert field.value(spot(0, 0)) == pytest.approx(1.0, rel=0.25)


def test_the_path_follows_the_recordings(detour: Roadmap) -> None:
    """Times decrease along the path to the goal, and the path goes around the wall."""
    path = detour.field(spot(1, 0)).path(spot(0, 0))
    times = [seconds for _, seconds in path]
    assert times == sorted(times, reverse=True)
    assert times[-1] < 0.1
    places = detour.nodes[[node for node, _ in path]]
    assert places[:, 1].max() > 0.55
    assert np.abs(places[:, 0] - 0.5).min() < 0.3


def test_what_was_never_seen_is_beyond_the_limit(detour: Roadmap) -> None:
    """A latent off the route exceeds the gap limit; held-out latents on the route do not."""
    _, unseen = drive(ROUND, seed=99)
    assert (detour.gaps(unseen) <= detour.gap_limit).all()
    assert detour.gaps(spot(0.5, 0.2)[None])[0] > detour.gap_limit


def test_a_wide_gap_costs_more_than_a_way_round(detour: Roadmap) -> None:
    """A small gap costs its travel time; a gap of 8 node radii costs over 16 times that of one."""
    narrow, wide = detour.price(detour.radius / 10), detour.price(8 * detour.radius)
    assert narrow == pytest.approx(detour.radius / 10 / detour.speed, rel=0.01)
    assert wide > 16 * detour.price(detour.radius)


def test_a_cap_makes_nodes_wider(caplog) -> None:
    """With a cap, fewer and larger nodes still cover all latents, and a warning says so."""
    fine = make(ROUND)
    assert not caplog.text
    coarse = make(ROUND, cap=10)
    assert 'nodes are few for these recordings: their radius is' in caplog.text
    assert len(fine.nodes) > 20 > 10 >= len(coarse.nodes)
    assert coarse.radius > fine.radius
    _, latents = drive(ROUND)
    assert coarse.gaps(latents).max() <= coarse.radius * 1.0001
    assert coarse.field(spot(1, 0)).value(spot(0, 0)) == pytest.approx(2.2, rel=0.3)


def test_a_limit_is_no_less_than_the_radius_of_a_capped_map_allows() -> None:
    """The map of all episodes may have wider nodes than that without the held-out ones."""
    rng = np.random.default_rng(0)
    walks = [np.cumsum(rng.normal(0, scale, (400, 4)), axis=0) for scale in (0.3, 0.05)]
    episodes = [(NS_PER_S // 20 * np.arange(400), walk.astype(np.float32)) for walk in walks]
    roadmap, _ = build(episodes, 0.25, 5, cap=60)
    assert roadmap.gap_limit >= LIMITS[0] * roadmap.radius
    assert (roadmap.gaps(np.concatenate([z for _, z in episodes])) <= roadmap.gap_limit).all()


def test_added_recordings_connect_what_was_apart() -> None:
    """Existing nodes keep their indices, and the new route is used; too many nodes are refused."""
    before = make([(0, 0), (0.4, 0)], [(0.6, 0), (1, 0)])
    assert not before.field(spot(1, 0)).locate(spot(0, 0))[1]
    bridge = [drive([(0.3, 0), (0.7, 0)], seed) for seed in range(2)]
    after = extend(before, bridge, before.speed, BLOCK, 1000)
    assert np.array_equal(after.nodes[: len(before.nodes)], before.nodes)
    field = after.field(spot(1, 0))
    assert field.locate(spot(0, 0))[1]
    assert field.value(spot(0, 0)) == pytest.approx(1.0, rel=0.25)
    with pytest.raises(
        ModelError, match=rf'has {len(before.nodes)} nodes and would have more than'
    ):
        extend(before, bridge, before.speed, BLOCK, len(before.nodes))


def test_held_out_figures_tell_a_map_that_is_too_small() -> None:
    """Routes that no other episode covers count as 0; one-way routes connect half of the pairs."""
    rng = np.random.default_rng(0)
    same = [drive(ROUND, seed) for seed in range(20)]
    islands = [drive([(10 * i, 0), (10 * i + 1, rng.uniform())]) for i in range(20)]
    good, bad = (build(episodes, BLOCK, 5, 1000)[1] for episodes in (same, islands))
    assert good['covered'] >= 0.99
    assert 0.3 < good['connected'] < 0.7  # about half of the pairs: the route has a direction
    assert bad['covered'] == 0
    lost = build(islands, BLOCK, 5, 1000)[0]
    assert lost.gap_limit <= 4 * lost.radius  # a sparse map does not accept every image
    assert lost.gaps(spot(5, 5)[None])[0] > lost.gap_limit
    assert build(same + [drive(ROUND[::-1], s) for s in range(20)], BLOCK, 5, 999)[1][
        'connected'
    ] == pytest.approx(1)


def test_the_cost_is_the_cheapest_gap_and_the_time_from_there(detour: Roadmap) -> None:
    """The fast formula equals the plain one to rounding, in NumPy and in PyTorch."""
    torch = pytest.importorskip('torch')
    goal = spot(1, 0.1)
    field = detour.field(goal)
    latents = np.random.default_rng(0).uniform(-1, 2, (7, 3, 4)).astype(np.float32)
    gaps = np.linalg.norm(latents[..., None, :] - detour.nodes, axis=-1)
    plain = (detour.price(gaps) + field.times).min(axis=-1)
    plain = np.minimum(plain, detour.price(np.linalg.norm(latents - goal, axis=-1)))
    assert field.value(latents) == pytest.approx(plain, rel=1e-3, abs=1e-3)
    tensors = [torch.from_numpy(array) for array in field.arrays]
    found = time_to_goal(torch.from_numpy(latents), *tensors)
    assert found.numpy() == pytest.approx(plain, rel=1e-3, abs=1e-3)
    weights = np.array([0.5, 2], dtype=np.float32)
    expected = plain[:, 1:] @ weights  # of the last two steps
    assert field_cost(latents, weights, *field.arrays) == pytest.approx(expected, rel=1e-3)
    assert np.isnan(field.value(np.full(4, np.nan)))


def test_points_farther_from_the_goal_than_a_plan_leads_are_left_out(detour: Roadmap) -> None:
    """With part of the map, times up to the bound are unchanged; longer ones stay above it."""
    field = detour.field(spot(1, 0.1))
    rng = np.random.default_rng(0)
    latents = rng.choice(detour.nodes, 200) + rng.normal(0, 0.02, (200, 4)).astype(np.float32)
    all_points = field.value(latents)
    for bound in field.times.max() * np.array([0.2, 0.5, 0.8]):
        part = field.within(bound)
        assert part[3].size == part[2].shape[1] < field.arrays[3].size
        found, near = time_to_goal(latents, *part), all_points <= bound
        assert near.any() and not near.all()
        assert found[near] == pytest.approx(all_points[near], rel=1e-5)
        assert (found[~near] > 0.999 * bound).all()
    assert field.within(-1)[3].size == 1  # the goal itself
    assert field.within(np.inf)[3].size == field.arrays[3].size


def test_recordings_that_make_no_map_are_refused() -> None:
    """A single episode and a robot at rest are refused."""
    with pytest.raises(ModelError, match='at least 2'):
        build([drive(ROUND)], BLOCK, 5, 100)
    still = drive(ROUND)[0], np.zeros((44, 4), np.float32)
    with pytest.raises(ModelError, match='do not change'):
        build([still, still], BLOCK, 5, 100)


# Plans


class Kinematic(PointMass):
    """An exact model without velocity: latent (x, y, 0, 0), commands move it by 0.1 a tick."""

    def rollout(
        self, context: np.ndarray, past: np.ndarray, actions: np.ndarray, exact: bool = True
    ) -> np.ndarray:
        """(H, D), (H − 1, k·A), (S, N, k·A) → (S, N, D)."""
        moves = self.bundle.spec.denormalise_block(actions).reshape(*actions.shape[:2], TICKS, SIZE)
        place = context[-1, :2] + 0.1 * np.cumsum(moves.sum(axis=2), axis=1)
        return np.pad(place, [(0, 0), (0, 0), (0, 2)]).astype(np.float32)


@pytest.fixture
def engine(tmp_path: Path, reacher_contract: Contract) -> Kinematic:
    """Return the engine of a bundle."""
    return Kinematic(point_mass_bundle(tmp_path, reacher_contract))


def reach(
    engine: Kinematic, roadmap: Roadmap | None, goal: np.ndarray, blocks: int = 16
) -> tuple[np.ndarray, list]:
    """Drive from rest, one block late; return the places (n, 4) and the plans."""
    spec = engine.bundle.spec
    planner = RecedingHorizonPlanner(spec, spec.contract, engine, CONFIG, roadmap)
    place, committed, stamp, places, plans = REST, idle(), NS_PER_S, [REST], []
    for _ in range(blocks):
        plans.append(planner.plan(at(place, stamp), committed, goal))
        executed = spec.normalise(committed).reshape(1, 1, -1)
        place = engine.rollout(np.stack([place, place]), np.zeros((1, 10)), executed)[0, 0]
        committed, stamp = plans[-1].actions[:TICKS], stamp + round(BLOCK * NS_PER_S)
        places.append(place)
    return np.array(places), plans


def test_plans_follow_the_recordings_round_a_wall(engine: Kinematic, detour: Roadmap) -> None:
    """The squared distance leads straight through the wall, the roadmap around it."""
    goal = spot(1, 0)
    straight, _ = reach(engine, None, goal)
    assert np.abs(straight[-1] - goal).max() < 0.1
    assert straight[:, 1].max() < 0.3
    round_it, plans = reach(engine, detour, goal)
    assert np.abs(round_it[-1] - goal).max() < 0.1
    assert round_it[:, 1].max() > 0.5
    seconds = [plan.outlook.time_to_goal for plan in plans]
    assert seconds[0] == pytest.approx(2.2, rel=0.2)
    assert seconds[-1] < 0.3
    assert plans[0].outlook.reachable
    assert plans[0].outlook.problem is None
    assert not any(plan.outlook.reachable is False for plan in plans)  # it may leave the map


def test_plans_need_only_the_map_up_to_here(
    engine: Kinematic, detour: Roadmap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of the roadmap, shrinking on the way, gives the same plans as the whole."""
    sizes, costs = [], engine.costs

    def counted(*args: Any) -> np.ndarray:
        sizes.append(len(args[4][-2]))
        return costs(*args)

    monkeypatch.setattr(engine, 'costs', counted)
    found, _ = reach(engine, detour, spot(1, 0), blocks=12)
    assert sizes[0] > 2 * sizes[-1]
    monkeypatch.setattr(engine, 'captures', True)  # one shape for all plans
    expected, _ = reach(engine, detour, spot(1, 0), blocks=12)
    assert sizes[-1] == len(detour.nodes) + 1
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_goal_like_nothing_recorded_is_named(engine: Kinematic, detour: Roadmap) -> None:
    """The first plan reports the goal as unreachable, with the gap and its limit."""
    goal = spot(0.5, 0.2)
    _, plans = reach(engine, detour, goal, blocks=1)
    outlook = plans[0].outlook
    assert outlook.reachable is False
    assert outlook.time_to_goal > 1.0  # a wide gap costs much
    assert 'the goal is unlike anything recorded (gap 0.' in outlook.problem
    assert f'limit {detour.gap_limit:.3g}' in outlook.problem


def test_a_goal_that_recordings_do_not_connect_is_named(engine: Kinematic) -> None:
    """Both ends are recorded, but no route between them."""
    apart = make([(-0.2, 0), (0.2, 0)], [(2, 0), (3, 0)])
    _, plans = reach(engine, apart, spot(2.5, 0), blocks=1)
    assert plans[0].outlook.reachable is False
    assert plans[0].outlook.problem == 'no recorded movements lead from here to the goal'


def test_a_frame_off_the_map_says_nothing_of_the_goal(engine: Kinematic, detour: Roadmap) -> None:
    """Reachability is unknown, the reason names the frame, and the plan ignores the roadmap."""
    spec = engine.bundle.spec
    planner = RecedingHorizonPlanner(spec, spec.contract, engine, CONFIG, detour)
    plan = planner.plan(at(spot(0.5, -3)), idle(), spot(1, 0))
    outlook = plan.outlook
    assert outlook.reachable is None and np.isnan(outlook.time_to_goal)
    planner = RecedingHorizonPlanner(spec, spec.contract, engine, CONFIG)
    alone = planner.plan(at(spot(0.5, -3)), idle(), spot(1, 0))
    assert np.array_equal(plan.actions, alone.actions)  # by the squared distance
    assert 'the newest frame is unlike anything recorded' in outlook.problem


def test_a_frame_just_beyond_the_limit_does_not_change_the_cost(
    engine: Kinematic, detour: Roadmap
) -> None:
    """Hysteresis: a frame is off the map beyond 2 limits, and on it again within 1."""
    spec, limit = engine.bundle.spec, detour.gap_limit
    planner = RecedingHorizonPlanner(spec, spec.contract, engine, CONFIG, detour)
    seen = []
    for number, gaps in enumerate((0.5, 1.8, 2.2, 1.8, 0.5, 1.8)):
        place = spot(0.5, 0.6 + gaps * limit)
        plan = planner.plan(at(place, (1 + number) * NS_PER_S), idle(), spot(1, 0))
        seen.append(plan.outlook.on_map)
    assert seen == [True, True, False, False, True, True]


def test_the_agent_keeps_the_outlook_of_the_goal_that_it_pursues(
    engine: Kinematic, detour: Roadmap
) -> None:
    """An outlook belongs to its goal: it is dropped on timeout and when the goal changes."""
    spec = engine.bundle.spec
    planner = RecedingHorizonPlanner(spec, spec.contract, engine, CONFIG, detour)
    goal = Goal(GoalConfig(goal_timeout_factor=3.0), spec.camera_period)
    agent = PlanningAgent(spec, spec.contract, planner, goal)
    agent.set_goal(spot(1, 0), 1, steady=100.0)
    stamps = NS_PER_S + np.arange(12) * NS_PER_S // 20
    for stamp in stamps.tolist():
        agent.history.append_latent(stamp, spot(0, 0))
        agent.history.append_action(stamp, np.zeros(SIZE))
        agent.observe(stamp, spot(0, 0), 100.0)
    request = agent.prepare(int(stamps[-1]))
    plan = agent.search(request, live=False)
    assert agent.outlook is None
    assert agent.commit(plan, request, int(stamps[-1]), steady=120.0)
    assert agent.outlook is plan.outlook
    assert goal.forecast == plan.outlook.time_to_goal == pytest.approx(2.2, rel=0.2)
    assert not goal.expire(120.0 + 2.9 * goal.forecast)  # from the forecast on, not the goal
    assert goal.expire(120.0 + 3.1 * goal.forecast)
    assert agent.outlook is None  # given up
    agent.set_goal(spot(0, 0.3), 2, steady=200.0)
    assert agent.outlook is None and np.isnan(goal.forecast)
    assert agent.commit(plan, request, int(stamps[-1]), steady=201.0)  # of the goal before
    assert agent.outlook is None and np.isnan(goal.forecast)


# In a bundle


def store(bundle: Bundle, roadmap: Roadmap) -> Bundle:
    """Put a roadmap into a bundle."""
    return write_roadmap(bundle, roadmap, frames=100, covered=1.0, connected=0.5, data=('1' * 64,))


def forge(path: Path, **entry: str) -> Bundle:
    """Change the entry of a roadmap in the manifest, as a hostile writer would."""
    manifest = path / MANIFEST
    data = json.loads(manifest.read_text())
    data['roadmap'] |= entry
    manifest.write_text(json.dumps(data))
    return Bundle.load(path)


@pytest.fixture
def bundle(tmp_path: Path, reacher_contract: Contract) -> Bundle:
    """Return a bundle with latents of size 4."""
    return point_mass_bundle(tmp_path, reacher_contract)


def test_a_bundle_keeps_its_roadmap_and_its_hash(bundle: Bundle, detour: Roadmap) -> None:
    """It reads back equal and is written deterministically; card and model hash are unchanged."""
    assert read_roadmap(bundle) is None
    (bundle.path / CARD).write_text('of an arm')
    written = store(bundle, detour)
    assert written.hash == bundle.hash
    first = written.read(ROADMAP)
    found = read_roadmap(Bundle.load(bundle.path))
    assert found is not None
    assert found.nodes == pytest.approx(detour.nodes, abs=1e-3)
    for name in ('edges', 'seconds'):
        assert np.array_equal(getattr(found, name), getattr(detour, name))
    assert (found.radius, found.speed) == (detour.radius, detour.speed)
    again = store(written, detour)
    assert again.read(ROADMAP) == first
    assert (again.path / CARD).read_text() == 'of an arm'


def test_the_roadmap_of_another_model_is_refused_by_name(bundle: Bundle, detour: Roadmap) -> None:
    """A retrained model has other latents, so an old roadmap is refused."""
    store(bundle, detour)
    with pytest.raises(ModelError, match=r'roadmap.npz is of model aaaaaaaaaaaa, .* `lewm roadmap'):
        read_roadmap(forge(bundle.path, model_hash='a' * 64))


def test_a_changed_roadmap_is_refused(bundle: Bundle, detour: Roadmap) -> None:
    """A wrong hash and a missing file are refused; rewriting the manifest keeps the roadmap."""
    written = store(bundle, detour)
    whole = written.read(ROADMAP)
    (bundle.path / ROADMAP).write_bytes(whole[:-1] + b'?')
    with pytest.raises(ModelError, match=r'roadmap.npz has SHA-256'):
        Bundle.load(bundle.path)
    (bundle.path / ROADMAP).unlink()
    with pytest.raises(ModelError, match=r'roadmap.npz is missing'):
        Bundle.load(bundle.path)
    (bundle.path / ROADMAP).write_bytes(whole)
    rewritten = rewrite_manifest(bundle.path, replace(written.manifest, provenance={'a': 1}))
    assert read_roadmap(rewritten) is not None
    stale = replace(written.manifest, roadmap=None)  # as read before the roadmap was added
    assert read_roadmap(rewrite_manifest(bundle.path, stale)) is not None


@pytest.mark.parametrize(
    ('arrays', 'reason'),
    [
        ({'nodes': np.array([{}], dtype=object)}, 'Object arrays cannot be loaded'),
        ({'nodes': np.zeros((3, 4))}, 'nodes are float64, expected float16'),
        ({'nodes': np.zeros((3, 5), np.float16)}, 'nodes have 5 numbers'),
        ({'nodes': np.full((3, 4), np.nan, np.float16)}, 'expected finite'),
        ({'edges': np.array([[0, 9]], np.int32)}, 'not within its 3 nodes'),
        ({'seconds': np.zeros(1, np.float32)}, 'above 0'),
        ({'seconds': np.ones(2, np.float32)}, r'expected \(E, 2\) and \(E,\)'),
        ({'seconds': None}, "'seconds"),
    ],
)
def test_a_roadmap_that_cannot_be_is_refused(
    bundle: Bundle, detour: Roadmap, arrays: dict, reason: str
) -> None:
    """Wrong dtypes, sizes and values, and pickled objects, are refused despite a valid hash."""
    good = {
        'nodes': np.zeros((3, 4), np.float16),
        'edges': np.array([[0, 1]], np.int32),
        'seconds': np.ones(1, np.float32),
    }
    store(bundle, detour)
    file = io.BytesIO()
    np.savez(file, **{k: v for k, v in (good | arrays).items() if v is not None})
    (bundle.path / ROADMAP).write_bytes(file.getvalue())
    digest = hashlib.sha256(file.getvalue()).hexdigest()
    with pytest.raises(ModelError, match=reason):
        read_roadmap(forge(bundle.path, sha256=digest))


def test_new_graphs_drop_the_map(tiny_bundle: Bundle, tmp_path: Path, capsys) -> None:
    """New graphs are another model; `lewm export` says to rebuild the roadmap."""
    path = tmp_path / 'tiny'
    shutil.copytree(tiny_bundle.path, path)
    nodes = np.zeros((1, tiny_bundle.manifest.latent_size), np.float32)
    lone = Roadmap(nodes, np.empty((0, 2), np.int32), np.empty(0, np.float32), 1, 1, 1)
    store(Bundle.load(path), lone)
    assert cli.main(['export', str(path), '--horizon', '2']) == 0
    assert 'run `lewm roadmap` again' in capsys.readouterr().out
    assert not (path / ROADMAP).exists()
    assert Bundle.load(path).manifest.roadmap is None


def test_bundles_without_a_map_say_nothing_of_one(bundle: Bundle) -> None:
    """The manifest has no roadmap key, as in bundles from before roadmaps."""
    assert 'roadmap' not in json.loads((bundle.path / MANIFEST).read_text())
    assert Bundle.load(bundle.path).manifest.roadmap is None


def test_a_model_that_was_replaced_meanwhile_gets_no_map(
    bundle: Bundle, detour: Roadmap, reacher_contract: Contract
) -> None:
    """Encoding takes minutes: a calibration written meanwhile is kept, a new model is an error."""
    calibration = Calibration(0.05, 50.0, 10.0, 200, 'planner', bundle.hash)
    rewrite_manifest(bundle.path, replace(bundle.manifest, calibration=(calibration,)))
    assert store(bundle, detour).manifest.calibration
    other = replace(bundle.manifest, action_mean=(0.3, 0.3))
    write_bundle(bundle.path, other, NO_NETWORK)
    with pytest.raises(ModelError, match='was replaced by model'):
        store(bundle, detour)
