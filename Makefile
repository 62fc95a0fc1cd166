# From a bare checkout with python3 (3.11 or newer) and make: `make demo`, `make test` (minutes), `make test-slow`, `make test-gpu`, `make lint`.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
DEMO := demo
PAIR := 00487.png# of the demo's test split: a residential area is built on grassland

.PHONY: demo test test-slow test-gpu lint clean

$(READY): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
	sys.exit(f"python 3.11 or newer is needed, {v[0]}.{v[1]} found: make PYTHON=python3.11 ..." if v < (3, 11) else 0)'
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
	$(PY) -m pytest -q -n auto -m "not slow and not gpu"

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
