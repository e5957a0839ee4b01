// Files that are not trusted: each is refused with a clear error, or read; never beyond its bytes,
// never with memory that it only claims. Run under the sanitizers, too.
#include <malloc.h>
#include <sys/resource.h>

#include "state_world.h"
#include "support/numerics_values.h"

using namespace bn2d_test;

namespace {

using numerics::Random;

struct Bad {
  const char *what;
  std::string file;
  std::vector<std::string> words;  // that the message says
};

std::string tensor(const std::string &name, const std::string &dtype, const std::string &shape,
                   const std::string &offsets) {
  return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" +
         offsets + "}";
}

std::vector<Bad> bad_files() {
  const std::string four(4, 'd'), eight(8, 'd');
  const auto one = [](const std::string &fields) { return "{\"a\":" + fields + "}"; };
  const std::string good = tensor("a", "F32", "[1]", "[0,4]");
  return {
      {"nothing", "", {"0", "10"}},
      {"7 bytes", "1234567", {"7"}},
      {"no header", std::string(8, '\0'), {"begin"}},
      {"a length beyond the file", file_of("{}", "", 3), {"3", "2"}},
      {"a length of 2^64-1", file_of("{}", "", UINT64_MAX), {"18446744073709551615", "100000000"}},
      {"a length of 2^63", file_of("{}", "", uint64_t{1} << 63), {"100000000"}},
      {"a length of 100000001", file_of("{}", "", 100000001), {"100000001"}},
      {"a zip archive of torch.save()",
       "PK\3\4" + std::string(60, 'z'),
       {"torch.save", "save_file"}},
      {"no object", file_of("[]", ""), {"begin"}},
      {"a space first", file_of(" {}", ""), {"begin"}},
      {"a byte order mark", file_of("\xef\xbb\xbf{}", ""), {"begin"}},
      {"cut off", file_of("{\"a\":", ""), {"JSON"}},
      {"a comma too many", file_of("{" + good + ",}", four), {"JSON"}},
      {"something behind", file_of("{" + good + "}x", four), {"JSON"}},
      {"a comment", file_of("{/* */" + good + "}", four), {"JSON"}},
      {"a name that is not UTF-8", file_of("{\"\xff\":{}}", ""), {"JSON"}},
      {"a name with NUL",
       file_of("{" + tensor("a\\u0000b", "F32", "[1]", "[0,4]") + "}", four),
       {"NUL"}},
      {"a tensor that is null", file_of(one("null"), ""), {"a", "null"}},
      {"a tensor that is a number", file_of(one("1"), ""), {"a", "number"}},
      {"a tensor that is an array", file_of(one("[]"), ""), {"a", "array"}},
      {"no dtype", file_of(one(R"({"shape":[1],"data_offsets":[0,4]})"), four), {"dtype"}},
      {"no shape", file_of(one(R"({"dtype":"F32","data_offsets":[0,4]})"), four), {"shape"}},
      {"no offsets", file_of(one(R"({"dtype":"F32","shape":[1]})"), four), {"data_offsets"}},
      {"two dtypes",
       file_of(one(R"({"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]})"), four),
       {"two"}},
      {"another field",
       file_of(one(R"({"dtype":"F32","x":1,"shape":[1],"data_offsets":[0,4]})"), four),
       {"x"}},
      {"an unknown dtype", file_of("{" + tensor("a", "F31", "[1]", "[0,4]") + "}", four), {"F31"}},
      {"a negative extent",
       file_of("{" + tensor("a", "F32", "[-1]", "[0,4]") + "}", four),
       {"shape"}},
      {"an extent of 1.0",
       file_of("{" + tensor("a", "F32", "[1.0]", "[0,4]") + "}", four),
       {"shape"}},
      {"an extent of 2^63",
       file_of("{" + tensor("a", "F32", "[9223372036854775808]", "[0,4]") + "}", four),
       {"2"}},
      {"an extent of 2^64",
       file_of("{" + tensor("a", "F32", "[18446744073709551616]", "[0,4]") + "}", four),
       {"2"}},
      {"extents whose product wraps to 1",
       file_of("{" + tensor("a", "F32", "[4294967296,4294967296]", "[0,4]") + "}", four),
       {"64"}},
      {"bits that wrap",
       file_of("{" + tensor("a", "F32", "[1152921504606846976]", "[0,4]") + "}", four),
       {"64"}},
      {"a nested shape",
       file_of("{" + tensor("a", "F32", "[[1]]", "[0,4]") + "}", four),
       {"array"}},
      {"an object in a shape",
       file_of("{" + tensor("a", "F32", "[{}]", "[0,4]") + "}", four),
       {"object"}},
      {"one offset", file_of("{" + tensor("a", "F32", "[1]", "[0]") + "}", four), {"1", "2"}},
      {"three offsets", file_of("{" + tensor("a", "F32", "[1]", "[0,4,4]") + "}", four), {"2"}},
      {"offsets in reverse",
       file_of("{" + tensor("a", "F32", "[1]", "[4,0]") + "}", four),
       {"4", "0"}},
      {"an end beyond the data",
       file_of("{" + tensor("a", "F32", "[2]", "[0,8]") + "}", four),
       {"8", "4"}},
      {"offsets of 2^64-1",
       file_of("{" + tensor("a", "F32", "[1]", "[18446744073709551611,18446744073709551615]") + "}",
               four),
       {"4"}},
      {"a negative offset",
       file_of("{" + tensor("a", "F32", "[1]", "[-4,0]") + "}", four),
       {"data_offsets"}},
      {"fewer bytes than the shape",
       file_of("{" + tensor("a", "F32", "[2]", "[0,4]") + "}", four),
       {"8", "4"}},
      {"more bytes than the shape",
       file_of("{" + tensor("a", "F32", "[1]", "[0,8]") + "}", eight),
       {"8", "4"}},
      {"half a byte", file_of("{" + tensor("a", "F4", "[1]", "[0,0]") + "}", ""), {"byte"}},
      {"an overlap",
       file_of("{" + tensor("a", "F32", "[1]", "[0,4]") + "," + tensor("b", "F32", "[1]", "[2,6]") +
                   "}",
               "123456"),
       {"overlap"}},
      {"the same data twice",
       file_of("{" + good + "," + tensor("b", "F32", "[1]", "[0,4]") + "}", four),
       {"overlap"}},
      {"a gap",
       file_of("{" + tensor("a", "F16", "[1]", "[0,2]") + "," + tensor("b", "F16", "[1]", "[4,6]") +
                   "}",
               "123456"),
       {"gap"}},
      {"a gap in front", file_of("{" + tensor("a", "F32", "[1]", "[4,8]") + "}", eight), {"gap"}},
      {"data that nobody has", file_of("{" + good + "}", eight), {"4", "8"}},
      {"data without tensors", file_of("{}", four), {"4"}},
      {"a name twice",
       file_of("{" + tensor("a", "F16", "[1]", "[0,2]") + "," + tensor("a", "F16", "[1]", "[2,4]") +
                   "}",
               four),
       {"twice"}},
      {"a name twice, once escaped",
       file_of("{" + tensor("a", "F16", "[1]", "[0,2]") + "," +
                   tensor("\\u0061", "F16", "[1]", "[2,4]") + "}",
               four),
       {"twice"}},
      {"metadata twice", file_of(R"({"__metadata__":{},"__metadata__":{}})", ""), {"twice"}},
      {"a key of the metadata twice",
       file_of(R"({"__metadata__":{"a":"1","a":"2"}})", ""),
       {"twice"}},
      {"a number in the metadata", file_of(R"({"__metadata__":{"a":1}})", ""), {"number"}},
      {"an object in the metadata", file_of(R"({"__metadata__":{"a":{}}})", ""), {"object"}},
      {"metadata that are a tensor",
       file_of("{" + tensor("__metadata__", "F32", "[1]", "[0,4]") + "}", four),
       {"array"}},
      {"65 dimensions",
       file_of("{" +
                   tensor(
                       "a", "F32",
                       "[1" +
                           [] {
                             std::string s;
                             for (int i = 0; i < 64; ++i) s += ",1";
                             return s;
                           }() +
                           "]",
                       "[0,4]") +
                   "}",
               four),
       {"64"}},
      {"a deep nest", file_of("{\"a\":" + std::string(1000000, '['), ""), {"array"}},
      {"a deep nest of objects",
       file_of(
           [] {
             std::string s = "{";
             for (int i = 0; i < 100000; ++i) s += "\"a\":{";
             return s;
           }(),
           ""),
       {}},
  };
}

// Reads all that a state has to tell.
void look_at(const bn2d_state *state) {
  int64_t count = 0, entries = 0;
  REQUIRE(bn2d_state_count(state, &count) == BN2D_OK);
  uint64_t sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const char *name = nullptr;
    const void *data = nullptr;
    uint64_t nbytes = 0;
    int32_t rank = 0;
    int64_t extent = 0;
    REQUIRE(bn2d_state_name(state, i, &name) == BN2D_OK);
    REQUIRE(bn2d_state_nbytes(state, i, &nbytes) == BN2D_OK);
    REQUIRE(bn2d_state_data(state, i, &data) == BN2D_OK);
    REQUIRE(bn2d_state_rank(state, i, &rank) == BN2D_OK);
    for (int32_t d = 0; d < rank; ++d) REQUIRE(bn2d_state_dim(state, i, d, &extent) == BN2D_OK);
    sum += std::strlen(name);
    for (uint64_t k = 0; k < nbytes; ++k) sum += static_cast<const unsigned char *>(data)[k];
  }
  REQUIRE(bn2d_state_metadata_count(state, &entries) == BN2D_OK);
  for (int64_t i = 0; i < entries; ++i) {
    const char *key = nullptr, *value = nullptr;
    REQUIRE(bn2d_state_metadata_at(state, i, &key, &value) == BN2D_OK);
    sum += std::strlen(key) + std::strlen(value);
  }
  REQUIRE(sum != 1);  // looked at
}

}  // namespace

TEST_CASE("hostile: every kind of wrong file has its error", "[state]") {
  // Catches a check that is missing. Each file is wrong in one thing.
  bn2d_state *out = reinterpret_cast<bn2d_state *>(0x5a5a);
  Snapshot before;
  before.add("out", &out, sizeof out);
  for (const Bad &bad : bad_files()) {
    check_fails(bad.what, BN2D_ERROR_FORMAT, before, bad.words, [&] {
      // Memory without a byte to spare: what reads beyond it is found.
      const std::vector<char> exact(bad.file.begin(), bad.file.end());
      return bn2d_state_parse(exact.empty() ? bad.file.data() : exact.data(), exact.size(), &out);
    });
  }
}

TEST_CASE("hostile: what is unusual, but a safetensors file", "[state]") {
  // Catches a check that refuses what the format allows.
  const std::string files[] = {
      file_of("{}", ""),
      file_of("{}      ", ""),
      file_of(R"({"__metadata__":{}})", ""),
      file_of("{" + tensor("", "F32", "[]", "[0,4]") + "}", "1234"),
      file_of("{" + tensor("a", "F32", "[0]", "[0,0]") + "," +
                  tensor("b", "F64", "[3,0,9223372036854775807]", "[0,0]") + "}",
              ""),
      file_of("{" + tensor("b", "F16", "[1]", "[2,4]") + "," +
                  tensor("a", "BF16", "[1,1]", "[0,2]") + "}",
              "1234"),
      file_of("{" + tensor("a", "F4", "[2]", "[0,1]") + "," +
                  tensor("\\u20ac", "BOOL", "[1]", "[1,2]") + "}",
              "12"),
  };
  for (const std::string &file : files) {
    INFO(file.substr(8));
    const State state = parse_state(file);
    look_at(state.get());
    const State again = parse_state(written(state));  // and what we make of it is one, too
    CHECK(count_of(again) == count_of(state));
    CHECK(written(again) == written(state));
  }
}

TEST_CASE("hostile: a shape without elements, whatever its other extents", "[state]") {
  // Catches a product of extents that is not counted before it is known that there are elements:
  // 2^63 leaves 64 bits. (As memory it is harmless; the sanitizers see it.)
  for (const char *shape : {"[4611686018427387904,2,0]", "[0,1099511627776,1099511627776]"}) {
    INFO(shape);
    const State state =
        parse_state(file_of("{" + tensor("empty", "F32", shape, "[0,0]") + "}", ""));
    look_at(state.get());
    std::vector<int64_t> extents;
    for (int32_t d = 0; d < 3; ++d) {
      extents.push_back(-1);
      REQUIRE(bn2d_state_dim(state.get(), 0, d, &extents.back()) == BN2D_OK);
    }
    double untouched = 7;  // that there is memory makes no difference
    for (void *data : {static_cast<void *>(nullptr), static_cast<void *>(&untouched)})
      for (const int32_t dtype : {BN2D_F32, BN2D_F64, BN2D_F16, BN2D_BF16}) {
        const Loader loader = make_loader(state);
        const View view(data, dtype, 3, extents.data(), nullptr);
        REQUIRE(bn2d_loader_add(loader.get(), "empty", view) == BN2D_OK);
        CHECK(bn2d_loader_load(loader.get(), 1) == BN2D_OK);
        CHECK(problems_of(loader) == "");
        CHECK(bn2d_state_copy_to(state.get(), 0, view) == BN2D_OK);
        const State made = make_state();
        CHECK(bn2d_state_set(made.get(), "empty", view) == BN2D_OK);
        CHECK(count_of(parse_state(written(made))) == 1);
      }
    CHECK(untouched == 7);
  }
}

TEST_CASE("hostile: 2,000 mutated files", "[state]") {
  // Catches reads beyond the file, memory out of proportion, and a crash: whatever a file says, the
  // answer is a status.
  const State whole = make_state();
  const Module module = make_module(5), other = make_module(3);
  give_character(module);
  REQUIRE(bn2d_state_set_module(whole.get(), "layer1.0.bn1.", module.get()) == BN2D_OK);
  REQUIRE(bn2d_state_set_module(whole.get(), "bn\xe2\x82\xac.", other.get()) == BN2D_OK);
  const std::string good = written(whole);
  const std::string words[] = {"18446744073709551615",
                               "-1",
                               "[",
                               "{",
                               "\"",
                               "9223372036854775807",
                               "null",
                               "1e308",
                               "\\u0000",
                               "\xff",
                               "F64",
                               "BF16",
                               "0",
                               ",",
                               "}",
                               "data_offsets"};
  Random random(2000);
  uint64_t header = 0;
  for (size_t i = 8; i-- > 0;) header = header << 8 | static_cast<unsigned char>(good[i]);
  int refused = 0, read = 0;
  for (int i = 0; i < 2000; ++i) {
    std::string file = good;
    for (int64_t k = i % 2 == 0 ? 1 : 1 + random.below(4); k > 0; --k) {
      // Three of four changes in the header, where they count.
      const auto reach = static_cast<int64_t>(random.below(4) > 0 ? 8 + header : file.size());
      const auto at = static_cast<size_t>(
          random.below(std::min<int64_t>(reach, static_cast<int64_t>(file.size()))));
      switch (random.below(6)) {
        case 0:
          file[at] = static_cast<char>(random.bits());
          break;
        case 1:
          file[at] = static_cast<char>(file[at] ^ (1 << random.below(8)));
          break;
        case 2:
          file.erase(at, static_cast<size_t>(1 + random.below(12)));
          break;
        case 3:
          file.insert(at, words[random.below(16)]);
          break;
        case 4:
          file.insert(at, file.substr(at, static_cast<size_t>(random.below(80))));
          break;
        default:
          file.resize(std::max<size_t>(at, 1));
          break;
      }
      if (file.empty()) file = "x";
    }
    if (random.coin() && file.size() >= 8) {  // a length that fits after all
      const auto end = file.rfind('}');
      const uint64_t length = end == std::string::npos || end < 8 ? 0 : end - 7;
      for (size_t b = 0; b < 8; ++b) file[b] = static_cast<char>(length >> (8 * b));
    }
    const std::vector<char> exact(file.begin(), file.end());
    bn2d_state *raw = nullptr;
    const int32_t status = bn2d_state_parse(exact.data(), exact.size(), &raw);
    const State state(raw);
    if (status != BN2D_OK) {
      REQUIRE(status == BN2D_ERROR_FORMAT);
      REQUIRE(message_fault(bn2d_last_error()) == "");
      ++refused;
      continue;
    }
    ++read;
    look_at(state.get());
    const Loader loader = make_loader(state);
    REQUIRE(bn2d_loader_add_module(loader.get(), "layer1.0.bn1.", module.get()) == BN2D_OK);
    (void)bn2d_loader_load(loader.get(), static_cast<int32_t>(random.below(2)));
  }
  WARN(refused << " refused, " << read << " read");
  CHECK(refused > 1000);
  CHECK(read > 20);
}

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("hostile: a file of a terabyte takes no memory", "[state]") {
  // Catches a reader that reads all, and one that believes a shape before it has looked at the
  // file.
  const Folder folder;
  const std::string path = folder / "large";
  const uint64_t data = uint64_t{1} << 40;
  const std::string json = "{" + tensor("x", "U8", "[1099511627775]", "[1,1099511627776]") + "," +
                           tensor("b", "I8", "[1]", "[0,1]") + "}";
  write_file(path, file_of(json, ""));
  if (truncate(path.c_str(), static_cast<off_t>(8 + json.size() + data)) != 0) {
    WARN("no file of a terabyte on this file system");
    return;
  }
  const State state = open_state(path);
  uint64_t nbytes = 0;
  CHECK(bn2d_state_nbytes(state.get(), index_of(state, "x"), &nbytes) == BN2D_OK);
  CHECK(nbytes == data - 1);
  const void *at = nullptr;
  REQUIRE(bn2d_state_data(state.get(), index_of(state, "x"), &at) == BN2D_OK);
  CHECK(static_cast<const char *>(at)[data - 2] == 0);
  struct mallinfo2 used = mallinfo2();
  CHECK(used.uordblks + used.hblkhd < (size_t{1} << 28));
}
#endif
