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

struct Ability {
  std::size_t samples = 0;
  std::size_t model_right = 0;
  std::optional<std::size_t> source_right;
};

struct Report {
  bool has_source = false;
  Totals all;
  std::map<Kind, Totals> by_kind;
  std::map<std::string, Ability> abilities;
  std::size_t skipped_images = 0;
  std::size_t skipped_long = 0;
};

struct Options {
  GreedyOptions greedy;
  std::function<void(std::string_view stage, std::size_t done, std::size_t total)> progress;
};

/// Forces `model`, and `source` where it is not null, along every sample and compares them; lets
/// both answer where the data knows the answer. Errors: kInvalidArgument when the models differ in
/// shape or the data is empty; those of Model::forward().
Result<Report> evaluate(Model* source, Model& model, const Data& data, const Tokenizer& tokenizer,
                        const Options& options, ThreadPool& pool);

/// {"samples", "tokens", "perplexity": {"source", "model"}, "kl": {"mean", "median", "p99"},
/// "top1", "top5", "router_changed", "layers": [...], "by_kind": {...}, "abilities": {...},
/// "skipped": {...}}; null where there is no source, no expert or no sample.
Json to_json(Report& report);
std::string to_text(Report& report);

}  // namespace gem8::eval
