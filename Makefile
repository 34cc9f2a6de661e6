# Two commands matter: `make run` and `make test`. Both set up and build first, on a fresh Debian 12.
#
#   make run [DIR=/usr/bin] [KILL=10]   verify every file of DIR through the system while its disk driver is
#                                       killed KILL times a second
#   make test [TESTS=tests/style] [JOBS=2]
#                                       everything that proves it, JOBS tests at a time: ruff, mypy, layers, trusted
#                                       lines and the Rust tests on the host are tests too (tests/style)
#   make test-stock, make test-stock-quick
#                                       what of it needs KVM, on a stock kernel's KVM in an emulated machine (25 and
#                                       4 minutes), into build/stock.xml; `make test` ends with the quick one
#   make setup                          packages, .venv, generated files checked, native modules, guests
#   make campaign [SEED=1]              the long, seeded tests, into build/campaign.xml
#   make bench, make bench-quick        the measured figures, into build/bench.json
#   make generate                       writes what is generated from abi.toml and the protocols' TOML
#   make clean                          removes everything built, but not .venv

DIR ?= /usr/bin
KILL ?= 10
TESTS ?= tests
JOBS ?= 2
SEED ?= 1

PYTHON := .venv/bin/python
HOST_READY := build/stamps/host
VENV_READY := build/stamps/venv

.PHONY: all setup run test test-stock test-stock-quick campaign bench bench-quick generate clean

all: setup

setup: $(HOST_READY) $(VENV_READY)
	@$(PYTHON) -m ci.build

$(HOST_READY): ci/setup
	@ci/setup host
	@mkdir -p $(@D) && touch $@

$(VENV_READY): ci/setup pyproject.toml $(HOST_READY) $(if $(wildcard $(PYTHON)),,missing-venv)
	@ci/setup venv
	@mkdir -p $(@D) && touch $@

.PHONY: missing-venv
missing-venv:

run: setup
	@.venv/bin/r3s3 verify "$(DIR)" --kill disk_driver@$(KILL)

test: setup
	@$(PYTHON) -m pytest --numprocesses=$(JOBS) --dist=loadfile --junit-xml=build/tests.xml $(TESTS)
ifeq ($(TESTS),tests)
	@$(PYTHON) -m ci.stock --quick
endif

test-stock: setup
	@$(PYTHON) -m ci.stock

test-stock-quick: setup
	@$(PYTHON) -m ci.stock --quick

campaign: setup
	@R3S3_SEED=$(SEED) $(PYTHON) -m pytest -m campaign --junit-xml=build/campaign.xml $(TESTS); status=$$?; \
		echo "seeds from $(SEED) on; results: build/campaign.xml"; exit $$status

bench: setup
	@ci/setup bench
	$(PYTHON) -m tests.bench

bench-quick: setup
	@ci/setup bench
	$(PYTHON) -m tests.bench --quick

generate: $(HOST_READY) $(VENV_READY)
	@$(PYTHON) -m ci.build --generate

clean:
	rm -rf build
	find hypervisor vmm images -name '_*.so' -delete
	find . -name __pycache__ -prune -exec rm -rf {} +
