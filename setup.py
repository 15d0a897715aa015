# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Package description for pip and colcon (ament_python)."""

import os

from setuptools import find_packages, setup

NAME = 'lewm_ros'
NODES = ('encoder', 'planner', 'controller', 'surprise', 'recorder', 'sim', 'trial', 'view')


def share(*folders: str) -> list[tuple[str, list[str]]]:
    """List the files under ``folders`` with the folder of share/lewm_ros that each goes to."""
    return [
        (f'share/{NAME}/{root}', [f'{root}/{file}' for file in sorted(files)])
        for folder in folders
        for root, _, files in os.walk(folder)
        if files and not root.endswith('__pycache__')
    ]


# PyPI has ROS 2 for x86_64 Linux. `launch` is absent on purpose: PyPI's package of that name is
# another program; the ROS one comes with a ROS installation (package.xml).
ROS = [
    'ros-rclpy[fastrtps]',
    'ros-ament-index-python',
    'ros-builtin-interfaces',
    'ros-diagnostic-msgs',
    'ros-geometry-msgs',
    'ros-lifecycle-msgs',
    'ros-nav-msgs',
    'ros-rcl-interfaces',
    'ros-sensor-msgs',
    'ros-std-msgs',
    'ros-std-srvs',
    'ros-trajectory-msgs',
    'ros-visualization-msgs',
]

setup(
    name=NAME,
    version='0.1.0',
    description='LeWorldModel on robots: latent world-model control and surprise for ROS 2',
    author='The lewm_ros developers',
    maintainer='The lewm_ros developers',
    maintainer_email='lewm-ros@example.org',
    license='Apache-2.0',
    python_requires='>=3.11',
    # The link lewm_ros/training leads to training/, which has its place at the top.
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: ['py.typed', 'sim/*.xml']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['package.xml']),
        # Puts `lewm` on the PATH of a colcon workspace (colcon.pkg); pip has bin/ for that.
        (f'share/{NAME}/hook', ['resource/programs.dsv']),
        *share('config', 'launch', 'models'),
    ],
    zip_safe=False,
    install_requires=['numpy', 'opencv-python-headless', 'pyyaml', 'tqdm'],
    extras_require={
        'cpu': ['onnxruntime', 'onnx'],
        'gpu': ['onnxruntime-gpu', 'onnx'],
        'openvino': ['openvino', 'onnx'],
        'sim': ['mujoco>=3.17,<4', 'matplotlib', 'pillow'],
        'gym': ['gymnasium>=1'],
        'cube': ['mujoco>=3.17,<4', 'ogbench'],
        'dmc': ['mujoco>=3.17,<4', 'dm-control'],
        # 7 has no collision handlers any more.
        'pusht': ['gymnasium>=1', 'gym-pusht', 'pymunk<7'],
        'record': ['mcap>=1.6', 'rosbags', 'matplotlib', 'pillow'],
        'train': [
            'torch',
            'onnx',
            'onnxscript',
            'safetensors',
            'mcap>=1.6',
            'rosbags',
            'lz4',
            'zstandard',
            'matplotlib',
            'pillow',
        ],
        'ros': ROS,
        'test': [
            'pytest',
            'pytest-timeout',
            'pytest-xdist',
            'import-linter',
            'ruff',
            'mypy',
            'catkin-pkg',
            'colcon-common-extensions',
        ],
    },
    entry_points={
        'console_scripts': [
            'lewm = lewm_ros.cli:main',
            *(f'{node}_node = lewm_ros.bringup.programs:{node}_node' for node in NODES),
        ]
    },
)
