#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "foundation/json/json.h"
#include "foundation/result.h"
#include "foundation/token_id.h"

namespace gem8::openai {

/// Typed members of a request body. Absent and null are the same: nullopt. Numbers written as
/// strings and integral floats are taken (clients send both); everything else of the wrong type is
/// an error that names the field.
class Fields {
 public:
  explicit Fields(const Json& object) : object_(&object) {}

  /// nullptr when absent or null.
  const Json* find(std::string_view key) const;
  Result<std::optional<std::int64_t>> integer(std::string_view key) const;
  Result<std::optional<double>> number(std::string_view key) const;
  Result<std::optional<bool>> boolean(std::string_view key) const;
  Result<std::optional<std::string>> string(std::string_view key) const;
  Result<const Json*> array(std::string_view key) const;               ///< nullptr when absent
  Result<const Json*> object(std::string_view key) const;              ///< nullptr when absent
  Result<std::vector<TokenId>> token_ids(std::string_view key) const;  ///< empty when absent

 private:
  const Json* object_;
};

/// A number that may be written as a string; nullopt when it is neither.
std::optional<double> lax_number(const Json& value);
std::optional<std::int64_t> lax_integer(const Json& value);

}  // namespace gem8::openai
