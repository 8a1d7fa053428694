#pragma once

#include <vector>

namespace gem8 {

struct RopeConfig;

/// Lane pairs that rotate: partial_rotary_factor * head_dim / 2, rounded down.
int rotated_pairs(const RopeConfig& rope, int head_dim);

/// inv_freq [head_dim / 2]: theta^(-2j / head_dim) / factor for the rotated pairs, 0 for the
/// others. Float32 throughout in the order exponent, power, reciprocal, as the reference computes
/// it: a power taken in double differs by an ulp in a third of the entries. Source:
/// huggingface/transformers modeling_rope_utils.py, _compute_proportional_rope_parameters.
std::vector<float> rope_frequencies(const RopeConfig& rope, int head_dim);

}  // namespace gem8
