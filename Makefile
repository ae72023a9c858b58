# Everything here uses the tools of .venv; `make .venv` makes it.
BIN := .venv/bin
COMPILE = UV_CUSTOM_COMPILE_COMMAND="make locks" $(BIN)/uv pip compile --quiet --universal --python-version 3.10 \
    --generate-hashes --no-annotate $(UV_ARGS)

.PHONY: locks

# Pins stay as they are unless pyproject.toml asks for another, or: make locks UV_ARGS="--upgrade-package rich"
locks:
	$(COMPILE) --group test --output-file requirements-test.lock
	$(COMPILE) --group controller --constraint requirements-test.lock --output-file requirements.lock
	$(COMPILE) --group runtime --constraint requirements-test.lock --output-file requirements-runtime.lock
