#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "foundation/json/json.h"

namespace gem8 {

/// Reads typed members of one JSON object and says by name what is missing or mistyped:
/// "'head_dim': found string, wanted integer". optional_*() give the fallback when the member is
/// absent or null; a member of the wrong type is always an error (kCorrupt).
class JsonFields {
 public:
  /// `object` must outlive this; `name` prefixes messages ("config.json: text_config").
  JsonFields(const Json& object, std::string_view name) : object_(&object), name_(name) {}

  bool has(std::string_view key) const;  ///< present and not null
  Result<std::int64_t> integer(std::string_view key, std::int64_t low, std::int64_t high) const;
  Result<std::int64_t> optional_integer(std::string_view key, std::int64_t fallback,
                                        std::int64_t low, std::int64_t high) const;
  Result<double> optional_number(std::string_view key, double fallback) const;
  Result<bool> optional_boolean(std::string_view key, bool fallback) const;
  Result<std::string> string(std::string_view key) const;
  Result<std::string> optional_string(std::string_view key, std::string_view fallback) const;
  Result<const Json*> object(std::string_view key) const;           ///< required
  Result<const Json*> optional_object(std::string_view key) const;  ///< nullptr when absent or null
  Result<const Json*> optional_array(std::string_view key) const;   ///< nullptr when absent or null

 private:
  std::unexpected<Error> mistyped(std::string_view key, const Json& found,
                                  std::string_view wanted) const;
  const Json* present(std::string_view key) const;

  const Json* object_;
  std::string name_;
};

}  // namespace gem8
