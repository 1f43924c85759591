# Each target sets up all it needs from nothing, in a virtual environment of its own.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CPU_TORCH ?= torch==2.13.0
WORKERS ?= 2

.PHONY: demo test check fix bench matrix train docs clean

demo: $(VENV)/.core
	$(BIN)/affectcore demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench
	mkdir -p bench/results
	$(BIN)/python -m pytest bench --benchmark-json=bench/results/bench.json
	$(BIN)/python bench/memory.py --full --json bench/results/memory.json
	$(BIN)/python bench/table.py bench/results/bench.json bench/results/memory.json

# The main job with the lowest and newest dependencies on every Python there is (ARGS=--quick: two environments).
matrix:
	$(PYTHON) bench/matrix.py $(ARGS)

# Trains the embedded models from all-MiniLM-L6-v2 and the data sets (docs/data.md): some hours on two cores. The
# folds are for figures only: nothing of them is released. `python -m affectcore.training.unpack --out build/teacher`
# reads a teacher back from the package, in place of the first two lines, for a release without figures of its own.
TRAINING := $(BIN)/python -m affectcore.training
FOLDS := 0 1 2 3 4
train: $(VENV)/.bench
	$(TRAINING).finetune --out build/teacher-1 --stop 2
	$(TRAINING).finetune --out build/teacher --start build/teacher-1 --epochs 1 \
	  --learning-rate 6e-5 --head-learning-rate 3e-4 --seed 1
	for fold in $(FOLDS) -1; do \
	  $(TRAINING).finetune_tone --teacher build/teacher --out build/tone/$$fold --fold $$fold && \
	  $(TRAINING).distil --teacher build/teacher --tone-teacher build/tone/$$fold --out build/static/$$fold || exit 1; \
	done
	$(TRAINING).validate --scores build/tone --model mini
	$(TRAINING).validate --scores build/static --model static
	$(TRAINING).report --teacher build/tone/-1 --student build/static/-1 --tone build/tone \
	  --student-tone build/static

docs: $(VENV)/.core
	$(BIN)/python docs/generate.py $(if $(wildcard bench/results/bench.json),--bench bench/results/bench.json bench/results/memory.json)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The core install: numpy, pyarrow, numba, rich, typer.
$(VENV)/.core: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

# Everything that tests and checks need. torch comes first and pinned: a CPU build will do where one is at hand.
$(VENV)/.dev: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(CPU_TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

# What benchmarks compare with, and what training needs.
$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	touch $@
