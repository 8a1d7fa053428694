#include "quantize/samples.h"

#include <algorithm>
#include <optional>

#include "formats/model_config.h"

namespace gem8 {

namespace {

/// The tokenizer and template of a checkpoint, read when first asked for.
class Encoder {
 public:
  explicit Encoder(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  TokenId bos() const { return TokenId{checkpoint_.config().text.bos_token_id}; }

  Result<const Tokenizer*> tokenizer() {
    if (!tokenizer_) {
      GEM8_TRY(tokenizer_, Tokenizer::load(checkpoint_.dir()));
    }
    return &*tokenizer_;
  }
  Result<const ChatTemplate*> chat() {
    if (!chat_) {
      GEM8_TRY(chat_, ChatTemplate::load(checkpoint_.dir()));
    }
    return &*chat_;
  }

 private:
  const Checkpoint& checkpoint_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> chat_;
};

void begin_with_one_bos(std::vector<TokenId>& ids, TokenId bos) {
  if (ids.empty() || ids.front() != bos) ids.insert(ids.begin(), bos);
  while (ids.size() > 1 && ids[1] == bos) ids.erase(ids.begin());
}

Result<std::vector<TokenId>> token_list(const Json& list, int vocab) {
  if (!list.is_array()) {
    return fail(Code::kInvalidArgument, "'tokens': found {}, wanted a list of ids",
                list.kind_name());
  }
  std::vector<TokenId> ids;
  for (const Json& id : list.as_array()) {
    if (!id.is_int() || id.as_int() < 0 || id.as_int() >= vocab) {
      return fail(Code::kInvalidArgument, "'tokens': found {}, wanted ids below {}", to_text(id),
                  vocab);
    }
    ids.push_back(TokenId{static_cast<std::int32_t>(id.as_int())});
  }
  return ids;
}

bool ends_with_assistant(const Json& messages) {
  if (!messages.is_array() || messages.as_array().empty()) return false;
  const Json* const role = messages.as_array().back().find("role");
  return role != nullptr && role->is_string() && role->as_string() == "assistant";
}

bool shows_images(const Json& line) {
  const Json* const images = line.find("images");
  if (images != nullptr && images->is_array() && !images->as_array().empty()) return true;
  const Json* const messages = line.find("messages");
  return messages != nullptr && !image_parts(*messages).empty();
}

Result<std::vector<TokenId>> encode_line(const Json& line, Encoder& encoder, int vocab) {
  if (const Json* const tokens = line.find("tokens"); tokens != nullptr) {
    return token_list(*tokens, vocab);
  }
  if (const Json* const text = line.find("text"); text != nullptr) {
    if (!text->is_string()) {
      return fail(Code::kInvalidArgument, "'text': found {}, wanted a string", text->kind_name());
    }
    GEM8_TRY(const Tokenizer* const tokenizer, encoder.tokenizer());
    std::vector<TokenId> ids = tokenizer->encode(text->as_string());
    begin_with_one_bos(ids, encoder.bos());
    return ids;
  }
  const Json* const messages = line.find("messages");
  if (messages == nullptr) {
    return fail(Code::kInvalidArgument, "found none of 'messages', 'text' and 'tokens'");
  }
  GEM8_TRY(const ChatTemplate* const chat, encoder.chat());
  GEM8_TRY(const Tokenizer* const tokenizer, encoder.tokenizer());
  return encode_chat(line, *chat, *tokenizer, encoder.bos(), !ends_with_assistant(*messages));
}

}  // namespace

Result<std::vector<TokenId>> encode_chat(const Json& line, const ChatTemplate& chat,
                                         const Tokenizer& tokenizer, TokenId bos,
                                         bool generation_prompt) {
  Json request = Json::object({{"add_generation_prompt", generation_prompt}});
  for (const std::string_view key : {"messages", "tools", "chat_template_kwargs"}) {
    if (const Json* const value = line.find(key); value != nullptr && !value->is_null()) {
      request.set(key, *value);
    }
  }
  GEM8_TRY(const std::string text, render_chat(chat, request));
  std::vector<TokenId> ids = tokenizer.encode(text);
  begin_with_one_bos(ids, bos);
  return ids;
}

Result<Samples> read_samples(std::string_view jsonl, std::string_view name,
                             const Checkpoint& checkpoint, const SampleLimits& limits) {
  Samples samples;
  Encoder encoder(checkpoint);
  std::size_t number = 0;
  while (!jsonl.empty() && samples.tokens.size() < limits.max_samples) {
    const std::size_t end = std::min(jsonl.find('\n'), jsonl.size());
    const std::string_view text = jsonl.substr(0, end);
    jsonl.remove_prefix(std::min(end + 1, jsonl.size()));
    number += 1;
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}:{}", name, number);
    auto line = parse_json(text);
    if (!line) {
      Error error = std::move(line).error();
      error.code = Code::kInvalidArgument;
      return fail_in(where, std::move(error));
    }
    if (!line->is_object()) {
      return fail(Code::kInvalidArgument, "{}: found {}, wanted an object", where,
                  line->kind_name());
    }
    if (shows_images(*line)) {
      samples.images += 1;
      continue;
    }
    auto ids = encode_line(*line, encoder, checkpoint.config().text.vocab);
    if (!ids) return fail_in(where, std::move(ids).error());
    if (ids->empty()) return fail(Code::kInvalidArgument, "{}: a sample without tokens", where);
    if (ids->size() > limits.max_tokens) {
      ids->resize(limits.max_tokens);
      samples.cut += 1;
    }
    samples.tokens.push_back(std::move(*ids));
  }
  if (samples.tokens.empty()) {
    return fail(Code::kInvalidArgument, "{}: no sample to calibrate with", name);
  }
  return samples;
}

}  // namespace gem8
