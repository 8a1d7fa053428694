#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "formats/image/image.h"
#include "foundation/json/json.h"
#include "foundation/result.h"

namespace gem8::app {

/// The command line of `gem8 serve`: vLLM's flags with vLLM's meanings.
struct ServeFlags {
  std::string model;                            ///< positional or --model
  std::vector<std::string> served_model_names;  ///< empty: the model as given
  std::string host = "0.0.0.0";
  std::uint16_t port = 8000;
  std::vector<std::string> api_keys;
  std::vector<std::string> allowed_origins;
  std::string root_path;
  std::int64_t shutdown_timeout_s = 30;
  std::int64_t sse_keep_alive_s = 15;
  std::size_t max_header_bytes = 4u << 20;
  std::size_t max_headers = 256;
  bool access_log = true;
  bool force_include_usage = false;
  Json default_template_kwargs;  ///< null or an object
  std::string chat_template;     ///< a file; empty: the model's

  std::optional<std::size_t> max_images;  ///< of a request; 0: none are taken
  std::optional<int> soft_tokens;         ///< of an image
  std::vector<std::string> allowed_media_domains;
  std::string allowed_local_media_path;  ///< empty: none
  AlphaPolicy alpha = AlphaPolicy::kWhite;

  std::optional<std::int64_t> max_model_len;  ///< -1: the largest that fits
  std::optional<double> gpu_memory_utilization;
  std::optional<std::int64_t> kv_cache_memory_bytes;
  std::optional<std::int64_t> max_num_batched_tokens;
  std::optional<std::int64_t> max_num_seqs;
  std::int64_t max_num_queued_reqs = 0;
  std::optional<std::uint64_t> seed;
  bool fp8_activations = false;
  bool neutral_sampling = false;    ///< --generation-config vllm
  std::string generation_config;    ///< a folder, or empty: the model's
  std::string quantization;         ///< the method that the checkpoint must have; empty: any
  Json override_generation_config;  ///< null or an object

  /// What was accepted without effect, one line each: "flag --swap-space has no effect here: ...".
  std::vector<std::string> notes;
  bool help = false;
};

/// Reads the words behind `gem8 serve`. Underscores and dashes are the same, --key=value and --key
/// value too, lists are separated by spaces, size flags take 1k, 1K, 25.6k, 2M; --key.a.b value is
/// the same as --key '{"a": {"b": value}}', and several such parts make one object. The last of a
/// repeated flag wins. Errors: kInvalidArgument for an unknown flag (naming one that is near), a
/// missing or malformed value; kUnsupported for what vLLM does and gem8 does not, with the reason.
Result<ServeFlags> parse_serve_flags(std::span<const std::string> words);

/// The flags that do something here, for --help.
std::string serve_flags_help();

/// "1k" 1000, "1K" 1024, "25.6k" 25600, "2M", "3g"; plain integers as they are.
std::optional<std::int64_t> parse_human_integer(std::string_view text);

}  // namespace gem8::app
