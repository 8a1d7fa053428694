#include "kernels/image_attention/image_attention.h"

#include <algorithm>

#include "kernels/context.h"
#include "kernels/element.h"

namespace gem8 {

#define ROW(needs, kernel, numerics) extern const ImageAttentionKernel kernel;
#include "kernels/image_attention/image_attention.inc"
#undef ROW

std::span<const isa::Row<ImageAttentionKernel>> image_attention_rows() {
  static const isa::Row<ImageAttentionKernel> rows[] = {
#define ROW(needs, kernel, numerics) {needs, #kernel, kernel, numerics},
#include "kernels/image_attention/image_attention.inc"
#undef ROW
  };
  return rows;
}

namespace {

/// One head of one image in F32, as the kernel reads it.
struct HeadBuffers {
  float* q;
  float* kt;
  float* v;
  float* y;
};

void unpack(const ConstMat& q, const ConstMat& k, const ConstMat& v, const PatchGrid& image,
            std::int64_t lane, std::int64_t head_dim, std::int64_t stride, const HeadBuffers& to) {
  const std::int64_t n = image.columns * image.rows;
  with_float_type(q.dtype, [&]<class T>(T) {
    for (std::int64_t i = 0; i < n; ++i) {
      const T* query = row_of<T>(q, image.first_row + i) + lane;
      const T* key = row_of<T>(k, image.first_row + i) + lane;
      const T* value = row_of<T>(v, image.first_row + i) + lane;
      for (std::int64_t d = 0; d < head_dim; ++d) {
        to.q[i * head_dim + d] = widen(query[d]);
        to.v[i * head_dim + d] = widen(value[d]);
        to.kt[d * stride + i] = widen(key[d]);
      }
    }
  });
  for (std::int64_t d = 0; d < head_dim; ++d)
    std::fill(to.kt + d * stride + n, to.kt + (d + 1) * stride, 0.0f);
}

}  // namespace

void image_attention(KernelContext& context, const ImageAttentionKernel& kernel, const ConstMat& q,
                     const ConstMat& k, const ConstMat& v, std::int64_t heads,
                     std::span<const PatchGrid> images, const Mat& y) {
  constexpr std::int64_t kBlock = 64;  // queries of one work item
  const std::int64_t head_dim = q.cols / heads;
  for (const PatchGrid& image : images) {
    const std::int64_t n = image.columns * image.rows;
    const std::int64_t stride = (n + kImageKeys - 1) / kImageKeys * kImageKeys;
    const std::int64_t plain = n * head_dim;
    const std::int64_t per_head = 3 * plain + stride * head_dim;
    float* memory = context.partials.get<float>(static_cast<std::size_t>(heads * per_head));
    const auto buffers = [&](std::size_t head) {
      float* base = memory + static_cast<std::int64_t>(head) * per_head;
      return HeadBuffers{base, base + 3 * plain, base + plain, base + 2 * plain};
    };
    context.pool.parallel_for(static_cast<std::size_t>(heads), [&](std::size_t head, std::size_t) {
      unpack(q, k, v, image, static_cast<std::int64_t>(head) * head_dim, head_dim, stride,
             buffers(head));
    });
    const std::int64_t blocks = (n + kBlock - 1) / kBlock;
    context.pool.parallel_for(static_cast<std::size_t>(heads * blocks), [&](std::size_t item,
                                                                            std::size_t thread) {
      const std::size_t head = item / static_cast<std::size_t>(blocks);
      const std::int64_t begin =
          static_cast<std::int64_t>(item % static_cast<std::size_t>(blocks)) * kBlock;
      const std::int64_t end = std::min(begin + kBlock, n);
      const HeadBuffers from = buffers(head);
      float* scores = context.per_thread[thread].state.get<float>(
          static_cast<std::size_t>(kImageQueries * stride));
      kernel.attend({from.q, from.kt, from.v, from.y, scores, n, stride, head_dim}, begin, end);
      with_float_type(y.dtype, [&]<class T>(T) {
        for (std::int64_t i = begin; i < end; ++i) {
          T* to = row_of<T>(y, image.first_row + i) + static_cast<std::int64_t>(head) * head_dim;
          for (std::int64_t d = 0; d < head_dim; ++d) to[d] = narrow<T>(from.y[i * head_dim + d]);
        }
      });
    });
  }
}

}  // namespace gem8
