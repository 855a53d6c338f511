# SN3: `make up` starts a whole network on this machine, `make test` checks everything. `make help` lists the rest.
GO      ?= go
WINDOWS ?=
MINERS ?=
VALIDATORS ?=
DIR     ?= .localnet
MODEL   ?=
SEED    ?=
TEXT    ?=
DATA    ?=
GAP     ?=
GOLDEN  ?= ../shared/golden
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X sn3/internal/proc.Version=$(VERSION)
BUILD   := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)'
# Without glibc's loader (Alpine) the miner is built without cards: what opens NVIDIA's libraries needs it, as they do.
ifeq ($(shell uname -s)$(wildcard /lib64/ld-linux* /lib/ld-linux*),Linux)
export GOFLAGS := $(GOFLAGS) -tags=nogpu
endif
RACE    := ./chain ./chain/yuma ./chain/timelock ./chain/drand ./chain/local ./chain/local/beacon/... ./chain/local/localtest ./chain/local/quorum ./chain/local/state ./gradients ./internal/... ./miner/... ./model/... ./storage ./validator/...

.PHONY: help build up down status logs clean-localnet test lint race bench bench-peers bench-units fuzz soak golden gpu-check gpu-check-pack FORCE

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18
	@echo "up takes WINDOWS= MINERS= VALIDATORS= DIR= MODEL=local|wire|small|<file.json> SEED= TEXT=<folder> DATA=<dataset> GAP=auto|train|wait"

build: ## build all programs into bin/
	@mkdir -p bin
	@for p in miner validator chain/chaind storage/s3d scripts/sn3 scripts/localnet; do \
	  echo "build bin/$$(basename $$p)"; $(BUILD) -o bin/$$(basename $$p) ./$$p || exit 1; done

up: build ## start (or continue) a whole network and watch it train
	@bin/localnet up --dir '$(DIR)' $(if $(WINDOWS),--windows $(WINDOWS)) $(if $(MINERS),--miners $(MINERS)) \
	  $(if $(VALIDATORS),--validators $(VALIDATORS)) $(if $(MODEL),--model '$(MODEL)') $(if $(SEED),--seed $(SEED)) \
	  $(if $(TEXT),--text '$(TEXT)') $(if $(DATA),--data '$(DATA)') $(if $(GAP),--gap $(GAP))

bin/localnet:
	@$(MAKE) --no-print-directory build

down status logs clean-localnet: | bin/localnet

down: ## stop the running network
	@bin/localnet down --dir '$(DIR)'

status: ## show what runs
	@bin/localnet status --dir '$(DIR)'

logs: ## show the end of every log, or of one: NODE=miner-1
	@bin/localnet logs --dir '$(DIR)' $(NODE)

clean-localnet: ## delete a stopped network
	@bin/localnet clean --dir '$(DIR)'

test: ## vet and the whole test suite
	$(GO) vet ./...
	$(GO) test -timeout 600s ./...

lint: ## formatting, vet, our own rules, staticcheck when it is installed
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	@if command -v staticcheck >/dev/null; then staticcheck ./...; else echo "staticcheck is not installed: skipped"; fi

race: ## tests under the race detector, without CometBFT and versitygw
	$(GO) test -race -short -timeout 900s $(RACE)

bin/bench: FORCE
	@mkdir -p bin
	@$(BUILD) -o $@ ./scripts/bench

bench: bin/bench ## measure the engine and the chain on this machine (reports: bin/bench.json, bin/bench-chain.json)
	@bin/bench all --json bin/bench.json
	@bin/bench chain --json bin/bench-chain.json

bench-peers: bin/bench ## the same work in torch, in an environment that is removed (KEEP=1 keeps it, ENV=<folder> uses one)
	@bin/bench peers --json bin/bench-peers.json $(if $(filter 1 yes true,$(KEEP)),--keep) $(if $(ENV),--env '$(ENV)') $(if $(SHAPES),--shapes '$(SHAPES)') \
	  $(if $(TASKS),--tasks '$(TASKS)') $(if $(ROUNDS),--rounds $(ROUNDS))

bench-units: ## benchmarks of single packages
	$(GO) test -run '^$$' -bench . -benchtime 1s -short ./gradients ./model/...

FUZZTIME ?= 10s
fuzz: ## every fuzz target for FUZZTIME
	@grep -rlE '^func Fuzz' --include='*_test.go' . | while read f; do for t in $$(grep -oE '^func Fuzz[A-Za-z0-9]+' $$f | cut -c6-); do \
	  echo "fuzz $$t in $$(dirname $$f)"; $(GO) test -run '^$$' -fuzz "^$$t\$$" -fuzztime $(FUZZTIME) $$(dirname $$f) || exit 1; done; done

gpu-check: bin/bench ## everything on this machine's NVIDIA card: kernels and model against the CPU, speed (STEPS=, OUT=, BENCH=)
	@bin/bench gpu --look
	@GO='$(GO)' sh scripts/gpu-check-pack.sh bin/sn3-gpu-check >/dev/null
	@sh bin/sn3-gpu-check/gpu-check.sh $(STEPS)

gpu-check-pack: ## gpu-check for a machine without Go and network: bin/sn3-gpu-check.tar.gz
	@GO='$(GO)' sh scripts/gpu-check-pack.sh bin/sn3-gpu-check

SUITE ?= network
soak: build ## long: SUITE=network kills every process of a network in turn, SUITE=chain hurts four chain nodes (SHORT=1 ONLY= ROUNDS= SEED= JSON=)
ifeq ($(SUITE),chain)
	@$(BUILD) -o bin/chainsoak ./scripts/chainsoak
	@bin/chainsoak --chaind bin/chaind $(if $(filter 1 yes true,$(SHORT)),--short) $(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
	  $(foreach s,$(ONLY),--only $(s)) $(if $(JSON),--json '$(JSON)')
else ifeq ($(SUITE),network)
	@sh scripts/soak.sh
else
	@echo "there is no SUITE=$(SUITE); there are network and chain"; exit 2
endif

golden: ## tests against reference vectors: the committed part, then the whole sets in GOLDEN=<folder>
	@for d in internal/golden/testdata '$(GOLDEN)'; do \
	  if [ ! -d "$$d" ]; then echo "there is no folder '$$d': only the committed part was tested; give GOLDEN=<folder>"; exit $(if $(filter file,$(origin GOLDEN)),0,1); fi; \
	  echo "vectors in $$d"; out=$$(mktemp); GOLDEN=$$(cd "$$d" && pwd) $(GO) test -v -count=1 -run 'Golden' ./... >$$out 2>&1; status=$$?; \
	  grep -E '^ *(---|ok|FAIL|[a-z_]+_test.go)|SKIP|no reference|not among' $$out; rm -f $$out; [ $$status = 0 ] || exit $$status; done
