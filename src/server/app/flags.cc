#include "server/app/flags.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <limits>

#include "foundation/nearest_name.h"
#include "server/media/image_request.h"

namespace gem8::app {
namespace {

enum class Values { kNone, kOne, kObject, kMany, kMaybe };
using enum Values;
struct Given;
using Setter = Status (*)(const Given&, ServeFlags&);
enum class Kind { kHonour, kOnly, kNote, kRefuse };

struct Flag {
  Kind kind;
  std::string_view name;
  Values values;
  std::string_view text;      ///< what it does, or why it does not
  std::string_view accepted;  ///< of kOnly: the words, as in "auto, bfloat16"
  Setter set;                 ///< of kHonour
};

/// A flag and its values as the words spelled them.
struct Given {
  const Flag* flag = nullptr;
  std::string part;  ///< of --flag.part: the member of the flag's JSON object, "a.b" for one deeper
  std::vector<std::string> values;
  bool negated = false;

  const std::string& first() const { return values.front(); }

  std::unexpected<Error> wrong(std::string_view wanted) const {
    return fail(Code::kInvalidArgument, "--{} {}: wanted {}", flag->name, first(), wanted);
  }
};

// ---- Setters: what a flag does ----

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

Result<std::int64_t> read_integer(const Given& given, std::int64_t low, std::int64_t high) {
  const std::optional<std::int64_t> value = parse_human_integer(given.first());
  if (!value || *value < low || *value > high)
    return given.wrong(fmt::format("an integer from {} to {}", low, high));
  return *value;
}

Result<Json> read_object(const Given& given) {
  Result<Json> value = parse_json(given.first());
  if (!value || !value->is_object()) return given.wrong("a JSON object");
  return value;
}

template <auto kMember>
Status text(const Given& given, ServeFlags& flags) {
  flags.*kMember = given.first();
  return {};
}

template <auto kMember>
Status list(const Given& given, ServeFlags& flags) {
  flags.*kMember = given.values;
  return {};
}

template <auto kMember>
Status object(const Given& given, ServeFlags& flags) {
  GEM8_TRY(flags.*kMember, read_object(given));
  return {};
}

template <typename T>
T narrow(std::int64_t value, const T& /*into*/) {
  return static_cast<T>(value);
}
template <typename T>
std::optional<T> narrow(std::int64_t value, const std::optional<T>& /*into*/) {
  return static_cast<T>(value);
}

template <auto kMember, std::int64_t kLow, std::int64_t kHigh>
Status integer(const Given& given, ServeFlags& flags) {
  GEM8_TRY(const std::int64_t value, read_integer(given, kLow, kHigh));
  flags.*kMember = narrow(value, flags.*kMember);
  return {};
}

/// --name sets the member to kValue, --no-name to its contrary.
template <auto kMember, bool kValue>
Status flip(const Given& given, ServeFlags& flags) {
  flags.*kMember = kValue != given.negated;
  return {};
}

Status set_origins(const Given& given, ServeFlags& flags) {
  const Result<Json> origins = parse_json(given.first());
  if (!origins || !origins->is_array()) return given.wrong("a JSON list");
  flags.allowed_origins.clear();
  for (const Json& origin : origins->as_array()) {
    if (!origin.is_string()) return given.wrong("a JSON list of strings");
    flags.allowed_origins.push_back(origin.as_string());
  }
  return {};
}

Status set_root_path(const Given& given, ServeFlags& flags) {
  flags.root_path = given.first();
  if (flags.root_path.ends_with('/')) flags.root_path.pop_back();
  return {};
}

Status set_media_limits(const Given& given, ServeFlags& flags) {
  GEM8_TRY(const std::optional<std::size_t> limit, parse_media_limits(given.first()));
  if (limit) flags.max_images = limit;
  return {};
}

Status set_soft_tokens(const Given& given, ServeFlags& flags) {
  GEM8_TRY(const Json kwargs, read_object(given));
  auto budget = parse_mm_processor_kwargs(kwargs);
  if (!budget)
    return fail_in("--mm-processor-kwargs", {budget.error().code, budget.error().message, {}});
  flags.soft_tokens = *budget;
  return {};
}

Status set_alpha(const Given& given, ServeFlags& flags) {
  if (given.first() != "white" && given.first() != "drop") return given.wrong("white or drop");
  flags.alpha = given.first() == "white" ? AlphaPolicy::kWhite : AlphaPolicy::kDrop;
  return {};
}

Status set_no_images(const Given& given, ServeFlags& flags) {
  if (!given.negated) flags.max_images = 0;
  return {};
}

Status set_max_model_len(const Given& given, ServeFlags& flags) {
  if (given.first() == "auto" || given.first() == "-1") {
    flags.max_model_len = -1;
    return {};
  }
  return integer<&ServeFlags::max_model_len, 2, 1 << 30>(given, flags);
}

Status set_memory_share(const Given& given, ServeFlags& flags) {
  const std::string& word = given.first();
  double share = 0.0;
  const auto [end, ec] = std::from_chars(word.data(), word.data() + word.size(), share);
  if (ec != std::errc() || end != word.data() + word.size() || !(share > 0.0 && share <= 1.0))
    return given.wrong("a number in (0, 1]");
  flags.gpu_memory_utilization = share;
  return {};
}

Status set_activations(const Given& given, ServeFlags& flags) {
  if (given.first() != "bf16" && given.first() != "fp8") return given.wrong("bf16 or fp8");
  flags.fp8_activations = given.first() == "fp8";
  return {};
}

Status set_generation_config(const Given& given, ServeFlags& flags) {
  const std::string& word = given.first();
  flags.neutral_sampling = word == "vllm";
  flags.generation_config = word == "vllm" || word == "auto" ? "" : word;
  return {};
}

Status set_quantization(const Given& given, ServeFlags& flags) {
  for (const std::string_view known : {"fp8", "compressed-tensors", "modelopt"}) {
    if (given.first() == known) flags.quantization = known;
  }
  if (flags.quantization == given.first()) return {};
  return fail(Code::kUnsupported,
              "--quantization {}: checkpoints are served as they are (supported: fp8, "
              "compressed-tensors, modelopt)",
              given.first());
}

// ---- The table ----

constexpr Flag kFlags[] = {
#define HONOUR(name, values, setter, text) {Kind::kHonour, name, values, text, {}, setter},
#define ONLY(name, accepted, why) {Kind::kOnly, name, kOne, why, accepted, nullptr},
#define NOTE(name, values, why) {Kind::kNote, name, values, why, {}, nullptr},
#define REFUSE(name, values, why) {Kind::kRefuse, name, values, why, {}, nullptr},
#include "server/app/flags.inc"
#undef HONOUR
#undef ONLY
#undef NOTE
#undef REFUSE
};

constexpr std::pair<std::string_view, std::string_view> kShort[] = {
    {"-tp", "tensor-parallel-size"}, {"-pp", "pipeline-parallel-size"},
    {"-dp", "data-parallel-size"},   {"-q", "quantization"},
    {"-sc", "speculative-config"},   {"-O", "optimization-level"}};

const Flag* find_flag(std::string_view name) {
  const auto found = std::find_if(std::begin(kFlags), std::end(kFlags),
                                  [name](const Flag& flag) { return flag.name == name; });
  return found == std::end(kFlags) ? nullptr : found;
}

std::unexpected<Error> unknown_flag(std::string_view word, std::string_view name) {
  std::vector<std::string_view> names;
  for (const Flag& flag : kFlags) names.push_back(flag.name);
  if (const auto nearest = nearest_name(name, names))
    return fail(Code::kInvalidArgument, "unknown flag {}: did you mean --{}?", word, *nearest);
  return fail(Code::kInvalidArgument, "unknown flag {} (see gem8 serve --help)", word);
}

Status check_accepted(const Flag& flag, const std::string& value) {
  constexpr std::string_view kBetween = ", ";
  for (std::string_view rest = flag.accepted; !rest.empty();) {
    const std::string_view word = rest.substr(0, rest.find(kBetween));
    if (word == value) return {};
    rest.remove_prefix(std::min(rest.size(), word.size() + kBetween.size()));
  }
  return fail(Code::kUnsupported, "--{} {}: {} (supported: {})", flag.name, value, flag.text,
              flag.accepted);
}

/// What the flag asks for, done or noted.
Status apply(const Given& given, ServeFlags& flags) {
  const Flag& flag = *given.flag;
  switch (flag.kind) {
    case Kind::kHonour:
      return flag.set(given, flags);
    case Kind::kOnly:
      return check_accepted(flag, given.first());
    case Kind::kNote:
      flags.notes.push_back(fmt::format("flag --{} has no effect here: {}", flag.name, flag.text));
      return {};
    case Kind::kRefuse:
      break;
  }
  return fail(Code::kUnsupported, "--{} is not supported: {}", flag.name, flag.text);
}

/// A word that begins with a dash, taken apart.
struct Spelled {
  std::string name;  ///< with dashes for underscores
  std::string part;  ///< behind the first dot of --name.part, as it is
  std::optional<std::string> attached;
};

Result<Spelled> spelled(std::string_view word) {
  Spelled result;
  if (word.starts_with("--")) {
    const std::size_t equals = word.find('=');
    result.name = word.substr(2, equals == std::string_view::npos ? equals : equals - 2);
    if (equals != std::string_view::npos) result.attached = word.substr(equals + 1);
  } else {
    for (const auto& [spelling, long_name] : kShort) {
      if (!word.starts_with(spelling)) continue;
      result.name = long_name;
      const std::string_view rest = word.substr(spelling.size());
      if (!rest.empty()) result.attached = rest.substr(rest.front() == '=' ? 1 : 0);
      break;
    }
    if (result.name.empty()) return unknown_flag(word, word.substr(1));
  }
  if (const std::size_t dot = result.name.find('.'); dot != std::string::npos) {
    result.part = result.name.substr(dot + 1);
    result.name.resize(dot);
  }
  std::replace(result.name.begin(), result.name.end(), '_', '-');
  return result;
}

/// Puts the value of --flag.a.b into the object {"a": {"b": value}} that earlier parts made. A
/// value that is no JSON is a string; "a+" appends to the list "a".
Status add_part(const Given& given, Json& object) {
  Result<Json> read = parse_json(given.first());
  Json value = read ? *std::move(read) : Json(given.first());
  Json* at = &object;
  std::string_view rest = given.part;
  for (;;) {
    const std::size_t dot = rest.find('.');
    std::string_view key = rest.substr(0, dot);
    const bool last = dot == std::string_view::npos;
    const bool appends = last && key.ends_with('+');
    if (appends) key.remove_suffix(1);
    if (key.empty() || !at->is_object())
      return fail(Code::kInvalidArgument, "--{}.{}: no such part", given.flag->name, given.part);
    if (last && !appends) {
      at->set(key, std::move(value));
      return {};
    }
    if (at->find(key) == nullptr) at->set(key, appends ? Json::array() : Json::object());
    at = at->find(key);
    if (appends) {
      if (!at->is_array())
        return fail(Code::kInvalidArgument, "--{}.{}: this is no list", given.flag->name,
                    given.part);
      at->push_back(std::move(value));
      return {};
    }
    rest.remove_prefix(dot + 1);
  }
}

/// A value may begin with a dash when it is a number ("-1"), and JSON never does.
bool is_value(std::string_view word) {
  return !word.starts_with('-') || (word.size() > 1 && word[1] >= '0' && word[1] <= '9');
}

/// The flag that words[at] names, and the values that follow it; `at` moves to the last of them.
Result<Given> read_flag(std::span<const std::string> words, std::size_t& at) {
  GEM8_TRY(Spelled word, spelled(words[at]));
  Given given;
  const Flag* flag = find_flag(word.name);
  if (flag == nullptr && word.name.starts_with("no-")) {
    flag = find_flag(std::string_view(word.name).substr(3));
    if (flag != nullptr && flag->values != kNone) flag = nullptr;
    given.negated = flag != nullptr;
  }
  if (flag == nullptr) return unknown_flag(words[at], word.name);
  given.flag = flag;
  given.part = std::move(word.part);
  const bool matters = flag->kind == Kind::kHonour || flag->kind == Kind::kOnly;
  if (!given.part.empty() && matters && flag->values != kObject)
    return fail(Code::kInvalidArgument, "--{} has no parts", flag->name);
  if (word.attached) {
    if (flag->values == kNone)
      return fail(Code::kInvalidArgument, "--{} takes no value", flag->name);
    given.values.push_back(std::move(*word.attached));
  } else {
    const std::size_t most = flag->values == kNone ? 0 : flag->values == kMany ? words.size() : 1;
    while (given.values.size() < most && at + 1 < words.size() && is_value(words[at + 1]))
      given.values.push_back(words[++at]);
  }
  if (flag->values != kNone && flag->values != kMaybe && given.values.empty()) {
    return fail(Code::kInvalidArgument, "--{} needs a value: {}", flag->name,
                flag->kind == Kind::kOnly ? flag->accepted : flag->text);
  }
  return given;
}

}  // namespace

std::optional<std::int64_t> parse_human_integer(std::string_view text) {
  double factor = 1.0;
  if (!text.empty()) {
    switch (text.back()) {
      case 'k':
        factor = 1e3;
        break;
      case 'm':
        factor = 1e6;
        break;
      case 'g':
        factor = 1e9;
        break;
      case 'K':
        factor = 0x1p10;
        break;
      case 'M':
        factor = 0x1p20;
        break;
      case 'G':
        factor = 0x1p30;
        break;
      default:
        break;
    }
  }
  if (factor == 1.0) {
    std::int64_t value = 0;
    const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
    return ec == std::errc() && end == text.data() + text.size() && !text.empty()
               ? std::optional(value)
               : std::nullopt;
  }
  text.remove_suffix(1);
  double number = 0.0;
  const auto [end, ec] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  const double value = number * factor;
  if (ec != std::errc() || end != text.data() + text.size() || text.empty() ||
      !(std::abs(value) < 0x1p62))
    return std::nullopt;
  return static_cast<std::int64_t>(std::llround(value));
}

Result<ServeFlags> parse_serve_flags(std::span<const std::string> words) {
  ServeFlags flags;
  std::vector<std::string_view> seen;
  std::vector<std::pair<Given, Json>> in_parts;  // --flag.part, and the objects they make
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--help" || word == "-h") {
      flags.help = true;
      return flags;
    }
    if (!word.starts_with('-') || word.size() < 2) {
      if (!flags.model.empty())
        return fail(Code::kInvalidArgument, "'{}': a model is named already: '{}'", word,
                    flags.model);
      flags.model = word;
      continue;
    }

    GEM8_TRY(const Given given, read_flag(words, i));
    if (!given.part.empty() && !given.values.empty()) {
      auto object = std::ranges::find(in_parts, given.flag,
                                      [](const auto& entry) { return entry.first.flag; });
      if (object == in_parts.end()) {
        in_parts.emplace_back(given, Json::object());
        object = std::prev(in_parts.end());
      }
      GEM8_RETURN_IF_ERROR(add_part(given, object->second));
      continue;
    }
    GEM8_RETURN_IF_ERROR(apply(given, flags));
    const std::string_view name = given.flag->name;
    if (std::find(seen.begin(), seen.end(), name) != seen.end())
      flags.notes.push_back(fmt::format("flag --{} is given twice: the last one counts", name));
    seen.push_back(name);
  }
  for (auto& [given, object] : in_parts) {
    given.values = {to_text(object)};
    GEM8_RETURN_IF_ERROR(apply(given, flags));
  }
  return flags;
}

std::string serve_flags_help() {
  std::string text = "Flags (vLLM's names and meanings):\n";
  for (const Flag& flag : kFlags) {
    if (flag.kind == Kind::kHonour) text += fmt::format("  --{:<34} {}\n", flag.name, flag.text);
    if (flag.kind == Kind::kOnly) text += fmt::format("  --{:<34} {}\n", flag.name, flag.accepted);
  }
  text += "Other flags of vLLM are accepted with a note, or refused with the reason.\n";
  return text;
}

}  // namespace gem8::app
