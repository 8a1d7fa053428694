#include "text/jinja/filters/filters.h"

#include "text/jinja/filters/families.h"

namespace gem8::jinja {
namespace {

const NativeFunction* find_filter(std::string_view name) {
  for (const auto family : {text_filters(), markup_filters(), number_filters(), sequence_filters(),
                            ordering_filters(), each_filters(), value_filters()}) {
    if (const NativeFunction* filter = find(family, name)) return filter;
  }
  return nullptr;
}

}  // namespace

bool is_filter(std::string_view name) {
  return find_filter(name) != nullptr;
}

Outcome<Value> apply_filter(Runtime& runtime, std::string_view name, Arguments arguments) {
  GEM8_RETURN_IF_ERROR(runtime.charge(1));
  const NativeFunction* filter = find_filter(name);
  if (filter == nullptr) return failure(ErrorClass::kRuntime, "No filter named '{}'.", name);
  if (!arguments.positional.empty() && arguments.positional.front().is_string())
    GEM8_RETURN_IF_ERROR(runtime.charge(arguments.positional.front().text().size() / 64));
  return call(runtime, *filter, std::move(arguments));
}

}  // namespace gem8::jinja
