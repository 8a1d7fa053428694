#pragma once

#include <array>
#include <cstdint>

namespace gem8 {

/// Philox4x32-10: a random block that is a pure function of (counter, key). No state means no
/// order: the same request gets the same draws whatever else is in the batch, after a preemption,
/// and however many candidates another token had. Source: Salmon et al. 2011, "Parallel random
/// numbers: as easy as 1, 2, 3"; the known answers in random_test.cc are those of its authors'
/// Random123 distribution.
constexpr std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                                  std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53u} * counter[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57u} * counter[2];
    counter = {
        static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
        static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

/// A number in (0, 1), never 0 or 1, for one token of the vocabulary at one output position of a
/// request.
constexpr double uniform_draw(std::uint64_t seed, std::uint64_t position, std::int32_t token) {
  const auto block =
      philox4x32({static_cast<std::uint32_t>(token), static_cast<std::uint32_t>(position),
                  static_cast<std::uint32_t>(position >> 32), 0},
                 {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
  return (static_cast<double>(block[0]) + 0.5) * 0x1p-32;
}

}  // namespace gem8
