#pragma once

#include "text/jinja/python/native_function.h"

namespace gem8::jinja {

/// str.split and rsplit, splitlines, partition and rpartition.
NativeBody split_text, split_lines, partition_text;

}  // namespace gem8::jinja
