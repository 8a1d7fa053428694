#include "quantize/eval/divergence.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace gem8::eval {

namespace {

constexpr std::size_t kTop = 5;

struct Ranked {
  double log_sum = 0.0;  ///< log of the sum of exp(logit)
  std::array<std::size_t, kTop> top{};
  std::size_t n_top = 0;
};

Ranked rank(std::span<const float> logits) {
  Ranked result;
  float largest = logits[0];
  for (std::size_t i = 0; i < logits.size(); ++i) {
    largest = std::max(largest, logits[i]);
    // Equal logits rank by index, as greedy decoding does.
    std::size_t at = result.n_top;
    while (at > 0 && logits[i] > logits[result.top[at - 1]]) --at;
    if (at == kTop) continue;
    result.n_top = std::min(kTop, result.n_top + 1);
    for (std::size_t j = result.n_top - 1; j > at; --j) result.top[j] = result.top[j - 1];
    result.top[at] = i;
  }
  double sum = 0.0;
  for (const float logit : logits) sum += static_cast<double>(std::exp(logit - largest));
  result.log_sum = static_cast<double>(largest) + std::log(sum);
  return result;
}

}  // namespace

Row compare_row(std::span<const float> source, std::span<const float> model, std::size_t next) {
  Row row;
  const Ranked m = rank(model);
  row.model_nll = m.log_sum - static_cast<double>(model[next]);
  if (source.empty()) return row;
  const Ranked s = rank(source);
  row.source_nll = s.log_sum - static_cast<double>(source[next]);
  row.same_top1 = s.top[0] == m.top[0];
  for (std::size_t i = 0; i < s.n_top; ++i) {
    row.common_top5 +=
        std::find(m.top.begin(), m.top.begin() + static_cast<std::ptrdiff_t>(m.n_top), s.top[i]) !=
        m.top.begin() + static_cast<std::ptrdiff_t>(m.n_top);
  }
  double kl = 0.0;
  for (std::size_t i = 0; i < source.size(); ++i) {
    const double log_p = static_cast<double>(source[i]) - s.log_sum;
    const double log_q = static_cast<double>(model[i]) - m.log_sum;
    kl += std::exp(log_p) * (log_p - log_q);
  }
  row.kl = std::max(0.0, kl);  // rounding may leave equal distributions just below
  return row;
}

void Totals::add(const Row& row, bool has_source) {
  tokens += 1;
  model_nll += row.model_nll;
  if (!has_source) return;
  source_nll += row.source_nll;
  same_top1 += row.same_top1;
  common_top5 += row.common_top5;
  kl.push_back(static_cast<float>(row.kl));
}

void Totals::add(const Totals& other) {
  samples += other.samples;
  tokens += other.tokens;
  source_nll += other.source_nll;
  model_nll += other.model_nll;
  same_top1 += other.same_top1;
  common_top5 += other.common_top5;
  kl.insert(kl.end(), other.kl.begin(), other.kl.end());
  layers.resize(std::max(layers.size(), other.layers.size()));
  for (std::size_t i = 0; i < other.layers.size(); ++i) {
    layers[i].error_square += other.layers[i].error_square;
    layers[i].source_square += other.layers[i].source_square;
    layers[i].choices += other.layers[i].choices;
    layers[i].changed += other.layers[i].changed;
  }
}

double quantile(std::vector<float>& values, double q) {
  if (values.empty()) return 0.0;
  const auto last = static_cast<double>(values.size() - 1);
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(std::llround(q * last));
  std::nth_element(values.begin(), at, values.end());
  return static_cast<double>(*at);
}

}  // namespace gem8::eval
