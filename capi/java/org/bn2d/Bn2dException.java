// SPDX-License-Identifier: MIT
package org.bn2d;

/** A call that failed. Nothing has changed then. */
public final class Bn2dException extends RuntimeException {
  private static final long serialVersionUID = 1;
  private final String status;

  Bn2dException(int status, String message) {
    super(message);
    this.status = Raw.bn2d_status_name(status);
  }

  /** The name of the status, "BN2D_ERROR_SHAPE". */
  public String status() {
    return status;
  }

  /** The argument, which must not be null. */
  static <T> T given(String name, T argument) {
    if (argument == null)
      throw new Bn2dException(Raw.BN2D_ERROR_INVALID_ARGUMENT, name + " is null");
    return argument;
  }

  /** The text belongs to the thread; no other call comes between. */
  static void check(int status) {
    if (status != Raw.BN2D_OK) throw new Bn2dException(status, Raw.bn2d_last_error());
  }
}
