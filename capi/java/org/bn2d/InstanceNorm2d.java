// SPDX-License-Identifier: MIT
package org.bn2d;

import org.bn2d.BatchNorm2d.Options;

/** The statistics of each channel of each sample; by default neither affine nor tracking. */
public final class InstanceNorm2d extends Norm {
  public InstanceNorm2d(long numFeatures) {
    this(numFeatures, new Options());
  }

  public InstanceNorm2d(long numFeatures, Options options) {
    super(options, (o, out) -> Raw.bn2d_instance_norm_create(numFeatures, o, out));
  }
}
