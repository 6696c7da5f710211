# Type make for what there is.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)
export CGO_ENABLED := 0

# As root, and so in CI, everything that the tests need can be had, and a test
# that lacks something fails where it would else be skipped.
ifneq ($(filter 0,$(shell id -u))$(CI),)
export BOOT_REQUIRE ?= netns
endif

.PHONY: help build deps demo test check bench bench-dhcp install uninstall clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

build: ## bootd and bootctl into bin/
	@mkdir -p bin
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/bootd ./cmd/bootctl

deps: ## install the Debian packages of .ci/deps that are missing (root)
	@.ci/install-deps

demo: deps build ## boot virtual machines without a disk from bootd, and show how (root)
	@go run ./internal/lab/demo

test: deps ## all tests, QEMU boots among them (without root those are skipped)
	go test -timeout 40m -parallel 6 ./...

check: ## gofmt, go vet, staticcheck, who imports whom
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt -w" $$unformatted >&2; exit 1; fi
	go vet ./...
	go tool staticcheck ./...
	go test ./internal/layout

bench: ## all benchmarks
	go test -run '^$$' -bench . ./...

bench-dhcp: deps build ## DHCP beside Kea and dnsmasq, 9 minutes, on a machine that does nothing else (root)
	@go run ./internal/lab/benchdhcp $(BENCH)

# Where install puts things: DESTDIR is a staging directory for packages, PREFIX
# is /usr or /usr/local. Nothing is ever put into PREFIX/bin, where bootctl is
# the name of a program of systemd.
PREFIX ?= /usr
SBIN = $(DESTDIR)$(PREFIX)/sbin
UNITS = $(DESTDIR)$(PREFIX)/lib/systemd/system

install: build ## bootd, bootctl and the systemd unit below PREFIX (/usr) in DESTDIR
	@if [ $(PREFIX) = /usr ] && [ $(SBIN) -ef $(DESTDIR)/usr/bin ]; then \
		echo "make install: sbin and bin are one directory here, and bootctl in it is systemd's: say PREFIX=/usr/local" >&2; exit 1; fi
	install -D -m 755 -t $(SBIN) bin/bootd bin/bootctl
	install -D -m 644 -t $(UNITS) packaging/bootd.service
	sed -i 's,/usr/sbin/,$(PREFIX)/sbin/,' $(UNITS)/bootd.service

uninstall: ## remove what install installed; configuration, state and releases stay
	rm -f $(SBIN)/bootd $(SBIN)/bootctl $(UNITS)/bootd.service

clean: ## remove bin/ and build/
	rm -rf bin build
