/* A host that was linked without the library: one symbol, a table of functions. The first argument is the library's
 * path. */
#include <bn2d/bn2d.h>
#include <dlfcn.h>

int main(int argc, char **argv) {
  const bn2d_api *(*get_api)(uint32_t) = NULL;
  const bn2d_api *api;
  bn2d_module *bn = NULL;
  void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
  if (library == NULL) return 1;
  *(void **)&get_api = dlsym(library, "bn2d_get_api");
  if (get_api == NULL || (api = get_api(BN2D_API_VERSION)) == NULL) return 2;
  if (api->module_create(3, NULL, &bn) != BN2D_OK) return 3;
  api->module_release(bn);
  return dlclose(library);
}
