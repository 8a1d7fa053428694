#include "quantize/eval/eval.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "quantize/eval/forced_run.h"

namespace gem8::eval {

namespace {

Json share(std::int64_t part, std::int64_t whole) {
  return whole > 0 ? Json(static_cast<double>(part) / static_cast<double>(whole)) : Json();
}

Json perplexity(double nll, std::int64_t tokens) {
  return tokens > 0 ? Json(std::exp(nll / static_cast<double>(tokens))) : Json();
}

/// The members that the whole and each kind have in common.
Json totals_json(Totals& totals, bool has_source) {
  const std::int64_t compared = has_source ? totals.tokens : 0;
  Json kl;
  if (compared > 0) {
    const double sum = std::accumulate(totals.kl.begin(), totals.kl.end(), 0.0);
    kl = Json::object({{"mean", sum / static_cast<double>(totals.kl.size())},
                       {"median", quantile(totals.kl, 0.5)},
                       {"p99", quantile(totals.kl, 0.99)}});
  } else {
    kl = Json::object({{"mean", Json()}, {"median", Json()}, {"p99", Json()}});
  }
  std::int64_t choices = 0, changed = 0;
  Json layers = Json::array();
  for (std::size_t i = 0; i < totals.layers.size() && has_source; ++i) {
    const LayerSums& layer = totals.layers[i];
    choices += layer.choices;
    changed += layer.changed;
    layers.push_back(
        Json::object({{"layer", i},
                      {"rms_error", layer.source_square > 0.0
                                        ? Json(std::sqrt(layer.error_square / layer.source_square))
                                        : Json()},
                      {"router_changed", share(layer.changed, layer.choices)}}));
  }
  return Json::object(
      {{"samples", totals.samples},
       {"tokens", totals.tokens},
       {"perplexity", Json::object({{"source", perplexity(totals.source_nll, compared)},
                                    {"model", perplexity(totals.model_nll, totals.tokens)}})},
       {"kl", std::move(kl)},
       {"top1", share(totals.same_top1, compared)},
       {"top5", share(totals.common_top5, 5 * compared)},
       {"router_changed", share(changed, choices)},
       {"layers", std::move(layers)}});
}

Json ability_json(const Ability& ability) {
  const auto of = [](std::size_t part, std::size_t whole) {
    return share(static_cast<std::int64_t>(part), static_cast<std::int64_t>(whole));
  };
  const auto& source = ability.source;
  return Json::object(
      {{"source", source ? of(source->right, ability.samples) : Json()},
       {"model", of(ability.model.right, ability.samples)},
       {"samples", ability.samples},
       {"parts", Json::object({{"source", source ? of(source->right_parts, ability.parts) : Json()},
                               {"model", of(ability.model.right_parts, ability.parts)},
                               {"parts", ability.parts}})},
       {"gained", source ? Json(ability.gained) : Json()},
       {"lost", source ? Json(ability.lost) : Json()}});
}

std::string number(const Json* value, int digits) {
  return value != nullptr && value->is_number() ? fmt::format("{:.{}f}", value->as_double(), digits)
                                                : "-";
}

/// One line of the table for people, from the JSON so that both say the same.
std::string line_of(std::string_view name, const Json& totals) {
  const Json& p = *totals.find("perplexity");
  const Json& kl = *totals.find("kl");
  return fmt::format("{:<8} {:>8} {:>9} {:>10} {:>10} {:>9} {:>9} {:>9} {:>7} {:>7} {:>8}\n", name,
                     totals.find("samples")->as_int(), totals.find("tokens")->as_int(),
                     number(p.find("source"), 4), number(p.find("model"), 4),
                     number(kl.find("mean"), 5), number(kl.find("median"), 5),
                     number(kl.find("p99"), 5), number(totals.find("top1"), 4),
                     number(totals.find("top5"), 4), number(totals.find("router_changed"), 4));
}

/// The samples with an answer, by ability.
std::map<std::string, std::vector<const Sample*>> questions_of(const Data& data) {
  std::map<std::string, std::vector<const Sample*>> asked;
  for (const Sample& sample : data.samples) {
    if (sample.answer) {
      asked[sample.ability.empty() ? "answers" : sample.ability].push_back(&sample);
    }
  }
  return asked;
}

Result<std::vector<Score>> scores_of(SeeingModel model, const std::vector<const Sample*>& asked,
                                     const Tokenizer& tokenizer, const Options& options) {
  std::vector<const TokenSample*> prompts;
  for (const Sample* const sample : asked) prompts.push_back(&sample->prompt);
  GEM8_TRY(const auto written, generate_greedily(model, prompts, options.greedy));
  std::vector<Score> scores;
  for (std::size_t i = 0; i < asked.size(); ++i) {
    scores.push_back(score(*asked[i], written[i], tokenizer));
  }
  return scores;
}

Answers sum_of(const std::vector<Score>& scores) {
  Answers sum;
  for (const Score& score : scores) {
    sum.right += score.right;
    sum.right_parts += score.right_parts;
  }
  return sum;
}

}  // namespace

Result<Report> evaluate(SeeingModel source, SeeingModel model, const Data& data,
                        const Tokenizer& tokenizer, const Options& options, ThreadPool& pool) {
  if (data.samples.empty()) {
    return fail(Code::kInvalidArgument, "no sample to evaluate ({} too long were left out)",
                data.skipped_long);
  }
  Report report{.has_source = source.model != nullptr, .skipped_long = data.skipped_long};
  std::size_t longest = 1;
  std::int64_t largest_image = 0;
  for (const Sample& sample : data.samples) {
    longest = std::max(longest, sample.whole.tokens.size());
    for (const SampleImage& image : sample.whole.images) {
      largest_image = std::max(largest_image, image.n_tokens);
    }
  }
  GEM8_TRY(ForcedRun run, ForcedRun::create(source, model, static_cast<std::int64_t>(longest),
                                            largest_image, pool));
  for (std::size_t i = 0; i < data.samples.size(); ++i) {
    const Sample& sample = data.samples[i];
    if (options.progress) options.progress("comparing", i, data.samples.size());
    GEM8_TRY(const Totals totals, run.run(sample.whole));
    report.all.add(totals);
    report.by_kind[sample.kind].add(totals);
  }
  const auto questions = questions_of(data);
  std::size_t done = 0;
  for (const auto& [name, asked] : questions) {
    if (options.progress) options.progress("answering", done++, questions.size());
    Ability& ability = report.abilities[name];
    GEM8_TRY(const auto ours, scores_of(model, asked, tokenizer, options));
    ability.samples = asked.size();
    for (const Score& score : ours) ability.parts += score.parts;
    ability.model = sum_of(ours);
    if (source.model == nullptr) continue;
    GEM8_TRY(const auto theirs, scores_of(source, asked, tokenizer, options));
    ability.source = sum_of(theirs);
    for (std::size_t i = 0; i < asked.size(); ++i) {
      ability.gained += ours[i].right && !theirs[i].right;
      ability.lost += !ours[i].right && theirs[i].right;
    }
  }
  return report;
}

Json to_json(Report& report) {
  Json result = totals_json(report.all, report.has_source);
  Json kinds = Json::object();
  for (const Kind kind : {Kind::kText, Kind::kTools, Kind::kImages}) {
    kinds.set(kind_name(kind), totals_json(report.by_kind[kind], report.has_source));
  }
  Json abilities = Json::object();
  for (const auto& [name, ability] : report.abilities) abilities.set(name, ability_json(ability));
  result.set("by_kind", std::move(kinds));
  result.set("abilities", std::move(abilities));
  result.set("skipped", Json::object({{"too_long", report.skipped_long}}));
  return result;
}

std::string to_text(Report& report) {
  const Json json = to_json(report);
  std::string text = fmt::format(
      "{:<8} {:>8} {:>9} {:>10} {:>10} {:>9} {:>9} {:>9} {:>7} {:>7} {:>8}\n", "", "samples",
      "tokens", "ppl source", "ppl model", "KL mean", "median", "p99", "top1", "top5", "router");
  text += line_of("all", json);
  for (const JsonMember& kind : json.find("by_kind")->as_object()) {
    if (kind.value.find("samples")->as_int() > 0) text += line_of(kind.key, kind.value);
  }
  for (const Json& layer : json.find("layers")->as_array()) {
    text += fmt::format("layer {:>2}: relative error {}, router choices changed {}\n",
                        layer.find("layer")->as_int(), number(layer.find("rms_error"), 4),
                        number(layer.find("router_changed"), 4));
  }
  for (const JsonMember& ability : json.find("abilities")->as_object()) {
    const Json& parts = *ability.value.find("parts");
    text +=
        fmt::format("{:<12} right: source {}, model {} of {}", ability.key,
                    number(ability.value.find("source"), 3), number(ability.value.find("model"), 3),
                    ability.value.find("samples")->as_int());
    if (parts.find("parts")->as_int() != ability.value.find("samples")->as_int()) {
      text += fmt::format("; parts: {}, {} of {}", number(parts.find("source"), 3),
                          number(parts.find("model"), 3), parts.find("parts")->as_int());
    }
    if (report.has_source) {
      text += fmt::format("; {} gained, {} lost", ability.value.find("gained")->as_int(),
                          ability.value.find("lost")->as_int());
    }
    text += '\n';
  }
  if (report.skipped_long > 0)
    text += fmt::format("left out: {} samples that are too long\n", report.skipped_long);
  return text;
}

}  // namespace gem8::eval
