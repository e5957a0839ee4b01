/* SPDX-License-Identifier: MIT */
#include <bn2d/bn2d.h>
#include <stdio.h>

int main(void) {
  /* 2 images of 3 channels and 1x2 pixels, contiguous NCHW; then the gradient of some loss with
   * respect to y. */
  const float x[12] = {1, 2, 10, 20, -1, 1, 3, 4, 30, 40, -1, 1},
              dy[12] = {0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1};
  float y[12], dx[12];
  bn2d_module *bn = NULL;
  bn2d_record *record = NULL;
  bn2d_tensor *grad = NULL;
  void *data = NULL;

  const int failed =
      bn2d_module_create(3, NULL, &bn) ||             /* a function returns 0, or an error */
      bn2d_forward_f32(bn, x, 2, 1, 2, y, &record) || /* training: the statistics of this batch */
      bn2d_backward_f32(bn, record, dy, dx) ||        /* adds to weight.grad and bias.grad */
      bn2d_module_tensor_by_name(bn, "weight.grad", &grad) || bn2d_tensor_data(grad, &data) ||
      bn2d_module_eval(bn) || /* from here on the running statistics */
      bn2d_forward_f32(bn, x, 2, 1, 2, y, NULL);
  if (failed)
    fprintf(stderr, "%s\n", bn2d_last_error());
  else
    /* weight.grad 1.7888 1.7889 0.0000, y[0] 0.7262 */
    printf("weight.grad %.4f %.4f %.4f, y[0] %.4f\n", ((float *)data)[0], ((float *)data)[1],
           ((float *)data)[2], y[0]);

  bn2d_tensor_release(grad); /* in any order */
  bn2d_record_release(record);
  bn2d_module_release(bn);
  return failed;
}
