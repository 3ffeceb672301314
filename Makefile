# MetaStore. The two commands that matter: `make run` and `make test`.

CARGO := scripts/cargo.sh

SHELL := /bin/bash

.PHONY: run build test directions scripts documents check unit conformance conformance-all cluster apiserver soak bench clean

## run: build and start a member on 127.0.0.1:2379 with data in ./default.etcd
run:
	@$(CARGO) run --release --package metastore -- $(ARGS)

## build: the release binary; its path is printed
build:
	@$(CARGO) build --release --package metastore
	@. scripts/environment.sh && echo "$$CARGO_TARGET_DIR/release/metastore"

## test: every test that needs no cluster of Kubernetes
test: directions scripts documents check unit cluster conformance

## directions: the walls between the rooms
directions:
	@scripts/check-directions.sh

## scripts: what they do on machines that lack something
scripts:
	@scripts/test-scripts.sh

## documents: both languages, and no dead link
documents:
	@scripts/check-documents.sh

## check: form and lints
check:
	@scripts/check.sh

## unit: the rooms' own tests; the harness' own start a real etcd
unit:
	@scripts/install-protoc.sh
	@tests/reference/build.sh >/dev/null
	@$(CARGO) test --workspace --locked

## conformance: the same calls to a real etcd and to MetaStore: both engines, one member and three
conformance:
	@tests/conformance/run.sh

## conformance-all: as conformance, with more generated calls
conformance-all:
	@METASTORE_DIFFERENTIAL_SECONDS=300 tests/conformance/run.sh

## apiserver: kube-apiserver 1.34 and 1.37 on a member (building them takes some 15 minutes, once per machine)
apiserver:
	@tests/apiserver/run.sh

## cluster: kills, power cuts, full disks, snapshots between members; needs root, loop devices and FUSE
cluster:
	@tests/cluster/run.sh

## soak: the long tests, hours of them; writes docs/soak.md
soak:
	@tests/soak/run.sh

## bench: MetaStore beside etcd, fsync on
bench:
	@benches/load/run.sh

clean:
	@. scripts/environment.sh && rm -rf "$$CARGO_TARGET_DIR"
