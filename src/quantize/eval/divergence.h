#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace gem8::eval {

/// What one position says about two models that saw the same tokens.
struct Row {
  double source_nll = 0.0;  ///< -log p(next token)
  double model_nll = 0.0;
  double kl = 0.0;  ///< sum of p_source * log(p_source / p_model)
  bool same_top1 = false;
  int common_top5 = 0;  ///< of the source's five likeliest tokens, how many are among the model's
};

/// `source` may be empty: then only model_nll is set. Logits after the soft cap, [vocab] each,
/// `next` within. Sums are kept in double.
Row compare_row(std::span<const float> source, std::span<const float> model, std::size_t next);

/// Differences of one layer, relative to the source.
struct LayerSums {
  double error_square = 0.0;  ///< of the layer's output
  double source_square = 0.0;
  std::int64_t choices = 0;  ///< token and slot pairs
  std::int64_t changed = 0;  ///< experts the model chose and the source did not
};

/// Everything summed over the positions of some samples.
struct Totals {
  std::size_t samples = 0;
  std::int64_t tokens = 0;  ///< positions with a next token
  double source_nll = 0.0, model_nll = 0.0;
  std::int64_t same_top1 = 0, common_top5 = 0;
  std::vector<float> kl;
  std::vector<LayerSums> layers;

  void add(const Row& row, bool has_source);
  void add(const Totals& other);
};

/// The value below which the share `q` (0 to 1) of `values` lies, by rank; 0 for none. Reorders
/// them.
double quantile(std::vector<float>& values, double q);

}  // namespace gem8::eval
