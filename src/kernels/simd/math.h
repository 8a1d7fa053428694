#pragma once

// Functions over Vec (include a vec_*.h first). For ISA files only.
namespace gem8 {
namespace {

/// Calls f(i, Full{}) for whole vectors of [0, n) and f(i, Part{rest}) for what is left.
template <class F>
inline void for_lanes(std::int64_t n, F f) {
  std::int64_t i = 0;
  for (; i + Vec::kLanes <= n; i += Vec::kLanes) f(i, Full{});
  if (i < n) f(i, Part{n - i});
}

/// e^x within 2 ulp; x below -87 gives e^-87 or less, above 88 gives e^88. NaN gives a number:
/// callers whose x may be NaN multiply by it. Cody and Waite's reduction to |r| <= ln(2)/2, then
/// Taylor to r^7 / 7!, whose remainder there is below 6e-9.
inline Vec exp_of(Vec x) {
  x = max(min(x, splat(88.0f)), splat(-87.3f));
  const Vec n = round_even(x * splat(1.44269504f));
  Vec r = fnma(n, splat(0.693359375f), x);
  r = fnma(n, splat(-2.12194440e-4f), r);
  Vec p = splat(1.0f / 5040.0f);
  p = fma(p, r, splat(1.0f / 720.0f));
  p = fma(p, r, splat(1.0f / 120.0f));
  p = fma(p, r, splat(1.0f / 24.0f));
  p = fma(p, r, splat(1.0f / 6.0f));
  p = fma(p, r, splat(0.5f));
  p = fma(p, r, splat(1.0f));
  p = fma(p, r, splat(1.0f));
  return scale_by_power(p, n);
}

/// 0.5 x (1 + tanh(u)) = x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3): no cancellation in the
/// negative tail.
inline Vec gelu_tanh_of(Vec x) {
  const Vec x2 = x * x;
  const Vec minus_2u =
      x * fma(x2, splat(-2.0f * 0.7978845608f * 0.044715f), splat(-2.0f * 0.7978845608f));
  return x / (splat(1.0f) + exp_of(minus_2u));
}

}  // namespace
}  // namespace gem8
