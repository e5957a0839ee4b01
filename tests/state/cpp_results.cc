// state.hpp without exceptions.
#define BN2D_NO_EXCEPTIONS
#include <bn2d/state.hpp>

#include "support/catch.h"

TEST_CASE("state.hpp: results instead of exceptions", "[state]") {
  // Catches a throw, and an error without its message.
  auto module = bn2d::Module::create(2);
  auto state = bn2d::State::create();
  REQUIRE(module);
  REQUIRE(state);
  CHECK(state->set("bn.", *module));
  auto file = state->serialize();
  REQUIRE(file);
  auto parsed = bn2d::State::parse(file->data(), file->size() - 1);
  REQUIRE(!parsed);
  CHECK(parsed.status() == bn2d::Status::format);
  CHECK(std::string(parsed.message()).find("bytes") != std::string::npos);
  auto loader = bn2d::Loader::create(*state);
  REQUIRE(loader);
  CHECK(loader->add("other.", *module));
  CHECK(!loader->load());
  auto missing = loader->missing();
  REQUIRE(missing);
  CHECK(missing->size() == 4);
}
