#include "model/vision/preprocess.h"

#include <algorithm>
#include <cmath>

#include "foundation/check.h"

namespace gem8 {
namespace {

/// Which source pixels make one target pixel along one axis, and their integer weights (real weight
/// * 2^precision).
struct Axis {
  struct Window {
    std::int32_t first = 0;
    std::int32_t count = 0;
  };
  std::vector<Window> windows;        // [n_out]
  std::vector<std::int32_t> weights;  // [n_out, stride]
  std::int32_t stride = 0;
  int precision = 0;
};

double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  if (x < 2.0) return ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
  return 0.0;
}

/// The largest precision whose heaviest weight still fits 16 signed bits, at most 22: what torch's
/// uint8 kernel chooses.
int choose_precision(double heaviest) {
  int precision = 0;
  while (precision < 22 &&
         std::trunc(0.5 + heaviest * static_cast<double>(1 << (precision + 1))) < 32768.0)
    ++precision;
  return precision;
}

Axis make_axis(std::int32_t n_in, std::int32_t n_out) {
  const double scale = static_cast<double>(n_in) / n_out;
  const double support = scale >= 1.0 ? 2.0 * scale : 2.0;
  const double inv_scale = scale >= 1.0 ? 1.0 / scale : 1.0;
  Axis axis;
  axis.stride = 2 * static_cast<std::int32_t>(std::ceil(support)) + 1;
  axis.windows.resize(static_cast<std::size_t>(n_out));
  std::vector<double> real(static_cast<std::size_t>(n_out) * static_cast<std::size_t>(axis.stride));
  double heaviest = 0.0;
  for (std::int32_t i = 0; i < n_out; ++i) {
    const double center = scale * (i + 0.5);
    const auto low = std::max(static_cast<std::int32_t>(center - support + 0.5), 0);
    const auto high = std::min(static_cast<std::int32_t>(center + support + 0.5), n_in);
    const std::int32_t count = std::clamp(high - low, 0, axis.stride);
    axis.windows[static_cast<std::size_t>(i)] = {low, count};
    double* weights = &real[static_cast<std::size_t>(i) * static_cast<std::size_t>(axis.stride)];
    double sum = 0.0;
    for (std::int32_t j = 0; j < count; ++j)
      sum += weights[j] = cubic((j + low - center + 0.5) * inv_scale);
    for (std::int32_t j = 0; j < count; ++j) {
      weights[j] /= sum;
      heaviest = std::max(heaviest, weights[j]);
    }
  }
  axis.precision = choose_precision(heaviest);
  axis.weights.resize(real.size());
  for (std::size_t i = 0; i < real.size(); ++i) {
    axis.weights[i] =
        static_cast<std::int32_t>(std::round(real[i] * static_cast<double>(1 << axis.precision)));
  }
  return axis;
}

/// One axis of the resize: `lines` independent lines whose elements lie `step` bytes apart; each
/// element has `step` or 3 channels beside it, handled by the caller's loops.
std::uint8_t weigh(const std::uint8_t* first, std::size_t step, const std::int32_t* weights,
                   std::int32_t count, int precision) {
  std::int32_t sum = precision > 0 ? 1 << (precision - 1) : 0;
  for (std::int32_t j = 0; j < count; ++j)
    sum += first[static_cast<std::size_t>(j) * step] * weights[j];
  return static_cast<std::uint8_t>(std::clamp(sum >> precision, 0, 255));
}

Image resize_width(const Image& image, std::int32_t width) {
  const Axis axis = make_axis(image.width, width);
  Image out{width, image.height,
            std::vector<std::uint8_t>(static_cast<std::size_t>(width) *
                                      static_cast<std::size_t>(image.height) * 3)};
  std::uint8_t* to = out.rgb.data();
  for (std::int32_t y = 0; y < image.height; ++y) {
    const std::uint8_t* row =
        &image.rgb[static_cast<std::size_t>(y) * static_cast<std::size_t>(image.width) * 3];
    for (std::size_t x = 0; x < axis.windows.size(); ++x) {
      const auto [first, count] = axis.windows[x];
      const std::int32_t* weights = &axis.weights[x * static_cast<std::size_t>(axis.stride)];
      for (int c = 0; c < 3; ++c)
        *to++ = weigh(row + first * 3 + c, 3, weights, count, axis.precision);
    }
  }
  return out;
}

Image resize_height(const Image& image, std::int32_t height) {
  const Axis axis = make_axis(image.height, height);
  const std::size_t row_bytes = static_cast<std::size_t>(image.width) * 3;
  Image out{image.width, height,
            std::vector<std::uint8_t>(row_bytes * static_cast<std::size_t>(height))};
  std::vector<std::int32_t> sums(row_bytes);
  for (std::size_t y = 0; y < axis.windows.size(); ++y) {
    const auto [first, count] = axis.windows[y];
    std::fill(sums.begin(), sums.end(), axis.precision > 0 ? 1 << (axis.precision - 1) : 0);
    for (std::int32_t j = 0; j < count; ++j) {
      const std::int32_t weight =
          axis.weights[y * static_cast<std::size_t>(axis.stride) + static_cast<std::size_t>(j)];
      const std::uint8_t* row = &image.rgb[static_cast<std::size_t>(first + j) * row_bytes];
      for (std::size_t i = 0; i < row_bytes; ++i) sums[i] += row[i] * weight;
    }
    std::uint8_t* to = &out.rgb[y * row_bytes];
    for (std::size_t i = 0; i < row_bytes; ++i)
      to[i] = static_cast<std::uint8_t>(std::clamp(sums[i] >> axis.precision, 0, 255));
  }
  return out;
}

}  // namespace

Result<ImageSize> target_size(ImageSize source, int soft_tokens) {
  if (std::find(kSoftTokenBudgets.begin(), kSoftTokenBudgets.end(), soft_tokens) ==
      kSoftTokenBudgets.end()) {
    return fail(Code::kInvalidArgument, "soft-token budget {}, wanted 70, 140, 280, 560 or 1120",
                soft_tokens);
  }
  if (source.width < 1 || source.height < 1) {
    return fail(Code::kInvalidArgument, "image of {} x {} pixels", source.width, source.height);
  }
  constexpr std::int64_t kSide = kPatchPixels * kPoolPatches;
  const std::int64_t max_patches = std::int64_t{soft_tokens} * kPoolPatches * kPoolPatches;
  const double area = static_cast<double>(max_patches * kPatchPixels * kPatchPixels);
  const double factor =
      std::sqrt(area / static_cast<double>(std::int64_t{source.width} * source.height));
  auto height = static_cast<std::int64_t>(std::floor(factor * source.height / kSide)) * kSide;
  auto width = static_cast<std::int64_t>(std::floor(factor * source.width / kSide)) * kSide;
  const std::int64_t longest = soft_tokens * kSide;
  if (height == 0) {  // thinner than the budget can follow
    height = kSide;
    width = std::min((source.width / source.height) * kSide, longest);
  } else if (width == 0) {
    width = kSide;
    height = std::min((source.height / source.width) * kSide, longest);
  }
  GEM8_CHECK(width > 0 && height > 0 && static_cast<double>(width * height) <= area);
  return ImageSize{static_cast<std::int32_t>(width), static_cast<std::int32_t>(height)};
}

Image resize_bicubic(const Image& image, ImageSize size) {
  if (size.width == image.width) {
    return size.height == image.height ? image : resize_height(image, size.height);
  }
  Image wide = resize_width(image, size.width);
  return size.height == image.height ? wide : resize_height(wide, size.height);
}

Patches cut_patches(const Image& image) {
  const std::int32_t columns = image.width / kPatchPixels;
  const std::int32_t rows = image.height / kPatchPixels;
  GEM8_CHECK(columns % kPoolPatches == 0 && rows % kPoolPatches == 0);
  constexpr float kInv255 = 1.0f / 255.0f;
  std::array<float, 256> value{};
  for (int byte = 0; byte < 256; ++byte)
    value[static_cast<std::size_t>(byte)] = static_cast<float>(byte) * kInv255;

  Patches patches;
  patches.columns = columns;
  patches.pixels.reserve(static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns) *
                         kPatchValues);
  for (std::int32_t py = 0; py < rows; ++py) {
    for (std::int32_t px = 0; px < columns; ++px) {
      patches.positions.insert(patches.positions.end(), {px, py});
      for (std::int32_t dy = 0; dy < kPatchPixels; ++dy) {
        const std::size_t row = static_cast<std::size_t>(py * kPatchPixels + dy) *
                                static_cast<std::size_t>(image.width);
        const std::uint8_t* from =
            &image.rgb[(row + static_cast<std::size_t>(px * kPatchPixels)) * 3];
        for (std::int32_t i = 0; i < kPatchPixels * 3; ++i)
          patches.pixels.push_back(value[from[i]]);
      }
    }
  }
  return patches;
}

Result<Patches> preprocess_image(const Image& image, int soft_tokens) {
  GEM8_TRY(const ImageSize size, target_size({image.width, image.height}, soft_tokens));
  return cut_patches(resize_bicubic(image, size));
}

}  // namespace gem8
