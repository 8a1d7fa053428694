#include "kernels/isa/isa.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>

namespace gem8 {
namespace {

/// A level that GEM8_ISA asks for and the CPU lacks: said by name (ctest reports it as skipped),
/// and nothing is tested under its name.
class IsaEnvironment : public ::testing::Environment {
 public:
  void SetUp() override {
    const auto level = isa::choose();
    if (!level) {
      std::cout << level.error().text() << '\n';
      GTEST_SKIP() << level.error().text();
    }
    std::cout << "kernel rows up to " << isa::level_name(*level) << '\n';
  }
};
const auto* const kEnvironment = ::testing::AddGlobalTestEnvironment(new IsaEnvironment);

TEST(Isa, NamesAreUnderstood) {
  const char* before = std::getenv("GEM8_ISA");
  const std::string saved = before == nullptr ? "" : before;
  setenv("GEM8_ISA", "reference", 1);
  EXPECT_EQ(isa::choose().value(), isa::Level::kReference);
  setenv("GEM8_ISA", "sse9", 1);
  EXPECT_EQ(isa::choose().error().code, Code::kInvalidArgument);
  unsetenv("GEM8_ISA");
  EXPECT_EQ(isa::choose().value(), isa::detect());
  if (isa::detect() < isa::Level::kAvx512Bf16) {
    setenv("GEM8_ISA", "avx512bf16", 1);
    EXPECT_EQ(isa::choose().error().code, Code::kUnsupported);
  }
  if (saved.empty()) {
    unsetenv("GEM8_ISA");
  } else {
    setenv("GEM8_ISA", saved.c_str(), 1);
  }
}

}  // namespace
}  // namespace gem8
