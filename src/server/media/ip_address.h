#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace gem8 {

/// An IPv4 or IPv6 address in network order; IPv4 uses the first four bytes.
struct IpAddress {
  bool is_v6 = false;
  std::array<std::uint8_t, 16> bytes{};
};

/// "192.0.2.1" or "2001:db8::1"; nullopt for anything else.
std::optional<IpAddress> parse_ip_address(const std::string& text);

/// Whether an address belongs to the public internet, so that a stranger may have us connect to it.
/// False for loopback, private, link-local, carrier-grade NAT, multicast, documentation, reserved
/// and unspecified ranges, and for every IPv6 form that carries an IPv4 address (mapped,
/// compatible, NAT64, 6to4, Teredo): those would be another way to say a private one. Source: the
/// IANA special-purpose address registries for IPv4 and IPv6 (RFC 6890 and its updates).
bool is_public_address(const IpAddress& address);

}  // namespace gem8
