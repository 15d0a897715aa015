# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm evaluate`: success, probes and surprise (--voe) of a bundle in simulation."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import replace
import json
from pathlib import Path

from lewm_ros.api import planner_config, require_calibration
from lewm_ros.bundle import Bundle
from lewm_ros.engines import ENGINES, PRECISIONS, EngineConfig, load_engine
from lewm_ros.errors import ConfigError
from lewm_ros.evaluation import voe
from lewm_ros.evaluation.closed_loop import GOAL_SECONDS
from lewm_ros.evaluation.evaluate import evaluate
from lewm_ros.evaluation.false_alarms import false_alarms
from lewm_ros.evaluation.probe import probe_bags
from lewm_ros.evaluation.voe_figure import draw, draw_expected
from lewm_ros.files import find
from lewm_ros.planning import PlannerConfig
from lewm_ros.robot.settings import help_of
from lewm_ros.sim import TASKS, Task, make_task
from lewm_ros.sim.collect import image_size
from lewm_ros.sim.perturbations import PERTURBATIONS
from lewm_ros.surprise.config import SurpriseConfig
from lewm_ros.view.imagination import Imagination

#: Options that have no meaning with --voe, and their defaults.
GOALS_ONLY = {'goals': 40, 'seconds': GOAL_SECONDS, 'far': None, 'no_roadmap': False}
#: Options that only --voe has, and their defaults.
VOE_ONLY = {
    'trials': 40,
    'kinds': list(PERTURBATIONS),
    'alpha': SurpriseConfig.alpha,
    'horizon': SurpriseConfig.horizon,
    'figure': None,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument('bundle', help='bundle folder or name')
    parser.add_argument(
        '--task', choices=TASKS, help="simulated task (default: named like the bundle's contract)"
    )
    parser.add_argument('--goals', type=int, help='goals (default 40)')
    parser.add_argument('--seconds', type=float, help='for each [s] (default 6)')
    parser.add_argument(
        '--far',
        type=float,
        help="largest error at the start, in the task's unit; inf: any goal (default: within a "
        "plan's reach)",
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
    parser.add_argument('--preset', help="planner preset (default: the task's)")
    parser.add_argument(
        '--engine',
        choices=ENGINES,
        default=EngineConfig.engine,
        help=help_of(EngineConfig, 'engine'),
    )
    parser.add_argument(
        '--precision',
        choices=PRECISIONS,
        default=EngineConfig.precision,
        help=help_of(EngineConfig, 'precision'),
    )
    parser.add_argument('--seed', type=int, default=1000)
    parser.add_argument(
        '--data',
        nargs='+',
        type=Path,
        metavar='BAG',
        help='bags to fit linear probes on; with --voe: to count false alarms in, none of them '
        'part of the calibration',
    )
    parser.add_argument('--json', action='store_true', help='figures as JSON on standard output')
    group = parser.add_argument_group(
        'with --voe',
        'Each trial is an episode without an event, and for each kind one that is equal up to the '
        f'event. An alarm must begin within {voe.ABRUPT:g} s of the first frame that can show it '
        f'({voe.SLOW:g} s for drift). AUROC is of the highest scores in that time; balanced '
        'accuracy is the mean of the share of abrupt physical events (teleport, push) detected '
        'and of the '
        f'share of normal trials without an alarm in {voe.ABRUPT:g} s.',
    )
    group.add_argument(
        '--voe', action='store_true', help='violation of expectation: what surprises the model'
    )
    group.add_argument('--trials', type=int, help='of each kind (default 40)')
    group.add_argument('--kinds', nargs='+', choices=PERTURBATIONS, help='(default: all)')
    group.add_argument('--alpha', type=float, help=help_of(SurpriseConfig, 'alpha'))
    group.add_argument('--horizon', type=int, help=help_of(SurpriseConfig, 'horizon'))
    group.add_argument(
        '--figure',
        type=Path,
        metavar='FILE.png',
        help='draw surprise over time around the events and, where the bundle has a decoder, what '
        'was expected and seen at one of each kind, into FILE_expected.png',
    )


def run(args: argparse.Namespace) -> int:
    """Measure success, or surprise (--voe)."""
    _choose_options(args)
    if not args.voe and (args.goals < 1 or not args.seconds > 0):
        raise ConfigError(
            f'--goals is {args.goals}, --seconds {args.seconds}: expected more than 0'
        )
    bundle = Bundle.load(find('bundle', args.bundle))
    name = args.task or bundle.contract.name
    if name not in TASKS:
        raise ConfigError(
            f'contract {name} of bundle {bundle.path} is named like no task: give --task, one of '
            f'{list(TASKS)}'
        )
    config = planner_config(args.preset or TASKS[name].preset, args.seed)
    size = args.image_size or bundle.manifest.image_size
    with closing(make_task(name, size, args.seed)) as task:
        measure = _surprise if args.voe else _goals
        return measure(args, bundle, task, config)


def _goals(args: argparse.Namespace, bundle: Bundle, task: Task, config: PlannerConfig) -> int:
    """Measure and print success, and probes where there is data for them."""
    blocks = config.rollout_blocks(bundle.spec)
    if args.no_roadmap:
        config = replace(config, roadmap=False)
    engine = load_engine(bundle, args.engine, precision=args.precision, horizon=blocks)
    results = evaluate(bundle, task, engine, config, args.goals, args.seconds, args.seed, args.far)
    if args.data:
        results['probe_r2'] = probe_bags(bundle, engine, args.data)
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
                f'  time to the goal by the roadmap: {f["predicted_mean"]:.2f} s, true '
                f'{f["true_mean"]:.2f} s in the mean of {f["goals"]}, correlation '
                f'{f["correlation"]:.2f}'
            )
    for name, r2 in results.get('probe_r2', {}).items():
        print(f'probe {name}: R² {r2["linear"]:.3f}, of sine and cosine {r2["sin_cos"]:.3f}')
    return 0


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


def _choose_options(args: argparse.Namespace) -> None:
    """Refuse options of the other kind of evaluation, and set the defaults of this one."""
    ours, others = (VOE_ONLY, GOALS_ONLY) if args.voe else (GOALS_ONLY, VOE_ONLY)
    for name in others:
        if getattr(args, name) is not None:
            where = 'without' if args.voe else 'with'
            raise ConfigError(f'--{name} only has a meaning {where} --voe: leave it out')
    for name, default in ours.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
