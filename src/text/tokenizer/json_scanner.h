#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "foundation/result.h"

namespace gem8 {

/// Walks JSON text value by value without building it: tokenizer.json holds a quarter of a million
/// members and half a million pairs, which a tree of values would take seconds and a gigabyte to
/// hold. The caller asks for what it expects next; everything unexpected is kCorrupt with the byte
/// offset. The text is valid UTF-8 (checked by the caller) and outlives the scanner.
class JsonScanner {
 public:
  explicit JsonScanner(std::string_view text) : text_(text) {}

  Status begin_object();
  Status begin_array();
  /// Whether the object has another member; then `key` is read and the next call reads its value.
  /// False: the object is closed. `key` is valid until the next call of the scanner. `first` says
  /// whether it is the object's first member, and is cleared.
  Result<bool> next_member(bool& first, std::string_view& key);
  Result<bool> next_item(bool& first);
  /// Valid until the next string is read.
  Result<std::string_view> string();
  Result<std::int64_t> integer();
  /// The text of the next value, whatever it is; strings are skipped properly, the value itself is
  /// not checked.
  Result<std::string_view> raw_value();
  bool at_string();
  Status end();

 private:
  void skip_space();
  std::unexpected<Error> unexpected(std::string_view wanted) const;
  Status take(char c, std::string_view what);

  std::string_view text_;
  std::size_t at_ = 0;
  std::string unescaped_;
};

}  // namespace gem8
