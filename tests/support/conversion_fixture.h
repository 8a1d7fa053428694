#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "formats/safetensors_writer.h"
#include "foundation/mapped_file.h"
#include "quantize/quantizer.h"
#include "tests/support/golden_checkpoint.h"

/// Sources to convert, and a conversion of them with few words.
namespace gem8::testing {

namespace fs = std::filesystem;

/// A model of the golden set, converted with the golden ids.
struct Golden {
  std::string name;
  std::shared_ptr<const Checkpoint> source;
  fs::path expected;
  Json calibration;
  std::vector<TokenSample> samples;

  static std::optional<Golden> load(const std::string& name) {
    auto dir = golden_path("quant/" + name);
    if (!dir) dir = golden_path("models/" + name);
    const auto expected = golden_path("quant/" + name + "-fp8");
    const auto ids = golden_path("quant/" + name + "-ids.json");
    const auto calibration = golden_path("quant/" + name + "-calibration.json");
    if (!dir || !expected || !ids || !calibration) return std::nullopt;
    Golden golden{.name = name, .expected = *expected};
    golden.source = open_checkpoint(*dir);
    if (golden.source == nullptr) return std::nullopt;
    golden.calibration = *parse_json(*read_text_file(*calibration));
    const Json sequences = *parse_json(*read_text_file(*ids));
    for (const Json& sequence : sequences.as_array()) {
      auto& sample = golden.samples.emplace_back().tokens;
      for (const Json& id : sequence.as_array())
        sample.push_back(TokenId{static_cast<std::int32_t>(id.as_int())});
    }
    return golden;
  }
};

/// A model with experts that is always there: tiny-26b, else the demo model with a few samples.
inline std::optional<Golden> mixture() {
  if (auto golden = Golden::load("tiny-26b")) return golden;
  const fs::path demo = fs::path(GEM8_SOURCE_DIR) / "models" / "demo";
  if (!fs::exists(demo / kSingleFileName)) return std::nullopt;
  Golden result{.name = "demo", .source = open_checkpoint(demo)};
  if (result.source == nullptr) return std::nullopt;
  for (int s = 0; s < 6; ++s) {
    auto& sample = result.samples.emplace_back().tokens;
    sample.push_back(TokenId{2});
    for (int i = 0; i < 20; ++i) sample.push_back(TokenId{200 + 97 * s + 31 * i});
  }
  return result;
}

struct Converted {
  ConversionPlan plan;
  QuantizeReport report;
};

inline Result<Converted> convert(const Golden& golden, const fs::path& out,
                                 QuantizeOptions options = {}, std::size_t threads = 2) {
  options.out = out;
  options.calibration_dtype = DType::kF32;
  options.samples = golden.samples;
  Converted converted;
  GEM8_TRY(converted.plan, make_conversion_plan(*golden.source, options.conversion));
  ThreadPool pool(threads);
  GEM8_TRY(converted.report, quantize(golden.source, converted.plan, options, pool));
  return converted;
}

/// The golden source as a folder of its own, without one tensor, or with another one's weights made
/// eight times as large from the middle on.
inline Golden changed(const Golden& golden, const fs::path& dir, const std::string& dropped,
                      const std::string& scaled = {}) {
  fs::create_directories(dir);
  fs::copy_file(golden.source->dir() / "config.json", dir / "config.json");
  std::vector<TensorSpec> specs;
  for (const CheckpointTensor& tensor : golden.source->tensors()) {
    if (tensor.info->name != dropped)
      specs.push_back({tensor.info->name, tensor.info->dtype, tensor.info->shape});
  }
  sort_for_alignment(specs);
  auto writer = SafetensorsWriter::create(dir / kSingleFileName, specs);
  EXPECT_TRUE(writer);
  for (const TensorSpec& spec : specs) {
    const std::span<const std::byte> stored = golden.source->find(spec.name)->bytes;
    std::vector<std::byte> bytes(stored.begin(), stored.end());
    if (spec.name == scaled) {
      EXPECT_EQ(spec.dtype, DType::kBF16);
      for (std::size_t i = bytes.size() / 8 * 4; i + 1 < bytes.size() * 3 / 4; i += 2) {
        BF16 value;
        std::memcpy(&value, &bytes[i], sizeof value);
        value = BF16(8 * static_cast<float>(value));
        std::memcpy(&bytes[i], &value, sizeof value);
      }
    }
    EXPECT_TRUE(writer->append(spec.name, bytes));
  }
  EXPECT_TRUE(writer->finish());
  Golden result = golden;
  result.source = open_checkpoint(dir);
  return result;
}

}  // namespace gem8::testing
