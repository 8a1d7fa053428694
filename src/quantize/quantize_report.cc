// What a conversion says about itself: JSON for --report, a page for people.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "quantize/encode.h"
#include "quantize/quantizer.h"

namespace gem8 {

namespace {

/// Smallest, middle and largest of some scales.
struct Spread {
  std::vector<float> values;

  std::string text() {
    if (values.empty()) return "-";
    std::ranges::sort(values);
    return fmt::format("{:.3g} / {:.3g} / {:.3g}", values.front(), values[values.size() / 2],
                       values.back());
  }
};

std::string kind_of(const WrittenLinear& linear) {
  switch (linear.input) {
    case InputSite::kAttention:
      return "q, k, v";
    case InputSite::kAttentionOut:
      return "o";
    case InputSite::kMlp:
      return "mlp gate, up";
    case InputSite::kMlpDown:
      return "mlp down";
    case InputSite::kExperts:
      return "experts gate, up";
    case InputSite::kExpertsDown:
      return "experts down";
  }
  return "";
}

std::string rounded_bytes(std::uint64_t bytes) {
  const auto n = static_cast<double>(bytes);
  if (bytes >= 10'000'000'000) return fmt::format("{:.2f} GB", n * 1e-9);
  return bytes >= 1'000'000 ? fmt::format("{:.1f} MB", n * 1e-6)
                            : fmt::format("{:.1f} kB", n * 1e-3);
}

constexpr std::int64_t kFewTokens = 100;

/// Experts of a layer that no token reached, and those that fewer than kFewTokens did.
struct Coverage {
  std::vector<std::size_t> never;
  std::size_t few = 0;
};

Coverage coverage_of(const LayerStatistics& layer) {
  Coverage result;
  for (std::size_t e = 0; e < layer.tokens_per_expert.size(); ++e) {
    if (layer.tokens_per_expert[e] == 0) result.never.push_back(e);
    result.few += layer.tokens_per_expert[e] < kFewTokens;
  }
  return result;
}

void append_kept(const ConversionPlan& plan, std::string& text) {
  std::uint64_t embeddings = 0, vision = 0, routers = 0, other = 0, requested = 0;
  for (const ConversionItem& item : plan.items) {
    if (item.kept == nullptr) continue;
    const std::string& name = item.kept->name;
    const bool by_request = std::ranges::any_of(
        plan.kept_by_request,
        [&](const std::string& module) { return name.starts_with(module + "."); });
    std::uint64_t& sum = by_request                               ? requested
                         : name.find("embed_tokens") != name.npos ? embeddings
                         : name.find("lm_head") != name.npos      ? embeddings
                         : name.find("vision") != name.npos       ? vision
                         : name.find("router") != name.npos       ? routers
                                                                  : other;
    sum += item.bytes;
  }
  const auto line = [&](std::uint64_t bytes, std::string_view what, std::string_view why) {
    if (bytes > 0) text += fmt::format("  {:<10} {}: {}\n", rounded_bytes(bytes), what, why);
  };
  text += "kept as they are:\n";
  line(embeddings, "embeddings and head", "never quantised by engines");
  line(vision, "vision tower and connector", "engines read them unquantised");
  line(routers, "routers", "a flipped expert is the largest error there is");
  line(other, "norms and other small tensors", "too small to matter");
  line(requested, "by --ignore", "asked for");
}

}  // namespace

std::string to_text(const QuantizeReport& report, const ConversionPlan& plan) {
  std::string text = fmt::format("quantised: {} linears, {:.3g} parameters, {} scheme\n",
                                 plan.n_quantised, static_cast<double>(plan.quantised_parameters),
                                 plan.scheme == Scheme::kStatic ? "static" : "dynamic");
  append_kept(plan, text);
  if (!report.linears.empty()) {
    std::map<InputSite, std::pair<Spread, Spread>> spreads;
    std::map<InputSite, std::string> kinds;
    for (const WrittenLinear& linear : report.linears) {
      spreads[linear.input].first.values.push_back(linear.weight_scale);
      if (linear.input_scale > 0.0f)
        spreads[linear.input].second.values.push_back(linear.input_scale);
      kinds[linear.input] = kind_of(linear);
    }
    text += "scales (smallest / middle / largest):\n";
    for (auto& [site, pair] : spreads) {
      text += fmt::format("  {:<17} weights {:<32} inputs {}\n", kinds[site], pair.first.text(),
                          pair.second.text());
    }
  }
  if (!report.layers.empty()) {
    text += fmt::format("calibrated with {} samples, {} tokens\n", report.calibration_samples,
                        report.calibration_tokens);
    std::size_t experts = 0, few = 0, never = 0;
    for (std::size_t layer = 0; layer < report.layers.size(); ++layer) {
      const Coverage coverage = coverage_of(report.layers[layer]);
      experts += report.layers[layer].tokens_per_expert.size();
      few += coverage.few;
      never += coverage.never.size();
      if (!coverage.never.empty()) {
        text += fmt::format(
            "  layer {}: no token reached expert {}: the layer's largest input counts\n", layer,
            fmt::join(coverage.never, ", "));
      }
      for (std::size_t site = 0; site < kInputSites; ++site) {
        const bool has_site = site < static_cast<std::size_t>(InputSite::kExperts) ||
                              !report.layers[layer].tokens_per_expert.empty();
        if (has_site && report.layers[layer].amax[site] == 0.0f) {
          text += fmt::format("  layer {}: {} was always zero: its scale is 1/448\n", layer,
                              input_site_name(static_cast<InputSite>(site)));
        }
      }
    }
    if (experts > 0) {
      text += fmt::format("experts: {} of {} saw fewer than {} tokens, {} saw none\n", few, experts,
                          kFewTokens, never);
    }
  }
  text += fmt::format("bytes: {} in, {} out ({:.1f} %)\n", plan.source_bytes, plan.total_bytes,
                      100.0 * static_cast<double>(plan.total_bytes) /
                          static_cast<double>(std::max<std::uint64_t>(1, plan.source_bytes)));
  if (report.verification.rules_checked == 0) return text;  // nothing was done
  text += fmt::format("seconds: calibrating {:.1f}, writing {:.1f}, verifying {:.1f}\n",
                      report.seconds_calibrating, report.seconds_writing, report.seconds_verifying);
  return text;
}

Json to_json(const QuantizeReport& report, const ConversionPlan& plan) {
  Json layers = Json::array();
  for (std::size_t i = 0; i < report.layers.size(); ++i) {
    Json layer = report.layers[i].to_json();
    Json scales = Json::object();
    for (std::size_t site = 0; site < kInputSites; ++site) {
      const auto name = input_site_name(static_cast<InputSite>(site));
      if (layer.find("amax")->find(name) == nullptr) continue;
      scales.set(name, static_cast<double>(scale_of(report.layers[i].amax[site])));
    }
    layer.set("input_scale", std::move(scales));
    Json never = Json::array();
    for (const std::size_t expert : coverage_of(report.layers[i]).never) never.push_back(expert);
    layer.set("experts_without_tokens", std::move(never));
    layers.push_back(std::move(layer));
  }
  Json weights = Json::object();
  for (const WrittenLinear& linear : report.linears) {
    Json entry = Json::object({{"weight_scale", static_cast<double>(linear.weight_scale)}});
    if (linear.input_scale > 0.0f)
      entry.set("input_scale", static_cast<double>(linear.input_scale));
    entry.set("input", input_site_name(linear.input));
    weights.as_object().push_back({linear.module, std::move(entry)});
  }
  Json kept = Json::array();
  for (const ConversionItem& item : plan.items) {
    if (item.kept != nullptr) kept.push_back(item.kept->name);
  }
  return Json::object(
      {{"scheme", plan.scheme == Scheme::kStatic ? "static" : "dynamic"},
       {"calibration", Json::object({{"samples", report.calibration_samples},
                                     {"tokens", report.calibration_tokens}})},
       {"layers", std::move(layers)},
       {"weights", std::move(weights)},
       {"kept", std::move(kept)},
       {"bytes", Json::object({{"in", plan.source_bytes}, {"out", plan.total_bytes}})},
       {"seconds", Json::object({{"calibrating", report.seconds_calibrating},
                                 {"writing", report.seconds_writing},
                                 {"verifying", report.seconds_verifying}})},
       {"verification", verify::to_json(report.verification)}});
}

}  // namespace gem8
