# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm evaluate`: success or surprise (--voe) in simulation; verdict and probes on bags."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
import json
from pathlib import Path
from typing import Any

import numpy as np

from lewm_ros.api import planner_config, require_calibration
from lewm_ros.bags.episodes import ReadReport
from lewm_ros.bundle import Bundle
from lewm_ros.cli.bags import add_bags, add_contract, bundle_for_bags
from lewm_ros.engines import ENGINES, PRECISIONS, Engine, EngineConfig, load_engine
from lewm_ros.errors import ConfigError
from lewm_ros.evaluation import voe
from lewm_ros.evaluation.closed_loop import GOAL_SECONDS
from lewm_ros.evaluation.evaluate import evaluate
from lewm_ros.evaluation.false_alarms import false_alarms
from lewm_ros.evaluation.held_out import AHEAD
from lewm_ros.evaluation.offsets_figure import draw as draw_offsets
from lewm_ros.evaluation.planability import Recordings, examine
from lewm_ros.evaluation.probe import probe_bags
from lewm_ros.evaluation.recorded import draw_pairs, lead_of, read_recorded
from lewm_ros.evaluation.report import prepare_report
from lewm_ros.evaluation.verdict import describe, judge
from lewm_ros.evaluation.verdict_figure import draw as draw_verdict
from lewm_ros.evaluation.voe_figure import draw, draw_expected
from lewm_ros.install import missing_package
from lewm_ros.planning import PlannerConfig
from lewm_ros.robot.settings import help_of
from lewm_ros.sim import EXTRA_TASKS, NAMES, TASKS, Task, find_task, make_task
from lewm_ros.sim.collect import image_size
from lewm_ros.sim.perturbations import PERTURBATIONS
from lewm_ros.surprise.config import SurpriseConfig
from lewm_ros.view.imagination import Imagination

#: Evaluation kinds to which an option applies, and its default.
OPTIONS: dict[str, tuple[tuple[str, ...], Any]] = {
    'goals': (('goals', 'episodes'), 40),
    'seconds': (('goals',), GOAL_SECONDS),
    'far': (('goals',), None),
    'no_roadmap': (('goals', 'episodes'), False),
    'offset': (('episodes',), [25]),
    'budget': (('episodes',), None),
    'cross': (('episodes',), False),
    'trials': (('voe',), 40),
    'kinds': (('voe',), list(PERTURBATIONS)),
    'alpha': (('voe',), SurpriseConfig.alpha),
    'horizon': (('voe',), SurpriseConfig.horizon),
    'contract': (('data', 'probe'), None),
    'figure': (('voe', 'data', 'episodes'), None),
    'task': (('goals', 'voe', 'episodes'), None),
    'image_size': (('goals', 'voe', 'episodes'), None),
    'preset': (('goals', 'voe', 'episodes', 'data'), 'live'),
    'precision': (('goals', 'voe', 'episodes', 'data'), EngineConfig.precision),
    'seed': (('goals', 'voe', 'episodes'), 1000),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.description = (
        'Evaluate a bundle. In simulation: how many goals it reaches, random ones or those of '
        'recorded episodes (--episodes BAG), and which perturbations it detects (--voe). Without '
        'a simulator: whether it is ready for its robot (--data HELD_OUT_BAG), or how well its '
        'latents encode the state and how straight their paths are (--probe BAG).'
    )
    parser.add_argument('bundle', help='bundle folder or name')
    parser.add_argument(
        '--task',
        help=f"simulated task: {NAMES} (default: named like the bundle's contract)",
    )
    parser.add_argument('--goals', type=int, help='goals (default 40)')
    parser.add_argument('--seconds', type=float, help='for each [s] (default 6)')
    parser.add_argument(
        '--far',
        type=float,
        help="largest initial distance to a goal, in the task's unit; inf: any goal (default: "
        'within the reach of a plan)',
    )
    parser.add_argument(
        '--no-roadmap',
        action='store_true',
        default=None,
        help='plan by the distance to the goal alone, for comparison',
    )
    parser.add_argument(
        '--image-size',
        type=image_size,
        metavar='PX',
        help="of the simulated camera, such as 640x480 (default: the bundle's)",
    )
    parser.add_argument('--preset', help='planner preset (default live)')
    parser.add_argument(
        '--engine',
        choices=ENGINES,
        default=EngineConfig.engine,
        help=help_of(EngineConfig, 'engine'),
    )
    parser.add_argument(
        '--precision',
        choices=PRECISIONS,
        help=help_of(EngineConfig, 'precision'),
    )
    parser.add_argument('--seed', type=int, help='of goals and search (default 1000)')
    add_bags(
        parser,
        'held-out bags to check the bundle on: whether it is ready, and what to change; with '
        '--voe: bags not used for calibration, to count false alarms on',
        required=False,
    )
    probed = 'bags to fit probes of the state on, a linear one and a network'
    add_bags(parser, probed, '--probe', required=False)
    add_contract(parser)
    parser.add_argument(
        '--figure',
        type=Path,
        metavar='FILE.png',
        help='plot the metrics of the verdict; with --voe: surprise over time around the events; '
        'with --episodes: success against the offset',
    )
    parser.add_argument('--json', action='store_true', help='metrics as JSON on standard output')
    group = parser.add_argument_group(
        'with --episodes',
        'The protocol of the paper. An episode starts in a recorded state; its goal is the state '
        "of the same recording some control steps later. The planner's history is the recording "
        'up to the start. Pairs whose start is already at the goal, and episodes that the bundle '
        'was trained on, are left out.',
    )
    add_bags(group, 'held-out bags of the task', '--episodes', required=False)
    group.add_argument(
        '--offset',
        nargs='+',
        type=int,
        metavar='STEPS',
        help='from start to goal [control steps], a row of the table for each (default 25)',
    )
    group.add_argument(
        '--budget',
        type=int,
        metavar='STEPS',
        help='for each goal [control steps] (default: twice the offset)',
    )
    group.add_argument(
        '--cross',
        action='store_true',
        default=None,
        help='add a row with goals from other episodes (default budget: twice the largest offset)',
    )
    group = parser.add_argument_group(
        'with --voe',
        'Each trial runs an episode without an event and, for each kind, one that is identical up '
        'to the event. An event is detected if an alarm begins within '
        f'{voe.ABRUPT:g} s ({voe.SLOW:g} s for drift) of the first frame that can show it. AUROC '
        'compares the highest scores in that time. Balanced accuracy is the mean of two shares: '
        'abrupt physical events (teleport, push) detected, and normal trials without an alarm in '
        f'{voe.ABRUPT:g} s.',
    )
    group.add_argument(
        '--voe', action='store_true', help='violation of expectation: what surprises the model'
    )
    group.add_argument('--trials', type=int, help='of each kind (default 40)')
    group.add_argument('--kinds', nargs='+', choices=PERTURBATIONS, help='(default: all)')
    group.add_argument('--alpha', type=float, help=help_of(SurpriseConfig, 'alpha'))
    group.add_argument('--horizon', type=int, help=help_of(SurpriseConfig, 'horizon'))


def run(args: argparse.Namespace) -> int:
    """Measure success, surprise (--voe), or a bundle on bags (--data, --probe)."""
    kind = _choose_options(args)
    if kind == 'goals' and (args.goals < 1 or not 0 < args.seconds < float('inf')):
        raise ConfigError(
            f'--goals is {args.goals}, --seconds {args.seconds}: expected finite, more than 0'
        )
    if kind == 'episodes':
        for name in ('goals', 'offset', 'budget'):
            value = getattr(args, name)
            if value is not None and np.min(value) < 1:
                raise ConfigError(f'--{name} is {value}: expected more than 0')
    bundle = bundle_for_bags(args)
    if args.figure is not None:  # checked before the evaluation, which takes minutes
        prepare_report(args.figure.parent)
        if args.figure.is_dir():
            raise ConfigError(
                f'--figure {args.figure} is a folder: expected a file, such as voe.png'
            )
    if kind == 'data':
        return _verdict(args, bundle)
    if kind == 'probe':
        return _probe(args, bundle)
    name = args.task or bundle.contract.name
    if not args.task and name not in TASKS | EXTRA_TASKS:
        raise ConfigError(
            f'no task has the name of contract {name} of bundle {bundle.path}: give --data '
            'HELD_OUT_BAG, which needs no simulator, or the task of this robot with --task, one '
            f'of {NAMES}'
        )
    robot = find_task(name).robot()
    try:  # the simulated camera is that of --image-size
        replace(robot, camera=bundle.contract.camera).check_against_bundle(bundle.contract)
    except ConfigError as error:
        raise ConfigError(f'task {name} is of another robot: {error}') from error
    config = planner_config(args.preset, args.seed)
    size = args.image_size or bundle.manifest.image_size
    with closing(make_task(name, size, args.seed)) as task:
        measure = {'goals': _goals, 'episodes': _episodes, 'voe': _surprise}[kind]
        return measure(args, bundle, task, config)


def _verdict(args: argparse.Namespace, bundle: Bundle) -> int:
    """Print whether the bundle is ready, by bags that it was not trained on."""
    config = planner_config(args.preset, 0)
    blocks = min(max(AHEAD, config.rollout_blocks(bundle.spec)), bundle.spec.horizon)
    engine = load_engine(bundle, args.engine, precision=args.precision, horizon=blocks)
    report = ReadReport()
    recordings = Recordings.of_bags(bundle, engine, args.data, report)
    verdict = judge(examine(bundle, engine, recordings, config, report))
    print(json.dumps(verdict.to_dict()) if args.json else describe(verdict))
    if args.figure is not None:
        draw_verdict(args.figure, verdict.figures)
    return 0


def _probe(args: argparse.Namespace, bundle: Bundle) -> int:
    """Print how much of the state latents hold."""
    found = probe_bags(bundle, load_engine(bundle, args.engine), args.probe)
    if args.json:
        print(json.dumps(found))
        return 0
    for name, r2 in found['probe_r2'].items():
        for probe, text in (('linear', 'linear'), ('mlp', 'network')):
            if probe in r2:
                print(
                    f'{name}, {text}: R² {r2[probe]:.3f}, of sine and cosine '
                    f'{r2[f"{probe}_sin_cos"]:.3f}'
                )
    if not find_spec('torch'):
        print(f'no probe by a network: {missing_package("torch")}')
    print(
        f'straightness {found["straightness"]:.2f}, effective rank '
        f'{found["effective_rank"]:.1f} of {bundle.spec.latent_size}'
    )
    return 0


def _goals(args: argparse.Namespace, bundle: Bundle, task: Task, config: PlannerConfig) -> int:
    """Measure and print success."""
    engine, config = _planning(args, bundle, config)
    results = evaluate(bundle, task, engine, config, args.goals, args.seconds, args.seed, args.far)
    if args.json:
        print(json.dumps(results))
        return 0
    for name in ('planner', 'random'):
        r = results[name]
        print(
            f'{name}: {r["successes"]}/{r["episodes"]} reached '
            f'(95 % interval {r["success_low"]:.2f} to {r["success_high"]:.2f}), '
            f'{r["within_at_end"]} still there after {args.seconds:g} s, '
            f'median final error {r["final_error_median"]:.3f} {r["unit"]}'
        )
        if f := r['forecast']:
            print(
                f'  mean time to goal over {f["goals"]} goals: {f["predicted_mean"]:.2f} s by the '
                f'roadmap, {f["true_mean"]:.2f} s true, correlation {f["correlation"]:.2f} '
                f'({f["countdown"]:.2f} over all {f["plans"]} plans on the way)'
            )
    return 0


def _planning(
    args: argparse.Namespace, bundle: Bundle, config: PlannerConfig
) -> tuple[Engine, PlannerConfig]:
    """Load the engine for a planner, with or without the roadmap."""
    blocks = config.rollout_blocks(bundle.spec)
    if args.no_roadmap:
        config = replace(config, roadmap=False)
    return load_engine(bundle, args.engine, precision=args.precision, horizon=blocks), config


def _episodes(args: argparse.Namespace, bundle: Bundle, task: Task, config: PlannerConfig) -> int:
    """Measure success on starts and goals of recorded episodes; print a row for each offset."""
    engine, config = _planning(args, bundle, config)
    period, seed = bundle.contract.period, args.seed
    recorded = read_recorded(bundle, args.episodes, task)
    offsets: list[int | None] = [*args.offset, *([None] if args.cross else [])]
    rows: list[dict[str, Any]] = []
    drawn = []
    for offset in offsets:  # all before the first is measured, which takes minutes
        seconds = None if offset is None else offset * period
        drawn.append(draw_pairs(recorded, task, seconds, lead_of(bundle), args.goals, seed))
    if not args.json:
        print(
            'offset and budget in control steps; left out: pairs whose start is at the goal; plan: '
            'median time from a frame to its plan'
        )
        print('offset  budget   reached  95 % interval  mean time   random  left out    plan')
    for offset, (pairs, solved) in zip(offsets, drawn):
        budget = args.budget or 2 * (offset or max(args.offset))
        measured = evaluate(
            bundle, task, engine, config, args.goals, budget * period, seed, pairs=pairs
        )
        rows.append({'offset': offset, 'budget': budget, 'solved_at_start': solved, **measured})
        if args.json:
            continue
        planner, random = measured['planner'], measured['random']
        time, plan = planner['seconds_mean'], planner['plan_median']
        print(
            f'{offset or "cross":>6}  {budget:>6}  {_of(planner):>8}  '
            f'{planner["success_low"]:.2f} to {planner["success_high"]:.2f}   '
            f'{"-" if time is None else f"{time:.2f} s":>9}  {_of(random):>7}  {solved:>8}  '
            f'{"-" if plan is None else f"{1e3 * plan:.0f} ms":>6}',
            flush=True,
        )
    if args.json:
        print(json.dumps({'offsets': rows}))
    if args.figure is not None:
        draw_offsets(args.figure, rows, f'{bundle.manifest.name}, n = {args.goals}')
    return 0


def _of(result: dict[str, Any]) -> str:
    return f'{result["successes"]}/{result["episodes"]}'


def _surprise(args: argparse.Namespace, bundle: Bundle, task: Task, config: PlannerConfig) -> int:
    """Run the trials and print what was detected."""
    if args.trials < 1:
        raise ConfigError(f'--trials is {args.trials}: expected more than 0')
    calibration = require_calibration(bundle, args.alpha, args.horizon)
    blocks = max(config.rollout_blocks(bundle.spec), args.horizon)
    engine = load_engine(bundle, args.engine, precision=args.precision, horizon=blocks)
    alarms = false_alarms(bundle, engine, args.data, args.horizon) if args.data else {}
    protocol = voe.Trials(bundle, task, engine, config, calibration)
    normal, trials = voe.run_trials(
        protocol, list(dict.fromkeys(args.kinds)), args.trials, args.seed
    )
    figures = voe.summarise(normal, trials, calibration, args.seed) | {'false_alarms': alarms}
    if args.json:
        print(json.dumps(figures))
    else:
        voe.print_figures(figures)
    if args.figure is not None:
        period = bundle.manifest.camera_period
        draw(args.figure, trials, normal, calibration.threshold, period)
        if bundle.manifest.decoder is not None:
            beside = args.figure.with_stem(args.figure.stem + '_expected')
            draw_expected(beside, trials, Imagination(bundle))
    return 0


def _choose_options(args: argparse.Namespace) -> str:
    """Return the kind of evaluation; refuse options of others, and set the defaults of this."""
    given = [name for name in ('voe', 'episodes', 'probe', 'data') if getattr(args, name)]
    if len(given) > 1 and given != ['voe', 'data']:
        raise ConfigError(f'--{given[0]} and --{given[1]} exclude each other')
    kind = given[0] if given else 'goals'
    for name, (kinds, default) in OPTIONS.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
        elif kind not in kinds:
            need = ' or '.join(f'--{k}' for k in kinds if k != 'goals')
            where = f'without --{kind}' if 'goals' in kinds else f'with {need}'
            raise ConfigError(
                f'--{name.replace("_", "-")} only has a meaning {where}: leave it out'
            )
    return kind
