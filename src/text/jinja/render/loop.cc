#include "text/jinja/render/loop.h"

#include <algorithm>

#include "text/jinja/depth.h"
#include "text/jinja/python/native_function.h"
#include "text/jinja/render/renderer.h"
#include "text/jinja/value/order.h"

namespace gem8::jinja {

void Loop::make_recursive(Renderer& renderer, const Statement& definition, ScopePtr scope) {
  renderer_ = &renderer;
  definition_ = &definition;
  scope_ = std::move(scope);
}

std::optional<Value> Loop::attribute(std::string_view name) {
  const std::size_t n = items_.size(), i = index_;
  if (name == "index") return Value(i + 1);
  if (name == "index0") return Value(i);
  if (name == "revindex") return Value(n - i);
  if (name == "revindex0") return Value(n - i - 1);
  if (name == "first") return Value(i == 0);
  if (name == "last") return Value(i + 1 == n);
  if (name == "length") return Value(n);
  if (name == "depth") return Value(level_ + 1);
  if (name == "depth0") return Value(level_);
  if (name == "previtem")
    return i > 0 ? items_[i - 1] : Value::undefined("there is no previous item");
  if (name == "nextitem")
    return i + 1 < n ? items_[i + 1] : Value::undefined("there is no next item");
  const auto self = std::static_pointer_cast<Loop>(shared_from_this());
  if (name == "cycle") {
    return Value::object(std::make_shared<Function>(
        "method", [self](Runtime&, Arguments arguments) { return self->cycle(arguments); }));
  }
  if (name == "changed") {
    return Value::object(std::make_shared<Function>(
        "method",
        [self](Runtime&, Arguments arguments) { return self->changed(std::move(arguments)); }));
  }
  return std::nullopt;
}

Outcome<Value> Loop::cycle(const Arguments& arguments) const {
  if (arguments.positional.empty()) return failure(ErrorClass::kType, "no items for cycling given");
  return arguments.positional[index_ % arguments.positional.size()];
}

Value Loop::changed(Arguments arguments) {
  if (last_changed_ && std::ranges::equal(*last_changed_, arguments.positional, equal))
    return false;
  last_changed_ = std::move(arguments.positional);
  return true;
}

Outcome<Value> Loop::call(Runtime& runtime, Arguments arguments) {
  GEM8_RETURN_IF_ERROR(runtime.enter_macro());
  const Deeper deeper(runtime.macro_depth);
  GEM8_TRY(const Bound bound, bind("loop", std::move(arguments), {"iterable"}, 1));
  std::string out;
  const ScopePtr scope = scope_;
  GEM8_TRY([[maybe_unused]] const Flow flow,
           renderer_->loop_over(*definition_, *bound[0], scope, level_ + 1, out));
  return Value(std::move(out));
}

}  // namespace gem8::jinja
