/* SPDX-License-Identifier: MIT */
#include <bn2d/bn2d.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
  void *library = dlopen(argc > 1 ? argv[1] : "libbn2d.so.1", RTLD_NOW | RTLD_LOCAL);
  void *symbol = library != NULL ? dlsym(library, "bn2d_get_api") : NULL;
  if (symbol == NULL) return fprintf(stderr, "%s\n", dlerror()), 1;

  const bn2d_api *(*get_api)(uint32_t);
  memcpy(&get_api, &symbol, sizeof get_api); /* C has no cast from an object to a function */
  const bn2d_api *bn = get_api(BN2D_API_VERSION);
  if (bn == NULL)
    return fprintf(stderr, "bn2d is older than version %d of its table\n", BN2D_API_VERSION), 1;

  bn2d_module *module = NULL;
  if (bn->module_create(64, NULL, &module) != BN2D_OK)
    return fprintf(stderr, "%s\n", bn->last_error()), 1;
  printf("bn2d %s is loaded\n", bn->version_string());
  bn->module_release(module);
  return dlclose(library);
}
