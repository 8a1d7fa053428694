#include "quantize/samples.h"

#include <algorithm>

#include "formats/model_config.h"
#include "foundation/json/json_lines.h"

namespace gem8 {

namespace {

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

Result<TokenSample> encode_line(const Json& line, SampleEncoder& encoder, int vocab) {
  if (const Json* const tokens = line.find("tokens"); tokens != nullptr) {
    GEM8_TRY(auto ids, token_list(*tokens, vocab));
    return TokenSample{.tokens = std::move(ids)};
  }
  if (const Json* const text = line.find("text"); text != nullptr) {
    if (!text->is_string()) {
      return fail(Code::kInvalidArgument, "'text': found {}, wanted a string", text->kind_name());
    }
    return encoder.text(text->as_string());
  }
  const Json* const messages = line.find("messages");
  if (messages == nullptr) {
    return fail(Code::kInvalidArgument, "found none of 'messages', 'text' and 'tokens'");
  }
  return encoder.chat(line, !ends_with_assistant(*messages));
}

}  // namespace

Result<const Tokenizer*> SampleEncoder::tokenizer() {
  if (!tokenizer_) {
    GEM8_TRY(tokenizer_, Tokenizer::load(checkpoint_.dir()));
  }
  return &*tokenizer_;
}

Status SampleEncoder::prepare_for(const Json& line) {
  const Json* const text = line.find("text");
  const bool is_chat = text == nullptr && line.find("messages") != nullptr;
  const bool is_text = text != nullptr && text->is_string();
  if (line.find("tokens") != nullptr || (!is_chat && !is_text)) return {};
  if (const auto tokenizer = this->tokenizer(); !tokenizer)
    return std::unexpected(tokenizer.error());
  if (is_chat && !chat_) {
    GEM8_TRY(chat_, ChatTemplate::load(checkpoint_.dir()));
  }
  return {};
}

Result<TokenSample> SampleEncoder::text(std::string_view text) {
  GEM8_TRY(const Tokenizer* const tokenizer, this->tokenizer());
  TokenSample sample{.tokens = tokenizer->encode(text)};
  begin_with_one_bos(sample.tokens, TokenId{checkpoint_.config().text.bos_token_id});
  return sample;
}

Result<TokenSample> SampleEncoder::chat(const Json& line, bool generation_prompt) {
  if (!chat_) {
    GEM8_TRY(chat_, ChatTemplate::load(checkpoint_.dir()));
  }
  Json request = Json::object({{"add_generation_prompt", generation_prompt}});
  for (const std::string_view key : {"messages", "tools", "chat_template_kwargs"}) {
    if (const Json* const value = line.find(key); value != nullptr && !value->is_null()) {
      request.set(key, *value);
    }
  }
  GEM8_TRY(const std::string rendered, render_chat(*chat_, request));
  GEM8_TRY(TokenSample sample, text(rendered));
  if (!shows_images(line)) return sample;
  if (!images_) {
    GEM8_TRY(images_, SampleImageReader::create(checkpoint_, folder_));
  }
  GEM8_TRY(sample.images, images_->read(line));
  GEM8_RETURN_IF_ERROR(images_->place(sample.images, sample.tokens));
  return sample;
}

Result<Samples> read_samples(std::string_view jsonl, std::string_view name,
                             const Checkpoint& checkpoint, const SampleOptions& options) {
  Samples result;
  SampleEncoder encoder(checkpoint, options.folder);
  JsonLines lines(jsonl, name);
  while (result.samples.size() < options.max_samples) {
    GEM8_TRY(const std::optional<Json> line, lines.next());
    if (!line) break;
    if (!line->is_object()) {
      return fail(Code::kInvalidArgument, "{}: found {}, wanted an object", lines.where(),
                  line->kind_name());
    }
    GEM8_RETURN_IF_ERROR(encoder.prepare_for(*line));
    auto sample = encode_line(*line, encoder, checkpoint.config().text.vocab);
    if (!sample) return fail_in(lines.where(), std::move(sample).error());
    if (sample->tokens.size() > options.max_tokens) {
      cut_sample(*sample, options.max_tokens);
      result.cut += 1;
    }
    if (sample->tokens.empty()) {
      return fail(Code::kInvalidArgument, "{}: a sample without tokens", lines.where());
    }
    result.with_images += !sample->images.empty();
    result.samples.push_back(std::move(*sample));
  }
  if (result.samples.empty()) {
    return fail(Code::kInvalidArgument, "{}: no sample to calibrate with", name);
  }
  return result;
}

}  // namespace gem8
