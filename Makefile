# Everything runs in .venv/, which is made once from the lock and made again when the lock changes.
.DELETE_ON_ERROR:
.PHONY: run test dashboard bench bench-peers lint lock clean

VENV := .venv
PY := $(VENV)/bin/python

# The linters work while the kernels are compiled.
MAKEFLAGS += --jobs=2

export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

# `pip install --require-hashes` refuses anything that the lock does not name; the project itself comes without dependencies.
$(VENV)/.installed: requirements.lock pyproject.toml
	@command -v python3.11 >/dev/null || { echo "python3.11 is needed and was not found: install Python 3.11 with its venv module"; exit 2; }
	python3.11 -m venv --clear $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Compiled code and outcome maps live in the user's cache, one folder for each state of the sources.
NUMBERS := $(wildcard calib/*.py calib/*/*.py devices/*.py devices/*/*.py experiments/*.py experiments/*/*.py \
    firmware_bridge/*.py firmware_bridge/*/*.py scenarios/*.toml)
$(VENV)/.compiled: $(VENV)/.installed $(NUMBERS)
	$(PY) -m experiments.warm
	@touch $@

# One session, then 2 x 200 people to analyse: a folder for each state of the code, kept when there.
run: $(VENV)/.compiled
	$(VENV)/bin/calib run apartment --device roomba:emulator --person rational --seed 7 --rounds 12
	$(VENV)/bin/calib simulate apartment --role tool,advisor --people 200 --seed 7 --rounds 12 \
	    --out out/first-$$($(PY) -c "from calib.provenance import code_sha256; print(code_sha256()[:8])")

# The tests drive a browser, a database server and the rover's firmware in an emulator, all Debian's own. Without apt, or
# without root, their tests are left out.
ROVER := gcc-avr avr-libc binutils-avr arduino-core-avr simavr libsimavr-dev libelf-dev g++ avrdude
$(VENV)/.system: firmware_bridge/rover_build.py | $(VENV)/.installed
	@packages=""; left=""; \
	[ -x /usr/bin/chromium ] || { packages="chromium"; left="browser"; }; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { packages="$$packages postgresql"; left="$$left PostgreSQL"; }; \
	[ -z "$$($(PY) -m firmware_bridge.rover_build)" ] || { packages="$$packages $(ROVER)"; left="$$left rover"; }; \
	if [ -z "$$packages" ]; then touch $@; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	        -o DPkg::Lock::Timeout=400 $$packages >/dev/null && touch $@; \
	else \
	    echo "tests left out:" $$left "(apt-get is not to be had here; they need" $$packages")"; \
	fi

# Prints the address to open, with its token.
dashboard: $(VENV)/.compiled
	$(PY) -m dashboard.serve

# Three processes of one thread each, since many tests wait; a file's tests stay together, because they share what they set up.
# Then a browser has the machine to itself: a page that leads is to be heard of every four seconds.
test: $(VENV)/.compiled $(VENV)/.system lint
	@failed=0; \
	NUMBA_NUM_THREADS=1 $(PY) -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not alone" || failed=1; \
	$(PY) -m pytest -m alone || failed=1; \
	exit $$failed

lint: $(VENV)/.installed
	$(VENV)/bin/ruff format --check --quiet .
	$(VENV)/bin/ruff check --quiet .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: $(VENV)/.compiled
	$(PY) -m bench.engine
	$(PY) -m bench.tiers --quick
	$(PY) -m bench.policies

# Other packages, each in an environment of its own in the user's cache; needs the package index, and 2 GB for one of them.
bench-peers: $(VENV)/.compiled
	$(PY) -m bench.peers

# The lock carries hashes and no addresses.
lock: $(VENV)/.installed
	$(PY) -m pip install --quiet uv
	$(VENV)/bin/uv pip compile --quiet --python-version 3.11 --extra dev --no-emit-index-url --no-header --generate-hashes \
	    pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
