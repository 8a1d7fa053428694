#include "quantize/companions.h"

#include <algorithm>
#include <string_view>

#include "formats/companion_configs.h"
#include "foundation/mapped_file.h"
#include "foundation/output_file.h"
#include "text/tokenizer/tokenizer.h"

namespace gem8 {

namespace fs = std::filesystem;

namespace {

bool is_companion(std::string_view name) {
  for (const std::string_view ending : {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".msgpack",
                                        ".h5", ".index.json", ".jsonl"}) {
    if (name.ends_with(ending)) return false;
  }
  return name != "config.json";
}

}  // namespace

Result<std::vector<std::string>> companion_files(const fs::path& dir) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(dir, error), end; !error && at != end; at.increment(error)) {
    std::error_code kind;
    std::string name = at->path().filename().string();
    if (at->is_regular_file(kind) && is_companion(name)) names.push_back(std::move(name));
  }
  if (error) return system_error("cannot list", dir, error.value());
  std::ranges::sort(names);
  return names;
}

Status copy_companions(const fs::path& from, const fs::path& to) {
  GEM8_TRY(const std::vector<std::string> names, companion_files(from));
  for (const std::string& name : names) {
    GEM8_TRY(const MappedFile file, MappedFile::open(from / name));
    GEM8_RETURN_IF_ERROR(write_file_atomically(to / name, file.bytes()));
  }
  return {};
}

Result<std::string> different_companion(const fs::path& from, const fs::path& to) {
  GEM8_TRY(const std::vector<std::string> names, companion_files(from));
  for (const std::string& name : names) {
    GEM8_TRY(const MappedFile ours, MappedFile::open(from / name));
    const auto theirs = MappedFile::open(to / name);
    if (!theirs || !std::ranges::equal(ours.bytes(), theirs->bytes())) return name;
  }
  return std::string();
}

Status add_companions(const fs::path& dir, Fingerprint& fingerprint) {
  GEM8_TRY(const std::vector<std::string> names, companion_files(dir));
  for (const std::string& name : names) {
    GEM8_TRY(const MappedFile file, MappedFile::open(dir / name));
    fingerprint.add(name);
    fingerprint.add(file.bytes());
  }
  return {};
}

std::vector<std::pair<std::string, Error>> broken_companions(const fs::path& dir) {
  std::vector<std::pair<std::string, Error>> broken;
  const auto read = [&](std::string name, const auto& reader) {
    std::error_code ignored;
    if (!fs::exists(dir / name, ignored)) return;
    auto result = reader(dir);
    if (result || result.error().code == Code::kUnsupported) return;
    broken.emplace_back(std::move(name), std::move(result).error());
  };
  read("tokenizer.json", Tokenizer::load);
  read("tokenizer_config.json", read_tokenizer_config);
  read("generation_config.json", read_generation_config);
  read("processor_config.json", read_image_processor_config);
  return broken;
}

}  // namespace gem8
