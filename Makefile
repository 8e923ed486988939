# One verb a task. `make` alone lists them.

GO       ?= go
TOOLS    := $(CURDIR)/.cache/tools
# Executions, not seconds: before Go 1.27, a fuzzer that ends by the clock may fail with "context deadline exceeded" (go.dev/issue/75804).
FUZZTIME ?= 5000x
# A test run by hand prints the packages; TESTFLAGS adds to it (-run, -count, -v).
TESTFLAGS ?=
# Of the benchmark: -rounds, -turn, -quick, -full (bin/bench -help).
BENCHFLAGS ?=
WEBSDK    := envoy/testdata/websdk
APPS      := envoy/testdata/vite envoy/testdata/nextjs
CLIENTS   := envoy/testdata/clients
APICLIENTS := envoy/testdata/apiclients
DIAGRAMS  := docs/testdata/mermaid
CHART     := envoy/guides/helm
# What git knows, also where Go does not ask it: in a worktree, and with -buildvcs=false.
STAMP     := -X main.stampedVersion=$$(git describe --tags --match 'v*' --dirty 2> /dev/null) \
	-X main.stampedRevision=$$(git describe --always --abbrev=40 --exclude '*' --dirty 2> /dev/null) \
	-X main.stampedDate=$$(TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ 2> /dev/null)
BUILD     := CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(STAMP)" -o bin/

GOLANGCI_LINT := $(TOOLS)/golangci-lint-v2.15.0
GOFUMPT       := $(TOOLS)/gofumpt-v0.12.0
# By their plain names, as .goreleaser.yaml calls them.
RELEASE_TOOLS := $(TOOLS)/goreleaser-v2.15.1-cyclonedx-gomod-v1.10.0
GORELEASER    := $(RELEASE_TOOLS)/goreleaser
CYCLONEDX     := $(RELEASE_TOOLS)/cyclonedx-gomod

.PHONY: help build demo test soak planes envoys chart websdk clients apiclients apps diagrams fuzz check bench bench-peers bench-go screenshots vuln release fmt clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/sessiongate
	$(BUILD) ./cmd/sessiongate

demo: ## run the journey through a real Envoy and a real Postgres (ONCE=1: then exit)
	@echo "compiling (some minutes the first time)" >&2
	@$(BUILD) ./cmd/demo ./cmd/demoapp ./cmd/sessiongate
	@exec bin/demo $(if $(ONCE),--once)

test: ## run every test, with the race detector and in random order, and each fuzzer for FUZZTIME
	@$(GO) run ./internal/envoyrun/fetch
	@$(MAKE) --no-print-directory websdk clients apiclients apps diagrams
	$(GO) test -race -shuffle=on -timeout 45m $(TESTFLAGS) ./...
	@$(MAKE) --no-print-directory fuzz

soak: ## play every fault at full size, and two upgrades in a row under load: 1,000 clients, 200 kills (an hour)
	@$(GO) run ./internal/envoyrun/fetch
	SESSIONGATE_SOAK=1 $(GO) test -race -count=1 -timeout 3h -v -run '^TestFault|^TestRollout$$' $(TESTFLAGS) ./envoy

# With its own module, and so apart from test: the control planes are built from more than all the rest.
planes: $(GOLANGCI_LINT) ## give the guides' manifests to the real Istio, Envoy Gateway and Contour (RECORD=1 writes what they make of them; half an hour the first time)
	cd envoy/guides/planes && GOWORK=off SESSIONGATE_RECORD=$(RECORD) $(GO) test -count=1 -shuffle=on -timeout 90m $(TESTFLAGS) ./...
	cd envoy/guides/planes && GOWORK=off $(GO) mod tidy -diff && $(GOLANGCI_LINT) run --config $(CURDIR)/.golangci.yml ./...

# Likewise: Helm is built from more than all the rest, too.
chart: $(GOLANGCI_LINT) ## give the Helm chart to the real Helm and Kubernetes API (RECORD=1 writes what Helm makes of it; a quarter of an hour the first time)
	cd $(CHART) && GOWORK=off SESSIONGATE_RECORD=$(RECORD) $(GO) test -count=1 -shuffle=on -timeout 90m $(TESTFLAGS) ./...
	cd $(CHART) && GOWORK=off $(GO) mod tidy -diff && $(GOLANGCI_LINT) run --config $(CURDIR)/.golangci.yml ./...

envoys: ## run the tests of Envoy, and the doctor, with ten other versions of it (Linux x86_64; downloads 350 MB; half an hour)
	SESSIONGATE_ENVOYS=1 $(GO) test -race -count=1 -timeout 3h -v -run '^TestEnvoys$$' $(TESTFLAGS) ./envoy

websdk: $(WEBSDK)/node_modules/.package-lock.json ## install the published frontend SDKs, which the tests run in Chromium
	@:

clients: $(CLIENTS)/node_modules/.package-lock.json ## install the cookie jar that the tests give to Node
	@:

apiclients: $(APICLIENTS)/typescript/node_modules/.package-lock.json ## install the generators of clients, which the tests run on openapi.json (60 MB)
	@cd $(APICLIENTS)/go && GOWORK=off $(GO) build -o /dev/null tool

apps: $(APPS:%=%/node_modules/.package-lock.json) ## install Vite and Next.js, with which the tests build an app each (350 MB)
	@:

diagrams: $(DIAGRAMS)/node_modules/.package-lock.json ## install Mermaid, which the tests give the documents' diagrams (150 MB)
	@:

%/node_modules/.package-lock.json: %/package-lock.json %/.npmrc
	@command -v node > /dev/null && command -v npm > /dev/null || { echo "$* needs node and npm: install them (Debian: apt-get install nodejs npm)" >&2; exit 1; }
	cd $* && npm ci

# Of an input that reaches something new, Go by default looks for a shorter one, for up to a minute: of a file of 10 KB all the time goes
# there (0 executions a second, beside 1,000). An input that fails is then long: run that fuzzer again without the flag.
# Targets are found by their text: go test -list would compile the tests of every package first.
fuzz: ## run each fuzzer for FUZZTIME
	@set -e; for pkg in $$($(GO) list -f '{{.ImportPath}}={{.Dir}}' ./...); do \
		for target in $$(cat "$${pkg#*=}"/*_test.go 2> /dev/null | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p'); do \
			echo "fuzzing $$target in $${pkg%%=*} for $(FUZZTIME)"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x -vet=off $${pkg%%=*} > .fuzz.log 2>&1 || { cat .fuzz.log; rm -f .fuzz.log; exit 1; }; \
		done; \
	done; rm -f .fuzz.log

check: $(GOLANGCI_LINT) $(GOFUMPT) ## formatting, linters, tidy go.mod
	@out=$$($(GOFUMPT) -l $$(git ls-files -co --exclude-standard '*.go')); if [ -n "$$out" ]; then echo "not formatted by gofumpt (make fmt mends it):"; echo "$$out"; exit 1; fi
	$(GO) mod tidy -diff
	$(GO) vet ./...
	$(GOLANGCI_LINT) run ./...

fmt: $(GOFUMPT) ## format the code
	$(GOFUMPT) -w $$(git ls-files -co --exclude-standard '*.go')

bench: ## measure it beside others, in one run, and write docs/performance.md and docs/capacity.md (ONLY=part,...; a quarter of an hour)
	@$(GO) run ./internal/envoyrun/fetch
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/bench ./internal/bench
	bin/bench $(if $(ONLY),-only $(ONLY)) $(BENCHFLAGS)

bench-peers: ## measure it beside OPA-Envoy and Authorino, and print the table (minutes; downloads 200 MB)
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/bench ./internal/bench
	bin/bench -only peers -docs '' $(BENCHFLAGS)

bench-go: ## count what single functions of the hot path cost
	$(GO) test -run '^$$' -bench . -benchmem ./sessions ./authz
	$(GO) test -run '^$$' -bench 'Poll$$|Heard$$' -benchtime 3x ./sessions/postgres

screenshots: ## take the pictures of docs/images again, and film the story (needs Chromium and Prometheus)
	@$(GO) run ./internal/envoyrun/fetch
	@mkdir -p docs/images
	SESSIONGATE_SCREENSHOTS=$(CURDIR)/docs/images $(GO) test -count=1 -run '^TestDemoPage$$/^pictures$$|^TestDemoStory$$/^at_1280_px$$|^TestDashboard$$' ./envoy

vuln: ## look for known vulnerabilities (needs vuln.go.dev)
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

# Twice, in clones at different places: the same commit must give the same bytes. A clone has what is
# committed, and nothing else.
release: $(GORELEASER) $(CYCLONEDX) ## build what a release has into dist/, twice, and try its package in a clean Debian; publish nothing (root; half an hour the first time)
	@command -v debootstrap > /dev/null || { echo "make release needs debootstrap: apt-get install debootstrap" >&2; exit 1; }
	@test "$$(id -u)" = 0 || { echo "make release needs root, for debootstrap and systemd" >&2; exit 1; }
	@test -z "$$(git status --porcelain)" || echo "note: what is not committed is not in the release" >&2
	rm -rf dist .cache/clone .cache/second
	@set -e; for at in .cache/clone .cache/second/clone; do \
		echo "building in $$at" >&2; \
		git clone --quiet . $$at; \
		( cd $$at && PATH="$(RELEASE_TOOLS):$$PATH" goreleaser release --snapshot --clean --skip=sign,publish,announce ); \
	done
	diff .cache/clone/dist/checksums.txt .cache/second/clone/dist/checksums.txt
	@echo "both builds are the same bytes" >&2
	mv .cache/clone/dist dist
	rm -rf .cache/clone .cache/second
	SESSIONGATE_RELEASE=$(CURDIR)/dist $(GO) test -count=1 -v -timeout 30m ./cmd/sessiongate/package

clean: ## remove what make made
	rm -rf bin dist .cache $(WEBSDK)/node_modules $(CLIENTS)/node_modules $(APICLIENTS)/typescript/node_modules $(DIAGRAMS)/node_modules $(APPS:%=%/node_modules) $(APPS:%=%/dist*) $(APPS:%=%/.next)

$(GOLANGCI_LINT):
	GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	mv $(TOOLS)/golangci-lint $@

$(GOFUMPT):
	GOBIN=$(TOOLS) $(GO) install mvdan.cc/gofumpt@v0.12.0
	mv $(TOOLS)/gofumpt $@

# It is large: ten minutes to compile.
$(GORELEASER):
	GOBIN=$(RELEASE_TOOLS) $(GO) install github.com/goreleaser/goreleaser/v2@v2.15.1

$(CYCLONEDX):
	GOBIN=$(RELEASE_TOOLS) $(GO) install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
