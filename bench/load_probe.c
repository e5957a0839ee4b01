/* SPDX-License-Identifier: MIT
 * A process with nothing but the C library loads bn2d, and tells how long that took and how many
 * threads it started. Usage: bn2d_bench_load PATH. Prints "MILLISECONDS THREADS". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static int threads_of_this_process(void) {
  char line[256];
  int threads = -1;
  FILE *status = fopen("/proc/self/status", "r");
  if (!status) return -1;
  while (fgets(line, sizeof line, status))
    if (sscanf(line, "Threads: %d", &threads) == 1) break;
  fclose(status);
  return threads;
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  const double start = now_ms();
  void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  const double end = now_ms();
  if (!library || !dlsym(library, "bn2d_get_api")) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  printf("%.3f %d\n", end - start, threads_of_this_process() - 1);
  return 0;
}
