/* load LIBRARY: fails where loading it changes the floating-point mode. */
#include <dlfcn.h>
#include <stdio.h>
#ifdef __SSE2__
#include <xmmintrin.h>
#endif

static unsigned mode(void) {
  const volatile float subnormal = 1e-40f;
  unsigned keeps_subnormals = subnormal * 0.5f > 0;
#ifdef __SSE2__
  return keeps_subnormals | (_mm_getcsr() & ~0x3fu); /* without the sticky flags */
#else
  return keeps_subnormals;
#endif
}

int main(int argc, char **argv) {
  const unsigned before = mode();
  if ((before & 1) == 0) return fputs("the program flushes subnormals by itself\n", stderr), 1;
  if (argc != 2 || dlopen(argv[1], RTLD_NOW) == NULL) return fprintf(stderr, "%s\n", dlerror()), 1;
  if (mode() == before) return 0;
  return fprintf(stderr, "the floating-point mode was %#x, is %#x\n", before, mode()), 1;
}
