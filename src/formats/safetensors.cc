#include "formats/safetensors.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "foundation/json/json.h"

namespace gem8 {
namespace {

// The format's own limit on the header (safetensors README, tensor.rs MAX_HEADER_SIZE).
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
// No tensor of any model has more dimensions; numpy stops at 32 as well.
constexpr std::size_t kMaxRank = 32;

static_assert(std::endian::native == std::endian::little, "tensors are used where they are mapped");

/// One header entry whose members have the right types.
struct Entry {
  const std::string* name = nullptr;
  std::optional<DType> dtype;  ///< nullopt: unknown, already reported
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  bool sound = true;  ///< false: something about it was reported
};

/// Collects findings while the header is walked.
class Inspector {
 public:
  explicit Inspector(SafetensorsReport& report) : report_(report) {}

  void run(std::span<const std::byte> file) {
    if (file.size() < 8) {
      return about_file(
          ContainerFault::kTooShort,
          fmt::format("file of {} bytes, wanted at least the 8 of the header length", file.size()));
    }
    std::uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, file.data(), 8);
    if (header_bytes > kMaxHeaderBytes) {
      return about_file(
          ContainerFault::kHeaderLength,
          fmt::format("header of {} bytes, the format allows {}", header_bytes, kMaxHeaderBytes));
    }
    if (header_bytes > file.size() - 8) {
      return about_file(ContainerFault::kHeaderLength,
                        fmt::format("header of {} bytes in a file that has {} after the length",
                                    header_bytes, file.size() - 8));
    }
    const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, header_bytes);
    data_ = file.subspan(8 + header_bytes);
    report_.data_bytes = data_.size();
    if (text.empty() || text.front() != '{') {
      return about_file(ContainerFault::kHeaderSyntax,
                        text.empty() ? "empty header, wanted a JSON object"
                                     : fmt::format("header starts with byte 0x{:02x}, wanted '{{'",
                                                   static_cast<unsigned char>(text.front())));
    }
    Result<Json> header = parse_json(
        text, {.max_bytes = kMaxHeaderBytes, .max_depth = 8, .keep_duplicate_keys = true});
    if (!header)
      return about_file(ContainerFault::kHeaderSyntax, "header: " + header.error().message);
    walk(header->as_object());
  }

 private:
  void about_file(ContainerFault fault, std::string message) {
    report_.findings.push_back({fault, "", std::move(message)});
  }
  void about(const Entry& entry, ContainerFault fault, std::string message) {
    report_.findings.push_back({fault, *entry.name, std::move(message)});
  }

  void walk(Json::Object& header) {
    std::vector<Entry> entries;
    entries.reserve(header.size());
    bool metadata_seen = false;
    for (const JsonMember& member : header) {
      if (member.key != "__metadata__") continue;
      if (metadata_seen) about_file(ContainerFault::kDuplicate, "__metadata__ appears twice");
      if (!metadata_seen) read_metadata(member.value);
      metadata_seen = true;
    }
    for (const JsonMember& member : header) {
      if (member.key == "__metadata__") continue;
      Entry entry{.name = &member.key};
      read_entry(member.value, entry);
      entries.push_back(std::move(entry));
    }
    const std::vector<Entry*> by_name = check_names(entries);
    check_layout(entries);
    report_.names.reserve(by_name.size());
    report_.tensors.reserve(by_name.size());
    for (Entry* entry : by_name) {
      if (report_.names.empty() || report_.names.back() != *entry->name)
        report_.names.push_back(*entry->name);
      if (!entry->sound) continue;
      report_.tensors.push_back({*entry->name, *entry->dtype, std::move(entry->shape),
                                 data_.subspan(entry->begin, entry->end - entry->begin)});
    }
  }

  void read_metadata(const Json& value) {
    if (!value.is_object()) {
      return about_file(
          ContainerFault::kMetadata,
          fmt::format("__metadata__ is {}, wanted an object of strings", value.kind_name()));
    }
    for (const JsonMember& member : value.as_object()) {
      if (member.value.is_string()) {
        report_.metadata.emplace_back(member.key, member.value.as_string());
      } else {
        about_file(ContainerFault::kMetadata,
                   fmt::format("__metadata__ '{}' is {}, wanted a string", member.key,
                               member.value.kind_name()));
      }
    }
  }

  /// Fills `entry` from its JSON; reports the first fault and marks the entry unsound.
  void read_entry(const Json& value, Entry& entry) {
    const auto refuse = [&](ContainerFault fault, std::string message) {
      about(entry, fault, std::move(message));
      entry.sound = false;
    };
    if (!value.is_object()) {
      return refuse(ContainerFault::kEntry,
                    fmt::format("entry is {}, wanted an object", value.kind_name()));
    }
    const Json* dtype = nullptr;
    const Json* shape = nullptr;
    const Json* offsets = nullptr;
    for (const JsonMember& member : value.as_object()) {
      const Json** slot = member.key == "dtype"          ? &dtype
                          : member.key == "shape"        ? &shape
                          : member.key == "data_offsets" ? &offsets
                                                         : nullptr;
      if (slot == nullptr) continue;  // the reference reader ignores what it does not know
      if (*slot != nullptr)
        return refuse(ContainerFault::kEntry, fmt::format("'{}' appears twice", member.key));
      *slot = &member.value;
    }
    if (dtype == nullptr || !dtype->is_string()) {
      return refuse(ContainerFault::kEntry, missing_or(dtype, "dtype", "a string"));
    }
    if (shape == nullptr || !shape->is_array()) {
      return refuse(ContainerFault::kEntry, missing_or(shape, "shape", "an array of integers"));
    }
    if (offsets == nullptr || !offsets->is_array() || offsets->as_array().size() != 2 ||
        !offsets->as_array()[0].is_number() || !offsets->as_array()[1].is_number()) {
      return refuse(ContainerFault::kEntry, missing_or(offsets, "data_offsets", "two integers"));
    }
    const Json& begin = offsets->as_array()[0];
    const Json& end = offsets->as_array()[1];
    if (!begin.is_int() || !end.is_int() || begin.as_int() < 0 || begin.as_int() > end.as_int() ||
        static_cast<std::uint64_t>(end.as_int()) > data_.size()) {
      return refuse(ContainerFault::kOffsets,
                    fmt::format("data_offsets [{}, {}], wanted 0 <= begin <= end <= {}",
                                to_text(begin), to_text(end), data_.size()));
    }
    entry.begin = static_cast<std::uint64_t>(begin.as_int());
    entry.end = static_cast<std::uint64_t>(end.as_int());
    entry.dtype = dtype_from_name(dtype->as_string());
    if (!entry.dtype) {
      return refuse(
          ContainerFault::kUnknownDType,
          fmt::format("element type '{}' is not one gem8 knows", dtype->as_string().substr(0, 40)));
    }
    if (shape->as_array().size() > kMaxRank) {
      return refuse(ContainerFault::kShape, fmt::format("{} dimensions, at most {} are read",
                                                        shape->as_array().size(), kMaxRank));
    }
    entry.shape.reserve(shape->as_array().size());
    for (const Json& dimension : shape->as_array()) {
      if (!dimension.is_int()) {
        return refuse(dimension.is_big_integer() ? ContainerFault::kShape : ContainerFault::kEntry,
                      fmt::format("shape {}, wanted integers below 2^63", to_text(*shape)));
      }
      entry.shape.push_back(dimension.as_int());
    }
    const std::optional<std::uint64_t> wanted = tensor_bytes(*entry.dtype, entry.shape);
    if (!wanted) {
      return refuse(
          ContainerFault::kShape,
          fmt::format("shape {} is negative or too large to address", shape_text(entry.shape)));
    }
    if (*wanted != entry.end - entry.begin) {
      return refuse(ContainerFault::kSize,
                    fmt::format("{} bytes at [{}, {}], but {} {} needs {}", entry.end - entry.begin,
                                entry.begin, entry.end, dtype_name(*entry.dtype),
                                shape_text(entry.shape), *wanted));
    }
  }

  static std::string missing_or(const Json* found, std::string_view key, std::string_view wanted) {
    if (found == nullptr) return fmt::format("'{}' is missing, wanted {}", key, wanted);
    std::string text = to_text(*found);
    if (text.size() > 60) text = text.substr(0, 60) + "...";
    return fmt::format("'{}' is {}, wanted {}", key, text, wanted);
  }

  /// The entries sorted by name; of several with one name the first stays sound.
  std::vector<Entry*> check_names(std::vector<Entry>& entries) {
    std::vector<Entry*> by_name;
    by_name.reserve(entries.size());
    for (Entry& entry : entries) by_name.push_back(&entry);
    const auto less = [](const Entry* a, const Entry* b) { return *a->name < *b->name; };
    if (!std::ranges::is_sorted(by_name, less)) std::ranges::stable_sort(by_name, less);
    for (std::size_t i = 1; i < by_name.size(); ++i) {
      if (*by_name[i]->name != *by_name[i - 1]->name) continue;
      about(*by_name[i], ContainerFault::kDuplicate, "the name appears twice in the header");
      by_name[i]->sound = false;
    }
    return by_name;
  }

  /// The data must be covered exactly: no overlap, no hole, nothing after the last tensor.
  void check_layout(std::vector<Entry>& entries) {
    std::vector<Entry*> by_offset;
    bool complete = true;  // an entry without a usable range would show as a hole that is not one
    for (Entry& entry : entries) {
      const bool has_range = entry.sound || entry.end > entry.begin;
      if (has_range) by_offset.push_back(&entry);
      complete = complete && has_range;
    }
    std::ranges::stable_sort(by_offset, [](const Entry* a, const Entry* b) {
      return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
    });
    std::uint64_t covered = 0;
    const Entry* previous = nullptr;
    for (Entry* entry : by_offset) {
      if (entry->begin < covered && entry->end > entry->begin) {
        about(*entry, ContainerFault::kOverlap,
              fmt::format("starts at byte {} of the data, inside '{}' that ends at {}",
                          entry->begin, *previous->name, covered));
        entry->sound = false;
      } else if (entry->begin > covered && complete) {
        about(*entry, ContainerFault::kHole,
              fmt::format("starts at byte {} of the data, but nothing covers [{}, {})",
                          entry->begin, covered, entry->begin));
      }
      if (entry->end > covered) {
        covered = entry->end;
        previous = entry;
      }
    }
    if (covered < data_.size() && complete) {
      about_file(ContainerFault::kTrailing,
                 fmt::format("{} bytes of data, the tensors cover {}", data_.size(), covered));
    }
  }

  SafetensorsReport& report_;
  std::span<const std::byte> data_;
};

}  // namespace

std::string shape_text(std::span<const std::int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::optional<std::uint64_t> tensor_bytes(DType dtype, std::span<const std::int64_t> shape) {
  std::uint64_t bytes = dtype_bytes(dtype);
  bool empty = false;
  for (const std::int64_t dimension : shape) {
    if (dimension < 0) return std::nullopt;
    // A zero makes the tensor empty, but the others must still be addressable, in whatever order.
    if (dimension == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(dimension), &bytes)) {
      return std::nullopt;
    }
  }
  if (bytes > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
    return std::nullopt;
  return empty ? 0 : bytes;
}

SafetensorsReport inspect_safetensors(std::span<const std::byte> file) {
  SafetensorsReport report;
  Inspector(report).run(file);
  return report;
}

Result<SafetensorsReport> inspect_safetensors(const std::filesystem::path& path) {
  GEM8_TRY(MappedFile file, MappedFile::open(path));
  SafetensorsReport report = inspect_safetensors(file.bytes());
  report.file = std::move(file);  // the mapping stays where it is
  return report;
}

Result<SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path) {
  GEM8_TRY(SafetensorsReport report, inspect_safetensors(path));
  if (!report.findings.empty()) {
    const ContainerFinding& first = report.findings.front();
    const Code code =
        first.fault == ContainerFault::kUnknownDType ? Code::kUnsupported : Code::kCorrupt;
    const std::string message = first.tensor.empty()
                                    ? first.message
                                    : fmt::format("tensor '{}': {}", first.tensor, first.message);
    return std::unexpected(Error{code, message, path.string()});
  }
  SafetensorsFile file;
  file.file_ = std::move(report.file);
  file.tensors_ = std::move(report.tensors);
  file.metadata_ = std::move(report.metadata);
  return file;
}

const TensorInfo* SafetensorsFile::find(std::string_view name) const {
  const auto found = std::ranges::lower_bound(tensors_, name, {}, &TensorInfo::name);
  return found != tensors_.end() && found->name == name ? &*found : nullptr;
}

}  // namespace gem8
