#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "foundation/json/json.h"
#include "foundation/result.h"
#include "foundation/thread_pool.h"
#include "model/model.h"
#include "quantize/eval/abilities.h"
#include "quantize/eval/divergence.h"
#include "quantize/eval/eval_data.h"

namespace gem8::eval {

/// Answers of one model to the questions of one ability.
struct Answers {
  std::size_t right = 0;
  std::size_t right_parts = 0;
};

struct Ability {
  std::size_t samples = 0;
  std::size_t parts = 0;
  Answers model;
  std::optional<Answers> source;
  std::size_t gained = 0;  ///< samples that the model answers right and the source does not
  std::size_t lost = 0;    ///< the other way round
};

struct Report {
  bool has_source = false;
  Totals all;
  std::map<Kind, Totals> by_kind;
  std::map<std::string, Ability> abilities;
  std::size_t skipped_long = 0;
};

struct Options {
  GreedyOptions greedy;
  std::function<void(std::string_view stage, std::size_t done, std::size_t total)> progress;
};

/// Forces `model`, and `source` where it has one, along every sample and compares them; lets both
/// answer where the data knows the answer. Errors: kInvalidArgument when the models differ in shape
/// or the data is empty; those of ForcedRun::run().
Result<Report> evaluate(SeeingModel source, SeeingModel model, const Data& data,
                        const Tokenizer& tokenizer, const Options& options, ThreadPool& pool);

/// {"samples", "tokens", "perplexity": {"source", "model"}, "kl": {"mean", "median", "p99"},
/// "top1", "top5", "router_changed", "layers": [...], "by_kind": {...}, "abilities": {...},
/// "skipped": {"too_long"}}; null where there is no source, no expert or no sample.
Json to_json(Report& report);
std::string to_text(Report& report);

}  // namespace gem8::eval
