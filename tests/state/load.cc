// Saving and loading modules: names, dtypes, strict or not, all or nothing.
#include <algorithm>
#include <cmath>

#include "state_world.h"
#include "support/numerics_values.h"

using namespace bn2d_test;

namespace {

constexpr int32_t kDtypes[] = {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16};

// All values of a module, as doubles.
std::vector<double> values_of(const Module &module) {
  std::vector<double> values;
  for (const char *name : {"weight", "bias", "running_mean", "running_var"}) {
    if (!has_tensor(module, name)) continue;
    const Tensor tensor = tensor_of(module, name);
    int64_t length = 0;
    int32_t dtype = 0;
    REQUIRE(bn2d_tensor_dim(tensor.get(), 0, &length) == BN2D_OK);
    REQUIRE(bn2d_tensor_dtype(tensor.get(), &dtype) == BN2D_OK);
    const auto *data = data_of<unsigned char>(tensor);
    for (int64_t i = 0; i < length; ++i)
      values.push_back(numerics::decode(
          dtype,
          numerics::read_bits(dtype, data + i * static_cast<int64_t>(numerics::size_of(dtype)))));
  }
  if (has_tensor(module, "num_batches_tracked"))
    values.push_back(static_cast<double>(batches_of(module)));
  return values;
}

void fill_random(const Module &module, uint64_t seed) {
  numerics::Random random(seed);
  for (const char *name : {"weight", "bias", "running_mean", "running_var"}) {
    if (!has_tensor(module, name)) continue;
    const Tensor tensor = tensor_of(module, name);
    int64_t length = 0;
    int32_t dtype = 0;
    REQUIRE(bn2d_tensor_dim(tensor.get(), 0, &length) == BN2D_OK);
    REQUIRE(bn2d_tensor_dtype(tensor.get(), &dtype) == BN2D_OK);
    auto *data = data_of<unsigned char>(tensor);
    for (int64_t i = 0; i < length; ++i)
      numerics::write_element(dtype, data + i * static_cast<int64_t>(numerics::size_of(dtype)),
                              numerics::rounded(dtype, random.normal()));
  }
  if (has_tensor(module, "num_batches_tracked"))
    *data_of<int64_t>(module, "num_batches_tracked") =
        (int64_t{1} << 40) + static_cast<int64_t>(seed);
}

int32_t load(const State &state, const char *prefix, const Module &module, int32_t strict = 1) {
  const Loader loader = make_loader(state);
  REQUIRE(bn2d_loader_add_module(loader.get(), prefix, module.get()) == BN2D_OK);
  return bn2d_loader_load(loader.get(), strict);
}

}  // namespace

TEST_CASE("load: modules of every dtype into every dtype, in memory and by file", "[state]") {
  // Catches a dtype that is stored as another, a rounding that is not to nearest even, a tensor
  // that is left out.
  const Folder folder;
  for (const int32_t from : kDtypes)
    for (const int kind : {0, 1, 2, 3}) {
      Settings settings;
      settings.dtype = from;
      settings.affine = kind != 1;
      settings.bias = kind != 2;
      settings.track = kind != 3;
      const Module saved = make_module(37, settings);
      fill_random(saved, 5);
      const State state = make_state();
      REQUIRE(bn2d_state_set_module(state.get(), "a.bn.", saved.get()) == BN2D_OK);
      const std::string path = folder / "file";
      REQUIRE(bn2d_state_save(state.get(), path.c_str()) == BN2D_OK);
      CHECK(read_file(path) == written(state));
      CHECK(folder.list() == "file ");
      for (const int32_t to : kDtypes)
        for (const bool by_file : {false, true}) {
          INFO(bn2d_dtype_name(from)
               << " to " << bn2d_dtype_name(to) << ", kind " << kind << ", by file " << by_file);
          settings.dtype = to;
          const Module loaded = make_module(37, settings);
          const State read = by_file ? open_state(path) : parse_state(written(state));
          REQUIRE(load(read, "a.bn.", loaded) == BN2D_OK);
          std::vector<double> want = values_of(saved);
          for (size_t i = 0; i + (settings.track ? 1 : 0) < want.size(); ++i)
            want[i] = numerics::rounded(to, static_cast<numerics::Real>(want[i]));
          CHECK(values_of(loaded) == want);
        }
    }
}

TEST_CASE("load: several modules under prefixes, and tensors of the host", "[state]") {
  // Catches a prefix that is not applied, a name of one module that goes to another, a host's
  // tensor transposed.
  const Module first = make_module(3), second = make_module(5);
  fill_random(first, 1);
  fill_random(second, 2);
  const State state = make_state();
  REQUIRE(bn2d_state_set_module(state.get(), "layer1.0.bn1.", first.get()) == BN2D_OK);
  REQUIRE(bn2d_state_set_module(state.get(), "layer1.0.bn10.", second.get()) == BN2D_OK);
  // A weight (2, 3) that lies transposed and padded.
  const float weight[] = {1, 4, 0, 2, 5, 0, 3, 6, 0};
  const int64_t shape[] = {2, 3}, strides[] = {1, 3};
  const View lies(const_cast<float *>(weight), BN2D_F32, 2, shape, strides);
  REQUIRE(bn2d_state_set(state.get(), "conv.weight", lies) == BN2D_OK);

  const State read = parse_state(written(state));
  const Module new_first = make_module(3), new_second = make_module(5);
  double plain[6] = {};
  float padded[9] = {9, 9, 9, 9, 9, 9, 9, 9, 9};
  const Loader loader = make_loader(read);
  REQUIRE(bn2d_loader_add_module(loader.get(), "layer1.0.bn1.", new_first.get()) == BN2D_OK);
  REQUIRE(bn2d_loader_add_module(loader.get(), "layer1.0.bn10.", new_second.get()) == BN2D_OK);
  REQUIRE(bn2d_loader_add_flat(loader.get(), "conv.weight", BN2D_F64, shape, 2, plain) == BN2D_OK);
  const View like_it(padded, BN2D_F32, 2, shape, strides);
  REQUIRE(bn2d_loader_add(loader.get(), "conv.weight", like_it) == BN2D_OK);
  REQUIRE(bn2d_loader_load(loader.get(), 1) == BN2D_OK);
  CHECK(problems_of(loader) == "");
  CHECK(values_of(new_first) == values_of(first));
  CHECK(values_of(new_second) == values_of(second));
  CHECK(std::vector<double>(plain, plain + 6) == std::vector<double>{1, 2, 3, 4, 5, 6});
  CHECK(std::vector<float>(padded, padded + 9) == std::vector<float>{1, 4, 9, 2, 5, 9, 3, 6, 9});
  float copied[6] = {};
  const View dense(copied, BN2D_F32, 2, shape, nullptr);
  REQUIRE(bn2d_state_copy_to(read.get(), index_of(read, "conv.weight"), dense) == BN2D_OK);
  CHECK(std::vector<float>(copied, copied + 6) == std::vector<float>{1, 2, 3, 4, 5, 6});
}

TEST_CASE("load: strict and not, with all problems listed", "[state]") {
  // Catches a name that is not listed, one listed twice, a load that changes something before it
  // fails.
  const State state = make_state();
  set_floats(state, "bn.weight", {2, 3, 4});
  set_floats(state, "bn.running_mean", {5, 6, 7});
  set_floats(state, "bn.extra", {1});
  set_floats(state, "bn2.weight", {1});  // not under the prefix
  set_floats(state, "conv.weight", {1});
  const Module module = make_module(3);
  give_character(module);
  Snapshot before;
  before.add("module", module.get());
  const Loader loader = make_loader(state);
  REQUIRE(bn2d_loader_add_module(loader.get(), "bn.", module.get()) == BN2D_OK);
  check_fails("strict", BN2D_ERROR_NOT_FOUND, before, {"bn.bias|bias", "2", "1", "0"},
              [&] { return bn2d_loader_load(loader.get(), 1); });
  const std::string listed =
      "bn.bias is missing; bn.running_var is missing; bn.extra is unexpected; ";
  CHECK(problems_of(loader) == listed);
  const int64_t batches = batches_of(module);
  REQUIRE(bn2d_loader_load(loader.get(), 0) == BN2D_OK);
  CHECK(problems_of(loader) == listed);
  const auto weight = [&](size_t i) { return data_of<float>(module, "weight")[i]; };
  CHECK(weight(2) == 4);
  CHECK(data_of<float>(module, "running_mean")[0] == 5);
  CHECK(data_of<float>(module, "bias")[0] == -0.5f);  // as it was
  CHECK(batches_of(module) == batches);

  // A shape that does not fit is an error in both, and then not even what fits is loaded.
  set_floats(state, "bn.bias", {1, 2, 3, 4});
  set_floats(state, "bn.weight", {7, 7, 7});
  Snapshot again;
  again.add("module", module.get());
  for (const int32_t strict : {0, 1})
    check_fails("mismatch", BN2D_ERROR_SHAPE, again, {"4", "3"},
                [&] { return bn2d_loader_load(loader.get(), strict); });
  CHECK(
      problems_of(loader) ==
      "bn.running_var is missing; bn.extra is unexpected; bn.bias has shape (4), must have (3); ");
}

TEST_CASE("load: a checkpoint without the counter, and counters as others write them", "[state]") {
  // Catches "missing" for what old checkpoints do not have, and a counter of shape (1) or int32
  // that is refused.
  const Module saved = make_module(2);
  fill_random(saved, 3);
  for (const int kind : {0, 1, 2, 3, 4}) {
    INFO(kind);
    const State state = make_state();
    for (const char *name : {"weight", "bias", "running_mean", "running_var"}) {
      const float *data = data_of<float>(saved, name);
      set_floats(state, name, {data[0], data[1]});
    }
    const int64_t one = 1, two[] = {17, 18};
    if (kind == 1)
      REQUIRE(bn2d_state_set_flat(state.get(), "num_batches_tracked", BN2D_I64, &one, 1, two) ==
              BN2D_OK);
    if (kind == 2) {
      const int32_t value = -17;
      View view = View::scalar(const_cast<int32_t *>(&value), BN2D_I64);
      view->dtype_bits = 32;
      REQUIRE(bn2d_state_set(state.get(), "num_batches_tracked", view) == BN2D_OK);
    }
    const int64_t length = 2;
    if (kind == 3)
      REQUIRE(bn2d_state_set_flat(state.get(), "num_batches_tracked", BN2D_I64, &length, 1, two) ==
              BN2D_OK);
    if (kind == 4) {
      const float value = 1;
      REQUIRE(bn2d_state_set_flat(state.get(), "num_batches_tracked", BN2D_F32, nullptr, 0,
                                  &value) == BN2D_OK);
    }
    const Module module = make_module(2);
    *data_of<int64_t>(module, "num_batches_tracked") = 5;
    const int32_t status = load(state, "", module);
    CHECK(status == (kind == 3 ? BN2D_ERROR_SHAPE : kind == 4 ? BN2D_ERROR_DTYPE : BN2D_OK));
    CHECK(batches_of(module) == (kind == 1 ? 17 : kind == 2 ? -17 : 5));
  }
}

TEST_CASE("load: nothing is changed where one of many modules cannot take it", "[state]") {
  // Catches a loader that writes module by module.
  const Module first = make_module(3), last = make_module(4);
  const State state = make_state();
  const Module other = make_module(3);
  fill_random(other, 9);
  REQUIRE(bn2d_state_set_module(state.get(), "a.", other.get()) == BN2D_OK);
  REQUIRE(bn2d_state_set_module(state.get(), "b.", other.get()) == BN2D_OK);
  Snapshot before;
  before.add("first", first.get());
  before.add("last", last.get());
  const Loader loader = make_loader(state);
  REQUIRE(bn2d_loader_add_module(loader.get(), "a.", first.get()) == BN2D_OK);
  REQUIRE(bn2d_loader_add_module(loader.get(), "b.", last.get()) == BN2D_OK);
  check_fails("shape", BN2D_ERROR_SHAPE, before, {"3", "4"},
              [&] { return bn2d_loader_load(loader.get(), 0); });

  // Busy: the second one is in use, and the first is free again.
  const Module fits = make_module(3);
  const Loader busy = make_loader(state);
  REQUIRE(bn2d_loader_add_module(busy.get(), "a.", first.get()) == BN2D_OK);
  REQUIRE(bn2d_loader_add_module(busy.get(), "b.", fits.get()) == BN2D_OK);
  REQUIRE(bn2d_module_try_lock(fits.get(), 0) == BN2D_OK);
  check_fails("busy", BN2D_ERROR_BUSY, before, {}, [&] { return bn2d_loader_load(busy.get(), 1); });
  CHECK(bn2d_module_train(first.get(), 1) == BN2D_OK);
  REQUIRE(bn2d_module_unlock(fits.get(), 0) == BN2D_OK);
  CHECK(bn2d_loader_load(busy.get(), 1) == BN2D_OK);
  CHECK(values_of(fits) == values_of(other));

  // A file that has become shorter since it was opened.
  const Folder folder;
  const std::string path = folder / "file";
  REQUIRE(bn2d_state_save(state.get(), path.c_str()) == BN2D_OK);
  const State file = open_state(path);
  REQUIRE(truncate(path.c_str(), static_cast<off_t>(read_file(path).size() - 8)) == 0);
  const Module target = make_module(3), target2 = make_module(3);
  Snapshot untouched;
  untouched.add("target", target.get());
  untouched.add("target2", target2.get());
  const Loader cut = make_loader(file);
  REQUIRE(bn2d_loader_add_module(cut.get(), "a.", target.get()) == BN2D_OK);
  REQUIRE(bn2d_loader_add_module(cut.get(), "b.", target2.get()) == BN2D_OK);
  check_fails("shorter", BN2D_ERROR_IO, untouched, {"shorter"},
              [&] { return bn2d_loader_load(cut.get(), 1); });
  REQUIRE(truncate(path.c_str(), 20) == 0);  // the number is that of the file, not of the read
  check_fails("20 bytes", BN2D_ERROR_IO, untouched, {"has become shorter: 20 bytes"},
              [&] { return bn2d_loader_load(cut.get(), 1); });
}

TEST_CASE("load: a module that ends before its loader, and one added twice", "[state]") {
  // Catches a pointer into a module that is gone, and a lock on a module that the same load holds.
  const State state = make_state();
  {
    const Module module = make_module(3);
    fill_random(module, 4);
    REQUIRE(bn2d_state_set_module(state.get(), "a.", module.get()) == BN2D_OK);
    REQUIRE(bn2d_state_set_module(state.get(), "b.", module.get()) == BN2D_OK);
  }
  Loader loader;
  {
    const Module module = make_module(3);
    loader = make_loader(state);
    REQUIRE(bn2d_loader_add_module(loader.get(), "a.", module.get()) == BN2D_OK);
    REQUIRE(bn2d_loader_add_module(loader.get(), "b.", module.get()) == BN2D_OK);
  }
  CHECK(bn2d_loader_load(loader.get(), 1) == BN2D_OK);
  CHECK(bn2d_loader_load(loader.get(), 1) == BN2D_OK);
}

TEST_CASE("load: values are set anew, names and metadata kept", "[state]") {
  // Catches a second entry for a name, an index that moves, metadata that are lost on the way.
  const State state = make_state();
  set_floats(state, "a", {1});
  set_floats(state, "b", {2});
  const char *name = nullptr;
  REQUIRE(bn2d_state_name(state.get(), 0, &name) == BN2D_OK);
  set_floats(state, "a", {3, 4});
  CHECK(names_of(state) == std::vector<std::string>{"a", "b"});
  CHECK(std::string(name) == "a");
  int64_t extent = 0;
  REQUIRE(bn2d_state_dim(state.get(), 0, 0, &extent) == BN2D_OK);
  CHECK(extent == 2);
  REQUIRE(bn2d_state_set_metadata(state.get(), "made by", "\"me\"\n\xe2\x82\xac") == BN2D_OK);
  const State read = parse_state(written(state));
  int64_t entries = 0;
  REQUIRE(bn2d_state_metadata_count(read.get(), &entries) == BN2D_OK);
  REQUIRE(entries == 2);
  const char *key = nullptr, *value = nullptr;
  REQUIRE(bn2d_state_metadata_at(read.get(), 0, &key, &value) == BN2D_OK);
  CHECK(std::string(key) + value == "formatpt");
  REQUIRE(bn2d_state_metadata_at(read.get(), 1, &key, &value) == BN2D_OK);
  CHECK(std::string(value) == "\"me\"\n\xe2\x82\xac");
  REQUIRE(bn2d_state_set_metadata(read.get(), "format", "") == BN2D_OK);
  REQUIRE(bn2d_state_metadata_count(read.get(), &entries) == BN2D_OK);
  CHECK(entries == 1);
  // Names that JSON cannot hold.
  Snapshot nothing;
  for (const char *bad : {"\xff", "__metadata__"}) {
    const float one = 1;
    check_fails(bad, BN2D_ERROR_INVALID_ARGUMENT, nothing, {},
                [&] { return bn2d_state_set_flat(state.get(), bad, BN2D_F32, nullptr, 0, &one); });
    check_fails(bad, BN2D_ERROR_INVALID_ARGUMENT, nothing, {},
                [&] { return bn2d_state_set_metadata(state.get(), bad, "x"); });
  }
  // A value is no name.
  REQUIRE(bn2d_state_set_metadata(state.get(), "by", "__metadata__") == BN2D_OK);
  const Module module = make_module(2);
  check_fails("prefix", BN2D_ERROR_INVALID_ARGUMENT, nothing, {},
              [&] { return bn2d_state_set_module(state.get(), "\xc3(", module.get()); });
  CHECK(names_of(state) == std::vector<std::string>{"a", "b"});
}

TEST_CASE("load: the state of a group norm and of instance norms", "[state][norms]") {
  // Catches buffers that are asked for where a norm has none, and names that are not PyTorch's.
  bn2d_module *raw = nullptr;
  const auto group_norm = [&] {
    REQUIRE(bn2d_group_norm_create(2, 6, nullptr, &raw) == BN2D_OK);
    return Module(raw);
  };
  Settings tracks;
  const auto instance_norm = [&](bool plain) {
    REQUIRE(bn2d_instance_norm_create(6, plain ? nullptr : make_options(tracks).get(), &raw) ==
            BN2D_OK);
    return Module(raw);
  };
  const Module group = group_norm(), instance = instance_norm(false), plain = instance_norm(true);
  fill_random(group, 3);
  fill_random(instance, 4);
  const State state = make_state();
  REQUIRE(bn2d_state_set_module(state.get(), "g.", group.get()) == BN2D_OK);
  REQUIRE(bn2d_state_set_module(state.get(), "i.", instance.get()) == BN2D_OK);
  REQUIRE(bn2d_state_set_module(state.get(), "p.", plain.get()) == BN2D_OK);
  CHECK(names_of(state) == std::vector<std::string>{"g.weight", "g.bias", "i.weight", "i.bias",
                                                    "i.running_mean", "i.running_var",
                                                    "i.num_batches_tracked"});
  const Module new_group = group_norm(), new_instance = instance_norm(false),
               new_plain = instance_norm(true);
  const State read = parse_state(written(state));
  const Loader loader = make_loader(read);
  REQUIRE(bn2d_loader_add_module(loader.get(), "g.", new_group.get()) == BN2D_OK);
  REQUIRE(bn2d_loader_add_module(loader.get(), "i.", new_instance.get()) == BN2D_OK);
  REQUIRE(bn2d_loader_add_module(loader.get(), "p.", new_plain.get()) == BN2D_OK);
  REQUIRE(bn2d_loader_load(loader.get(), 1) == BN2D_OK);
  CHECK(values_of(new_group) == values_of(group));
  CHECK(values_of(new_instance) == values_of(instance));

  // A group norm knows none of a batch norm's buffers, and lacks none.
  const Loader other = make_loader(read);
  REQUIRE(bn2d_loader_add_module(other.get(), "i.", new_group.get()) == BN2D_OK);
  const std::vector<double> before = values_of(new_group);
  CHECK(bn2d_loader_load(other.get(), 1) != BN2D_OK);
  CHECK(problems_of(other).find("running_mean") != std::string::npos);
  CHECK(values_of(new_group) == before);
}
