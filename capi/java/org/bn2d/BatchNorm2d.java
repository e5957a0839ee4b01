// SPDX-License-Identifier: MIT
package org.bn2d;

/** The statistics of a channel of the whole batch, or of ghost batches. */
public final class BatchNorm2d extends Norm {
  public BatchNorm2d(long numFeatures) {
    this(numFeatures, new Options());
  }

  public BatchNorm2d(long numFeatures, Options options) {
    super(options, (o, out) -> Raw.bn2d_module_create(numFeatures, o, out));
  }
}
