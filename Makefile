# Every target prepares .venv by itself (see .ci/setup) and touches nothing outside this folder but pip's cache.
.DEFAULT_GOAL := help
.PHONY: help demo test soak bench lint

BIN := .venv/bin
WORKERS ?= 2
# One thread per process: the tests run WORKERS processes at once, and results on a CPU depend on the thread count.
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

help: ## show this list
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  %-6s %s\n", $$1, $$2 }'

demo: ## train and attack defenses on embedded real data; leaderboard and plot in demo/ (minutes on two cores)
	@.ci/setup demo
	@echo "demo: training and attacking under digits-linf, seed 0; results go to demo/"
	@$(BIN)/advbench run-all --protocol digits-linf --seeds 0 --store demo/store --out demo

test: ## run the whole test suite with coverage (minutes on two cores)
	@.ci/setup test
	@echo "test: the whole suite but the soak tests, $(WORKERS) at a time"
	@$(THREADS) $(BIN)/python -m pytest -n $(WORKERS) --durations=20 -m "not soak" --cov --cov-report=term:skip-covered

soak: ## run the long tests that `make test` leaves out
	@.ci/setup test
	@echo "soak: the long tests, $(WORKERS) at a time"
	@$(THREADS) $(BIN)/python -m pytest -n $(WORKERS) --durations=20 -m soak

bench: ## time attacks and training against the field's code; writes docs/performance.md (minutes)
	@.ci/setup test
	@echo "bench: one thread, runs alternate; leave the machine alone meanwhile"
	@$(THREADS) $(BIN)/python tests/benchmarks/peers.py --out docs/performance.md

lint: ## check style and types: ruff, ruff format, mypy --strict, import contracts
	@.ci/setup test
	@echo "lint: ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "lint: mypy --strict"
	@PYTHON=$(BIN)/python .ci/types
	@echo "lint: import contracts"
	@PYTHONPATH=.mypy_cache/tree $(BIN)/lint-imports --no-cache
