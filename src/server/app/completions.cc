#include <utility>

#include "server/app/answer.h"
#include "server/openai/completion_request.h"
#include "text/chat/image_tokens.h"

namespace gem8::app {

class Api::CompletionWriter final : public Api::Writer {
 public:
  /// `echoes`: the text that each choice begins with; empty without echo. `prompt_ids`: of each
  /// choice, to be returned; empty when they are not.
  CompletionWriter(openai::CompletionReply reply, std::vector<std::string> echoes,
                   std::vector<std::vector<TokenId>> prompt_ids)
      : reply_(std::move(reply)),
        echoes_(std::move(echoes)),
        prompt_ids_(std::move(prompt_ids)),
        has_begun_(prompt_ids_.size()) {}

  std::string begin(std::size_t index, const std::optional<openai::Usage>& usage) override {
    if (echoes_.empty()) return {};
    openai::ChoiceDelta echo;
    echo.content = echoes_[index];
    return reply_.delta_chunk(index, echo, usage, first_ids(index));
  }
  std::string delta(std::size_t index, const openai::ChoiceDelta& delta,
                    const std::optional<openai::Usage>& usage) override {
    return reply_.delta_chunk(index, delta, usage, first_ids(index));
  }
  std::string usage(const openai::Usage& usage) override { return reply_.usage_chunk(usage); }
  Json whole(std::vector<openai::WholeChoice> choices, const openai::Usage& usage) override {
    for (std::size_t i = 0; i < echoes_.size(); ++i) choices[i].content.insert(0, echoes_[i]);
    std::vector<Json> ids(choices.size());
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = first_ids(i);
    return reply_.whole(choices, usage, std::move(ids));
  }
  bool counts_reasoning() const override { return false; }

 private:
  /// The prompt's ids for the first chunk of a choice, null for those that follow.
  Json first_ids(std::size_t index) {
    if (prompt_ids_.empty() || has_begun_[index]) return {};
    has_begun_[index] = true;
    return openai::ids_body(prompt_ids_[index]);
  }

  openai::CompletionReply reply_;
  std::vector<std::string> echoes_;
  std::vector<std::vector<TokenId>> prompt_ids_;
  std::vector<bool> has_begun_;
};

struct Api::CompletionPrompts {
  openai::CompletionRequest request;
  std::vector<std::vector<TokenId>> ids;  ///< of each prompt
  std::vector<std::string> echoes;        ///< of each choice; empty without echo
};

Result<Api::CompletionPrompts> Api::read_completion(std::string_view body) const {
  CompletionPrompts read;
  GEM8_TRY(read.request, openai::parse_completion_request(body, model_.defaults));
  GEM8_RETURN_IF_ERROR(check_model(read.request.model));
  if (*read.request.generation.max_tokens == 0) {
    return std::unexpected(
        Error{Code::kUnsupported, "max_tokens 0 is not supported yet: ask for 1", "max_tokens"});
  }
  for (openai::Prompt& prompt : read.request.prompts) {
    const auto* text = std::get_if<std::string>(&prompt);
    std::vector<TokenId> ids = text != nullptr
                                   ? encode_plain(*text, read.request.add_special_tokens)
                                   : std::move(std::get<std::vector<TokenId>>(prompt));
    // Images come with chat messages: a placeholder here would stand for nothing.
    if (const auto checked = expand_images(ids, {}, model_.media_tokens); !checked)
      return std::unexpected(Error{checked.error().code, checked.error().message, "prompt"});
    if (read.request.echo) {
      const std::string echo = text != nullptr ? *text : model_.tokenizer->decode(ids);
      for (std::int64_t i = 0; i < read.request.generation.n; ++i) read.echoes.push_back(echo);
    }
    read.ids.push_back(std::move(ids));
  }
  return read;
}

http::Task<void> Api::completions(Call& call) {
  Result<CompletionPrompts> read = co_await read_body(call, &Api::read_completion);
  if (!read) {
    co_await fail(call, read.error());
    co_return;
  }
  openai::CompletionRequest& request = read->request;
  if (options_.force_include_usage) request.generation.include_usage = true;

  Answers answers;
  answers.prompts = std::move(read->ids);
  std::vector<std::vector<TokenId>> prompt_ids;
  for (const std::vector<TokenId>& ids : answers.prompts) {
    if (!request.generation.return_token_ids) break;
    prompt_ids.insert(prompt_ids.end(), static_cast<std::size_t>(request.generation.n), ids);
  }

  const openai::Generation& generation = request.generation;
  openai::ReplyHead head = reply_head(call, "cmpl-", request.request_id);
  answers.id = head.id;
  CompletionWriter writer(openai::CompletionReply(*model_.tokenizer, std::move(head),
                                                  openai::ReplyOptions::of(generation)),
                          std::move(read->echoes), std::move(prompt_ids));
  answers.generation = std::move(request.generation);
  co_await answer(call, std::move(answers), writer);
}

}  // namespace gem8::app
