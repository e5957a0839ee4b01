/* Calls through the header: made, used, released. NaN is refused: no fast-math took that check
   away. Prints the version of the library. */
#include <bn2d/bn2d.h>
#include <math.h>
#include <stdio.h>

int main(void) {
  bn2d_module *bn = NULL;
  bn2d_options *options = NULL;
  float x[2 * 3 * 2 * 2] = {1, 2, 3, 4}, y[2 * 3 * 2 * 2];
  int ok = bn2d_version() / 1000000 == BN2D_VERSION_MAJOR &&
           bn2d_module_create(3, NULL, &bn) == BN2D_OK &&
           bn2d_forward_f32(bn, x, 2, 2, 2, y, NULL) == BN2D_OK &&
           bn2d_options_create(&options) == BN2D_OK &&
           bn2d_options_set_eps(options, (double)NAN) == BN2D_ERROR_INVALID_ARGUMENT;
  bn2d_options_release(options);
  bn2d_module_release(bn);
  puts(bn2d_version_string());
  return ok ? 0 : 1;
}
