// state.hpp, with exceptions; without them in cpp_results.cc.
#include <bn2d/state.hpp>
#include <functional>

#include "state_world.h"

TEST_CASE("state.hpp: saved, opened, loaded", "[state]") {
  // Catches a call that goes to another function, a handle that is lost or given back twice.
  const bn2d_test::Folder folder;
  const std::string path = folder / "file";
  bn2d::Module saved(3), loaded(3);
  saved.weight()[1] = 5;
  {
    bn2d::State state;
    const std::vector<double> plain = {1, 2, 3, 4, 5, 6};
    state.set("bn.", saved);
    state.set("plain", plain.data(), {2, 3});
    state.set_metadata("by", "me");
    bn2d::State moved = std::move(state);
    moved.save(path);
    CHECK(moved.serialize() == bn2d_test::read_file(path));
  }
  const bn2d::State file = bn2d::State::open(path);
  CHECK(file.names().size() == 6);
  CHECK(file.shape("plain") == std::vector<int64_t>{2, 3});
  CHECK(file.shape("bn.num_batches_tracked").empty());
  float plain[6] = {};
  bn2d::Loader loader(file);
  loader.add("bn.", loaded);
  loader.add("plain", plain, {2, 3});
  loader.load();
  CHECK(loaded.weight()[1] == 5);
  CHECK(plain[5] == 6);

  loader.add("none", plain, {1});
  bn2d::Module wide(4);
  try {
    loader.load();
    FAIL("a name is missing");
  } catch (const bn2d::Error &error) {
    CHECK(error.status() == bn2d::Status::not_found);
  }
  CHECK(loader.missing() == std::vector<std::string>{"none"});
  loader.load(false);
  loader.add("bn.", wide);
  CHECK_THROWS_AS(loader.load(false), bn2d::Error);
  CHECK(loader.mismatched().at(0) == "bn.weight has shape (3), must have (4)");
  CHECK(loader.unexpected().empty());
  CHECK_THROWS_AS(bn2d::State::open(folder / "none"), bn2d::Error);
  try {
    (void)bn2d::State::parse("12345678", 8);
    FAIL("8 bytes were taken for a file");
  } catch (const bn2d::Error &error) {
    CHECK(error.status() == bn2d::Status::format);
  }
}

TEST_CASE("state.hpp: a text with a NUL in it is refused", "[state]") {
  // Catches a name that C cuts at its first NUL: "a" in the place of "a\0b".
  using namespace std::string_literals;
  const std::string text = "a\0b"s;
  bn2d::Module module(2);
  bn2d::State state;
  bn2d::Loader loader(state);
  float values[2] = {};
  const std::vector<std::function<void()>> calls = {[&] { state.set(text, values, {2}); },
                                                    [&] { state.set(text, module); },
                                                    [&] { state.set_metadata(text, "value"); },
                                                    [&] { state.set_metadata("key", text); },
                                                    [&] { state.save(text); },
                                                    [&] { (void)bn2d::State::open(text); },
                                                    [&] { (void)state.shape(text); },
                                                    [&] { loader.add(text, module); },
                                                    [&] { loader.add(text, values, {2}); }};
  for (const auto &call : calls) {
    try {
      call();
      FAIL("it was taken");
    } catch (const bn2d::Error &error) {
      CHECK(error.status() == bn2d::Status::invalid_argument);
      CHECK(std::string(error.what()).find(" has 3 bytes, and a NUL at byte 1") !=
            std::string::npos);
    }
  }
  CHECK(state.names().empty());
}

TEST_CASE("state.hpp: through tables that were loaded", "[state]") {
  // Catches a call that needs the linked library.
  const auto library = bn2d::Library::open();
  const auto states = bn2d::StateLibrary::open(library);
  bn2d::Module module(library, 2);
  bn2d::State state = bn2d::State::create(states);
  state.set("", module);
  CHECK(bn2d::State::parse(state.serialize().data(), state.serialize().size(), states)
            .names()
            .size() == 5);
  CHECK_THROWS_AS(bn2d::StateLibrary::open(library, "libnone.so"), bn2d::Error);
}
