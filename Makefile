# What a newcomer needs: `make demo`. What a developer needs: `make test` and `make lint`.
# Every target works from a fresh clone: the virtual environment is made on the way.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
# Containers often set it. Tests and demo start hundreds of processes, each of which would compile all that it imports:
# of mlflow alone some seconds of processor time.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
SCENARIO ?= fraud
ROUNDS ?= 20
SOAK ?= 10
RATE ?= 1000
# Seconds that all three brokers stay down in the row of that name.
OUTAGE ?= 60
# How many generated files and record forms a newcomer's first steps are tried on.
INPUTS ?= 1000
# Test processes at once; each starts a broker of its own when its tests ask for one. One more than the two cores that
# CI has: those that play a whole loop wait for each other's roles half of the time.
JOBS ?= 3
ARGS ?=
KUBE ?= $(HOME)/.cache/stationkeeper/kube
# The Python of the image, by which its lock is read: Dockerfile's PYTHON.
IMAGE_PYTHON ?= 3.12
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
INSTALL = $(BIN)/uv pip install --quiet --python $(BIN)/python --build-constraint requirements/build.txt

.PHONY: help venv lock demo test lint format bench broker docs reliability generated kube chart sbom audit release clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# --- environment ---------------------------------------------------------------------------------

# uv is put inside the virtual environment, so that an externally managed Python is never touched.
$(STAMPS)/uv: requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit("Stationkeeper needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; say make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "cannot make $(VENV): install your system's venv package (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@mkdir -p $(STAMPS)
	@touch $@

$(STAMPS)/demo: requirements/demo.txt requirements/build.txt pyproject.toml $(STAMPS)/uv
	@$(INSTALL) --require-hashes -r requirements/demo.txt
	@$(INSTALL) --no-deps -e .
	@touch $@

$(STAMPS)/dev: requirements/dev.txt requirements/build.txt pyproject.toml $(STAMPS)/uv
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@$(INSTALL) --no-deps -e .
	@touch $@

venv: $(STAMPS)/dev ## make .venv with everything that development needs

# The development lock is resolved first and constrains the others, so that what is tested is what ships.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-strip-extras $(if $(UPGRADE),--upgrade) pyproject.toml
lock: $(STAMPS)/uv ## resolve pyproject.toml into hashed requirements (UPGRADE=1 takes newer versions)
	$(COMPILE) --extra demo --extra river --extra lightgbm --extra librdkafka --extra kubernetes --extra plots --extra sagemaker --extra vertex --extra dvc --extra s3 --extra otlp --group dev -o requirements/dev.txt
	$(COMPILE) --extra demo -c requirements/dev.txt -o requirements/demo.txt
	$(COMPILE) --extra retrain --extra serve --extra kubernetes --extra sagemaker --extra vertex --extra s3 --extra otlp -c requirements/dev.txt -o requirements/image.txt
	$(COMPILE) -c requirements/dev.txt -o requirements/base.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  $(if $(UPGRADE),--upgrade) --group build -o requirements/build.txt
	printf 'evidently>=0.7.20,<0.8\npandas<3\n' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate $(if $(UPGRADE),--upgrade) - -o stationkeeper/evidently/requirements.txt
	printf 'kfp>=2.14,<3\nkfp-kubernetes>=2.14,<3\npolars>=1.35\nscikit-learn>=1.6\nskl2onnx>=1.19\n' | $(BIN)/uv pip compile --quiet --universal \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate $(if $(UPGRADE),--upgrade) - \
	  -o ops/examples/training/requirements-kubeflow.txt
	printf 'ray[client]>=2.50,<3\npolars>=1.35\nscikit-learn>=1.6\nskl2onnx>=1.19\n' | $(BIN)/uv pip compile --quiet --universal \
	  --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate $(if $(UPGRADE),--upgrade) - \
	  -o ops/examples/training/requirements-ray.txt
	printf 'cyclonedx-bom\npip-audit\n' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate $(if $(UPGRADE),--upgrade) - -o requirements/supply.txt
	printf 'uv\n' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate $(if $(UPGRADE),--upgrade) - -o requirements/uv.txt

# --- run -----------------------------------------------------------------------------------------

demo: $(STAMPS)/demo ## watch a model go bad and be cured (SCENARIO=fraud or flights, ARGS=...)
	@$(BIN)/stationkeeper demo $(SCENARIO) $(ARGS)

broker: $(STAMPS)/demo ## run a local Apache Kafka for development (ARGS=...)
	@$(BIN)/stationkeeper broker $(ARGS)

# --- check ---------------------------------------------------------------------------------------

# A file's tests stay in one process and in order: many share a broker, a registry or a whole played loop.
# They are taken in the order in which they are collected, long ones first; the plugin's own is by number of tests.
test: $(STAMPS)/dev ## run the tests in JOBS=3 processes (ARGS=...)
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder --max-worker-restart 0 $(ARGS)

lint: $(STAMPS)/dev ## check style, types, room boundaries, sizes and generated documents
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m scripts.house_rules
	@$(BIN)/python -m scripts.unexplained
	@$(BIN)/python scripts/generated_docs.py --check

format: $(STAMPS)/dev ## rewrite the code in the house style
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

docs: $(STAMPS)/dev ## write the generated documents again
	@$(BIN)/python scripts/generated_docs.py

kube: $(STAMPS)/dev ## build a real kube-apiserver for the tests of Kubernetes targets (KUBE=folder; needs Go, a quarter of an hour)
	@$(BIN)/python -m scripts.kube_apiserver $(KUBE)

chart: $(STAMPS)/dev ## render ops/helm again for the tests that have no helm (needs helm on PATH or from make kube)
	@$(BIN)/python -m tests.cluster.helm

bench: $(STAMPS)/dev ## measure the speed of everything, or run one benchmark (ARGS=NAME; ARGS=list names them)
	@$(BIN)/python -m benchmarks $(or $(ARGS),speed)

reliability: $(STAMPS)/dev ## run each fault many times and write docs/reliability.md (ROUNDS=20, SOAK=10 minutes of RATE=1000 events/s, OUTAGE=60 s)
	@STATIONKEEPER_RELIABILITY_ROUNDS=$(ROUNDS) STATIONKEEPER_RELIABILITY_SOAK=$(SOAK) STATIONKEEPER_RELIABILITY_RATE=$(RATE) STATIONKEEPER_RELIABILITY_OUTAGE=$(OUTAGE) $(BIN)/python -m pytest tests/reliability --timeout 0 -o faulthandler_timeout=0 -s $(ARGS)

generated: $(STAMPS)/dev ## take generated files and record forms a newcomer's way, the forms on a real broker (INPUTS=1000 of each)
	@STATIONKEEPER_FILES=$(INPUTS) STATIONKEEPER_FORMS=$(INPUTS) $(BIN)/python -m pytest --timeout 0 -o faulthandler_timeout=0 --durations=5 $(ARGS) \
	  tests/stationkeeper/tables/test_generated_files.py tests/stationkeeper/init/test_record_forms.py

# Tools that look at the lock run apart: what they need is none of ours.
SUPPLY = $(BIN)/uv run --quiet --no-project --isolated --with-requirements requirements/supply.txt
sbom: $(STAMPS)/uv ## write build/sbom.cdx.json (CycloneDX) of the image's lock, and THIRD_PARTY_NOTICES.md from it
	@mkdir -p build
	@$(BIN)/uv venv --quiet --clear build/image-environment --python $(IMAGE_PYTHON)
	@$(BIN)/uv pip install --quiet --python build/image-environment/bin/python --require-hashes -r requirements/image.txt
	@$(SUPPLY) cyclonedx-py environment build/image-environment/bin/python --pyproject pyproject.toml --output-reproducible \
	  --of JSON -o build/sbom.cdx.json
	@$(BIN)/python -m scripts.notices build/sbom.cdx.json

# Strict: a package that the database was not asked about is a failure and no clean bill.
audit: $(STAMPS)/uv ## look for known vulnerabilities in the image's lock (ARGS="-s osv" asks osv.dev instead of PyPI)
	@$(SUPPLY) pip-audit --strict --disable-pip --require-hashes -r requirements/image.txt $(ARGS)

release: $(STAMPS)/dev ## write, build, try, commit and tag VERSION=0.2.0; pushes nothing
	@$(BIN)/python -m scripts.release $(VERSION)

clean: ## remove .venv, caches and everything a run leaves behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
