#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "foundation/job_queue.h"
#include "server/app/metrics.h"
#include "server/app/served_model.h"
#include "server/http/exchange.h"
#include "server/media/image_service.h"
#include "server/openai/error.h"
#include "server/openai/reply.h"

namespace gem8::app {

struct ApiOptions {
  std::string version;                       ///< of GET /version
  std::vector<std::string> api_keys;         ///< empty: no key is needed
  std::vector<std::string> allowed_origins;  ///< "*" or origins that browsers may call from
  std::string root_path;                     ///< a prefix that a proxy may have left on
  Json default_template_kwargs;              ///< null or an object
  int sse_keep_alive_seconds = 15;
  bool force_include_usage = false;
};

/// Where the routes get what is not in the request. Tests put their own.
struct Ambient {
  std::function<std::int64_t()> unix_seconds;
  std::function<std::uint64_t()> random;  ///< called from any thread
};

/// The routes: requests to the engine and back.
class Api {
 public:
  /// Everything referred to outlives this; `images` may be null.
  Api(Engine& engine, ServedModel model, ImageService* images, ApiOptions options, Ambient ambient);

  /// Answers any request; the handler for http::Server.
  http::Task<void> handle(http::Exchange& exchange);

  /// The body of errors that the transport finds.
  static http::Response transport_error(int status, std::string message);

 private:
  struct Call;
  using Route = http::Task<void> (Api::*)(Call& call);
  struct RouteEntry;
  static const RouteEntry* find_route(std::string_view path);

  http::Task<void> health(Call& call);
  http::Task<void> version(Call& call);
  http::Task<void> models(Call& call);
  http::Task<void> one_model(Call& call);
  http::Task<void> load(Call& call);
  http::Task<void> metrics(Call& call);
  http::Task<void> tokenize(Call& call);
  http::Task<void> detokenize(Call& call);
  http::Task<void> chat_completions(Call& call);
  http::Task<void> completions(Call& call);

  /// What `read` makes of the request's body, and why it cannot. A long body is read on one of
  /// readers_: its JSON, template and tokens would hold up every stream and probe of an I/O thread.
  template <class T>
  http::Task<Result<T>> read_body(Call& call, Result<T> (Api::*read)(std::string_view body) const);
  struct ChatPrompt;
  struct CompletionPrompts;
  Result<ChatPrompt> read_chat(std::string_view body) const;
  Result<CompletionPrompts> read_completion(std::string_view body) const;
  Result<Json> tokenized(std::string_view body) const;
  Result<Json> detokenized(std::string_view body) const;

  struct Answers;
  class Writer;
  class ChatWriter;
  class CompletionWriter;
  /// Submits n requests for each prompt, reads their events to the end and writes the reply, whole
  /// or as a stream.
  http::Task<void> answer(Call& call, Answers answers, Writer& writer);

  /// Puts the request's images into the engine's hands and their placeholders into `prompt`.
  http::Task<Result<std::vector<PromptImage>>> prepare_images(Call& call,
                                                              openai::ChatRequest& request,
                                                              std::vector<TokenId>& prompt);

  http::Task<void> send(Call& call, int status, Json body);
  http::Task<void> fail(Call& call, const openai::ApiError& error);
  http::Task<void> fail(Call& call, const Error& error);
  http::Headers common_headers(const Call& call) const;
  bool authorized(const http::Request& request) const;
  bool allows_origin(std::string_view origin) const;
  Status check_model(const std::string& name) const;
  /// The prompt of a chat, its template variables completed by the server's.
  Result<std::vector<TokenId>> render(openai::ChatRequest& request) const;
  std::vector<TokenId> encode_plain(const std::string& text, bool add_bos) const;
  /// The id of a reply: X-Request-Id, else the body's request_id, else a new one.
  static std::string reply_id(const Call& call, std::string_view prefix, std::string_view in_body);
  std::string new_id();
  /// What a reply says about itself; `prefix` and `in_body` as in reply_id().
  openai::ReplyHead reply_head(const Call& call, std::string_view prefix,
                               std::string_view in_body) const;
  Json model_body(const std::string& name) const;

  Engine& engine_;
  ServedModel model_;
  ImageService* images_;
  ApiOptions options_;
  Ambient ambient_;
  Metrics metrics_;
  std::int64_t created_;
  std::atomic<std::int64_t> load_{0};
  JobQueue readers_;  // last: its jobs use the members above
};

}  // namespace gem8::app
