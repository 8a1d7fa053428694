#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "foundation/dtype.h"
#include "foundation/json/json.h"

/// What the files that implement BrokenCheckpoint share: members of an edit, and containers.
namespace gem8::testing {

[[noreturn]] inline void refuse(const std::string& message) {
  throw std::runtime_error(message);
}

inline Json parse(const std::string& text) {
  auto value = parse_json(text);
  if (!value) refuse(value.error().text());
  return std::move(*value);
}

inline std::string string_at(const Json& edit, std::string_view key) {
  const Json* const value = edit.find(key);
  if (value == nullptr || !value->is_string()) refuse(fmt::format("edit lacks '{}'", key));
  return value->as_string();
}

inline std::int64_t int_at(const Json& edit, std::string_view key, std::int64_t fallback = 0) {
  const Json* const value = edit.find(key);
  return value == nullptr ? fallback : value->as_int();
}

inline bool bool_at(const Json& edit, std::string_view key, bool fallback) {
  const Json* const value = edit.find(key);
  return value == nullptr ? fallback : value->as_bool();
}

/// Bytes of one element; 1 for a type nobody knows.
inline std::size_t size_of(const std::string& dtype) {
  if (dtype == "F8") return 1;
  const auto known = dtype_from_name(dtype);
  return known ? dtype_bytes(*known) : 1;
}

inline std::string length_prefix(std::uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}

/// A safetensors file of a header's text and its data.
inline std::string container(std::string header, const std::string& data) {
  header.append((8 - (header.size() + 8) % 8) % 8, ' ');
  return length_prefix(header.size()) + header + data;
}

struct Parsed {
  Json header;
  std::string data;
};

inline Parsed split(const std::string& blob) {
  std::uint64_t length = 0;
  std::memcpy(&length, blob.data(), 8);
  return {parse(blob.substr(8, length)), blob.substr(8 + length)};
}

}  // namespace gem8::testing
