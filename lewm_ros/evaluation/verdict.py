# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Is a bundle ready for its robot, or what has to be changed?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lewm_ros.evaluation.planability import SATURATED, Dimension, Planability

#: A dimension shows in the latents if its effect exceeds the model's error by the first factor, and
#: the squared error with swapped commands exceeds that with its own by the second one. Measured:
#: 1.7 and 4.1 or more in dimensions that reach their goals (reacher, push, cart, joints 1 and 2 of
#: a planar arm), 0.97 and 2.6 at most in one that cannot (joint 3), 0.36 and 1.3 with commands
#: 0.4 s off.
EFFECT, RATIO = 1.2, 3.0
#: Precision of a command dimension relative to how far its commands vary: 0.02 to 0.23 in
#: dimensions that reach their goals, 0.97 and more in four that do not.
UNPLACED = 0.5
#: Squared error one block ahead over that of copying: 0.02 to 0.2 in models that plan, 0.7 and 0.8
#: in those of shuffled commands and of commands 0.4 s off.
COPYING = 0.5
#: Squared error one block ahead over that of training (reacher): 1.3 on fresh recordings, 19 at
#: 80% of the light.
DIFFERS = 5.0
#: Spearman of distance and roadmap time near a goal: 0.76 to 0.94 in models that plan by the
#: distance alone, 0.27 to 0.5 in one that only does with a roadmap.
ORDER = 0.6
#: Share of blocks whose distance has saturated: 0.00 in the former, 0.31 and 0.38 in others.
SATURATES = 0.1
#: Least shares of the frames that are on the roadmap, and of their pairs that it connects: 0.9 and
#: 0.86 or more in the shipped bundles. No plan bridges the gaps of one that covers less.
COVERED, CONNECTED = 0.8, 0.5
#: Difference of the state at the nearest latent, share of that by chance: 0.16 or less where a
#: position shows, 0.6 for joint 3.
HIDDEN = 0.5
#: Least standard deviation of a command, share of its range.
VARIES = 0.01
#: Longest delay beyond the contract's [blocks]: 0.00 to 0.37 where it is right, up to 0.5 for an
#: inert robot whose motion is told from images alone.
DELAY = 0.8
#: Largest share of frames at which no window starts because frames or commands are missing, and
#: largest ratio of the camera's period to that in training.
LOST, SLOWER = 0.2, 1.2


@dataclass(frozen=True)
class Verdict:
    """Problems to fix, and remarks. The bundle is ready if there are no problems."""

    figures: Planability
    problems: list[str]
    warnings: list[str]

    @property
    def ready(self) -> bool:
        """Whether nothing has to be changed."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        words = {'ready': self.ready, 'problems': self.problems, 'warnings': self.warnings}
        return words | asdict(self.figures)


def judge(found: Planability) -> Verdict:
    """Compare the figures with thresholds from bundles that can plan and bundles that cannot."""
    problems, warnings = [], []
    if found.delay is not None and abs(found.delay) > DELAY * found.block:
        problems.append(
            f'commands act {abs(found.delay):.2f} s {"later" if found.delay > 0 else "earlier"} '
            'than the contract says: correct action.delay (for commands that have stamps, set '
            'action.stamp: log too) or the clocks, and train again'
        )
    problems += _model(found)
    if found.roadmap and (found.covered or 0) < COVERED:
        problems.append(
            f'only {found.covered:.0%} of the frames are on the roadmap: camera, light or scene '
            'are not those of the training recordings, or these were too few; put the camera back, '
            'or record more, train and build the roadmap anew'
        )
    elif found.roadmap and (found.connected or 0) < CONNECTED:
        problems.append(
            f'the roadmap connects only {found.connected:.0%} of the pairs of frames: record '
            'longer episodes that pass through common states, then `lewm roadmap --add`'
        )
    reach = f'{found.reach:.1f} blocks ({found.reach * found.block:.2f} s)'
    if found.order is not None and found.order < ORDER:
        text = (
            f'the latent distance does not order frames near a goal (Spearman {found.order:.2f}), '
            f'it saturates after {reach}: '
        )
        if found.roadmap:
            warnings.append(text + 'plan with the roadmap')
        else:
            problems.append(text + 'add a roadmap with `lewm roadmap BUNDLE --data BAG...`')
    elif found.saturated > SATURATES:
        warnings.append(f'the latent distance saturates after {reach}: plan with the roadmap')
    return Verdict(found, problems, warnings + _remarks(found))


def _model(found: Planability) -> list[str]:
    """Problems of predictions and commands."""
    error = found.prediction[0]
    if found.trained is not None and error > DIFFERS * found.trained:
        return [
            f'these frames are out of distribution (squared error one block ahead {error:.3g}, in '
            f'training {found.trained:.3g}): camera, light, scene or clocks are not those of the '
            'training recordings; put the camera back, or record and train anew'
        ]
    problems, share = [], error / max(found.copying[0], 1e-12)
    still = [d for d in found.actions if d.deviation < VARIES]
    moving = [d for d in found.actions if d not in still]
    hidden = [d for d in moving if not shows(d)]
    for d in still:
        problems.append(
            f'command {d.name} hardly varies in these recordings (standard deviation '
            f'{d.deviation:.2%} of its range): record it moving, or fix it (action.fixed)'
        )
    if hidden and len(hidden) == len(moving) and (len(hidden) > 1 or share > COPYING):
        effects = ', '.join(f'{d.name} {d.effect:.2f}' for d in hidden)
        problems.append(
            f'no command shows in the latents (effect / error {effects}; squared error {share:.2f} '
            'of that of copying the last latent): commands and frames do not belong together '
            '(topic, delay or clock: `lewm inspect`), or the model needs more steps'
        )
        return problems
    for d in hidden:
        precise = '' if d.precision is None else f', precision {d.precision:.2g} {d.unit}'
        how, why = '', 'it moves the image too little'
        if d.effect >= EFFECT and not _placed(d):
            why = 'its position is hardly visible in the image'
            precise += f', {d.share:.0%} of the variation of its commands'
            if d.like:
                how, why = f' apart from {d.like}', 'the two motions look alike in the image'
                precise += f', {d.alone:.2g} if {d.like} were known'
        problems.append(
            f'{d.name} does not show in the latents{how} (effect / error {d.effect:.2f}{precise}): '
            f'{why}, so it cannot be positioned; crop or move the camera, or fix it '
            '(action.fixed)'
        )
    if share > COPYING:
        problems.append(
            f'predictions are hardly better than copying the last latent ({share:.2f} of its '
            'squared error one block ahead): train for more steps; if that does not help, commands '
            'do not explain the motion (topic, delay or clock: `lewm inspect`)'
        )
    return problems


def shows(dimension: Dimension) -> bool:
    """Whether commands of a dimension show in the latents, so that it will be placed."""
    return dimension.effect >= EFFECT and dimension.ratio >= RATIO and _placed(dimension)


def _placed(dimension: Dimension) -> bool:
    return dimension.share is None or dimension.share < UNPLACED


def _remarks(found: Planability) -> list[str]:
    """Remarks: what does not prevent a robot from moving."""
    remarks = []
    if not found.roadmap and (found.order is None or found.order >= ORDER):
        remarks.append(
            f'no roadmap: goals farther than {found.reach * found.block:.1f} s are out of reach; '
            '`lewm roadmap BUNDLE --data BAG...`'
        )
    remarks += [
        f'state {s.name} is hardly encoded in the latents (error {s.error:.2g} at the nearest '
        f'latent, {s.chance:.2g} by chance): do not expect it to be positioned; crop or move the '
        'camera'
        for s in found.states
        if s.error > HIDDEN * s.chance
    ]
    lost = sum(n for reason, n in found.lost.items() if reason != 'the episode ends')
    if lost > LOST * found.frames:
        remarks.append(
            f'{lost / found.frames:.0%} of the frames start no window, for frames or commands are '
            'missing: see gaps and jitter in `lewm inspect`'
        )
    if found.camera_period > SLOWER * found.trained_period:
        remarks.append(
            f'frames at {1 / found.camera_period:.1f} Hz, the model was trained at '
            f'{1 / found.trained_period:.1f} Hz: set the camera to that rate'
        )
    remarks += [f'left out: {n} x {reason}' for reason, n in found.refused.items()]
    if found.plan_ms is not None and found.plan_ms > found.budget_ms:
        remarks.append(
            f'a plan takes {found.plan_ms:.0f} ms of the {found.budget_ms:.0f} ms that it may: it '
            'is cut short; lower samples or iterations, or choose a faster engine'
        )
    if found.encode_ms > 1000 * found.camera_period:
        remarks.append(
            f'encoding takes {found.encode_ms:.0f} ms, frames come every '
            f'{1000 * found.camera_period:.0f} ms: not all will be encoded'
        )
    return remarks


def describe(verdict: Verdict) -> str:
    """Text of a verdict."""
    f = verdict.figures
    lost = ', '.join(f'{n} {reason}' for reason, n in f.lost.items())
    lines = [
        f'{f.episodes} held-out episodes: {f.frames} frames, {f.windows} windows'
        + (f' (frames that start none: {lost})' if lost else ''),
        f'distance: one block {f.step:.2f} of a random pair (beyond {SATURATED:g}: '
        f'{f.saturated:.0%}), reach {f.reach:.1f} blocks'
        + (
            ''
            if f.order is None
            else f'; order of frames near a goal {f.order:.2f} (least {f.order_least:.2f})'
        ),
        'squared error by block, predicted / copied: '
        + ', '.join(f'{a:.3g} / {b:.3g}' for a, b in zip(f.prediction, f.copying)),
    ]
    for d in f.actions:
        lines.append(
            f'command {d.name}: effect / error {d.effect:.2f}, squared error with other commands '
            f'x {d.ratio:.1f}'
            + ('' if d.precision is None else f', precision to expect {d.precision:.2g} {d.unit}')
        )
    lines += [
        f'state {s.name}: nearest latent off by {s.error:.2g} (chance {s.chance:.2g}), precision '
        f'{s.precision:.2g}'
        for s in f.states
    ]
    if f.covered is not None and f.connected is not None:
        lines.append(
            f'roadmap{"" if f.roadmap else " of these recordings"}: {f.covered:.0%} of the frames '
            f'covered, {f.connected:.0%} of pairs connected'
        )
    delay = 'unknown' if f.delay is None else f'{f.delay:+.3f} s'
    plan = '' if f.plan_ms is None else f', with a plan {f.plan_ms:.0f} ms'
    lines += [
        f"delay beyond the contract's: {delay}",
        f'encoding {f.encode_ms:.1f} ms{plan}, a block {1000 * f.block:.0f} ms',
        *(f'warning: {text}' for text in verdict.warnings),
        'ready' if verdict.ready else 'not ready:',
        *(f'  - {text}' for text in verdict.problems),
    ]
    return '\n'.join(lines)
