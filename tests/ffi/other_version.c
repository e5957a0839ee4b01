/* The library as another version of it would be: its table, cut or prolonged.
 *
 * Compiled with OTHER_VERSION
 *  - 0: older than any release, one slot less than 1.0
 *  - 1: 1.0, the table of version 1
 *  - 99: newer than the header at hand, the next version with two slots more
 *
 * Behind the table lies memory that nobody may touch: a host that reads a slot which is not there
 * dies. */
#define _DEFAULT_SOURCE
#include <bn2d/bn2d.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void newer_function(void) {}

const bn2d_api *bn2d_get_api(uint32_t api_version) {
  static char *table;
  const uint32_t version = OTHER_VERSION == 0    ? 1
                           : OTHER_VERSION == 99 ? BN2D_API_VERSION + 1
                                                 : OTHER_VERSION;
  const bn2d_api present = {
      .reserved = 0,
#define BN2D_FUNCTION(since, name) .name = bn2d_##name,
#include "functions.inc"
#undef BN2D_FUNCTION
  };
  const size_t slot = sizeof(void (*)(void));
  size_t size = sizeof present;
  if (OTHER_VERSION == 0) size = offsetof(bn2d_api, mask_nbytes);
  if (OTHER_VERSION == 1) size = offsetof(bn2d_api, forward_flat);
  if (OTHER_VERSION == 99) size += 2 * slot;
  if (api_version == 0 || api_version > version) return NULL;
  if (table == NULL) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *const pages =
        mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void (*const added[])(void) = {newer_function, newer_function};
    const uint64_t told = size;
    if (pages == MAP_FAILED) return NULL;
    table = pages + page - size;
    memcpy(table, &present, size < sizeof present ? size : sizeof present);
    if (size > sizeof present) memcpy(table + sizeof present, added, sizeof added);
    memcpy(table + offsetof(bn2d_api, size), &told, sizeof told);
    memcpy(table + offsetof(bn2d_api, api_version), &version, sizeof version);
    if (mprotect(pages, page, PROT_READ) != 0 || mprotect(pages + page, page, PROT_NONE) != 0)
      return NULL;
  }
  return (const bn2d_api *)(const void *)table;
}
