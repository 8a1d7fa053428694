#include "server/app/api.h"

#include <algorithm>
#include <array>

#include "foundation/log.h"
#include "server/app/api_call.h"
#include "server/media/percent_encoding.h"
#include "server/openai/chat_request.h"
#include "server/openai/fields.h"
#include "text/unicode/utf8.h"

namespace gem8::app {
namespace {

/// Longer ids from clients are cut: they come back in every chunk.
constexpr std::size_t kMaxRequestId = 256;

/// They share the cores with the engine, and take them from it only while long requests arrive.
constexpr std::size_t kReaderThreads = 2;

bool starts_with_ignoring_case(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() &&
         std::equal(prefix.begin(), prefix.end(), text.begin(),
                    [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b - 'A' + 'a' : b); });
}

/// Takes as long for a wrong key as for a right one.
bool equal_in_constant_time(std::string_view a, std::string_view b) {
  unsigned difference = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference |= static_cast<unsigned char>(a[i]) ^
                  static_cast<unsigned char>(b.empty() ? 1 : b[i % b.size()]);
  }
  return difference == 0;
}

/// Request ids stand in headers, JSON and the log: what is not printable ASCII becomes '_'.
std::string clean_request_id(std::string_view id) {
  std::string clean(id.substr(0, kMaxRequestId));
  for (char& c : clean) {
    if (c <= ' ' || c > '~') c = '_';
  }
  return clean;
}

/// Whether `methods` ("GET, POST") lists the method. HEAD may be asked wherever GET may.
bool lists_method(std::string_view methods, std::string_view method) {
  if (method == "HEAD") method = "GET";
  while (!methods.empty()) {
    const std::size_t comma = methods.find(", ");
    if (methods.substr(0, comma) == method) return true;
    methods.remove_prefix(comma == std::string_view::npos ? methods.size() : comma + 2);
  }
  return false;
}

bool is_guarded(std::string_view path) {
  return path.starts_with("/v1") || path == "/tokenize" || path == "/detokenize" ||
         path == "/invocations";
}

bool is_json_type(std::string_view content_type) {
  const std::string_view type = content_type.substr(0, content_type.find(';'));
  const std::size_t end = type.find_last_not_of(" \t");
  return end != std::string_view::npos && end + 1 == 16 &&
         starts_with_ignoring_case(type, "application/json");
}

}  // namespace

struct Api::RouteEntry {
  std::string_view path;  ///< ends in '/': a prefix
  std::string_view methods;
  Route route;
};

const Api::RouteEntry* Api::find_route(std::string_view path) {
  static constexpr std::array kRoutes = {
      RouteEntry{"/health", "GET", &Api::health},
      RouteEntry{"/v1/health", "GET", &Api::health},
      RouteEntry{"/ping", "GET, POST", &Api::health},
      RouteEntry{"/version", "GET", &Api::version},
      RouteEntry{"/load", "GET", &Api::load},
      RouteEntry{"/metrics", "GET", &Api::metrics},
      RouteEntry{"/v1/models", "GET", &Api::models},
      RouteEntry{"/v1/models/", "GET", &Api::one_model},
      RouteEntry{"/tokenize", "POST", &Api::tokenize},
      RouteEntry{"/detokenize", "POST", &Api::detokenize},
      RouteEntry{"/v1/chat/completions", "POST", &Api::chat_completions},
      RouteEntry{"/v1/completions", "POST", &Api::completions},
  };
  for (const RouteEntry& entry : kRoutes) {
    if (path == entry.path || (entry.path.ends_with('/') && path.starts_with(entry.path)))
      return &entry;
  }
  return nullptr;
}

Api::Api(Engine& engine, ServedModel model, ImageService* images, ApiOptions options,
         Ambient ambient)
    : engine_(engine),
      model_(std::move(model)),
      images_(images),
      options_(std::move(options)),
      ambient_(std::move(ambient)),
      metrics_(model_.names.front(), model_.max_model_len),
      created_(ambient_.unix_seconds()),
      readers_(kReaderThreads) {}

http::Response Api::transport_error(int status, std::string message) {
  return {.status = status,
          .body = to_text(openai::error_body(openai::api_error(status, std::move(message))))};
}

http::Task<void> Api::handle(http::Exchange& exchange) {
  Call call{.exchange = exchange,
            .received = Clock::now(),
            .path = exchange.request().path,
            .request_id = {}};
  const http::Request& request = exchange.request();
  if (!options_.root_path.empty() && call.path.starts_with(options_.root_path))
    call.path.erase(0, options_.root_path.size());
  if (call.path.size() > 1 && call.path.ends_with('/')) call.path.pop_back();
  call.request_id = clean_request_id(request.header("x-request-id"));
  if (call.request_id.empty()) call.request_id = new_id();

  const RouteEntry* const entry = find_route(call.path);
  if (request.method == "OPTIONS" && !request.header("origin").empty() &&
      !request.header("access-control-request-method").empty()) {
    // A browser asks whether it may; the answer is in the common headers.
    const bool allowed = allows_origin(request.header("origin"));
    http::Response response{.status = allowed ? 200 : 400,
                            .content_type = "text/plain; charset=utf-8",
                            .body = allowed ? "OK" : "Disallowed CORS origin",
                            .headers = common_headers(call)};
    call.status = response.status;
    co_await exchange.respond(std::move(response));
  } else if (is_guarded(call.path) && !authorized(request)) {
    co_await fail(call, openai::api_error(401, "Unauthorized"));
  } else if (entry == nullptr) {
    openai::ApiError error = openai::api_error(404, "Not Found");
    Json body = openai::error_body(error);
    body.set("detail", "Not Found");
    co_await send(call, 404, std::move(body));
  } else if (!lists_method(entry->methods, request.method)) {
    Json body = openai::error_body(openai::api_error(405, "Method Not Allowed"));
    body.set("detail", "Method Not Allowed");
    http::Response response{.status = 405, .body = to_text(body), .headers = common_headers(call)};
    std::string allowed(entry->methods);
    if (lists_method(allowed, "HEAD")) allowed += ", HEAD";
    response.headers.emplace_back("Allow", std::move(allowed));
    call.status = 405;
    co_await exchange.respond(std::move(response));
  } else if (request.method == "POST" && call.path != "/ping" &&
             !is_json_type(request.header("content-type"))) {
    openai::ApiError error =
        openai::api_error(400, "Unsupported Media Type: Only 'application/json' is allowed");
    error.type = "Bad Request";
    co_await fail(call, error);
  } else {
    co_await (this->*entry->route)(call);
  }

  const bool is_operational = call.path == "/metrics" || call.path == "/health" ||
                              call.path == "/load" || call.path == "/ping" ||
                              call.path == "/version";
  if (!is_operational && call.status != 0)
    metrics_.observe_http(entry != nullptr ? entry->path : "none", request.method, call.status);
}

bool Api::authorized(const http::Request& request) const {
  if (options_.api_keys.empty()) return true;
  std::string_view given = request.header("x-api-key");
  const std::string_view authorization = request.header("authorization");
  if (starts_with_ignoring_case(authorization, "bearer ")) given = authorization.substr(7);
  bool found = false;
  for (const std::string& key : options_.api_keys) found |= equal_in_constant_time(given, key);
  return found;
}

bool Api::allows_origin(std::string_view origin) const {
  return std::any_of(
      options_.allowed_origins.begin(), options_.allowed_origins.end(),
      [origin](const std::string& allowed) { return allowed == "*" || allowed == origin; });
}

http::Headers Api::common_headers(const Call& call) const {
  http::Headers headers = {{"X-Request-Id", call.request_id}};
  const std::string_view origin = call.request().header("origin");
  if (!origin.empty() && allows_origin(origin)) {
    const bool any = std::find(options_.allowed_origins.begin(), options_.allowed_origins.end(),
                               "*") != options_.allowed_origins.end();
    headers.emplace_back("Access-Control-Allow-Origin", any ? "*" : std::string(origin));
    if (!any) headers.emplace_back("Vary", "Origin");
    if (call.request().method == "OPTIONS") {
      headers.emplace_back("Access-Control-Allow-Methods", "GET, POST, OPTIONS");
      const std::string_view wanted = call.request().header("access-control-request-headers");
      headers.emplace_back("Access-Control-Allow-Headers",
                           wanted.empty() ? "*" : std::string(wanted));
      headers.emplace_back("Access-Control-Max-Age", "600");
    }
  }
  return headers;
}

http::Task<void> Api::send(Call& call, int status, Json body) {
  http::Response response{.status = status, .body = to_text(body), .headers = common_headers(call)};
  call.status = status;
  co_await call.exchange.respond(std::move(response));
}

http::Task<void> Api::fail(Call& call, const openai::ApiError& error) {
  http::Response response{.status = error.status,
                          .body = to_text(openai::error_body(error)),
                          .headers = common_headers(call)};
  if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (error.status == 503) response.headers.emplace_back("Retry-After", "1");
  if (error.status == 500) response.headers.emplace_back("x-should-retry", "false");
  call.status = error.status;
  co_await call.exchange.respond(std::move(response));
}

http::Task<void> Api::fail(Call& call, const Error& error) {
  const openai::ApiError api_error = openai::api_error(error);
  co_await fail(call, api_error);
}

Status Api::check_model(const std::string& name) const {
  if (name.empty() ||
      std::find(model_.names.begin(), model_.names.end(), name) != model_.names.end())
    return {};
  std::string aliases;
  for (const std::string& known : model_.names) aliases += (aliases.empty() ? "" : ", ") + known;
  return std::unexpected(Error{
      Code::kNotFound,
      fmt::format("The model `{}` does not exist. Valid aliases: {}.", name, aliases), "model"});
}

std::string Api::reply_id(const Call& call, std::string_view prefix, std::string_view in_body) {
  const bool in_header = !call.request().header("x-request-id").empty();
  const std::string own = clean_request_id(in_body);
  return std::string(prefix) + (in_header || own.empty() ? call.request_id : own);
}

std::string Api::new_id() {
  return fmt::format("{:016x}{:016x}", ambient_.random(), ambient_.random());
}

openai::ReplyHead Api::reply_head(const Call& call, std::string_view prefix,
                                  std::string_view in_body) const {
  return {.id = reply_id(call, prefix, in_body),
          .created = ambient_.unix_seconds(),
          .model = model_.names.front(),
          .fingerprint = "gem8-" + options_.version};
}

http::Task<void> Api::health(Call& call) {
  http::Response response{.status = engine_.stats().dead ? 503 : 200,
                          .content_type = "",
                          .headers = common_headers(call)};
  call.status = response.status;
  co_await call.exchange.respond(std::move(response));
}

http::Task<void> Api::version(Call& call) {
  Json body = Json::object({{"version", options_.version}});
  co_await send(call, 200, std::move(body));
}

http::Task<void> Api::load(Call& call) {
  Json body = Json::object({{"server_load", load_.load()}});
  co_await send(call, 200, std::move(body));
}

http::Task<void> Api::metrics(Call& call) {
  http::Response response{.status = 200,
                          .content_type = "text/plain; version=0.0.4; charset=utf-8",
                          .body = metrics_.text(engine_.stats()),
                          .headers = common_headers(call)};
  call.status = 200;
  co_await call.exchange.respond(std::move(response));
}

Json Api::model_body(const std::string& name) const {
  Json permission = Json::object({{"id", "modelperm-" + name},
                                  {"object", "model_permission"},
                                  {"created", created_},
                                  {"allow_create_engine", false},
                                  {"allow_sampling", true},
                                  {"allow_logprobs", true},
                                  {"allow_search_indices", false},
                                  {"allow_view", true},
                                  {"allow_fine_tuning", false},
                                  {"organization", "*"},
                                  {"group", Json()},
                                  {"is_blocking", false}});
  return Json::object({{"id", name},
                       {"object", "model"},
                       {"created", created_},
                       {"owned_by", "vllm"},  // some clients decide by it what the server can do
                       {"root", model_.root},
                       {"parent", Json()},
                       {"max_model_len", model_.max_model_len},
                       {"permission", Json::array({std::move(permission)})}});
}

http::Task<void> Api::models(Call& call) {
  Json list = Json::array();
  for (const std::string& name : model_.names) list.push_back(model_body(name));
  Json body = Json::object({{"object", "list"}, {"data", std::move(list)}});
  co_await send(call, 200, std::move(body));
}

http::Task<void> Api::one_model(Call& call) {
  // Clients encode the slash of "owner/name", or do not. What decodes to no text names no model,
  // and must not get into the answer.
  std::string name = call.path.substr(std::string_view("/v1/models/").size());
  if (auto decoded = percent_decoded(name); decoded && utf8::is_valid(*decoded))
    name = *std::move(decoded);
  if (const Status known = check_model(name); !known) {
    co_await fail(call, known.error());
    co_return;
  }
  co_await send(call, 200, model_body(name));
}

Result<std::vector<TokenId>> Api::render(openai::ChatRequest& request) const {
  if (options_.default_template_kwargs.is_object()) {
    Json kwargs = options_.default_template_kwargs;
    for (JsonMember& member : request.template_kwargs.as_object())
      kwargs.set(member.key, std::move(member.value));
    request.template_kwargs = std::move(kwargs);
  }
  return model_.render(request);
}

std::vector<TokenId> Api::encode_plain(const std::string& text, bool add_bos) const {
  std::vector<TokenId> ids = model_.tokenizer->encode(text);
  if (add_bos && model_.bos && (ids.empty() || ids.front() != *model_.bos))
    ids.insert(ids.begin(), *model_.bos);
  return ids;
}

Result<Json> Api::tokenized(std::string_view text) const {
  // Two forms: a prompt, or a chat whose template is applied.
  const auto ids_of = [this](const Json& body) -> Result<std::vector<TokenId>> {
    if (!body.is_object())
      return openai::mistyped("", "the body is {}, wanted a JSON object", body.kind_name());
    const openai::Fields fields(body);
    GEM8_TRY(const std::optional<std::string> model, fields.string("model"));
    GEM8_RETURN_IF_ERROR(check_model(model.value_or("")));
    if (fields.find("messages") != nullptr) {
      GEM8_TRY(openai::ChatRequest request, openai::parse_chat_prompt(body));
      return render(request);
    }
    GEM8_TRY(const std::optional<std::string> prompt, fields.string("prompt"));
    if (!prompt) return openai::mistyped("prompt", "prompt: field required");
    GEM8_TRY(const std::optional<bool> add_special, fields.boolean("add_special_tokens"));
    return encode_plain(*prompt, add_special.value_or(true));
  };
  GEM8_TRY(const Json body, parse_json(text));
  GEM8_TRY(const std::vector<TokenId> ids, ids_of(body));
  GEM8_TRY(const std::optional<bool> with_strings,
           openai::Fields(body).boolean("return_token_strs"));
  Json tokens = Json::array();
  Json strings = with_strings.value_or(false) ? Json::array() : Json();
  for (const TokenId id : ids) {
    tokens.push_back(value_of(id));
    if (!strings.is_null()) strings.push_back(model_.tokenizer->piece(id));
  }
  return Json::object({{"count", ids.size()},
                       {"max_model_len", model_.max_model_len},
                       {"tokens", std::move(tokens)},
                       {"token_strs", std::move(strings)}});
}

http::Task<void> Api::tokenize(Call& call) {
  Result<Json> reply = co_await read_body(call, &Api::tokenized);
  if (!reply) {
    co_await fail(call, reply.error());
    co_return;
  }
  co_await send(call, 200, *std::move(reply));
}

Result<Json> Api::detokenized(std::string_view text) const {
  GEM8_TRY(const Json body, parse_json(text));
  if (!body.is_object())
    return openai::mistyped("", "the body is {}, wanted a JSON object", body.kind_name());
  const openai::Fields fields(body);
  GEM8_TRY(const std::optional<std::string> model, fields.string("model"));
  GEM8_RETURN_IF_ERROR(check_model(model.value_or("")));
  if (fields.find("tokens") == nullptr) return openai::mistyped("tokens", "tokens: field required");
  GEM8_TRY(const std::vector<TokenId> ids, fields.token_ids("tokens"));
  for (const TokenId id : ids) {
    if (value_of(id) < 0 ||
        static_cast<std::size_t>(value_of(id)) >= model_.tokenizer->vocab_size()) {
      return openai::bad_field("tokens", "Token id {} is out of vocabulary", value_of(id));
    }
  }
  return Json::object({{"prompt", model_.tokenizer->decode(ids)}});
}

http::Task<void> Api::detokenize(Call& call) {
  Result<Json> reply = co_await read_body(call, &Api::detokenized);
  if (!reply) {
    co_await fail(call, reply.error());
    co_return;
  }
  co_await send(call, 200, *std::move(reply));
}

}  // namespace gem8::app
