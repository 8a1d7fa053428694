#include "server/openai/error.h"

namespace gem8::openai {
namespace {

int status_of(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
    case Code::kCorrupt:
    case Code::kUnsupported:
      return 400;
    case Code::kNotFound:
      return 404;
    case Code::kExhausted:
    case Code::kCancelled:
    case Code::kUnavailable:
      return 503;
    case Code::kDeadline:
      return 504;
    case Code::kInternal:
      return 500;
  }
  return 500;
}

const char* type_of(int status) {
  switch (status) {
    case 400:
      return "BadRequestError";
    case 401:
      return "AuthenticationError";
    case 404:
      return "NotFoundError";
    case 405:
      return "MethodNotAllowedError";
    case 413:
      return "PayloadTooLargeError";
    case 431:
      return "HeadersTooLargeError";
    case 501:
      return "NotImplementedError";
    case 503:
      return "ServiceUnavailableError";
    case 504:
      return "GatewayTimeoutError";
    default:
      return "InternalServerError";
  }
}

}  // namespace

ApiError api_error(const Error& error) {
  ApiError result = api_error(status_of(error.code), error.message);
  result.param = error.context;
  // What does not even have the right shape has its own type, as in vLLM.
  if (error.code == Code::kCorrupt) result.type = "Bad Request";
  return result;
}

ApiError api_error(int status, std::string message) {
  return {status, type_of(status), std::move(message), {}};
}

Json error_body(const ApiError& error) {
  return Json::object(
      {{"error", Json::object({{"message", error.message},
                               {"type", error.type},
                               {"param", error.param.empty() ? Json() : Json(error.param)},
                               {"code", error.status}})}});
}

}  // namespace gem8::openai
