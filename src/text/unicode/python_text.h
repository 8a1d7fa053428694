#pragma once

#include <string>
#include <string_view>

namespace gem8::python {

/// Text operations with the meaning that Python 3's str gives them. All text is valid UTF-8.

/// str.isspace of one character.
bool is_space(char32_t point);
/// White space at the ends, or the characters of `set` when it is given.
std::string_view lstrip(std::string_view text);
std::string_view rstrip(std::string_view text);
std::string_view strip(std::string_view text);
std::string_view lstrip(std::string_view text, std::string_view set);
std::string_view rstrip(std::string_view text, std::string_view set);

/// Full case mappings (Unicode SpecialCasing, the final sigma included).
std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string title(std::string_view text);
std::string capitalize(std::string_view text);
std::string swapcase(std::string_view text);
std::string casefold(std::string_view text);

bool is_cased(char32_t point);
bool is_upper(char32_t point);
bool is_lower(char32_t point);
bool is_alpha(char32_t point);
bool is_decimal(char32_t point);

}  // namespace gem8::python
