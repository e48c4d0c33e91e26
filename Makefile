# Everything lives in .venv, made from constraints.txt: exact versions, checked by hash.

MAKEFLAGS += --no-print-directory
export PIP_DISABLE_PIP_VERSION_CHECK = 1

# The first Python that is new enough and can make a venv; `make PYTHON=/path/to/python3.12` names another.
USABLE = import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	"$$python" -c '$(USABLE)' 2>/dev/null && { echo "$$python"; break; }; done)
# Versions are resolved on the oldest Python: what runs there runs on the newer ones.
LOCK_PYTHON ?= python3.11

PIP = .venv/bin/python -m pip --quiet --quiet
# Passed on to pytest: make test ARGS='-k retry -x'
ARGS ?=
EXAMPLES ?= 2000

.PHONY: help run test simulate interleavings torture oracle fuzz \
	bench-drain bench-peers bench-growth bench-memory bench-enqueue bench-latency bench-idle bench-schedules \
	browser pictures schemathesis routes lint types check format reference wheel lock lock-groups clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

run: .venv/.installed ## Start schema, daemon, worker and web page on the example schedules
	@exec .venv/bin/sched up

test: .venv/.installed ## Run all tests, on SQLite and on a real PostgreSQL
	@.venv/bin/python -m pytest -n logical --maxprocesses 4 $(ARGS)

# SEEDS of each kind; KINDS=leases,gates, REPLAY=leases/17 and MUTANTS=40 are told in tests/simulate.py.
simulate: .venv/.installed ## Play the core under a virtual clock with faults at every statement: SEEDS=n
	@.venv/bin/python tests/simulate.py $(if $(SEEDS),--seeds $(SEEDS)) $(if $(FIRST),--first $(FIRST)) \
		$(if $(KINDS),--kinds $(KINDS)) $(if $(REPLAY),--replay $(REPLAY)) \
		$(if $(MUTANTS),--mutants $(MUTANTS))

# Not part of `make test`. ARGS='-k storm' leaves out the single cases, --seed N repeats a storm's order of faults.
MINUTES ?= 2
torture: .venv/.installed ## Kill, freeze and cut off real processes for MINUTES=2, and see that all adds up
	@.venv/bin/python -m pytest tests/torture --minutes $(MINUTES) $(ARGS)

# Thousands of cases. ARGS='-k "[0]"' plays a quarter, SCHED_TEST_INTERLEAVINGS=500 so many, drawn.
interleavings: .venv/.installed ## Play every pair of the core's transactions, switched at every statement
	@SCHED_TEST_INTERLEAVINGS=$${SCHED_TEST_INTERLEAVINGS:-all} .venv/bin/python -m pytest tests/interleavings -n logical --maxprocesses 4 $(ARGS)

# With the pinned tzdata, whatever the machine has.
oracle: .venv/.installed ## Compare cron times around every clock change of every zone with a walk of the minutes
	@PYTHONTZPATH= nice .venv/bin/python tests/compare_clocks.py

fuzz: .venv/.installed ## Throw rubbish at all that takes input, EXAMPLES=2000 of each kind
	@SCHED_TEST_FUZZ_EXAMPLES=$(EXAMPLES) .venv/bin/python -m pytest -q --timeout 7200 \
		--hypothesis-show-statistics tests/fuzz

bench-drain: .venv/.installed ## Measure a worker that empties a full queue, beside SQL by hand
	@.venv/bin/python -m benchmarks.drain $(ARGS)

bench-peers: .venv/.installed build/peers/.installed ## Measure a full queue beside graphile-worker, pgqueuer, procrastinate and huey
	@.venv/bin/python -m benchmarks.beside_peers $(ARGS)

bench-growth: .venv/.installed ## Measure a drain beside a million other rows, and beside an open transaction
	@.venv/bin/python -m benchmarks.growth $(ARGS)

bench-memory: .venv/.installed ## Measure a worker's memory over a million jobs
	@.venv/bin/python -m benchmarks.memory $(ARGS)

bench-enqueue: .venv/.installed ## Measure accepting jobs: singly, by many clients, in bulk
	@.venv/bin/python -m benchmarks.enqueue $(ARGS)

bench-latency: .venv/.installed ## Measure from the commit to the start, and how late delayed jobs are
	@.venv/bin/python -m benchmarks.latency $(ARGS)

bench-idle: .venv/.installed ## Measure CPU, queries and memory of a worker that has nothing to do
	@.venv/bin/python -m benchmarks.idle $(ARGS)

bench-schedules: .venv/.installed ## Measure 10,000 schedules beside plain SQL and APScheduler
	@.venv/bin/python -m benchmarks.schedules $(ARGS)

# SCHED_TEST_CHROMIUM names another one.
CHROMIUMS = $(SCHED_TEST_CHROMIUM) chromium chromium-browser google-chrome chrome
browser: .venv/.installed ## Try the pages in a real Chromium: hostile text, keys, phone, no JavaScript, themes
	@for name in $(CHROMIUMS); do found=$$(command -v "$$name") && break; done; \
	if [ -z "$$found" ]; then \
		echo "SKIPPED: the pages are NOT tried in a browser: no Chromium (on Debian: apt install chromium)" >&2; \
	else \
		$(MAKE) .venv/.browser \
		&& SCHED_TEST_CHROMIUM="$$found" .venv/bin/python -m pytest -q tests/browser $(ARGS); \
	fi

pictures: .venv/.installed ## Take the pictures of docs/images anew, in a real Chromium
	@for name in $(CHROMIUMS); do found=$$(command -v "$$name") && break; done; \
	$(MAKE) .venv/.browser \
	&& SCHED_TEST_CHROMIUM="$$found" PYTHONPATH=.:tests .venv/bin/python -m docs.pictures.take

# CASES of each operation; ARGS go to schemathesis: ARGS='--seed 7 --include-operation-id list_jobs'.
CASES ?= 100
schemathesis: .venv/.installed ## Ask the API whatever its OpenAPI document allows, and forbids: CASES=100
	@$(MAKE) .venv/.schemathesis
	@.venv/bin/python tests/run_schemathesis.py $(CASES) $(ARGS)

routes: .venv/.installed ## Write docs/routes.md: every route of the web with its role
	@.venv/bin/python tests/route_table.py

lint: .venv/.installed ## Check style and likely faults
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check

types: .venv/.installed ## Check types, strictly
	@.venv/bin/mypy

check: lint types test ## Run lint, types and test

reference: .venv/.installed ## Write docs/reference/ from the code
	@.venv/bin/python docs/reference/generate.py

format: .venv/.installed ## Put the code into shape
	@.venv/bin/ruff check --fix
	@.venv/bin/ruff format

wheel: .venv/.installed ## Build the source archive, and from it the wheel, in dist/
	@rm -rf dist
	@.venv/bin/python -m build --no-isolation --outdir dist

# What ours is measured beside, apart from .venv. Its Node.js comes from a wheel; without npm's packages the rest is measured.
build/peers/.installed: constraints-peers.txt benchmarks/peer_queues/package-lock.json .venv/.locked
	@rm -rf build/peers
	@.venv/bin/python -m venv build/peers
	@build/peers/bin/python -m pip --quiet --quiet install --require-hashes --requirement $<
	@cp benchmarks/peer_queues/package.json benchmarks/peer_queues/package-lock.json build/peers
	@PATH="$(CURDIR)/build/peers/bin:$$PATH" npm --prefix build/peers ci --silent --no-audit --no-fund \
		|| { rm -rf build/peers/node_modules; echo "npm could not install graphile-worker: it is left out" >&2; }
	@touch $@

# The groups beside it take the versions that it has pinned.
COMPILE = CUSTOM_COMPILE_COMMAND='make lock' build/lock/bin/python -m piptools compile \
	--quiet --upgrade --generate-hashes --strip-extras --allow-unsafe \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options
GROUP = build/lock/bin/python -c 'import sys, tomllib; \
	print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"][sys.argv[1]], sep="\n")'

lock: ## Pin the newest versions that pyproject.toml allows in constraints.txt and beside it
	@"$(LOCK_PYTHON)" -m venv --clear build/lock
	@build/lock/bin/python -m pip --quiet --quiet install pip-tools==7.6.2
	@$(GROUP) dev | $(COMPILE) --all-extras --output-file constraints.txt pyproject.toml -
	@$(MAKE) lock-groups

lock-groups:
	@for group in browser schemathesis peers; do \
		{ echo "-c $(CURDIR)/constraints.txt"; $(GROUP) $$group; } > build/lock/$$group.in \
		&& $(COMPILE) --no-annotate --output-file constraints-$$group.txt build/lock/$$group.in || exit 1; done

clean: ## Remove all that make has made, .venv too; databases stay
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# New versions: a new .venv, so that nothing old stays in it.
.venv/.locked: constraints.txt
	@python="$(PYTHON)"; "$$python" -c '$(USABLE)' 2>/dev/null || { echo "$(NO_PYTHON)" >&2; exit 1; }; \
	echo "Making .venv with $$python (takes a minute)"; \
	"$$python" -m venv --clear .venv
	@$(PIP) install --require-hashes --requirement constraints.txt
	@touch $@

.venv/.installed: .venv/.locked pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.%: constraints-%.txt .venv/.locked
	@$(PIP) install --require-hashes --requirement $<
	@touch $@

NO_PYTHON = Python 3.11 or newer with its venv module is needed (Debian, Ubuntu: apt install python3-venv); \
make PYTHON=/path/to/python names one.
