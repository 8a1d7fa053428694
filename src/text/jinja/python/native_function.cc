#include "text/jinja/python/native_function.h"

#include <algorithm>

#include "text/jinja/python/need.h"
#include "text/jinja/value/repr.h"

namespace gem8::jinja {

Outcome<std::int64_t> Bound::integer(std::size_t i, std::int64_t fallback) const {
  return has(i) ? need_integer(*values_[i], function) : fallback;
}

Outcome<std::string> Bound::str(std::size_t i, std::string_view fallback) const {
  return values_[i] ? to_str(*values_[i]) : std::string(fallback);
}

Outcome<std::string> Bound::text(std::size_t i) const {
  return need_text(*values_[i], function);
}

Outcome<Bound> bind(std::string_view function, Arguments arguments,
                    std::initializer_list<std::string_view> parameters, std::size_t n_required) {
  std::vector<std::string_view> names(parameters);
  const bool takes_rest = !names.empty() && names.back() == "*";
  if (takes_rest) names.pop_back();
  std::size_t n_unnamed = 0;
  if (const auto slash = std::ranges::find(names, "/"); slash != names.end()) {
    n_unnamed = static_cast<std::size_t>(slash - names.begin());
    names.erase(slash);
  }
  Bound bound(function, names.size());
  if (arguments.positional.size() > names.size() && !takes_rest) {
    return failure(ErrorClass::kType, "{}() takes {} arguments, {} were given", function,
                   names.size(), arguments.positional.size());
  }
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) {
    if (i < names.size()) {
      bound[i] = std::move(arguments.positional[i]);
    } else {
      bound.rest.positional.push_back(std::move(arguments.positional[i]));
    }
  }
  for (auto& [name, value] : arguments.named) {
    const auto place = std::find(names.begin() + static_cast<std::ptrdiff_t>(n_unnamed),
                                 names.end(), std::string_view(name));
    if (place == names.end()) {
      if (!takes_rest)
        return failure(ErrorClass::kType, "{}() got an unexpected keyword argument '{}'", function,
                       name);
      bound.rest.named.emplace_back(name, std::move(value));
      continue;
    }
    auto& slot = bound[static_cast<std::size_t>(place - names.begin())];
    if (slot)
      return failure(ErrorClass::kType, "{}() got multiple values for argument '{}'", function,
                     name);
    slot = std::move(value);
  }
  for (std::size_t i = 0; i < n_required; ++i) {
    if (!bound[i])
      return failure(ErrorClass::kType, "{}() missing required argument '{}'", function, names[i]);
  }
  return bound;
}

const NativeFunction* find(std::span<const NativeFunction> functions, std::string_view name) {
  const auto place = std::ranges::find(functions, name, &NativeFunction::name);
  return place == functions.end() ? nullptr : &*place;
}

Outcome<Value> call(Runtime& runtime, const NativeFunction& function, Arguments arguments) {
  if (function.body == nullptr)
    return failure(ErrorClass::kRuntime, "{}() is not implemented", function.name);
  GEM8_TRY(const Bound bound,
           bind(function.name, std::move(arguments), function.parameters, function.n_required));
  return function.body(runtime, bound);
}

}  // namespace gem8::jinja
