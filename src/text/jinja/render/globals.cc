#include "text/jinja/render/globals.h"

#include <algorithm>
#include <ctime>

#include "text/jinja/python/access.h"
#include "text/jinja/python/native_function.h"
#include "text/jinja/python/need.h"
#include "text/jinja/value/repr.h"

namespace gem8::jinja {
namespace {

class Cycler : public Object {
 public:
  explicit Cycler(List items) : items_(std::move(items)) {}

  std::string_view type_name() const override { return "Cycler"; }
  std::optional<Value> attribute(std::string_view name) override {
    if (name == "current") return items_[at_];
    const auto self = std::static_pointer_cast<Cycler>(shared_from_this());
    if (name == "next") {
      return Value::object(std::make_shared<Function>("method", [self](Runtime&, Arguments) {
        const std::size_t at = std::exchange(self->at_, (self->at_ + 1) % self->items_.size());
        return self->items_[at];
      }));
    }
    if (name == "reset") {
      return Value::object(std::make_shared<Function>("method", [self](Runtime&, Arguments) {
        self->at_ = 0;
        return Value(Value::None{});
      }));
    }
    return std::nullopt;
  }
  bool callable() const override { return false; }
  Outcome<Value> call(Runtime&, Arguments) override {
    return failure(ErrorClass::kType, "'Cycler' object is not callable");
  }

 private:
  List items_;
  std::size_t at_ = 0;
};

/// Nothing when called first, the separator from then on.
class Joiner : public Object {
 public:
  explicit Joiner(Value separator) : separator_(std::move(separator)) {}
  std::string_view type_name() const override { return "Joiner"; }
  Outcome<Value> call(Runtime&, Arguments) override {
    return std::exchange(used_, true) ? separator_ : Value("");
  }

 private:
  Value separator_;
  bool used_ = false;
};

Outcome<Value> make_cycler(Runtime&, const Bound& a) {
  if (a.rest.positional.empty())
    return failure(ErrorClass::kRuntime, "at least one item has to be provided");
  return Value::object(std::make_shared<Cycler>(a.rest.positional));
}

Outcome<Value> make_joiner(Runtime&, const Bound& a) {
  return Value::object(std::make_shared<Joiner>(a[0] ? *a[0] : Value(", ")));
}

Outcome<Value> raise_exception(Runtime&, const Bound& a) {
  GEM8_TRY(std::string text, to_str(*a[0]));
  return std::unexpected(TemplateError{ErrorClass::kRaised, std::move(text), 0});
}

Outcome<Value> make_range(Runtime&, const Bound& a) {
  constexpr std::int64_t kMaxRange = 100'000;  // the sandbox's own bound
  std::int64_t numbers[3] = {0, 0, 1};
  for (std::size_t i = 0; i < 3; ++i) {
    if (!a[i]) continue;
    GEM8_TRY(numbers[i], need_integer(*a[i], "range"));
    numbers[i] =
        std::clamp<std::int64_t>(numbers[i], -(std::int64_t{1} << 60), std::int64_t{1} << 60);
  }
  if (!a[1]) {
    numbers[1] = numbers[0];
    numbers[0] = 0;
  }
  if (numbers[2] == 0) return failure(ErrorClass::kValue, "range() arg 3 must not be zero");
  const Value::Range range{numbers[0], numbers[1], numbers[2]};
  if (range.size() > kMaxRange)
    return failure(ErrorClass::kLimit, "range of {} items, at most {}", range.size(), kMaxRange);
  return Value(range);
}

/// The members of dict(...) and namespace(...): a mapping or pairs, then what is named.
Outcome<Dict> members_of(Runtime& runtime, const Bound& a) {
  Dict members;
  if (a[0] && a[0]->mapping() != nullptr) {
    members = *a[0]->mapping();
  } else if (a[0]) {
    GEM8_TRY(const List pairs, iterate(runtime, *a[0]));
    for (const Value& pair : pairs) {
      GEM8_TRY(const List parts, iterate(runtime, pair));
      if (parts.size() != 2)
        return failure(ErrorClass::kValue, "{}(): a pair of {} items", a.function, parts.size());
      members.set(parts[0], parts[1]);
    }
  }
  if (!a.rest.positional.empty())
    return failure(ErrorClass::kType, "{}() takes at most 1 positional argument", a.function);
  for (const auto& [key, value] : a.rest.named) members.set(key, value);
  return members;
}

Outcome<Value> make_dict(Runtime& runtime, const Bound& a) {
  GEM8_TRY(Dict members, members_of(runtime, a));
  return bounded(Value::dict(std::move(members)));
}

Outcome<Value> make_namespace(Runtime& runtime, const Bound& a) {
  GEM8_TRY(Dict members, members_of(runtime, a));
  return runtime.make_namespace(std::move(members));
}

Outcome<Value> strftime_now(Runtime& runtime, const Bound& a) {
  GEM8_TRY(const std::string format, a.text(0));
  if (format.empty()) return Value("");
  if (format.size() > 1000)
    return failure(ErrorClass::kLimit, "strftime_now: a format of {} bytes", format.size());
  const std::tm time = runtime.now();
  std::string out(format.size() * 64 + 64, '\0');
  out.resize(std::strftime(out.data(), out.size(), format.c_str(), &time));
  return Value(std::move(out));
}

const NativeFunction kGlobals[] = {
    {"cycler", make_cycler, {"*"}, 0},
    {"dict", make_dict, {"members", "/", "*"}, 0},
    {"joiner", make_joiner, {"sep"}, 0},
    {"lipsum", nullptr, {}, 0},
    {"namespace", make_namespace, {"members", "/", "*"}, 0},
    {"raise_exception", raise_exception, {"message"}, 1},
    {"range", make_range, {"start", "stop", "step", "/"}, 1},
    {"strftime_now", strftime_now, {"format"}, 1},
};

}  // namespace

ScopePtr global_scope() {
  auto scope = std::make_shared<Scope>();
  for (const NativeFunction& function : kGlobals) {
    scope->names.emplace(function.name,
                         Value::object(std::make_shared<Function>(
                             "function", [&function](Runtime& runtime, Arguments arguments) {
                               return call(runtime, function, std::move(arguments));
                             })));
  }
  return scope;
}

}  // namespace gem8::jinja
