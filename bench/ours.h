// SPDX-License-Identifier: MIT
// bn2d as a contestant, always through its C ABI.
#ifndef BN2D_BENCH_OURS_H
#define BN2D_BENCH_OURS_H

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "library.h"
#include "problem.h"
#include "variant.h"

namespace bench {

/// Throws with the message of the linked build unless the status is BN2D_OK.
void check(int32_t status);

using Module = std::unique_ptr<bn2d_module, decltype(&bn2d_module_release)>;
using Record = std::unique_ptr<bn2d_record, decltype(&bn2d_record_release)>;

/// A module for the problem: f64 for f64 data, else f32 (so f16 and bf16 are mixed), in the mode of
/// the operation.
Module make_module(const Problem &problem, const Library &library = kLinked);

/// The operation itself.
Variant ours(const Problem &problem, const std::string &name, const Library &library = kLinked);
/// The gradients of weight and bias, into problem.output(). Without a module: nothing is added to
/// from call to call.
Variant ours_gradients(const Problem &problem, const std::string &name,
                       const Library &library = kLinked);
/// Training forward that leaves a record, and its release.
Variant ours_recording(const Problem &problem, const std::string &name,
                       const Library &library = kLinked);

/// Forward with a given streaming threshold (see bn2d_set_streaming_threshold), then one read of y.
std::vector<Variant> ours_with_consumer(const Problem &problem);

/// The cost of a call that does nothing: a getter, and a forward of no elements.
Variant ours_getter(const std::string &name);
Variant ours_empty_forward(const std::string &name);

constexpr const char *kOurs = "bn2d";
constexpr const char *kOursOther = "bn2d, other build";
constexpr const char *kSameResults = "same results";  // the note of another build, at best
constexpr const char *kOursEval = "bn2d, eval mode";
constexpr const char *kOursTwin = "bn2d, many channels";
constexpr const char *kOursBest = "bn2d, best description";
constexpr const char *kOursAgreeing = "bn2d, layouts agree";
constexpr const char *kOursNhwc = "bn2d, channels_last";
constexpr const char *kOursDense = "bn2d, no border";
constexpr const char *kOursRelu = "bn2d, relu";
constexpr const char *kOursInRange = "bn2d, ordinary numbers";
constexpr const char *kOursStreaming = "bn2d, streaming on";
constexpr const char *kOursOrdinary = "bn2d, streaming off";

}  // namespace bench

#endif  // BN2D_BENCH_OURS_H
