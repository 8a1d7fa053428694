#include "text/jinja/runtime.h"

namespace gem8::jinja {

Runtime::~Runtime() {
  for (const auto& members : namespaces_) members->clear();
}

Outcome<void> Runtime::charge(std::uint64_t n) {
  steps_ += n;
  if (steps_ > options_.limits.max_steps)
    return failure(ErrorClass::kLimit, "the template takes more than {} steps",
                   options_.limits.max_steps);
  return {};
}

Outcome<void> Runtime::enter(int at_line) {
  line = at_line;
  if (depth > options_.limits.max_depth)
    return failure(ErrorClass::kLimit, "evaluation nested more than {} deep",
                   options_.limits.max_depth);
  return charge(1);
}

Outcome<void> Runtime::enter_macro() const {
  if (macro_depth < options_.limits.max_macro_depth) return {};
  return failure(ErrorClass::kLimit, "macros and recursive loops nested more than {} deep",
                 options_.limits.max_macro_depth);
}

Outcome<void> Runtime::append(std::string& out, std::string_view text) {
  GEM8_RETURN_IF_ERROR(charge(text.size() / 64));
  if (out.size() + text.size() > options_.limits.max_output_bytes) {
    return failure(ErrorClass::kLimit, "more than {} bytes of output",
                   options_.limits.max_output_bytes);
  }
  out += text;
  return {};
}

std::tm Runtime::now() const {
  if (options_.now) return options_.now();
  const std::time_t clock = std::time(nullptr);
  std::tm out{};
  localtime_r(&clock, &out);
  return out;
}

Outcome<Value> Runtime::make_namespace(Dict members) {
  constexpr std::size_t kMaxNamespaces = 100'000;
  if (namespaces_.size() >= kMaxNamespaces)
    return failure(ErrorClass::kLimit, "more than {} namespaces", kMaxNamespaces);
  namespaces_.push_back(std::make_shared<Dict>(std::move(members)));
  return Value(Value::Namespace{namespaces_.back()});
}

}  // namespace gem8::jinja
