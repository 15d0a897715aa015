# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""deploy/sros2/policy.xml against what the nodes really publish, subscribe to, serve and call."""

from __future__ import annotations

from contextlib import ExitStack
from fnmatch import fnmatchcase
from xml.etree import ElementTree

import cv2
from harness import ROOT, Bench
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

from lewm_ros.bringup.groups import NODES

#: Permission in the policy → how rclpy's graph names it.
KINDS = {
    'publish': 'publisher',
    'subscribe': 'subscriber',
    'reply': 'service',
    'request': 'client',
}
#: Allowed but unused in this test: use_sim_time, and frames without a frame_id.
UNUSED = {
    'encoder_node': {'/clock'},
    'planner_node': {'/clock'},
    'controller_node': {'/clock'},
    'surprise_node': {'/clock'},
    'view_node': {'/clock', '/lewm/latent'},
    'recorder_node': {'/clock'},
    'sim_node': {'/clock'},
    'trial_node': {'/clock'},
    'goal': set(),
    'watch': set(),
}


def policy() -> dict[str, dict[str, list[str]]]:
    """Allowed patterns of full names, by enclave and permission."""
    found: dict[str, dict[str, list[str]]] = {}
    for enclave in ElementTree.parse(ROOT / 'deploy/sros2/policy.xml').getroot().iter('enclave'):
        allowed: dict[str, list[str]] = {kind: [] for kind in KINDS}
        for profile in enclave.iter('profile'):
            space, node = profile.attrib['ns'], profile.attrib['node']
            name = node.removesuffix('_*')  # the commands add their process's number
            assert enclave.attrib['path'] == f'{space}/{name}'
            for rules in profile:
                (kind,) = rules.attrib
                assert rules.attrib[kind] == 'ALLOW'
                for rule in (rule.text or '' for rule in rules):
                    if rule.startswith('~'):
                        rule = f'{space}/{node}{rule[1:]}'
                    allowed[kind].append(rule if rule.startswith('/') else f'{space}/{rule}')
        found[name] = allowed
    return found


@pytest.fixture(scope='module')
def graph(shared_bench: Bench) -> dict[str, dict[str, set[str]]]:
    """Names that each node and `lewm watch` use, by permission, with all nodes running."""
    bench = shared_bench
    own = {
        'controller_node': {'on_anomaly': 'stop'},
        'surprise_node': {'evidence_folder': bench.folder / 'evidence'},
        'recorder_node': {'out': bench.folder / 'bag'},
        'trial_node': {'out': bench.folder / 'trial'},
    }
    with ExitStack() as stack:
        for names in (tuple(set(NODES) - set(own)), *((name,) for name in own)):
            given = own.get(names[0], {})
            stack.enter_context(bench.nodes(*names, bundle='reacher', threads=1, **given))
        stack.enter_context(bench.lewm('watch', '--seconds', '600'))
        bench.active(*NODES)
        bench.until(lambda: command(bench, 'watch'), 'nobody watches')
        ((watcher, enclave),) = command(bench, 'watch').items()
        assert enclave == '/lewm/watch'
        bench.active(watcher)
        for name in ('image', 'plan', 'expected'):  # view_node listens for what is looked at
            bench.node.create_subscription(Image, f'/lewm/view/{name}', lambda message: None, 1)
        bench.spin(3.0)
        running = {name: name for name in NODES} | {'watch': watcher}
        return {
            name: {kind: names_of(bench, what, node) for kind, what in KINDS.items()}
            for name, node in running.items()
        }


def command(bench: Bench, which: str) -> dict[str, str]:
    """Enclave of the node behind a command such as `lewm watch`, by its name."""
    nodes = bench.node.get_node_names_and_namespaces_with_enclaves()
    return {name: enclave for name, _, enclave in nodes if name.startswith(f'{which}_')}


def names_of(bench: Bench, what: str, node: str) -> set[str]:
    """Names of a node's publishers, subscribers, services or clients."""
    find = getattr(bench.node, f'get_{what}_names_and_types_by_node')
    return {name for name, _ in find(node, '/lewm')}


@pytest.mark.parametrize('name', [*NODES, 'watch'])
def test_a_node_may_do_what_it_does_and_no_more(graph, name):
    """Everything in the graph is allowed, and nothing else, except for UNUSED."""
    check(name, graph[name])


def test_the_command_for_goals_may_do_what_it_does(bench: Bench):
    """`lewm goal` needs its own test: beside all nodes, the trial replaces its goal."""
    path = bench.folder / 'goal.png'
    cv2.imwrite(str(path), np.zeros((64, 64, 3), np.uint8))
    bench.listen(CompressedImage, 'goal_image/compressed')  # so that it waits for an answer
    with bench.lewm('goal', str(path)):
        bench.until(lambda: command(bench, 'goal'), 'no goal')
        ((sender, enclave),) = command(bench, 'goal').items()
        assert enclave == '/lewm/goal'
        bench.active(sender)
        bench.spin(1.0)
        check('goal', {kind: names_of(bench, what, sender) for kind, what in KINDS.items()})


def check(name: str, used: dict[str, set[str]]) -> None:
    """Compare the names that a node uses, by permission, with the policy."""
    for kind, patterns in policy()[name].items():
        real = used[kind]
        assert real or kind == 'request'
        missing = {r for r in real if not any(fnmatchcase(r, p) for p in patterns)}
        assert not missing, f'{kind}: {missing}'
        unused = {p for p in patterns if not any(fnmatchcase(r, p) for r in real)}
        assert unused <= UNUSED[name], f'{kind}: {unused - UNUSED[name]}'


def test_only_the_controller_may_publish_commands():
    """No pattern allows another node, or the operator, to publish them."""
    may = [
        name
        for name, allowed in policy().items()
        if any(fnmatchcase('/lewm/action', p) for p in allowed['publish'])
    ]
    assert may == ['controller_node']
