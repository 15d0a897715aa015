# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`--contract` of the commands that run a bundle on bags recorded under another contract."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
import shutil

import pytest
from rosbags.highlevel import AnyReader
import yaml

from lewm_ros import cli
from lewm_ros.bags.writer import BagFolder, Channel
from lewm_ros.bundle import Bundle
from lewm_ros.files import find
from lewm_ros.robot.contract import Contract

TOPIC = 'wrist/image'


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bag of the arm whose camera has another topic."""
    folder = tmp_path_factory.mktemp('bags')
    arguments = ['--episodes', '6', '--seconds', '2', '--image-size', '32']
    assert cli.main(['collect', 'reacher', '--out', str(folder / 'bag'), *arguments]) == 0
    renamed = BagFolder(folder / 'renamed')
    with AnyReader([folder / 'bag']) as reader:
        for connection, stamp, data in reader.messages():
            topic = connection.topic.replace('camera/image', TOPIC)
            renamed.write(Channel(topic, connection.msgtype), stamp, data)
    renamed.close()
    return renamed.path


def write(path: Path, contract: Contract) -> str:
    """Write a contract as YAML and return its path."""
    path.write_text(yaml.safe_dump(contract.to_dict()))
    return str(path)


@pytest.mark.parametrize(
    ('command', 'data', 'options'),
    [
        ('evaluate', '--data', ['--json']),
        ('evaluate', '--probe', []),
        ('calibrate', '--data', ['--alpha', '0.5', '--window', '1']),
        ('roadmap', '--data', []),
        ('inverse', '--data', ['--steps', '1']),
        ('imagine', '--data', ['--steps', '1']),
        ('decoder', '--data', ['--steps', '1']),
    ],
)
def test_bags_of_another_contract_are_read(
    bag: Path, tiny_bundle: Bundle, tmp_path: Path, capsys, monkeypatch, command, data, options
) -> None:
    """The nodes run under a contract with other topics, so its bags must be usable too."""
    monkeypatch.setattr('lewm_ros.evaluation.probe.find_spec', lambda name: None)  # slow: network
    path = shutil.copytree(tiny_bundle.path, tmp_path / 'bundle')  # which the commands change
    robot = tiny_bundle.contract
    renamed = replace(robot, camera=replace(robot.camera, topic=TOPIC))
    given = write(tmp_path / 'robot.yaml', renamed)
    arguments = [command, str(path), data, str(bag), *options]
    assert cli.main(arguments) == 2
    assert 'no topic camera/image' in capsys.readouterr().err
    assert cli.main([*arguments, '--contract', given]) == 0, capsys.readouterr().err
    assert Bundle.load(path).contract == robot


def test_a_contract_that_does_not_fit_the_bundle_is_refused(bag: Path, tmp_path, capsys) -> None:
    """The contract must agree with the bundle's as in the nodes; other evaluations need none."""
    robot = Contract.load(find('contract', 'reacher'))
    other = write(tmp_path / 'robot.yaml', replace(robot, rates=replace(robot.rates, control=50.0)))
    assert cli.main(['calibrate', 'reacher', '--data', str(bag), '--contract', other]) == 2
    assert 'rates.control is 50.0 in the contract' in capsys.readouterr().err
    assert cli.main(['evaluate', 'reacher', '--contract', other]) == 2
    said = '--contract only has a meaning with --data or --probe: leave it out'
    assert said in capsys.readouterr().err
