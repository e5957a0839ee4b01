! SPDX-License-Identifier: MIT
program example
  use, intrinsic :: iso_c_binding
  use bn2d
  implicit none
  real(c_float), allocatable, target :: x(:, :, :, :), y(:, :, :, :), dy(:, :, :, :), dx(:, :, :, :)
  real(c_float), pointer :: grad(:)
  type(batch_norm) :: bn
  type(batch_norm_record) :: record
  integer :: i

  allocate (x(32, 32, 64, 8), y(32, 32, 64, 8), dy(32, 32, 64, 8), dx(32, 32, 64, 8)) ! W, H, C, N
  x = reshape([(mod(i, 251) / 100.0, i = 0, size(x) - 1)], shape(x))
  dy = 0.5

  call bn%create(64)
  call bn%forward(x, y, record) ! training; the record borrows x
  call bn%backward(record, dy, dx) ! adds to weight.grad and bias.grad
  call bn%eval()
  call bn%infer(x, y) ! running statistics
  call bn%tensor('bias.grad', grad)
  print '(2a, f6.1, a, f7.4)', bn%text(), ': bias.grad ', grad(1), ', y ', y(1, 1, 1, 1)

  call record%release() ! in a procedure, what leaves its scope is given back by itself
  call bn%release()
end program
