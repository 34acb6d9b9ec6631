# Every target makes the virtual environment itself when it is missing or older than what it is made from.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PEERS  := .venv-bench
JOBS   ?= 4
CLIPS  ?= 1000000
EVENTS ?= 10000000
SCHEDULES ?= 1000

.PHONY: demo test schedules check bench-upload bench-download bench-ingest bench-search bench-likeness bench-api \
  bench-cli bench-stats bench-scale clean format

demo: $(STAMP)
	$(BIN)/python -m tests.demo

test: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal tests

schedules: $(STAMP)
	PALETTA_TEST_SCHEDULES=$(SCHEDULES) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal \
	  tests/faults/test_mediaconvert.py

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench-upload: $(STAMP) $(PEERS)/.installed
	$(BIN)/python -m tests.benchmarks.upload --peers $(PEERS)

bench-download: $(STAMP) $(PEERS)/.installed
	$(BIN)/python -m tests.benchmarks.download --peers $(PEERS)

bench-ingest: $(STAMP)
	$(BIN)/python -m tests.benchmarks.ingest

bench-search: $(STAMP)
	$(BIN)/python -m tests.benchmarks.search --clips $(CLIPS)

bench-likeness: $(STAMP)
	$(BIN)/python -m tests.benchmarks.likeness --clips $(CLIPS)

bench-api: $(STAMP)
	$(BIN)/python -m tests.benchmarks.api

bench-cli: $(STAMP)
	$(BIN)/python -m tests.benchmarks.commands

bench-stats: $(STAMP)
	$(BIN)/python -m tests.benchmarks.stats --events $(EVENTS)

bench-scale: $(STAMP)
	$(BIN)/python -m tests.benchmarks.scale

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "paletta needs Python 3.11 or newer; name one with: make PYTHON=python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

# The peers that the benchmarks measure against pin versions of their own, so they never share our environment.
$(PEERS)/.installed: tests/benchmarks/peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/benchmarks/peers.txt
	@touch $@

clean:
	rm -rf $(VENV) $(PEERS) demo-out .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
