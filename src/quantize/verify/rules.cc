#include "quantize/verify/rules.h"

namespace gem8::verify {

namespace {

constexpr Rule kRules[] = {
#define RULE(number, severity, function, wants) {number, Severity::k##severity, wants},
#include "quantize/verify/rules.inc"
#undef RULE
};
static_assert(std::size(kRules) == 41);

}  // namespace

std::span<const Rule> rules() {
  return kRules;
}

std::string_view severity_name(Severity severity) {
  switch (severity) {
    case Severity::kError:
      return "error";
    case Severity::kWarning:
      return "warning";
    case Severity::kNote:
      return "note";
  }
  return "note";
}

}  // namespace gem8::verify
