#pragma once

#include <string_view>

#include "text/jinja/syntax/ast.h"

namespace gem8::jinja {

/// The template's tree, by Jinja2's grammar (3.1) with the loopcontrols extension and transformers'
/// generation blocks. Filters and tests that do not exist are errors here, before anything is
/// rendered. include, import, extends and block are refused: a chat template has no others to refer
/// to.
Outcome<Block> parse_template(std::string_view source);

}  // namespace gem8::jinja
