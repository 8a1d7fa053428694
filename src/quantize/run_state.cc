#include "quantize/run_state.h"

#include "foundation/mapped_file.h"
#include "foundation/output_file.h"

namespace gem8 {

namespace {
constexpr const char* kFile = "gem8-unfinished.json";
}

bool RunState::is_in(const std::filesystem::path& folder) {
  std::error_code ignored;
  return std::filesystem::exists(folder / kFile, ignored);
}

Result<std::optional<RunState>> RunState::read(const std::filesystem::path& folder) {
  if (!is_in(folder)) return std::nullopt;
  GEM8_TRY(const std::string text, read_text_file(folder / kFile));
  const auto value = parse_json(text);
  const auto unreadable = [&] {
    return fail(Code::kCorrupt, "{}: not the state of a conversion (begin anew with --restart)",
                (folder / kFile).string());
  };
  if (!value) return unreadable();
  const Json* const fingerprint = value->find("fingerprint");
  const Json* const layers = value->find("layers");
  if (fingerprint == nullptr || !fingerprint->is_string() || layers == nullptr ||
      !layers->is_array()) {
    return unreadable();
  }
  RunState state{.fingerprint = fingerprint->as_string()};
  for (const Json& layer : layers->as_array()) {
    auto statistics = LayerStatistics::from_json(layer);
    if (!statistics) return unreadable();
    state.layers.push_back(std::move(*statistics));
  }
  return state;
}

Status RunState::write(const std::filesystem::path& folder) const {
  Json list = Json::array();
  for (const LayerStatistics& layer : layers) list.push_back(layer.to_json());
  const Json value = Json::object({{"fingerprint", fingerprint}, {"layers", std::move(list)}});
  return write_file_atomically(folder / kFile, to_text(value) + "\n");
}

void RunState::remove(const std::filesystem::path& folder) {
  std::error_code ignored;
  std::filesystem::remove(folder / kFile, ignored);
}

}  // namespace gem8
