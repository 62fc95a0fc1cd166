# Needs Python 3.11 or newer. The first target that is run creates .venv and installs the requirements in it.
#
#   make demo              render a synthetic data set, train a small model on it and test it (about 8 minutes)
#   make test              quick tests (minutes)
#   make test-integration  tests of whole commands, several processes and Java
#   make test-slow         tests of interruptions, of several training processes, and on real data
#   make test-gpu          tests that need a CUDA device
#   make lint              style checks
#   make clean             delete .venv and demo
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
DEMO := demo
PAIR := 00487.png# a pair of the demo's test split: a residential area is built on grassland

# Make glibc keep freed memory for the next tensor instead of returning it to the system, which makes training
# steps on a CPU faster (docs/training.md). Other C libraries ignore these variables.
demo: export MALLOC_MMAP_MAX_ := 0
demo: export MALLOC_TRIM_THRESHOLD_ := 2147483647

.PHONY: demo test test-integration test-slow test-gpu lint clean

$(READY): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; found = f"{v[0]}.{v[1]}"; \
	sys.exit(f"Python {found} is older than 3.11: make PYTHON=python3.11 ..." if v < (3, 11) else 0)'
	$(PYTHON) -m venv --clear $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

demo: $(READY)
	rm -rf $(DEMO)
	$(PY) tools/make_demo_dataset.py --output $(DEMO)/dataset --pairs 600 --seed 1
	$(PY) tools/create_input_files.py --dataset_dir $(DEMO)/dataset --output_dir $(DEMO)/input --image_size 96
	$(PY) train.py --config configs/demo.yaml --run_dir $(DEMO)/run
	$(PY) eval.py --checkpoint $(DEMO)/run/best.pt --shuffle_images
	$(PY) eval.py --checkpoint $(DEMO)/run/best.pt
	$(PY) caption.py --checkpoint $(DEMO)/run/best.pt --picture $(DEMO)/caption.png \
	  $(foreach view,rgb/A rgb/B sem/A sem/B,$(DEMO)/dataset/test/$(view)/$(PAIR))

test: $(READY)
	$(PY) -m pytest -q -n auto -m "not integration and not slow and not gpu"

test-integration: $(READY)
	$(PY) -m pytest -q -n auto -m "integration and not slow and not gpu"

test-slow: $(READY)
	$(PY) -m pytest -q -m "slow and not gpu"

test-gpu: $(READY)
	$(PY) -m pytest -q -m gpu -rs

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	PYTHONPATH=. $(VENV)/bin/lint-imports --no-cache

clean:
	rm -rf $(VENV) $(DEMO)
