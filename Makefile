# Everything runs in .venv at the project root, which the first target that needs it creates.
PYTHON ?= python3
BIN := .venv/bin
export OMP_WAIT_POLICY ?= PASSIVE
AXE := https://registry.npmjs.org/axe-core/-/axe-core-4.14.1.tgz

.PHONY: install demo test test-fast test-integrations test-federated resolve-federated docs lint bench fixtures wheel dist clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt setup.py $(wildcard defenses/edpsgd/_*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "redteam needs Python 3.11 or newer; say: make PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --config-settings editable_mode=compat -e '.[dev,dp,minilm,plot]'
	@touch $@

# The leaky model must be failed (exit 1) and the safe one passed (exit 0); anything else fails the demo.
demo: install
	@chmod 600 fixtures/*/*.ledger.json  # git makes them readable to everybody
	@mkdir -p build/demo
	@echo "== A model trained until it knew its examples by heart"
	@$(BIN)/redteam audit fixtures/leaky/model.pt --policy fixtures/policy.toml -f json -o build/demo/leaky.json; test $$? -eq 1 || { echo "demo: the leaky model was not failed" >&2; exit 1; }
	@$(BIN)/redteam gate build/demo/leaky.json --policy fixtures/policy.toml || true
	@echo
	@echo "== The same model, trained not to"
	@$(BIN)/redteam audit fixtures/safe/model.pt --policy fixtures/policy.toml -f json -o build/demo/safe.json
	@$(BIN)/redteam gate build/demo/safe.json --policy fixtures/policy.toml
	@for each in leaky safe; do $(BIN)/redteam report -q build/demo/$$each.json --policy fixtures/policy.toml -o build/demo/$$each.html || exit 1; done
	@echo
	@echo "demo: the leaky model was failed (exit 1), the safe one passed (exit 0)"
	@echo "demo: the same as pages with pictures: open build/demo/leaky.html and build/demo/safe.html in a browser"

# One worker a core, each on one thread: more threads than cores would wait for each other.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadscope

# What needs no training, no model and no process of its own: statistics, reports, policies, formats, readers, layout.
FAST := tests/formats $(filter-out %_coverage.py $(addprefix %/test_,auc_small_alpha.py thresholds.py roc.py),\
	$(wildcard tests/statistics/test_*.py)) \
	$(patsubst %,tests/test_%.py,canary canary_files canary_ledger codec consistency data drill_report files \
	gap_report judge layout matching policy report tables) \
	tests/targets/test_answers.py tests/targets/test_saved.py tests/targets/test_saved_files.py \
	tests/verify/test_decisions.py

test-fast: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadscope -m "not slow" $(FAST)

# What needs packages that only some users have. They are put into an environment on top of the other, never into it.
test-integrations: .venv-integrations/installed
	REDTEAM_INTEGRATIONS=1 OMP_NUM_THREADS=1 timeout 1800 .venv-integrations/bin/python -m pytest -m integration --timeout=600 \
		tests/integrations tests/models/test_adapters.py --ignore=tests/integrations/test_flower.py

.venv-integrations/installed: .venv/installed constraints.txt
	$(BIN)/python -m venv --clear .venv-integrations
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		> "$$(.venv-integrations/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/below.pth"
	.venv-integrations/bin/pip install --quiet --disable-pip-version-check -c constraints.txt accelerate datasets distributed mlflow-skinny pandas peft ray \
		tensorboard twine wandb
	# pages in a browser, where there is one; axe-core is a script that is read from its package of npm
	.venv-integrations/bin/pip install --quiet --disable-pip-version-check -c constraints.txt playwright
	mkdir -p .venv-integrations/axe && curl -sSfL --max-time 60 $(AXE) | tar xz -C .venv-integrations/axe package/axe.min.js \
		|| echo "axe-core could not be fetched: its test is skipped" >&2
	# alone: it names a hundred packages, of which its attacks use these
	.venv-integrations/bin/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps privacyguard-platform
	@touch $@

# Federated training over Flower: on Ray, and over a SuperLink on loopback. Its pins are older than ours, so that it has
# an environment of its own, on top of the other.
test-federated: .venv-federated/installed
	REDTEAM_INTEGRATIONS=1 OMP_NUM_THREADS=1 timeout 1800 .venv-federated/bin/python -m pytest -m integration --timeout=600 \
		tests/integrations/test_flower.py

.venv-federated/installed: .venv/installed constraints-federated.txt
	$(BIN)/python -m venv --clear .venv-federated
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		> "$$(.venv-federated/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/below.pth"
	.venv-federated/bin/pip install --quiet --disable-pip-version-check -c constraints-federated.txt $(FEDERATED)
	@touch $@

FEDERATED = $$($(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["federated"])')

# Nothing is installed: it fails where the extra no longer resolves, as when pip would take a Flower of 2024.
resolve-federated: install
	$(BIN)/pip install --dry-run --quiet --disable-pip-version-check -c constraints-federated.txt $(FEDERATED)

# The site, in build/site; a dead link is an error. Only .venv-docs needs the package index, once; the build needs no network.
docs: .venv-docs/installed install
	$(BIN)/python docs/make/commands.py
	$(BIN)/python docs/make/picture.py
	$(BIN)/python docs/make/example_pages.py
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

.venv-docs/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv-docs
	.venv-docs/bin/pip install --quiet --disable-pip-version-check -c constraints.txt $$($(PYTHON) -c \
		'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])')
	@touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	@for bench in tests/bench/bench_*.py; do echo "== $$bench"; $(BIN)/python $$bench || exit 1; done

fixtures: install
	OMP_NUM_THREADS=1 $(BIN)/python fixtures/make.py # how many threads add up a sum decides its last digits

wheel: install
	$(BIN)/python -m build --wheel

# What is uploaded to an index, checked as the index will. No part of this uploads anything.
dist: install .venv-integrations/installed
	rm -rf dist
	$(BIN)/python -m build
	.venv-integrations/bin/python -m twine check --strict dist/*

clean:
	rm -rf .venv .venv-integrations .venv-federated .venv-docs build dist *.egg-info
