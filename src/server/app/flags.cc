#include "server/app/flags.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "server/media/image_request.h"

namespace gem8::app {
namespace {

enum class Values { kNone, kOne, kMany, kMaybe };
using enum Values;
enum class Outcome { kHonour, kNote, kRefuse };

struct Flag {
  std::string_view name;
  Values values;
  Outcome outcome;
  std::string_view text;
};

constexpr Flag kFlags[] = {
#define HONOUR(name, values, text) {name, values, Outcome::kHonour, text},
#define NOTE(name, values, text) {name, values, Outcome::kNote, text},
#define REFUSE(name, values, text) {name, values, Outcome::kRefuse, text},
#include "server/app/flags.inc"
#undef HONOUR
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
  const Flag* nearest =
      std::min_element(std::begin(kFlags), std::end(kFlags), [name](const Flag& a, const Flag& b) {
        return edit_distance(name, a.name) < edit_distance(name, b.name);
      });
  return fail(Code::kInvalidArgument, "unknown flag {}: did you mean --{}?", word, nearest->name);
}

/// A flag and its values as the words spelled them.
struct Given {
  std::string_view name;
  std::vector<std::string> values;
  bool negated = false;

  std::unexpected<Error> wrong(std::string_view wanted) const {
    return fail(Code::kInvalidArgument, "--{} {}: wanted {}", name,
                values.empty() ? "" : values.front(), wanted);
  }
};

Result<std::int64_t> integer(const Given& given, std::int64_t low, std::int64_t high) {
  const std::optional<std::int64_t> value = parse_human_integer(given.values.front());
  if (!value || *value < low || *value > high)
    return given.wrong(fmt::format("an integer from {} to {}", low, high));
  return *value;
}

Result<Json> json_value(const Given& given, bool object) {
  Result<Json> value = parse_json(given.values.front());
  if (!value || (object ? !value->is_object() : !value->is_array()))
    return given.wrong(object ? "a JSON object" : "a JSON list");
  return value;
}

Status only(const Given& given, std::initializer_list<std::string_view> values,
            std::string_view otherwise) {
  const std::string& value = given.values.front();
  if (std::find(values.begin(), values.end(), value) != values.end()) return {};
  std::string list;
  for (const std::string_view known : values)
    list += fmt::format("{}{}", list.empty() ? "" : ", ", known);
  return fail(Code::kUnsupported, "--{} {}: {} (supported: {})", given.name, value, otherwise,
              list);
}

Status honour(const Given& given, ServeFlags& flags) {
  const std::string_view name = given.name;
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  const std::string first = given.values.empty() ? std::string() : given.values.front();
  if (name == "model") {
    flags.model = first;
  } else if (name == "served-model-name") {
    flags.served_model_names = given.values;
  } else if (name == "host") {
    flags.host = first;
  } else if (name == "port") {
    GEM8_TRY(const std::int64_t port, integer(given, 0, 65535));
    flags.port = static_cast<std::uint16_t>(port);
  } else if (name == "api-key") {
    flags.api_keys = given.values;
  } else if (name == "allowed-origins") {
    GEM8_TRY(const Json list, json_value(given, false));
    flags.allowed_origins.clear();
    for (const Json& origin : list.as_array()) {
      if (!origin.is_string()) return given.wrong("a JSON list of strings");
      flags.allowed_origins.push_back(origin.as_string());
    }
  } else if (name == "root-path") {
    flags.root_path = first;
    if (flags.root_path.ends_with('/')) flags.root_path.pop_back();
  } else if (name == "limit-mm-per-prompt") {
    GEM8_TRY(const std::optional<std::size_t> limit, parse_media_limits(first));
    if (limit) flags.max_images = limit;
  } else if (name == "mm-processor-kwargs") {
    GEM8_TRY(const Json kwargs, json_value(given, true));
    auto budget = parse_mm_processor_kwargs(kwargs);
    if (!budget)
      return fail_in("--mm-processor-kwargs", {budget.error().code, budget.error().message, {}});
    flags.soft_tokens = *budget;
  } else if (name == "allowed-media-domains") {
    flags.allowed_media_domains = given.values;
  } else if (name == "allowed-local-media-path") {
    flags.allowed_local_media_path = first;
  } else if (name == "alpha") {
    if (first != "white" && first != "drop") return given.wrong("white or drop");
    flags.alpha = first == "white" ? AlphaPolicy::kWhite : AlphaPolicy::kDrop;
  } else if (name == "language-model-only") {
    if (!given.negated) flags.max_images = 0;
  } else if (name == "shutdown-timeout") {
    GEM8_TRY(flags.shutdown_timeout_s, integer(given, 0, 86400));
  } else if (name == "sse-keep-alive-interval") {
    GEM8_TRY(flags.sse_keep_alive_s, integer(given, 0, 86400));
  } else if (name == "h11-max-incomplete-event-size") {
    GEM8_TRY(const std::int64_t bytes, integer(given, 1024, 1 << 30));
    flags.max_header_bytes = static_cast<std::size_t>(bytes);
  } else if (name == "h11-max-header-count") {
    GEM8_TRY(const std::int64_t n, integer(given, 1, 1 << 20));
    flags.max_headers = static_cast<std::size_t>(n);
  } else if (name == "disable-uvicorn-access-log") {
    flags.access_log = given.negated;
  } else if (name == "enable-force-include-usage") {
    flags.force_include_usage = !given.negated;
  } else if (name == "default-chat-template-kwargs") {
    GEM8_TRY(flags.default_template_kwargs, json_value(given, true));
  } else if (name == "chat-template") {
    flags.chat_template = first;
  } else if (name == "max-model-len") {
    if (first == "auto" || first == "-1") {
      flags.max_model_len = -1;
    } else {
      GEM8_TRY(flags.max_model_len, integer(given, 2, 1 << 30));
    }
  } else if (name == "gpu-memory-utilization") {
    double share = 0.0;
    const auto [end, ec] = std::from_chars(first.data(), first.data() + first.size(), share);
    if (ec != std::errc() || end != first.data() + first.size() || !(share > 0.0 && share <= 1.0))
      return given.wrong("a number in (0, 1]");
    flags.gpu_memory_utilization = share;
  } else if (name == "kv-cache-memory-bytes") {
    GEM8_TRY(flags.kv_cache_memory_bytes, integer(given, 1, kMax));
  } else if (name == "max-num-batched-tokens") {
    GEM8_TRY(flags.max_num_batched_tokens, integer(given, 1, 1 << 20));
  } else if (name == "max-num-seqs") {
    GEM8_TRY(flags.max_num_seqs, integer(given, 1, 1 << 16));
  } else if (name == "max-num-queued-reqs") {
    GEM8_TRY(flags.max_num_queued_reqs, integer(given, 0, kMax));
  } else if (name == "seed") {
    GEM8_TRY(const std::int64_t seed, integer(given, 0, kMax));
    flags.seed = static_cast<std::uint64_t>(seed);
  } else if (name == "activations") {
    GEM8_RETURN_IF_ERROR(only(given, {"bf16", "fp8"}, "no such arithmetic"));
    flags.fp8_activations = first == "fp8";
  } else if (name == "generation-config") {
    flags.neutral_sampling = first == "vllm";
    flags.generation_config = first == "vllm" || first == "auto" ? "" : first;
  } else if (name == "override-generation-config") {
    GEM8_TRY(flags.override_generation_config, json_value(given, true));
  } else if (name.ends_with("-parallel-size") || name == "api-server-count" || name == "nnodes") {
    return only(given, {"1"},
                "one process computes on one device; put a router in front of several servers");
  } else if (name == "tool-call-parser" || name == "reasoning-parser") {
    return only(given, {"gemma4", "auto"}, "gem8 serves Gemma 4 only");
  } else if (name == "dtype") {
    return only(given, {"auto", "bfloat16"}, "Gemma 4 is served in bfloat16");
  } else if (name == "kv-cache-dtype") {
    return only(given, {"auto", "bfloat16"}, "the cache is bfloat16");
  } else if (name == "quantization") {
    return only(given, {"fp8", "compressed-tensors", "modelopt"},
                "checkpoints are served as they are: quantise with `gem8 quantize`");
  } else if (name == "load-format") {
    return only(given, {"auto", "safetensors", "fastsafetensors", "runai_streamer"},
                "checkpoints are safetensors");
  } else if (name == "task" || name == "runner") {
    return only(given, {"generate", "auto"}, "gem8 generates text");
  } else if (name == "tokenizer-mode") {
    return only(given, {"auto"}, "there is one");
  } else if (name == "response-role") {
    return only(given, {"assistant"}, "answers are the assistant's");
  } else if (name == "cpu-offload-gb") {
    return only(given, {"0"}, "weights stay where they are");
  } else if (name == "distributed-executor-backend") {
    return only(given, {"uni", "mp"}, "there is one process");
  }
  return {};
}

}  // namespace

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> cost(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) cost[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) cost[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1,
                             cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

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

    std::string name;
    std::optional<std::string> attached;
    if (word.starts_with("--")) {
      const std::size_t equals = word.find('=');
      name = word.substr(2, equals == std::string::npos ? std::string::npos : equals - 2);
      if (equals != std::string::npos) attached = word.substr(equals + 1);
    } else {
      for (const auto& [spelling, long_name] : kShort) {
        if (!word.starts_with(spelling)) continue;
        name = long_name;
        if (word.size() > spelling.size())
          attached = word.substr(spelling.size() + (word[spelling.size()] == '=' ? 1 : 0));
        break;
      }
      if (name.empty()) return unknown_flag(word, word.substr(1));
    }
    std::replace(name.begin(), name.end(), '_', '-');
    if (const std::size_t dot = name.find('.'); dot != std::string::npos)
      name.resize(dot);  // --a.b: a part of the JSON of --a

    Given given{.name = name, .values = {}};
    const Flag* flag = find_flag(name);
    if (flag == nullptr && name.starts_with("no-")) {
      flag = find_flag(std::string_view(name).substr(3));
      if (flag != nullptr && flag->values != kNone) flag = nullptr;
      given.negated = flag != nullptr;
    }
    if (flag == nullptr) return unknown_flag(word, name);
    given.name = flag->name;

    if (attached) {
      if (flag->values == kNone)
        return fail(Code::kInvalidArgument, "--{} takes no value", flag->name);
      given.values.push_back(*attached);
    }
    // A value may begin with a dash when it is a number ("-1"), and JSON never does.
    const auto is_value = [](const std::string& next) {
      return !next.starts_with('-') || (next.size() > 1 && next[1] >= '0' && next[1] <= '9');
    };
    const std::size_t most = flag->values == kNone ? 0 : flag->values == kMany ? words.size() : 1;
    while (!attached && given.values.size() < most && i + 1 < words.size() &&
           is_value(words[i + 1]))
      given.values.push_back(words[++i]);
    if ((flag->values == kOne || flag->values == kMany) && given.values.empty()) {
      return fail(Code::kInvalidArgument, "--{} needs a value: {}", flag->name, flag->text);
    }

    switch (flag->outcome) {
      case Outcome::kRefuse:
        return fail(Code::kUnsupported, "--{} is not supported: {}", flag->name, flag->text);
      case Outcome::kNote:
        flags.notes.push_back(
            fmt::format("flag --{} has no effect here: {}", flag->name, flag->text));
        break;
      case Outcome::kHonour:
        GEM8_RETURN_IF_ERROR(honour(given, flags));
        break;
    }
    if (std::find(seen.begin(), seen.end(), flag->name) != seen.end()) {
      flags.notes.push_back(
          fmt::format("flag --{} is given twice: the last one counts", flag->name));
    }
    seen.push_back(flag->name);
  }
  return flags;
}

std::string serve_flags_help() {
  std::string text = "Flags (vLLM's names and meanings):\n";
  for (const Flag& flag : kFlags) {
    if (flag.outcome == Outcome::kHonour)
      text += fmt::format("  --{:<34} {}\n", flag.name, flag.text);
  }
  text += "Other flags of vLLM are accepted with a note, or refused with the reason.\n";
  return text;
}

}  // namespace gem8::app
