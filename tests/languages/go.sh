#!/bin/sh
# capi/go with cgo, and with the checks of pointers that Go has.
. "$(dirname "$0")/language.sh"
wish go pkg-config
binding go

GOCACHE=$(pwd)/cache
export GOCACHE GOFLAGS=-mod=mod GOPROXY=off GOTOOLCHAIN=local
# The stricter checks: since Go 1.21 they are compiled in, before they were asked for at run time.
if GOEXPERIMENT=cgocheck2 go env GOROOT >/dev/null 2>&1; then
  export GOEXPERIMENT=cgocheck2
else
  export GODEBUG=cgocheck=2
fi
export PKG_CONFIG_PATH="$lib/pkgconfig"
work=$(pwd)
shown go example/main.go
cd "$binding"
if [ -n "$(gofmt -l .)" ]; then fail "to be formatted: gofmt -w capi/go"; fi
go vet ./...
go build -o "$work/go_example" ./example
go test -count=1 -c -o "$work/go_tests" .
cd "$work"
example ./go_example
goes_on go fused.go example/main.go '}'
if [ -n "$(gofmt -l fused.go)" ]; then fail "to be formatted: fused.go of capi/go/README.md"; fi
(cd "$binding" && go run "$work/fused.go") >out.txt
fused cat out.txt
./go_tests
