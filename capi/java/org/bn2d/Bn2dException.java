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

  /** The text belongs to the thread; no other call comes between. */
  static void check(int status) {
    if (status != Raw.BN2D_OK) throw new Bn2dException(status, Raw.bn2d_last_error());
  }
}
