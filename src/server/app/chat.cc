#include <memory>
#include <utility>

#include "foundation/guarded.h"
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
    // The client may leave meanwhile: then nobody looks at the result.
    using Arrived = Guarded<std::optional<Result<std::vector<PreparedImage>>>>;
    const auto arrived = std::make_shared<Arrived>();
    images_->submit(std::move(sources), request.soft_tokens,
                    [arrived, wake = call.exchange.waker()](auto result) {
                      arrived->with([&](auto& slot) { slot = std::move(result); });
                      wake();
                    });
    std::optional<Result<std::vector<PreparedImage>>> result;
    while (!result) {
      if (Status waited = co_await call.exchange.wait(); !waited)
        co_return std::unexpected(waited.error());
      result = arrived->with([](auto& slot) { return std::exchange(slot, std::nullopt); });
    }
    if (!*result) co_return std::unexpected(result->error());
    prepared = **std::move(result);
  }

  Result<std::vector<PromptImage>> images =
      place_images(std::move(prepared), model_.media_tokens, prompt);
  if (!images) co_return fail_in("messages", images.error());
  co_return images;
}

http::Task<void> Api::chat_completions(Call& call) {
  Result<openai::ChatRequest> parsed =
      openai::parse_chat_request(call.request().body, model_.defaults);
  if (parsed) {
    if (Status known = check_model(parsed->model); !known) parsed = std::unexpected(known.error());
  }
  if (parsed && !parsed->images.empty() && images_ == nullptr) {
    parsed = std::unexpected(Error{Code::kUnsupported, "this model takes no images, only text",
                                   parsed->images.front().field});
  }
  if (!parsed) {
    co_await fail(call, parsed.error());
    co_return;
  }
  openai::ChatRequest request = *std::move(parsed);
  if (options_.force_include_usage) request.generation.include_usage = true;

  Result<std::vector<TokenId>> prompt = render(request);
  if (!prompt) {
    co_await fail(call, prompt.error());
    co_return;
  }
  Result<std::vector<PromptImage>> images = co_await prepare_images(call, request, *prompt);
  if (!images) {
    co_await fail(call, images.error());
    co_return;
  }

  ParserOptions parser;
  parser.prompt_tail = *prompt;
  parser.tools = request.tools;
  parser.drop_calls = request.tool_choice == openai::ToolChoice::kNone;
  Json prompt_ids;
  if (request.generation.return_token_ids) prompt_ids = openai::ids_body(*prompt);

  const openai::Generation& generation = request.generation;
  openai::ReplyHead head = reply_head(call, "chatcmpl-", request.request_id);
  Answers answers;
  answers.id = head.id;
  ChatWriter writer(
      openai::ChatReply(*model_.tokenizer, std::move(head), openai::ReplyOptions::of(generation)),
      !generation.include_usage, std::move(prompt_ids));
  answers.prompts.push_back(*std::move(prompt));
  answers.images = *std::move(images);
  answers.choice.parser = std::move(parser);
  answers.choice.parallel_tool_calls = request.parallel_tool_calls;
  answers.choice.include_reasoning = request.include_reasoning;
  answers.choice.new_call_id = [this] { return "chatcmpl-tool-" + new_id(); };
  answers.generation = std::move(request.generation);
  co_await answer(call, std::move(answers), writer);
}

}  // namespace gem8::app
