# `make help` lists the targets. Every target that runs something sets up first: one .venv, made again only when
# the requirements, the interpreter or the Detectron2 that it can import change.
PYTHON ?= python3
PYTEST_ARGS ?= -n 2 --dist loadfile
DETECTRON2_COPY := labgym==3.1.2
EXTRAS := test,report,fast-eval,slurm,turbo

VENV := .venv
BIN := $(VENV)/bin
# Where torch and torchvision come from, for another CUDA build than the package index's own:
# make setup TORCH_INDEX=https://download.pytorch.org/whl/cu126
# The environment remembers it, so that later targets need not repeat it; `TORCH_INDEX=` goes back to the default.
ifeq ($(origin TORCH_INDEX),undefined)
TORCH_INDEX := $(shell cat $(VENV)/torch_index 2>/dev/null)
endif
REQUIREMENTS := $(shell (cat constraints.txt setup.py; $(PYTHON) tools/make_environment.py --stamp; echo $(DETECTRON2_COPY) $(TORCH_INDEX)) 2>&1 | cksum | cut -d' ' -f1)
READY := $(VENV)/.ready-$(REQUIREMENTS)

.PHONY: help setup demo demo-full test test-slow gpu-check fuzz lint docs tutorial benchmarks bench clean
.DEFAULT_GOAL := help

help:  ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@echo "  PYTHON=python3.12 picks the interpreter; PYTEST_ARGS='-k losses' picks tests; TORCH_INDEX=... a build of torch."

setup: $(READY)  ## Create or update .venv (the other targets do this by themselves)

$(READY): constraints.txt setup.py
	@echo "setting up $(VENV) (a few minutes, once)"
	@rm -rf $(VENV)
	@set -e; if [ "$$($(PYTHON) tools/make_environment.py $(VENV))" = official ]; then \
		echo "using the Detectron2 installed for $(PYTHON)$(if $(TORCH_INDEX), and its torch: TORCH_INDEX is not used)"; \
		$(BIN)/pip install -q -e '.[$(EXTRAS)]'; \
	else \
		[ -z "$(TORCH_INDEX)" ] || $(BIN)/pip install -q -c constraints.txt --index-url $(TORCH_INDEX) torch torchvision; \
		$(BIN)/pip install -q -c constraints.txt -e '.[$(EXTRAS)]'; \
		$(BIN)/pip install -q --no-deps --ignore-requires-python $(DETECTRON2_COPY); \
	fi
	@$(BIN)/python -c 'import clop_det, torch, torchvision; from clop_det import detectron2_provider as d; print("ready: torch", torch.__version__, "torchvision", torchvision.__version__, "|", d.describe())'
	@echo '$(TORCH_INDEX)' > $(VENV)/torch_index
	@touch $@

demo: $(READY)  ## The whole chain on embedded real digits: random, InfoNCE, CLOP -> output/demo/report
	$(BIN)/python tools/compare.py --config-file configs/compare/digits.yaml --jobs 2 --rerun

demo-full: $(READY)  ## The same with cross-entropy and SupCon, three seeds
	$(BIN)/python tools/compare.py --config-file configs/compare/digits_seeds.yaml --jobs 2 --rerun

test: $(READY)  ## The test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

test-slow: $(READY)  ## The tests that take minutes
	$(BIN)/python -m pytest -m slow

gpu-check: $(READY)  ## Tests and benchmarks on a GPU, in under 8 minutes -> output/gpu_check
	$(BIN)/python benchmarks/gpu_check.py

FUZZ_SECONDS ?= 3600
fuzz: $(READY)  ## Mutated files for every reader, FUZZ_SECONDS each (an hour)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.campaign --seconds $(FUZZ_SECONDS)

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy clop_det

docs: $(READY)  ## The site of the documentation, links checked -> build/site/index.html
	$(BIN)/pip install -q -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

tutorial: $(READY)  ## Run docs/tutorial.ipynb and keep what it prints (minutes)
	$(BIN)/jupyter execute --inplace --timeout=1800 docs/tutorial.ipynb

benchmarks: $(READY)  ## Install what the benchmarks compare against
	$(BIN)/pip install -q -c constraints.txt -e '.[bench]'

BENCH_ARGS ?=
bench: benchmarks  ## The standing measurements beside the last, in ten minutes -> docs/results/bench.md
	$(BIN)/python benchmarks/bench.py $(BENCH_ARGS)

clean:  ## Remove .venv and caches (not output/)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
