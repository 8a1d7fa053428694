#include "formats/safetensors_writer.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "formats/safetensors.h"
#include "foundation/json/json.h"

namespace gem8 {
namespace {

constexpr std::size_t kMaxHeaderBytes = 100'000'000;  // the format's limit, as in safetensors.cc
constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

}  // namespace

void sort_for_alignment(std::vector<TensorSpec>& specs) {
  std::ranges::sort(specs, [](const TensorSpec& a, const TensorSpec& b) {
    const auto key = [](const TensorSpec& spec) {
      return std::tuple(-static_cast<int>(dtype_bytes(spec.dtype)), -static_cast<int>(spec.dtype),
                        std::string_view(spec.name));
    };
    return key(a) < key(b);
  });
}

Result<SafetensorsWriter> SafetensorsWriter::create(const std::filesystem::path& path,
                                                    std::vector<TensorSpec> tensors,
                                                    const Metadata& metadata) {
  Json::Object header;
  header.reserve(tensors.size() + 1);
  if (!metadata.empty()) {
    Json::Object members;
    for (const auto& [key, value] : metadata) members.push_back({key, Json(value)});
    header.push_back({"__metadata__", Json(std::move(members))});
  }
  std::unordered_set<std::string_view> seen{"__metadata__"};
  std::uint64_t offset = 0;
  for (const TensorSpec& spec : tensors) {
    if (!seen.insert(spec.name).second) {
      return fail(Code::kInvalidArgument, "{}: tensor '{}' declared twice, or a reserved name",
                  path.string(), spec.name);
    }
    const std::optional<std::uint64_t> bytes = tensor_bytes(spec.dtype, spec.shape);
    std::uint64_t end = 0;
    if (!bytes || __builtin_add_overflow(offset, *bytes, &end) || end > std::uint64_t{1} << 62) {
      return fail(Code::kInvalidArgument, "{}: tensor '{}': shape {} is negative or too large",
                  path.string(), spec.name, shape_text(spec.shape));
    }
    Json::Array shape;
    for (const std::int64_t dimension : spec.shape) shape.emplace_back(dimension);
    header.push_back(
        {spec.name, Json::object({{"dtype", Json(dtype_name(spec.dtype))},
                                  {"shape", Json(std::move(shape))},
                                  {"data_offsets", Json::array({Json(offset), Json(end)})}})});
    offset = end;
  }
  std::string text = header.empty() ? std::string("{}") : to_text(Json(std::move(header)));
  text.append((8 - text.size() % 8) % 8, ' ');
  if (text.size() > kMaxHeaderBytes) {
    return fail(Code::kExhausted, "{}: header of {} bytes, the format allows {}", path.string(),
                text.size(), kMaxHeaderBytes);
  }

  SafetensorsWriter writer;
  writer.path_ = path;
  writer.tensors_ = std::move(tensors);
  writer.total_bytes_ = offset;
  GEM8_TRY(writer.file_, OutputFile::create(path));
  writer.buffer_.reserve(kBufferBytes);
  const std::uint64_t header_bytes = text.size();
  GEM8_RETURN_IF_ERROR(writer.put(std::as_bytes(std::span(&header_bytes, 1))));
  GEM8_RETURN_IF_ERROR(writer.put(std::as_bytes(std::span(text.data(), text.size()))));
  writer.start(0);
  return writer;
}

Status SafetensorsWriter::put(std::span<const std::byte> bytes) {
  if (buffer_.size() + bytes.size() > kBufferBytes) {
    GEM8_RETURN_IF_ERROR(file_.write(buffer_));
    buffer_.clear();
  }
  if (bytes.size() >= kBufferBytes) return file_.write(bytes);
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  return {};
}

void SafetensorsWriter::start(std::size_t tensor) {
  current_ = tensor;
  current_left_ =
      tensor < tensors_.size() ? *tensor_bytes(tensors_[tensor].dtype, tensors_[tensor].shape) : 0;
}

Status SafetensorsWriter::append(std::string_view name, std::span<const std::byte> bytes) {
  if (!file_.is_open())
    return fail(Code::kInvalidArgument, "{}: the file is finished already", path_.string());
  // An empty tensor may be appended in its turn or left out: both write nothing.
  while (current_ < tensors_.size() && current_left_ == 0 && tensors_[current_].name != name)
    start(current_ + 1);
  if (current_ == tensors_.size() || tensors_[current_].name != name) {
    return fail(Code::kInvalidArgument, "{}: bytes of tensor '{}', wanted those of {}",
                path_.string(), name,
                current_ == tensors_.size() ? "none: all are written"
                                            : "'" + tensors_[current_].name + "'");
  }
  if (bytes.size() > current_left_) {
    return fail(Code::kInvalidArgument,
                "{}: tensor '{}': {} bytes more, but only {} are left to write", path_.string(),
                name, bytes.size(), current_left_);
  }
  GEM8_RETURN_IF_ERROR(put(bytes));
  current_left_ -= bytes.size();
  return {};
}

Status SafetensorsWriter::finish() {
  if (!file_.is_open())
    return fail(Code::kInvalidArgument, "{}: the file is finished already", path_.string());
  while (current_ < tensors_.size() && current_left_ == 0) start(current_ + 1);
  if (current_ < tensors_.size()) {
    return fail(Code::kInvalidArgument, "{}: tensor '{}' still lacks {} bytes", path_.string(),
                tensors_[current_].name, current_left_);
  }
  GEM8_RETURN_IF_ERROR(file_.write(buffer_));
  buffer_.clear();
  return file_.finish();
}

}  // namespace gem8
