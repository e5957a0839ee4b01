#!/bin/sh
# The library is a good guest: what it calls, needs and does when it is loaded.
. "$(dirname "$0")/common.sh"
need nm readelf strip
work_in binary
bad=0
wrong() {
  echo "$*" >&2
  bad=1
}

# Never ends, prints, signals, logs; no thread-local destructor, which would pin us to a thread's end.
nm -D --undefined-only "$BN2D_LIBRARY" | awk '{ sub(/@.*/, "", $2); print $2 }' >undefined
if grep -E -e '^(abort|_?exit|_Exit|quick_exit|__assert_fail)$' -e '^(__)?v?f?d?printf(_chk)?$' \
  -e '^(puts|fputs|fputc|putc|putchar|fwrite|perror|stdout|stderr|syslog)$' -e '^(raise|kill|tgkill|signal|sigaction)$' \
  -e '^_ZSt4(cout|cerr|clog)$' -e '^_ZNSt8ios_base4Init' -e '^_ZN3hwy5Abort' -e '^__cxa_thread_atexit' \
  -e '^(openblas|cblas)_' undefined; then
  wrong "the library calls these"
fi

readelf -d "$BN2D_LIBRARY" >dynamic
grep -q 'NODELETE' dynamic || wrong "not linked with -z nodelete"
grep -q 'BIND_NOW\|FLAGS_1.*NOW' dynamic || wrong "not linked with -z now"
if grep -E 'TEXTREL|RPATH|RUNPATH' dynamic; then wrong "these do not belong into the library"; fi
grep -q 'SONAME.*\[libbn2d\.so\.1\]' dynamic || wrong "its SONAME is not libbn2d.so.1"
if sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' dynamic |
  grep -vE '^(lib(tbb|stdc\+\+|m|gcc_s|c)\.so\.[0-9]+|ld-linux.*)$'; then
  wrong "the library must not need these"
fi

# Ours stays ours: no slot of the table, and no call, is looked up among the host's symbols.
if readelf -rW "$BN2D_LIBRARY" | grep ' bn2d_'; then wrong "another library's symbols could take the place of these"; fi

# Nothing of ours runs at load: the two entries are the compiler's (frame_dummy, and __cpu_indicator_init, which asks the
# CPU what it has). That loading leaves the host's floating-point mode alone is seen by ffi.plugin_host, on any build.
entries=$(($(sed -n 's/.*(INIT_ARRAYSZ) *\([0-9]*\).*/\1/p' dynamic) * 8 / $(getconf LONG_BIT)))
[ "$entries" -le 2 ] || wrong "$entries functions run when the library is loaded, 2 are the compiler's"

# No static whose initialisation takes a lock: in the child of a fork it could be that of a thread which is not there.
if nm -C "$BN2D_LIBRARY" | grep 'guard variable'; then wrong "these statics are initialised at first use, under a lock"; fi

# The libraries above are as good guests; they need libbn2d, and what they are made for.
for name in $BN2D_ABOVE; do
  library=$(dirname "$BN2D_LIBRARY")/libbn2d_$name.so.1
  nm -D --undefined-only "$library" | awk '{ sub(/@.*/, "", $2); print $2 }' >undefined
  # realpath, write and the like are its business; SIGXFSZ it holds back, with pthread_sigmask.
  if grep -E -e '^(abort|_?exit|_Exit|quick_exit|__assert_fail)$' -e '^(__)?v?f?d?printf(_chk)?$' \
    -e '^(puts|fputs|fputc|putc|putchar|fwrite|perror|stdout|stderr|syslog)$' -e '^(raise|kill|tgkill|signal|sigaction)$' \
    -e '^_ZSt4(cout|cerr|clog)$' -e '^_ZNSt8ios_base4Init' -e '^__cxa_thread_atexit' -e '^openblas_' undefined; then
    wrong "libbn2d_$name calls these"
  fi
  readelf -d "$library" >dynamic_above
  grep -q 'NODELETE' dynamic_above || wrong "libbn2d_$name is not linked with -z nodelete"
  grep -q "SONAME.*\[libbn2d_$name\.so\.1\]" dynamic_above || wrong "libbn2d_$name has another SONAME"
  needed=$(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' dynamic_above | grep -vE '^(lib(bn2d|stdc\+\+|m|gcc_s|c)\.so\.[0-9]+|ld-linux.*)$' || true)
  case $name:$needed in
    state: | fold:libopenblas*) ;;
    *) wrong "libbn2d_$name needs $needed" ;;
  esac
  if readelf -rW "$library" | grep " bn2d_${name}_get_api"; then wrong "its own symbols could be replaced"; fi
  if nm -C "$library" | grep 'guard variable.*bn2d'; then wrong "libbn2d_$name initialises these under a lock"; fi
  strip -o stripped_above "$library"
  echo "libbn2d_$name: $(wc -c <stripped_above) bytes stripped"
done

strip -o stripped "$BN2D_LIBRARY"
size=$(wc -c <stripped)
echo "$size bytes stripped"
[ "${BN2D_AS_RELEASED:-ON}" = OFF ] || [ "$size" -le 1048576 ] || wrong "more than 1 MB stripped"
exit $bad
