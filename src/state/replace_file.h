// A file that is there whole or not at all.
#pragma once
#include <cstddef>
#include <functional>
#include <string>

namespace bn2d::state {

using Put = std::function<void(const void *data, size_t count)>;

// Puts a new file in the place of `path`: `write` gets a function that appends. The old file stays
// as it was until the new one is whole on the disk, whatever fails; a reader sees one of the two,
// also after the process or the machine has died. Only where the folder cannot be synced at the end
// does this throw although the new file is there. A link is followed; the permissions are those of
// the old file. What a killed process leaves behind is named ".bn2d-<process>-<number>.tmp", in the
// same folder.
void replace_file(const std::string &path, const std::function<void(const Put &)> &write);

}  // namespace bn2d::state
