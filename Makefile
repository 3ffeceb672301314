# MetaStore. The two commands that matter: `make run` and `make test`.

CARGO := scripts/cargo.sh

SHELL := /bin/bash

.PHONY: run build test check unit conformance durability soak bench coverage clean

## run: build and start a member on 127.0.0.1:2379 with data in ./default.etcd
run:
	@$(CARGO) run --release --package metastore -- $(ARGS)

## build: the release binary; its path is printed
build:
	@$(CARGO) build --release --package metastore
	@. scripts/environment.sh && echo "$$CARGO_TARGET_DIR/release/metastore"

## test: every test that needs no cluster of Kubernetes
test: check unit conformance

check:
	@scripts/check-directions.sh
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

unit:
	@$(CARGO) test --workspace --locked --exclude metastore-conformance

conformance:
	@tests/reference/build.sh
	@$(CARGO) build --locked --package metastore
	@$(CARGO) test --locked --package metastore-conformance

## bench: MetaStore beside etcd, fsync on
bench:
	@benches/load/run.sh

clean:
	@. scripts/environment.sh && rm -rf "$$CARGO_TARGET_DIR"
