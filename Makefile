PYTHON ?= python3
BIN := .venv/bin

# The plain run: everything that a newcomer needs is made on the way. It ends with a page.
demo: .venv/.ready
	$(BIN)/privbench run --suite demo --out results/demo
	$(BIN)/privbench report --out results/demo

# One worker a core, one thread each: threads that wait for each other cost more than they bring.
test: .venv/.ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile

# Minutes longer: what the plain run leaves out.
test-slow: .venv/.ready
	$(BIN)/pytest -m slow

# The page in a real browser, from Debian's packages.
test-browser: .venv/.ready
	command -v chromium || apt-get install --yes --no-install-recommends chromium
	$(BIN)/pytest -m browser
# Ray's executor: two nodes on this computer, workers and a node that are killed.
test-ray: .venv/.ready
	$(BIN)/pip install --quiet -c constraints.txt -e '.[ray]'
	OMP_NUM_THREADS=1 $(BIN)/pytest -m ray

# What needs an accelerator: the tests marked so, and gradient matching against breaching's.
CUDA := import sys, torch; sys.exit(not torch.cuda.is_available())
gpu: .venv/.ready
	@if $(BIN)/python -c "$(CUDA)"; then \
		$(BIN)/pip install --quiet --group bench && $(BIN)/pytest -m gpu && \
		$(BIN)/python -m tests.bench.matching --device cuda; \
	else echo "This computer has no CUDA device, so nothing was run."; fi

# Speed, as ratios against a peer in the same run; gradient matching's is in the group `bench`.
bench: .venv/.ready
	$(BIN)/python -m tests.bench.speed
	$(BIN)/python -m tests.bench.matching
	$(BIN)/python -m tests.bench.corruptions
	$(BIN)/python -m tests.bench.tables

check: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache

# The reference pages, from the components themselves; a test fails when one is stale.
PAGES := attacks defenses metrics datasets evals suites
docs: .venv/.ready
	for page in $(PAGES); do $(BIN)/privbench list $$page --format md > docs/reference/$$page.md || exit 1; done
	$(BIN)/privbench list models --format md > docs/reference/victims.md
	$(BIN)/privbench claims mjp > docs/paper.md

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --progress-bar on -c constraints.txt -e . --group dev
	touch $@

# Two clients of Flower's simulation and an audit of each, in an environment of its own: Flower wants
# older versions of what draws the command line.
FLOWER := examples/flower_vit/.venv
example-flower: $(FLOWER)/.ready
	mkdir -p results/flower
	examples/flower_vit/run.sh

$(FLOWER)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(FLOWER)
	grep -vE '^(packaging|rich|typer)==' constraints.txt > $(FLOWER)/constraints.txt
	$(FLOWER)/bin/pip install --progress-bar on -c $(FLOWER)/constraints.txt -e '.[flower]'
	touch $@

.PHONY: demo test test-slow test-browser test-ray gpu bench check docs example-flower
