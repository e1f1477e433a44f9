# Verbs: install demo test test-crash test-chaos test-kubernetes lint mutate bench hashes sbom. Needs Python 3.11 or newer and nothing else; everything lands in .venv.
#   make demo ARGS="--headless"      make test ARGS="tests/unit -k policy"

PYTHON ?= $(firstword $(shell command -v python3 python3.13 python3.12 python3.11 2>/dev/null) python3)
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
HELM ?= helm
RENDER = $(HELM) template natsmedic deploy/helm/natsmedic --namespace natsmedic --kube-version 1.30.0
# Tests at once: they start real servers and mostly wait for them, so four fit on two cores. What computes, or shares twelve volumes, takes three.
TEST_JOBS ?= 4
JOBS ?= 3

.DEFAULT_GOAL := help
.PHONY: help install demo test test-crash test-chaos test-kubernetes lint mutate bench manifests hashes sbom

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -2

# A stamp is newer than what it was made from, so a warm start installs nothing. The demo needs no test tools, and does not wait for them.
$(VENV)/.lab: EXTRAS := lab
$(VENV)/.lab-postgres: EXTRAS := lab,lab-postgres
$(VENV)/.all: EXTRAS := lab,lab-postgres,postgres,test
$(VENV)/.lab $(VENV)/.lab-postgres $(VENV)/.all: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "natsmedic needs Python 3.11 or newer; $(PYTHON) is older. Try: make install PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing natsmedic[$(EXTRAS)] into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $(VENV)/.lab $(if $(filter %.all,$@),$(VENV)/.lab-postgres) $@

install: $(VENV)/.all

# Only a demo on PostgreSQL fetches one.
demo: $(VENV)/.lab$(if $(findstring --postgres,$(ARGS)),-postgres)
	@$(BIN)/python -m bot.lab.demo $(ARGS)

# What fails beside others is run once more, alone: a deadline missed on a busy machine is met there, a wrong answer is wrong again.
test: $(VENV)/.all
	$(BIN)/python -m pytest --numprocesses $(TEST_JOBS) --dist load --maxschedchunk 4 $(ARGS) || \
		{ test $$? -eq 1 && $(BIN)/python -m pytest --last-failed --last-failed-no-failures none --maxfail 1 $(ARGS); }

# The kill matrix: every action, killed at every crash point that it passes, and the whole bot at those before; 500 runs and more.
# A run again: make test-crash ARGS="--seed 1 --only 17"; with the bot's records in PostgreSQL: make test-crash ARGS="--database postgresql"
test-crash: $(VENV)/.all
	$(BIN)/python -m tests.crash $(ARGS)
	test -n "$(ARGS)" || NATSMEDIC_EXHAUSTIVE=1 $(BIN)/python -m pytest --numprocesses $(JOBS) tests/e2e/test_crashes.py tests/crash/test_late.py

# Several bots on one PostgreSQL, and repairs by the thousand while they are frozen, killed and cut off: make test-chaos ARGS="--operations 1000 --replicas 3"
test-chaos: $(VENV)/.all
	$(BIN)/python -m tests.chaos $(ARGS)

# Against whatever KUBECONFIG points at, in namespaces of its own; a module's tests share one.
test-kubernetes: $(VENV)/.all
	$(BIN)/python -m pytest -m kubernetes --numprocesses $(JOBS) --dist loadfile tests/integration $(ARGS)

lint: $(VENV)/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

# Half an hour, and no part of CI; in a copy of the tree. What survived: cd .venv/mutation && ../bin/mutmut results; one of them: mutmut show NAME
MUTATION := $(VENV)/mutation
mutate: $(VENV)/.all
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[mutation]'
	@rm -rf $(MUTATION) && mkdir -p $(MUTATION)
	@git ls-files -z --cached --others --exclude-standard bot deploy runbooks tests pyproject.toml | tar --null -T - -cf - | tar -xf - -C $(MUTATION)
	cd $(MUTATION) && $(abspath $(BIN))/mutmut run --max-children $(JOBS) $(ARGS) && $(abspath $(BIN))/mutmut results
	$(BIN)/python -m tests.mutants --jobs $(JOBS) 'bot/policy/*.py' tests/unit/policy
	$(BIN)/python -m tests.mutants --jobs $(JOBS) 'bot/model/proposal.py bot/model/execution.py' tests/unit/model/test_states.py
	$(BIN)/python -m tests.mutants --jobs $(JOBS) 'bot/flow/ladder.py bot/flow/ledger.py' tests/unit/flow/test_ladder.py tests/integration/test_ledger.py
	$(BIN)/python -m tests.mutants --jobs $(JOBS) 'bot/model/audit.py bot/flow/audit.py' tests/unit/model/test_audit.py tests/unit/flow/test_audit*.py

# The plain manifests that deploy/ holds of the chart; needs helm.
manifests:
	$(RENDER) >deploy/manifests/natsmedic.yaml
	$(RENDER) --values deploy/helm/natsmedic/ci/approve-values.yaml >deploy/manifests/natsmedic-approve.yaml

bench: $(VENV)/.all
	$(BIN)/python -m tests.bench.bench_diagnose $(ARGS)
	$(BIN)/python -m tests.bench.bench_nats_gather
	$(BIN)/python -m tests.bench.bench_audit

# After a change of constraints.txt: the same versions, with the hashes of all their files, for pip install --require-hashes.
# No address of a registry lands in the file, whichever one the machine uses.
hashes: $(VENV)/.supply
	$(BIN)/uv pip compile pyproject.toml --extra otel --extra postgres --constraint constraints.txt --quiet --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-annotate --custom-compile-command "make hashes" --output-file deploy/constraints.hashed.txt $(ARGS)

# What a release is made of: natsmedic's run-time dependencies alone, installed by their hashes into an environment of their own.
SBOM ?= natsmedic.cdx.json
sbom: $(VENV)/.supply
	$(PYTHON) -m venv --clear $(VENV)/sbom
	$(VENV)/sbom/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement deploy/constraints.hashed.txt
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file $(SBOM) $(VENV)/sbom/bin/python

$(VENV)/.supply: $(VENV)/.all
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[supply]'
	@touch $@
