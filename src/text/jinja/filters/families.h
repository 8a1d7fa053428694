#pragma once

#include <span>

#include "text/jinja/python/native_function.h"

namespace gem8::jinja {

// Jinja2's built-in filters by what they work on. The first parameter is the value on the left.
std::span<const NativeFunction> text_filters();      ///< upper, trim, replace, indent, format...
std::span<const NativeFunction> markup_filters();    ///< escape, safe, striptags, urlencode
std::span<const NativeFunction> number_filters();    ///< abs, int, float, round
std::span<const NativeFunction> sequence_filters();  ///< first, length, join, sum, batch...
std::span<const NativeFunction> ordering_filters();  ///< sort, groupby, unique, min, max...
std::span<const NativeFunction> each_filters();      ///< map, select, reject: others on each item
std::span<const NativeFunction> value_filters();     ///< default, attr, items, tojson...

}  // namespace gem8::jinja
