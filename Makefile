# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
#
# `make` lists the targets. Each sets up what it needs first, once.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help setup demo tutorial soak test test-kilted test-jazzy test-tasks lint bench images tables clean stale
# Each target has the machine to itself: set-up is shared, and tests measure time.
.NOTPARALLEL:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JAZZY := .venv-jazzy

# A sourced ROS 2 installation would put its own Python packages before those of the venv, and its
# name says which version of Fast DDS the nodes expect.
unexport PYTHONPATH AMENT_PREFIX_PATH ROS_DISTRO

help:
	@cat <<-'TEXT'
	make setup   install everything into .venv (Debian or Ubuntu, x86_64, Python 3.11 or newer)
	make demo    run the simulated arm with the shipped bundle; results go to .demo/
	make soak    all fault tests at full length, then half an hour at full rate
	make test    run all tests: make test-kilted, then make test-jazzy where Python 3.12 is there
	make test-kilted  all tests, on ROS 2 Kilted (.venv)
	make tutorial     the tutorial's robot, from the first bag to goals, into .tutorial/
	make test-jazzy   tests of nodes, faults and bring-up, on ROS 2 Jazzy (.venv-jazzy)
	make test-tasks   tests of the tasks that need packages of their own (.venv-tasks)
	make lint    ruff and mypy
	make bench   measure the engines and the planner on this machine
	make images  make the images of docs/watching.md anew, from the running demo
	make tables  write the tables of parameters in docs/ from what the nodes declare
	make clean   remove .venv, .venv-jazzy, .venv-tasks, .demo, .tutorial, builds and caches; data/ and runs/ stay
	Another Python: make PYTHON=python3.12 setup
	TEXT

demo: setup
	$(BIN)/lewm up demo

# The commands of docs/tutorial.md as they stand there; what they leave in the background ends too.
tutorial: setup
	rm -rf .tutorial
	bash <(
	    echo 'trap "kill \$$(jobs -p) 2> /dev/null || true" EXIT; set -eux -o pipefail'
	    sed -n '/^```sh$$/,/^```$$/{/^```/d;p}' docs/tutorial.md
	)

soak: setup
	$(BIN)/python -m pytest -q test/faults --soak
	$(BIN)/python benchmarks/soak.py --minutes 30

# Files at once: as many as there are processors where they compute; six of nodes, which wait most
# of the time; three where milliseconds count, of which two compute. A worker that dies ends the
# run: a new one would wait for ever.
TIMED := $(addprefix test/faults/test_,clock.py commands.py frames.py kills.py) \
	$(addprefix test/ros/test_,demo.py loop.py push_demo.py)
FILES := --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# pytest with the Python of $(1). Nodes are tested in real time, which a busy machine cannot give to
# six files at once: `nodes` runs a test that failed there again, by itself, and it has to pass.
define RUN
run() { $(1)/bin/python -m pytest -q --tiny-bundles $(1)/tiny "$$@"; }
nodes() {
    local keep=(-o addopts= -o cache_dir=$(1)/pytest)
    run "$${keep[@]}" --cache-clear $(FILES) "$$@" || {
        [ $$? = 1 ] && run "$${keep[@]}" -n 0 --last-failed --last-failed-no-failures none "$${@:3}"
    }
}
endef

test: test-kilted test-jazzy

test-kilted: setup
	rm -rf $(VENV)/tiny
	$(call RUN,$(VENV))
	run -n auto $(FILES) test/unit
	nodes -n 6 test/ros test/faults $(addprefix --ignore=,$(TIMED))
	nodes -n 3 $(TIMED)

# Ubuntu 24.04's ROS 2, with its versions of numpy, OpenCV, PyYAML and setuptools: the tests that
# depend on ROS, in four minutes. Left to `make test-kilted` are both demos, lost and broken frames,
# files made to do harm, and the other unit tests.
JAZZY_STAMP := $(JAZZY)/.lewm_ros
JAZZY_UNIT := $(addprefix test/unit/test_,bringup.py deploy.py launch_files.py supervisor.py \
	packaging.py::test_installed_versions_are_the_pinned_ones)
JAZZY_TIMED := $(addprefix test/faults/test_,clock.py commands.py kills.py) \
	test/ros/test_loop.py
# Of pyenv, `command -v` finds a shim for every version, which runs for some.
ifeq ($(origin JAZZY_PYTHON),undefined)
JAZZY_PYTHON := $(shell for python in python3.12 $(PYTHON) \
	    $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3.12.*/bin/python3.12; do \
	"$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, 12))' \
	    2>/dev/null && echo "$$python" && break; done)
endif
ifneq ($(JAZZY_PYTHON),)
test-jazzy: setup $(JAZZY_STAMP)
	export ROS_DISTRO=jazzy  # as its setup.sh does
	rm -rf $(JAZZY)/tiny
	$(BIN)/python test/tiny_bundle.py $(JAZZY)/tiny
	$(call RUN,$(JAZZY))
	nodes -n 6 $(JAZZY_UNIT) test/ros test/faults $(addprefix --ignore=,$(TIMED))
	nodes -n 2 $(JAZZY_TIMED)
else
test-jazzy:
	@echo 'test-jazzy: tests on ROS 2 Jazzy NOT run: no Python 3.12 with venv found' \
	    '(install python3.12-venv, or give make JAZZY_PYTHON=/path/to/python3.12)'
endif

# Their packages bring an OpenCV of their own: not into .venv.
TASKS := .venv-tasks
test-tasks: $(TASKS)/.lewm_ros
	$(TASKS)/bin/python -m pytest -q test/tasks

$(TASKS)/.lewm_ros: setup.py constraints.txt
	$(PYTHON) -m venv --clear $(TASKS)
	$(TASKS)/bin/python -m pip install --disable-pip-version-check -c constraints.txt \
	    -e '.[cpu,sim,record,cube,dmc,pusht]' pytest pytest-timeout lz4 zstandard
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/lewm benchmark

images: setup
	$(BIN)/python docs/make_images.py

tables: setup
	$(BIN)/python docs/make_tables.py

clean:
	rm -rf $(VENV) $(JAZZY) $(TASKS) .demo .tutorial build install log *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- Set-up -------------------------------------------------------------------------------
# The stamp says that set-up finished, and in which folder: a venv does not survive being moved.

STAMP := $(VENV)/.lewm_ros
setup: $(STAMP)
ifneq ($(file <$(STAMP)),$(CURDIR))
$(STAMP): stale
endif
ifneq ($(file <$(JAZZY_STAMP)),$(CURDIR))
$(JAZZY_STAMP): stale
endif

$(STAMP): setup.py setup.cfg pyproject.toml package.xml constraints.txt
	@say() { echo "set-up: $$*"; }
	fail() { say "$$*" >&2; exit 1; }
	as_root() { if [ "$$(id -u)" = 0 ]; then "$$@"; else sudo -n "$$@"; fi; }
	apt_install() {
	    command -v apt-get >/dev/null && as_root true 2>/dev/null || return 1
	    say "installing $$* with apt-get"
	    as_root apt-get update -qq || say 'apt-get update failed, trying with the lists at hand'
	    as_root env DEBIAN_FRONTEND=noninteractive \
	        apt-get install -y -qq --no-install-recommends "$$@"
	}
	new_enough='import sys; sys.exit(sys.version_info < (3, 11))'

	[ "$$(uname -sm)" = 'Linux x86_64' ] || fail "PyPI has ROS 2 for Linux on x86_64 only, this" \
	    "is $$(uname -sm): install ROS 2 (Jazzy or newer) and use colcon build, see README.md"
	found=$$($(PYTHON) --version 2>/dev/null || echo 'not found')
	$(PYTHON) -c "$$new_enough" 2>/dev/null || fail "'$(PYTHON)' is $$found: Python 3.11 or" \
	    'newer is needed, for example make PYTHON=python3.12 setup'

	if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then
	    package=$$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
	    apt_install "$$package" || fail "Python's venv module is missing and cannot be installed" \
	        "from here: run 'apt-get install $$package' as root, then make again"
	fi
	has_gl='from ctypes.util import find_library as f; import sys; sys.exit(not (f("OSMesa") or f("EGL")))'
	if ! $(PYTHON) -c "$$has_gl"; then
	    apt_install libosmesa6 || apt_install libegl1 libgl1-mesa-dri || say 'no OpenGL library' \
	        "for rendering, the simulator will not run: run 'apt-get install libosmesa6' (or" \
	        'libegl1 and libgl1-mesa-dri) as root. Going on without.'
	fi

	if [ -e $@ ] && [ "$$(<$@)" != '$(CURDIR)' ]; then rm -rf $(VENV); fi
	rm -f $@
	if ! $(BIN)/python -c "import pip; $$new_enough" 2>/dev/null; then
	    say "making $(VENV) with $$found"
	    $(PYTHON) -m venv --clear $(VENV)
	fi

	engine=cpu other=onnxruntime-gpu
	if nvidia-smi >/dev/null 2>&1; then engine=gpu other=onnxruntime; fi
	if $(BIN)/python -m pip show -q "$$other" 2>/dev/null; then
	    # Both share one folder, and together they hide CUDA: start again with neither.
	    $(BIN)/python -m pip uninstall -q -y onnxruntime onnxruntime-gpu
	fi
	say "installing lewm_ros[$$engine,openvino,sim,gym,record,train,ros,test] into $(VENV)"
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt \
	    -e ".[$$engine,openvino,sim,gym,record,train,ros,test]"
	echo '$(CURDIR)' > $@
	say 'done'

# Ubuntu 24.04's setuptools builds the package; torch, which is large, is not needed.
$(JAZZY_STAMP): setup.py setup.cfg pyproject.toml package.xml constraints-jazzy.txt
	@rm -rf $(JAZZY)
	echo 'set-up: installing lewm_ros on ROS 2 Jazzy into $(JAZZY)'
	$(JAZZY_PYTHON) -m venv $(JAZZY)
	pip() { $(JAZZY)/bin/python -m pip "$$@"; }
	pip install -q --disable-pip-version-check -c constraints-jazzy.txt setuptools wheel
	pip install -q --disable-pip-version-check -c constraints-jazzy.txt --no-build-isolation \
	    -e '.[cpu,sim,record,ros]' lz4 pytest pytest-timeout pytest-xdist zstandard
	echo '$(CURDIR)' > $@
