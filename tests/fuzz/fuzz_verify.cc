// Any bytes as the JSON of a checkpoint folder: the verifier reports, whatever the files say.
//
// The input is files one after the other, "=== NAME" on a line before each. A .safetensors file is
// its header alone: length and data are added, so that fuzzing need not find them.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "foundation/check.h"
#include "foundation/json/json.h"
#include "quantize/verify/verify.h"
#include "tests/support/temporary_folder.h"

namespace {

constexpr std::string_view kMark = "=== ";
constexpr std::int64_t kMaxData = 1 << 16;
constexpr std::string_view kNames[] = {"config.json",
                                       "model.safetensors.index.json",
                                       "generation_config.json",
                                       "hf_quant_config.json",
                                       "model-00001-of-00002.safetensors",
                                       "model-00002-of-00002.safetensors",
                                       "tokenizer_config.json",
                                       "processor_config.json",
                                       "model.safetensors"};

/// As many bytes as the header's last tensor asks for, all finite as FP8, BF16 and F32.
std::string data_for(std::string_view header) {
  std::int64_t size = 0;
  const auto json = gem8::parse_json(header);
  if (json && json->is_object()) {
    for (const gem8::JsonMember& tensor : json->as_object()) {
      const gem8::Json* const offsets = tensor.value.find("data_offsets");
      if (offsets == nullptr || !offsets->is_array()) continue;
      for (const gem8::Json& offset : offsets->as_array()) {
        if (offset.is_int()) size = std::max(size, std::min(offset.as_int(), kMaxData));
      }
    }
  }
  std::string data(static_cast<std::size_t>(size), '\0');
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(0x3c - i % 3);
  return data;
}

std::string contents_of(std::string_view name, std::string_view text) {
  if (!name.ends_with(".safetensors")) return std::string(text);
  const std::uint64_t length = text.size();
  std::string file(sizeof length, '\0');
  std::memcpy(file.data(), &length, sizeof length);
  return file + std::string(text) + data_for(text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static const gem8::testing::TemporaryFolder folder;
  static gem8::ThreadPool pool(1);
  for (const std::string_view name : kNames) std::filesystem::remove(folder.path() / name);

  std::string_view rest(reinterpret_cast<const char*>(bytes), size);
  while (rest.starts_with(kMark)) {
    rest.remove_prefix(kMark.size());
    const std::string_view name = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(name.size() + 1, rest.size()));
    const std::size_t next = rest.find("\n=== ");
    const std::string_view text = rest.substr(0, next);
    rest.remove_prefix(next == std::string_view::npos ? rest.size() : next + 1);
    if (std::ranges::find(kNames, name) == std::end(kNames)) continue;
    folder.write(name, contents_of(name, text));
  }

  const auto report = gem8::verify::verify_checkpoint(folder.path(), {}, pool);
  if (!report) return 0;
  GEM8_CHECK(report->rules_checked == 41);
  for (const gem8::verify::Finding& finding : report->findings) {
    GEM8_CHECK(finding.rule >= 1 && finding.rule <= 41 && !finding.message.empty());
  }
  // What is printed is JSON, whatever the names in the files are.
  GEM8_CHECK(gem8::parse_json(gem8::to_text(gem8::verify::to_json(*report))));
  (void)gem8::verify::to_text(*report);
  return 0;
}
