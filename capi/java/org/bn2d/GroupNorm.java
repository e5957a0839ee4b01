// SPDX-License-Identifier: MIT
package org.bn2d;

import org.bn2d.BatchNorm2d.Options;

/**
 * The statistics of numChannels / numGroups channels of a sample; 1 group is a layer norm over
 * (C, H, W). There are no running statistics, nor options for them; infer needs eval mode all the
 * same.
 */
public final class GroupNorm extends Norm {
  public GroupNorm(long numGroups, long numChannels) {
    this(numGroups, numChannels, new Options());
  }

  public GroupNorm(long numGroups, long numChannels, Options options) {
    super(options, (o, out) -> Raw.bn2d_group_norm_create(numGroups, numChannels, o, out));
  }
}
