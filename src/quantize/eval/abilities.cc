#include "quantize/eval/abilities.h"

#include <algorithm>
#include <limits>
#include <map>

#include "formats/model_config.h"
#include "text/output/output_parser.h"

namespace gem8::eval {

namespace {

constexpr std::size_t kTogether = 16;  ///< prompts in one batch

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

bool equal_values(const Json& a, const Json& b) {
  if (a.is_array() && b.is_array())
    return std::ranges::equal(a.as_array(), b.as_array(), equal_values);
  if (a.is_object() && b.is_object()) {
    return a.as_object().size() == b.as_object().size() &&
           std::ranges::all_of(a.as_object(), [&](const JsonMember& member) {
             const Json* const other = b.find(member.key);
             return other != nullptr && equal_values(member.value, *other);
           });
  }
  return a == b;
}

struct Call {
  std::string name;
  Json arguments;
};

/// A reference call: {"name", "arguments"}, bare or below "function"; arguments as an object or as
/// JSON text.
Call reference_call(const Json& value) {
  const Json* const function = value.find("function");
  const Json& call = function != nullptr ? *function : value;
  Call result;
  if (const Json* const name = call.find("name"); name != nullptr && name->is_string()) {
    result.name = name->as_string();
  }
  if (const Json* const arguments = call.find("arguments"); arguments != nullptr) {
    result.arguments = *arguments;
    if (arguments->is_string()) {
      if (auto parsed = parse_json(arguments->as_string())) result.arguments = std::move(*parsed);
    }
  }
  return result;
}

struct Answer {
  std::string content;
  std::vector<Call> calls;
};

Answer parse_answer(const Sample& sample, std::span<const TokenId> written,
                    const Tokenizer& tokenizer) {
  OutputParser parser(tokenizer, {.prompt_tail = sample.prompt.tokens, .tools = sample.tools});
  Answer answer;
  std::vector<std::string> arguments;
  const auto take = [&](const OutputDelta& delta) {
    answer.content += delta.content;
    for (const ToolCallDelta& call : delta.tool_calls) {
      answer.calls.resize(std::max(answer.calls.size(), call.index + 1));
      arguments.resize(answer.calls.size());
      if (call.name) answer.calls[call.index].name = *call.name;
      arguments[call.index] += call.arguments;
    }
  };
  for (const TokenId id : written) take(parser.feed(id));
  take(parser.finish(EndedBy::kStopToken));
  for (std::size_t i = 0; i < answer.calls.size(); ++i) {
    if (auto parsed = parse_json(arguments[i])) answer.calls[i].arguments = std::move(*parsed);
  }
  return answer;
}

/// How many of the words are in the text, each as often as it is there.
std::size_t count_attributes(std::span<const std::string> attributes, std::string_view text) {
  std::map<std::string, int, std::less<>> left;
  for (const std::string& attribute : attributes) left[attribute] += 1;
  std::size_t found = 0;
  const auto is_letter = [](char c) { return 'a' <= c && c <= 'z'; };
  const auto is_digit = [](char c) { return '0' <= c && c <= '9'; };
  std::string lower(text);
  for (char& c : lower) c = 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  for (std::size_t at = 0; at < lower.size();) {
    std::size_t end = at;
    while (end < lower.size() && is_letter(lower[end])) ++end;
    if (end == at) {
      while (end < lower.size() && is_digit(lower[end])) ++end;
    }
    std::string_view word = std::string_view(lower).substr(at, end - at);
    at = std::max(end, at + 1);
    if (word.empty()) continue;
    const std::string_view singular = word.substr(0, word.find_last_not_of('s') + 1);
    if (left.contains(singular)) word = singular;
    if (const auto wanted = left.find(word); wanted != left.end() && wanted->second > 0) {
      wanted->second -= 1;
      found += 1;
    }
  }
  return found;
}

std::size_t best_token(std::span<float> logits, std::span<const TokenId> suppress) {
  for (const TokenId id : suppress) {
    const auto at = static_cast<std::size_t>(id);
    if (at < logits.size()) logits[at] = -std::numeric_limits<float>::infinity();
  }
  return static_cast<std::size_t>(std::ranges::max_element(logits) - logits.begin());
}

/// One batch of prompts from beginning to end.
class GreedyBatch {
 public:
  GreedyBatch(SeeingModel model, std::span<const TokenSample* const> prompts,
              const GreedyOptions& options)
      : model_(*model.model), tower_(model.tower), options_(options), prompts_(prompts) {}

  Result<std::vector<std::vector<TokenId>>> run() {
    GEM8_RETURN_IF_ERROR(allocate());
    // Prompts one after the other, as long as they may be; then all decode together.
    for (std::size_t p = 0; p < prompts_.size(); ++p) GEM8_RETURN_IF_ERROR(prefill(p));
    for (std::int64_t made = 1; made < options_.max_new_tokens; ++made) {
      std::vector<SequenceChunk> chunks;
      std::vector<std::size_t> who;
      for (std::size_t p = 0; p < prompts_.size(); ++p) {
        if (done_[p]) continue;
        chunks.push_back({.seq = seqs_[p],
                          .tokens = std::span(&written_[p].back(), 1),
                          .first_position = cache_->length(seqs_[p])});
        who.push_back(p);
      }
      if (chunks.empty()) break;
      GEM8_RETURN_IF_ERROR(step(chunks, who));
    }
    return std::move(written_);
  }

 private:
  Status allocate() {
    const TextConfig& text = model_.config().text;
    const KvCacheCost cost = kv_cache_cost(text, model_.ops().activation_dtype());
    KvCacheOptions pages;
    for (const TokenSample* const prompt : prompts_) {
      const std::int64_t n = std::ssize(prompt->tokens) + options_.max_new_tokens;
      pages.sliding_pages += cost.sliding_pages(n, model_.max_batch_tokens());
      pages.full_pages += cost.full_pages(n);
    }
    GEM8_TRY(cache_, KvCache::create(text, model_.ops(), pages));
    const auto n_logits = prompts_.size() * static_cast<std::size_t>(model_.vocab());
    GEM8_TRY(logits_, model_.ops().device().allocate(n_logits * sizeof(float)));
    host_.resize(n_logits);
    for (std::size_t p = 0; p < prompts_.size(); ++p) seqs_.push_back(cache_->open());
    written_.resize(prompts_.size());
    done_.resize(prompts_.size());
    return {};
  }

  Status prefill(std::size_t p) {
    const TokenSample& prompt = *prompts_[p];
    for (const SamplePiece& piece :
         pieces_of(prompt, static_cast<std::size_t>(model_.max_batch_tokens()))) {
      const bool last = piece.first + piece.count == prompt.tokens.size();
      SequenceChunk chunk{.seq = seqs_[p],
                          .tokens = std::span(prompt.tokens).subspan(piece.first, piece.count),
                          .first_position = static_cast<std::int64_t>(piece.first),
                          .logits = last ? Logits::kLast : Logits::kNone};
      SoftTokenMatrix encoded;
      SoftTokens soft;
      if (piece.image != nullptr) {
        if (tower_ == nullptr) {
          return fail(Code::kInvalidArgument, "a sample shows a picture, the model sees none");
        }
        GEM8_TRY(encoded, encode_image(*tower_, *piece.image));
        soft.rows = encoded.rows;
        chunk.soft = std::span(&soft, 1);
      }
      const std::size_t who[] = {p};
      GEM8_RETURN_IF_ERROR(
          step(std::span(&chunk, 1), last ? std::span(who) : std::span<const std::size_t>()));
    }
    return {};
  }

  /// Runs the chunks; `who` are the prompts whose next token their logits are.
  Status step(std::span<const SequenceChunk> chunks, std::span<const std::size_t> who) {
    const std::int64_t vocab = model_.vocab();
    const auto rows = static_cast<std::int64_t>(who.size());
    const Mat logits{logits_.address(), DType::kF32, rows, vocab, vocab};
    GEM8_RETURN_IF_ERROR(model_.forward({.chunks = chunks}, *cache_, logits));
    const auto width = static_cast<std::size_t>(vocab);
    model_.ops().device().download(
        logits.data, std::as_writable_bytes(std::span(host_).first(who.size() * width)));
    for (std::size_t r = 0; r < who.size(); ++r) {
      const std::size_t best =
          best_token(std::span(host_).subspan(r * width, width), options_.suppress);
      const TokenId id{static_cast<std::int32_t>(best)};
      done_[who[r]] = std::ranges::find(options_.stop, id) != options_.stop.end();
      if (!done_[who[r]]) written_[who[r]].push_back(id);
    }
    return {};
  }

  Model& model_;
  VisionTower* tower_;
  const GreedyOptions& options_;
  std::span<const TokenSample* const> prompts_;
  std::unique_ptr<KvCache> cache_;
  Buffer logits_;
  std::vector<float> host_;
  std::vector<CacheSeq> seqs_;
  std::vector<std::vector<TokenId>> written_;
  std::vector<bool> done_;
};

}  // namespace

Result<std::vector<std::vector<TokenId>>> generate_greedily(
    SeeingModel model, std::span<const TokenSample* const> prompts, const GreedyOptions& options) {
  std::vector<std::vector<TokenId>> all;
  for (std::size_t first = 0; first < prompts.size(); first += kTogether) {
    const auto group = prompts.subspan(first, std::min(kTogether, prompts.size() - first));
    GEM8_TRY(auto written, GreedyBatch(model, group, options).run());
    std::ranges::move(written, std::back_inserter(all));
  }
  return all;
}

Score score(const Sample& sample, std::span<const TokenId> written, const Tokenizer& tokenizer) {
  if (!sample.answer) return {};
  const Answer answer = parse_answer(sample, written, tokenizer);
  if (sample.answer->is_string()) {
    const bool right =
        answer.calls.empty() && trimmed(answer.content) == trimmed(sample.answer->as_string());
    if (sample.attributes.empty()) return {.right = right, .right_parts = right, .parts = 1};
    return {.right = right,
            .right_parts = count_attributes(sample.attributes, answer.content),
            .parts = sample.attributes.size()};
  }
  const Json::Array& wanted = sample.answer->as_array();
  Score score{.parts = wanted.size()};
  for (std::size_t i = 0; i < std::min(wanted.size(), answer.calls.size()); ++i) {
    const Call want = reference_call(wanted[i]);
    score.right_parts += answer.calls[i].name == want.name &&
                         equal_values(answer.calls[i].arguments, want.arguments);
  }
  score.right = score.right_parts == wanted.size() && answer.calls.size() == wanted.size();
  return score;
}

}  // namespace gem8::eval
