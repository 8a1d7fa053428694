#pragma once

#include "text/jinja/render/scope.h"

namespace gem8::jinja {

/// The functions every template sees: Jinja2's range, dict, namespace, cycler and joiner, and
/// transformers' raise_exception and strftime_now.
ScopePtr global_scope();

}  // namespace gem8::jinja
