#include "server/media/ip_address.h"

#include <arpa/inet.h>

#include <algorithm>

namespace gem8 {
namespace {

struct V4Range {
  std::uint32_t first;
  int prefix_bits;
};

constexpr std::uint32_t v4(std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t d) {
  return a << 24 | b << 16 | c << 8 | d;
}

constexpr V4Range kNotPublicV4[] = {
    {v4(0, 0, 0, 0), 8},         // "this network"; 0.0.0.0 reaches loopback on Linux
    {v4(10, 0, 0, 0), 8},        // private
    {v4(100, 64, 0, 0), 10},     // carrier-grade NAT
    {v4(127, 0, 0, 0), 8},       // loopback
    {v4(168, 63, 129, 16), 32},  // Azure's host agent: public by number, local by routing
    {v4(169, 254, 0, 0), 16},    // link-local, where clouds keep their metadata
    {v4(172, 16, 0, 0), 12},     // private
    {v4(192, 0, 0, 0), 24},      // IETF protocol assignments
    {v4(192, 0, 2, 0), 24},      // documentation
    {v4(192, 88, 99, 0), 24},    // 6to4 relays
    {v4(192, 168, 0, 0), 16},    // private
    {v4(198, 18, 0, 0), 15},     // benchmarking
    {v4(198, 51, 100, 0), 24},   // documentation
    {v4(203, 0, 113, 0), 24},    // documentation
    {v4(224, 0, 0, 0), 4},       // multicast
    {v4(240, 0, 0, 0), 4},       // reserved, broadcast
};

struct V6Range {
  std::array<std::uint8_t, 4> first;
  int prefix_bits;
};

// Inside 2000::/3, the only block that is handed out for use on the internet.
constexpr V6Range kNotPublicV6[] = {
    {{0x20, 0x01, 0x00, 0x00}, 23},  // protocol assignments: Teredo, ORCHID, benchmarking
    {{0x20, 0x01, 0x0d, 0xb8}, 32},  // documentation
    {{0x20, 0x02, 0x00, 0x00}, 16},  // 6to4
    {{0x3f, 0xff, 0x00, 0x00}, 20},  // documentation
};

bool in_range(std::uint32_t value, std::uint32_t first, int prefix_bits) {
  return (value ^ first) >> (32 - prefix_bits) == 0;
}

}  // namespace

std::optional<IpAddress> parse_ip_address(const std::string& text) {
  IpAddress address;
  if (inet_pton(AF_INET, text.c_str(), address.bytes.data()) == 1) return address;
  address.is_v6 = true;
  if (inet_pton(AF_INET6, text.c_str(), address.bytes.data()) == 1) return address;
  return std::nullopt;
}

bool is_public_address(const IpAddress& address) {
  const auto& b = address.bytes;
  const std::uint32_t head = v4(b[0], b[1], b[2], b[3]);
  if (!address.is_v6) {
    return std::ranges::none_of(kNotPublicV4, [&](const V4Range& range) {
      return in_range(head, range.first, range.prefix_bits);
    });
  }
  if (b[0] >> 5 != 1) return false;
  return std::ranges::none_of(kNotPublicV6, [&](const V6Range& range) {
    const auto& f = range.first;
    return in_range(head, v4(f[0], f[1], f[2], f[3]), range.prefix_bits);
  });
}

}  // namespace gem8
