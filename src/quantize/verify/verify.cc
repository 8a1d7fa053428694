#include "quantize/verify/verify.h"

#include <fmt/format.h>

#include <algorithm>

#include "quantize/verify/rules.h"

namespace gem8::verify {

std::size_t Report::count(Severity severity) const {
  return static_cast<std::size_t>(std::ranges::count(findings, severity, &Finding::severity));
}

Result<Report> verify_checkpoint(const std::filesystem::path& dir, const Options& options,
                                 ThreadPool& pool) {
  GEM8_TRY(const Subject subject, read_subject(dir, options.source));
  const LoaderNames names(subject);
  Findings findings;
  check_container(subject, findings);
  check_config(subject, findings);
  check_folder(subject, findings);
  check_ignore_list(subject, names, findings);
  check_experts(subject, names, findings);
  check_scale_presence(subject, findings);
  check_scale_values(subject, findings);
  check_kv_scales(subject, findings);
  check_kept(subject, findings);
  check_shapes(subject, findings);
  check_codes(subject, pool, findings);
  check_complete(subject, pool, findings);
  check_loader_age(subject, {.vllm_date = options.vllm_date}, findings);

  Report report{.checkpoint = dir.string(), .rules_checked = rules().size()};
  report.findings = std::move(findings.list());
  std::ranges::stable_sort(report.findings, {},
                           [](const Finding& f) { return std::tie(f.rule, f.tensor); });
  return report;
}

Json to_json(const Report& report) {
  Json findings = Json::array();
  const auto or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  for (const Finding& finding : report.findings) {
    findings.push_back(Json::object({{"rule", fmt::format("V-{:02}", finding.rule)},
                                     {"severity", severity_name(finding.severity)},
                                     {"tensor", or_null(finding.tensor)},
                                     {"file", or_null(finding.file)},
                                     {"message", finding.message}}));
  }
  return Json::object({{"checkpoint", report.checkpoint},
                       {"rules_checked", report.rules_checked},
                       {"errors", report.count(Severity::kError)},
                       {"warnings", report.count(Severity::kWarning)},
                       {"findings", std::move(findings)}});
}

std::string to_text(const Report& report) {
  constexpr std::size_t kShown = 5;
  std::string text;
  const auto& list = report.findings;
  for (std::size_t i = 0; i < list.size();) {
    const Finding& first = list[i];
    const auto same = [&](const Finding& f) {
      return f.rule == first.rule && f.severity == first.severity;
    };
    std::size_t end = i;
    while (end < list.size() && same(list[end])) ++end;
    for (std::size_t j = i; j < std::min(end, i + kShown); ++j) {
      const Finding& finding = list[j];
      text += fmt::format("V-{:02} {}: ", finding.rule, severity_name(finding.severity));
      if (!finding.tensor.empty()) text += finding.tensor + ": ";
      text += finding.message;
      if (!finding.file.empty()) text += fmt::format(" ({})", finding.file);
      text += '\n';
    }
    if (end - i > kShown) {
      text += fmt::format("V-{:02} {}: ... and {} more\n", first.rule,
                          severity_name(first.severity), end - i - kShown);
    }
    i = end;
  }
  const std::size_t errors = report.count(Severity::kError);
  const std::size_t warnings = report.count(Severity::kWarning);
  text += fmt::format("{}: {} rules checked, {} errors, {} warnings\n", report.checkpoint,
                      report.rules_checked, errors, warnings);
  return text;
}

}  // namespace gem8::verify
