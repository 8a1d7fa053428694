#include <algorithm>
#include <cmath>

#include "kernels/image_attention/image_attention.h"

namespace gem8 {
namespace {

void attend(const ImageAttentionCall& call, std::int64_t begin, std::int64_t end) noexcept {
  for (std::int64_t i = begin; i < end; ++i) {
    const float* q = call.q + i * call.head_dim;
    float* scores = call.scores;
    for (std::int64_t j = 0; j < call.n; ++j) {
      double sum = 0.0;
      for (std::int64_t d = 0; d < call.head_dim; ++d)
        sum += static_cast<double>(q[d]) * static_cast<double>(call.kt[d * call.stride + j]);
      scores[j] = static_cast<float>(sum);
    }
    const float largest = *std::max_element(scores, scores + call.n);
    double total = 0.0;
    for (std::int64_t j = 0; j < call.n; ++j) {
      scores[j] = std::exp(scores[j] - largest);
      total += static_cast<double>(scores[j]);
    }
    for (std::int64_t d = 0; d < call.head_dim; ++d) {
      double sum = 0.0;
      for (std::int64_t j = 0; j < call.n; ++j)
        sum += static_cast<double>(scores[j]) * static_cast<double>(call.v[j * call.head_dim + d]);
      call.y[i * call.head_dim + d] = static_cast<float>(sum / total);
    }
  }
}

}  // namespace

extern const ImageAttentionKernel image_attention_ref;
const ImageAttentionKernel image_attention_ref = {attend};

}  // namespace gem8
