#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "foundation/json/json.h"
#include "text/jinja/error.h"

namespace gem8::jinja {

class Value;
class Dict;
using List = std::vector<Value>;
__extension__ typedef __int128
    Integer;  ///< wide enough for every number templates meet; beyond it is kLimit

struct Object;  // object.h

/// A Python value as templates see them. Copies share: lists, tuples and dicts never change once
/// made; namespaces and generators do.
class Value {
 public:
  struct Undefined {
    std::shared_ptr<const std::string> why;  ///< "'x' is undefined"
    bool forbidden;                          ///< the sandbox made it: any use is kForbidden
  };
  struct None {};
  struct BigNumber {
    std::shared_ptr<const std::string>
        digits;  ///< an integer of the input beyond Integer: printed, not computed with
  };
  using String = std::shared_ptr<const std::string>;
  struct Bytes {
    String data;
  };
  struct Sequence {
    std::shared_ptr<const List> items;
    bool is_tuple;
    std::uint32_t depth;
    std::uint64_t weight;
    bool is_group = false;  ///< a tuple of groupby: its two items are also .grouper and .list
  };
  struct Mapping {
    std::shared_ptr<const Dict> dict;
    std::uint32_t depth;
    std::uint64_t weight;
  };
  struct Range {
    std::int64_t start, stop, step;
    std::int64_t size() const;
  };
  enum class View { kKeys, kValues, kItems };
  struct DictView {
    std::shared_ptr<const Dict> dict;
    View view;
  };
  struct Namespace {
    std::shared_ptr<Dict> members;
  };
  /// What filters such as map make: iterable once, without length.
  struct Generator {
    std::shared_ptr<List> rest;
  };
  struct ObjectRef {
    std::shared_ptr<Object> object;
  };
  using Data = std::variant<Undefined, None, bool, Integer, BigNumber, double, String, Bytes,
                            Sequence, Mapping, Range, DictView, Namespace, Generator, ObjectRef>;

  Value() = default;                                                ///< undefined
  Value(None none) : data(none) {}                                  // NOLINT: values convert
  Value(bool value) : data(value) {}                                // NOLINT
  Value(int value) : data(static_cast<Integer>(value)) {}           // NOLINT
  Value(std::int64_t value) : data(static_cast<Integer>(value)) {}  // NOLINT
  Value(std::size_t value) : data(static_cast<Integer>(value)) {}   // NOLINT
  Value(Integer value) : data(value) {}                             // NOLINT
  Value(double value) : data(value) {}                              // NOLINT
  Value(std::string value)
      : data(std::make_shared<const std::string>(std::move(value))) {}  // NOLINT
  Value(std::string_view value) : Value(std::string(value)) {}          // NOLINT
  Value(const char* value) : Value(std::string(value)) {}               // NOLINT
  template <class T>
  requires(std::is_same_v<T, Undefined> || std::is_same_v<T, BigNumber> ||
           std::is_same_v<T, Bytes> || std::is_same_v<T, Range> || std::is_same_v<T, DictView> ||
           std::is_same_v<T, Namespace> || std::is_same_v<T, Generator> ||
           std::is_same_v<T, ObjectRef>) Value(T value)
      : data(std::move(value)) {}  // NOLINT

  static Value undefined(std::string why, bool forbidden = false);
  static Value list(List items) { return sequence(std::move(items), false); }
  static Value tuple(List items) { return sequence(std::move(items), true); }
  static Value group(Value key, List items);
  static Value dict(Dict members);
  static Value object(std::shared_ptr<Object> made) { return ObjectRef{std::move(made)}; }
  static Value generator(List items) { return Generator{std::make_shared<List>(std::move(items))}; }
  /// Deep copy of JSON: what request bodies become.
  static Value from_json(const Json& json);

  template <class T>
  const T* get() const {
    return std::get_if<T>(&data);
  }
  bool is_undefined() const { return get<Undefined>() != nullptr; }
  bool is_none() const { return get<None>() != nullptr; }
  bool is_string() const { return get<String>() != nullptr; }
  const std::string& text() const { return **get<String>(); }  ///< is_string()
  const List* items() const {
    return get<Sequence>() ? get<Sequence>()->items.get() : nullptr;
  }  ///< of a list or tuple
  const Dict* mapping() const { return get<Mapping>() ? get<Mapping>()->dict.get() : nullptr; }
  /// bool and int, as Python has it.
  std::optional<Integer> integer() const;
  bool is_number() const {
    return get<bool>() || get<Integer>() || get<BigNumber>() || get<double>();
  }
  std::optional<double> number() const;  ///< any number as double
  /// Levels of containers below this one: bounded, so that recursion over values is.
  std::uint32_t depth() const;
  /// Values and text met on a walk over this one, shared parts counted as often as they are met:
  /// what printing it costs.
  std::uint64_t weight() const;
  bool truthy() const;
  std::string_view type_name() const;  ///< Python's: "str", "NoneType", "dict"

  Data data;

 private:
  static Value sequence(List items, bool is_tuple);
};

/// Members in the order they were first set. Keys compare as Python's do: 1, 1.0 and true are one
/// key.
class Dict {
 public:
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  const Value* find(const std::string& key) const { return find(std::string_view(key)); }
  void set(const Value& key, Value value);
  const std::vector<std::pair<Value, Value>>& members() const { return members_; }
  std::size_t size() const { return members_.size(); }
  void clear();

 private:
  std::vector<std::pair<Value, Value>> members_;
  std::unordered_map<std::string, std::size_t> by_text_;  // of string keys, once there are many
};

inline constexpr std::uint32_t kMaxValueDepth = 200;
inline constexpr std::uint64_t kMaxValueWeight = 4'000'000;

/// The value, or kLimit when it is nested or shared beyond what a walk over it may cost. For every
/// container a template makes.
Outcome<Value> bounded(Value value);

}  // namespace gem8::jinja
