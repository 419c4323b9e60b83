# `make help` lists what can be made. The recipes are short on purpose: what is longer stands in deploy/.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Without git (a tarball) the binary calls itself dev.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
BINARY := bin/salon
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

.PHONY: run
run: build ## Build and start everything in one process, with demo data (needs Go alone)
	bin/salon up --demo

.PHONY: run-real
run-real: build ## Start the servers of docker-compose.yml on Docker, and this checkout's binary on them
	@deploy/run-real.sh

.PHONY: build
build: ## Build the static binary bin/salon
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o $(BINARY) ./cmd/salon

.PHONY: test
test: ## Start the real servers, run every check and every test, stop the servers again
	@deploy/tools/test.sh

.PHONY: test-fast
test-fast: ## Run the tests that need no servers
	go test -short ./...

.PHONY: test-long
test-long: ## Run the event stores' tests for longer: 30 s where they run 1 s, ten times the faults; rebuild 5 million events
	deploy/tools/with-services.sh deploy/tools/check.sh long

.PHONY: test-previous
test-previous: ## Run the release before this one on the schema and the streams of this one (needs the history; part of `make test`)
	deploy/tools/with-services.sh deploy/tools/check.sh previous

.PHONY: test-faults
test-faults: ## Hurt a system of own servers 60 times and look whether a projection lost, doubled or swapped an event
	@deploy/tools/check.sh faults

.PHONY: test-faults-long
test-faults-long: ## The same 1,000 times, over several runs of an hour; run it again to go on
	@SALON_TEST_FAULTS=1000 deploy/tools/check.sh faults

.PHONY: services
services: ## Start Kafka, PostgreSQL, MySQL, MariaDB and Redis; write .run/env, ready to be sourced
	@deploy/services/services.sh up

.PHONY: services-stop
services-stop: ## Stop what `make services` started; its data stays in .run
	@deploy/services/services.sh stop

.PHONY: services-status
services-status: ## Say which of the servers run, and where
	@deploy/services/services.sh status

.PHONY: demo-nodes
demo-nodes: build ## Two people talk over two nodes on real servers while one node is killed
	deploy/tools/with-services.sh deploy/tools/demo-nodes.sh

.PHONY: test-deploy
test-deploy: ## Bring docker-compose.yml up on Docker, break parts of it under load, take it down (20 minutes; the first time longer)
	deploy/test/test-deploy.sh

.PHONY: bench
bench: build ## Run the Go benchmarks on the real servers, then the system's own end-to-end figures
	deploy/tools/with-services.sh go test -run '^$$' -bench . -benchmem -p 1 ./...
	deploy/tools/with-services.sh bin/salon bench append --json
	bin/salon bench append --json
	bin/salon bench e2e --json

.PHONY: lint
lint: ## Run go vet, golangci-lint, shellcheck, yamllint and actionlint
	@deploy/tools/check.sh vet lint scripts

.PHONY: fmt
fmt: ## Format all Go files
	"$$(deploy/tools/tools.sh path golangci-lint)" fmt ./...

.PHONY: generate
generate: ## Write the generated files again (docs/events.md, docs/openapi.json, docs/asyncapi.json)
	go generate ./...

.PHONY: vuln
vuln: ## Look for known vulnerabilities in what we use (asks a public database)
	"$$(deploy/tools/tools.sh path govulncheck)" ./...

.PHONY: clean
clean: services-stop ## Stop the servers; remove bin and .run with all data in them
	rm -rf bin .run

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
