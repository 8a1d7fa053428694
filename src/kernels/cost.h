#pragma once

#include <cstdint>

#include "kernels/ops.h"

/// What an op has to do at least, by its contract in ops.h: whatever a backend does on top is waste
/// that a bench shows.
namespace gem8 {

struct Cost {
  double bytes = 0.0;  ///< weights and cache that are read once; activations are small beside them
  double operations = 0.0;  ///< of the products, two for a multiply-add

  Cost& operator+=(const Cost& other) {
    bytes += other.bytes;
    operations += other.operations;
    return *this;
  }
};

/// One weight of Ops::linear or Ops::gated_linear; a weight that a layer lacks costs nothing.
inline Cost linear_cost(const LinearWeight& weight, std::int64_t tokens) {
  const double elements = static_cast<double>(weight.out) * static_cast<double>(weight.in);
  return {elements * static_cast<double>(dtype_bytes(weight.dtype)),
          2.0 * elements * static_cast<double>(tokens)};
}

/// Ops::experts: `choices` pairs of a token and an expert, which meet `distinct` experts.
inline Cost experts_cost(const ExpertWeights& weights, std::int64_t choices,
                         std::int64_t distinct) {
  if (weights.gate.empty()) return {};
  Cost one = linear_cost(weights.gate[0], 1);
  one += linear_cost(weights.up[0], 1);
  one += linear_cost(weights.down[0], 1);
  return {one.bytes * static_cast<double>(distinct), one.operations * static_cast<double>(choices)};
}

/// Ops::attention on one sequence: `keys` positions are read, `pairs` of a query and a key allowed.
inline Cost attention_cost(std::int64_t heads, const KvLayer& layer, double keys, double pairs) {
  const auto lanes = static_cast<double>(layer.kv_heads * (layer.k_lanes + layer.head_dim));
  return {keys * lanes * static_cast<double>(dtype_bytes(layer.dtype)),
          4.0 * pairs * static_cast<double>(heads * layer.head_dim)};
}

}  // namespace gem8
