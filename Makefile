# Everything here runs the tools of .venv. `make check` makes .venv when it is missing or older than its lock.
BIN := .venv/bin
COMPILE = UV_CUSTOM_COMPILE_COMMAND="make locks" $(BIN)/uv pip compile --quiet --universal --python-version 3.10 \
    --generate-hashes --no-annotate $(UV_ARGS)

.PHONY: check venv locks

# Linters, types and the fast tests.
check: venv
	$(BIN)/python tests/run --fast

venv: $(BIN)/pytest

$(BIN)/pytest: requirements-test.lock
	python3 -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-test.lock
	touch $@

# Keeps every pin that pyproject.toml still allows. To raise one: make locks UV_ARGS="--upgrade-package rich"
locks: venv
	$(COMPILE) --group test --output-file requirements-test.lock
	$(COMPILE) --group controller --constraint requirements-test.lock --output-file requirements.lock
	$(COMPILE) --group runtime --constraint requirements-test.lock --output-file requirements-runtime.lock
