#include "engine/request_check.h"

#include <algorithm>
#include <utility>

namespace gem8 {
namespace {

std::unexpected<Error> refuse(const char* field, std::string message) {
  return std::unexpected(Error{Code::kInvalidArgument, std::move(message), field});
}

Status check_ids(const char* field, std::span<const TokenId> ids, std::int64_t vocab) {
  for (const TokenId id : ids) {
    if (value_of(id) >= 0 && value_of(id) < vocab) continue;
    return refuse(field, fmt::format("Token id {} is out of vocabulary: ids are 0 to {}",
                                     value_of(id), vocab - 1));
  }
  return {};
}

/// Prompt and answer against the context. Clients look for "maximum context length is N tokens".
Status check_lengths(const EngineRequest& request, std::int64_t max_model_len) {
  const std::size_t n_prompt = request.prompt.size();
  if (n_prompt == 0) return refuse("prompt", "the prompt is empty");
  if (static_cast<std::int64_t>(n_prompt) >= max_model_len) {
    return refuse(
        "input_tokens",
        fmt::format("This model's maximum context length is {} tokens. However, your prompt "
                    "contains {} input tokens, which "
                    "leaves no room for an answer. Please reduce the length of the input prompt.",
                    max_model_len, n_prompt));
  }
  if (request.max_tokens && *request.max_tokens < 1) {
    return refuse("max_tokens",
                  fmt::format("max_tokens must be at least 1, got {}.", *request.max_tokens));
  }
  if (request.max_tokens && *request.max_tokens > max_model_len) {
    return refuse("max_tokens", fmt::format("max_tokens={} cannot be greater than "
                                            "max_model_len={}. Please request fewer output tokens.",
                                            *request.max_tokens, max_model_len));
  }
  const std::int64_t most = request.max_tokens.value_or(max_model_len);
  if (request.min_tokens < 0 || request.min_tokens > most) {
    return refuse("min_tokens", fmt::format("min_tokens must be from 0 to max_tokens={}, got {}.",
                                            most, request.min_tokens));
  }
  return {};
}

std::vector<UnsplitRange> unsplit_ranges(std::span<const TokenId> prompt,
                                         std::span<const TokenId> placeholders) {
  std::vector<UnsplitRange> ranges;
  const std::int64_t n = std::ssize(prompt);
  for (std::int64_t i = 0; i < n; ++i) {
    if (std::ranges::find(placeholders, prompt[static_cast<std::size_t>(i)]) == placeholders.end())
      continue;
    if (!ranges.empty() && ranges.back().end == i) {
      ++ranges.back().end;
    } else {
      ranges.push_back({i, i + 1});
    }
  }
  return ranges;
}

/// Every image has its own run of placeholders, and each run fits in a step.
Status check_images(std::span<const PromptImage> images, std::span<const UnsplitRange> runs,
                    std::int64_t largest, const EngineOptions& options) {
  if (largest > 1 && largest + options.max_num_seqs > options.max_num_batched_tokens) {
    return refuse("messages",
                  fmt::format("an image of {} tokens does not fit in a step: "
                              "max_num_batched_tokens ({}) less max_num_seqs ({})",
                              largest, options.max_num_batched_tokens, options.max_num_seqs));
  }
  for (const PromptImage& image : images) {
    const bool has_place =
        image.patches && image.n_tokens() > 0 &&
        std::ranges::any_of(runs, [&](const UnsplitRange& run) {
          return run.begin == image.position && run.end == image.position + image.n_tokens();
        });
    if (!has_place || image.content_hash.empty()) {
      return refuse("messages",
                    fmt::format("an image of {} soft tokens at {}: no such run of placeholders",
                                image.patches ? image.n_tokens() : 0, image.position));
    }
  }
  return {};
}

/// Some allowed token can be chosen at every step: end tokens cannot while min_tokens forbids them.
Status check_allowed(const Sequence& sequence, const EngineRequest& request,
                     const EndTokens& end_tokens) {
  const std::vector<TokenId>& allowed = request.sampling.allowed_token_ids;
  if (allowed.empty()) return {};
  std::vector<TokenId> banned = end_tokens.suppress;
  if (request.min_tokens > 0)
    banned.insert(banned.end(), sequence.stop_ids.begin(), sequence.stop_ids.end());
  std::ranges::sort(banned);  // both lists may be as long as the vocabulary
  const bool some_left = std::ranges::any_of(
      allowed, [&](TokenId id) { return !std::ranges::binary_search(banned, id); });
  if (some_left) return {};
  return refuse("allowed_token_ids",
                request.min_tokens == 0
                    ? "allowed_token_ids: the model never chooses any of them"
                    : "allowed_token_ids: all of them end the answer, which min_tokens forbids, or "
                      "are never chosen by the model");
}

}  // namespace

Result<std::unique_ptr<Sequence>> make_sequence(EngineRequest request, const EngineOptions& options,
                                                const ModelRunner& runner,
                                                std::shared_ptr<Signal> engine) {
  const std::int64_t limit = options.max_model_len;
  GEM8_RETURN_IF_ERROR(check_lengths(request, limit));
  GEM8_RETURN_IF_ERROR(check_ids("prompt", request.prompt, runner.vocab()));
  GEM8_RETURN_IF_ERROR(check_ids("stop_token_ids", request.stop_token_ids, runner.vocab()));
  GEM8_RETURN_IF_ERROR(check_sampling_params(request.sampling, runner.vocab()));

  auto sequence = std::make_unique<Sequence>();
  sequence->n_prompt = std::ssize(request.prompt);
  sequence->max_tokens = std::min(request.max_tokens.value_or(limit), limit - sequence->n_prompt);
  sequence->unsplit = unsplit_ranges(request.prompt, options.end_tokens.placeholders);
  std::int64_t largest = 1;
  for (const UnsplitRange& run : sequence->unsplit)
    largest = std::max(largest, run.end - run.begin);
  GEM8_RETURN_IF_ERROR(check_images(request.images, sequence->unsplit, largest, options));
  sequence->soft_tokens.resize(request.images.size());

  const CachePages total = runner.total_pages();
  sequence->reserved = runner.pages_for(sequence->n_prompt + sequence->max_tokens, largest);
  if (sequence->reserved.sliding > total.sliding || sequence->reserved.full > total.full) {
    return refuse("max_tokens",
                  fmt::format("prompt of {} and max_tokens of {} need {} + {} cache pages, the "
                              "cache has {} + {}: ask for fewer tokens",
                              sequence->n_prompt, sequence->max_tokens, sequence->reserved.full,
                              sequence->reserved.sliding, total.full, total.sliding));
  }

  sequence->stop_ids = request.stop_token_ids;
  if (!request.ignore_eos) {
    sequence->stop_ids.insert(sequence->stop_ids.end(), options.end_tokens.eos.begin(),
                              options.end_tokens.eos.end());
    sequence->stop_ids.push_back(options.end_tokens.primary);
  }
  GEM8_RETURN_IF_ERROR(check_allowed(*sequence, request, options.end_tokens));
  sequence->tokens = std::move(request.prompt);
  if (request.sampling.n_logprobs)
    sequence->top.reserve(static_cast<std::size_t>(*request.sampling.n_logprobs));
  sequence->channel = std::make_shared<TokenChannel>(options.channel_capacity, std::move(engine),
                                                     std::move(request.on_ready));
  sequence->request = std::move(request);
  return sequence;
}

}  // namespace gem8
