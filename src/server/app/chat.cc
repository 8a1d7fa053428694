#include <utility>

#include "server/app/answer.h"
#include "server/app/prompt_images.h"

namespace gem8::app {

class Api::ChatWriter final : public Api::Writer {
 public:
  ChatWriter(openai::ChatReply reply, bool fingerprint_at_end, Json prompt_ids)
      : reply_(std::move(reply)),
        fingerprint_at_end_(fingerprint_at_end),
        prompt_ids_(std::move(prompt_ids)) {}

  std::string begin(std::size_t index, const std::optional<openai::Usage>& usage) override {
    return reply_.role_chunk(index, usage, prompt_ids_);
  }
  std::string delta(std::size_t index, const openai::ChoiceDelta& delta,
                    const std::optional<openai::Usage>& usage) override {
    return reply_.delta_chunks(index, delta, usage, fingerprint_at_end_);
  }
  std::string usage(const openai::Usage& usage) override { return reply_.usage_chunk(usage); }
  Json whole(std::vector<openai::WholeChoice> choices, const openai::Usage& usage) override {
    return reply_.whole(choices, usage, prompt_ids_);
  }
  bool counts_reasoning() const override { return true; }

 private:
  openai::ChatReply reply_;
  bool fingerprint_at_end_;
  Json prompt_ids_;
};

http::Task<Result<std::vector<PromptImage>>> Api::prepare_images(Call& call,
                                                                 openai::ChatRequest& request,
                                                                 std::vector<TokenId>& prompt) {
  std::vector<PreparedImage> prepared;
  if (!request.images.empty()) {
    if (Status room = engine_.has_room(); !room) co_return std::unexpected(room.error());
    std::vector<ImageSource> sources;
    for (openai::ImagePart& part : request.images)
      sources.push_back({std::move(part.url), std::move(part.field)});
    Arriving<std::vector<PreparedImage>> arriving(call.exchange);
    images_->submit(std::move(sources), request.soft_tokens, arriving.receiver());
    Result<std::vector<PreparedImage>> result = co_await arriving.wait();
    if (!result) co_return std::unexpected(result.error());
    prepared = *std::move(result);
  }

  Result<std::vector<PromptImage>> images =
      place_images(std::move(prepared), model_.media_tokens, prompt);
  if (!images) co_return fail_in("messages", images.error());
  co_return images;
}

struct Api::ChatPrompt {
  openai::ChatRequest request;
  std::vector<TokenId> ids;
};

Result<Api::ChatPrompt> Api::read_chat(std::string_view body) const {
  GEM8_TRY(openai::ChatRequest request, openai::parse_chat_request(body, model_.defaults));
  GEM8_RETURN_IF_ERROR(check_model(request.model));
  if (!request.images.empty() && images_ == nullptr) {
    return std::unexpected(Error{Code::kUnsupported, "this model takes no images, only text",
                                 request.images.front().field});
  }
  GEM8_TRY(std::vector<TokenId> ids, render(request));
  return ChatPrompt{std::move(request), std::move(ids)};
}

http::Task<void> Api::chat_completions(Call& call) {
  Result<ChatPrompt> read = co_await read_body(call, &Api::read_chat);
  if (!read) {
    co_await fail(call, read.error());
    co_return;
  }
  openai::ChatRequest& request = read->request;
  std::vector<TokenId>& prompt = read->ids;
  if (options_.force_include_usage) request.generation.include_usage = true;
  Result<std::vector<PromptImage>> images = co_await prepare_images(call, request, prompt);
  if (!images) {
    co_await fail(call, images.error());
    co_return;
  }

  ParserOptions parser;
  parser.prompt_tail = prompt;
  parser.tools = request.tools;
  parser.drop_calls = request.tool_choice == openai::ToolChoice::kNone;
  Json prompt_ids;
  if (request.generation.return_token_ids) prompt_ids = openai::ids_body(prompt);

  const openai::Generation& generation = request.generation;
  openai::ReplyHead head = reply_head(call, "chatcmpl-", request.request_id);
  Answers answers;
  answers.id = head.id;
  ChatWriter writer(
      openai::ChatReply(*model_.tokenizer, std::move(head), openai::ReplyOptions::of(generation)),
      !generation.include_usage, std::move(prompt_ids));
  answers.prompts.push_back(std::move(prompt));
  answers.images = *std::move(images);
  answers.choice.parser = std::move(parser);
  answers.choice.parallel_tool_calls = request.parallel_tool_calls;
  answers.choice.include_reasoning = request.include_reasoning;
  answers.choice.new_call_id = [this] { return "chatcmpl-tool-" + new_id(); };
  answers.generation = std::move(request.generation);
  co_await answer(call, std::move(answers), writer);
}

}  // namespace gem8::app
