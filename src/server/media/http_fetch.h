#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "foundation/result.h"
#include "server/media/ip_address.h"

namespace gem8 {

/// A host name in lower case and without a trailing dot.
std::string normal_host(std::string host);

/// What a fetch on a stranger's behalf may do.
struct FetchPolicy {
  std::vector<std::string> allowed_hosts;  ///< exact, as normal_host() writes them
  /// Asked about the address of every connection before it is made.
  std::function<bool(const IpAddress&)> is_public = is_public_address;
  std::size_t max_bytes = std::size_t{64} << 20;
  int max_redirects = 3;
  std::chrono::milliseconds timeout{5000};  ///< of the whole, redirects included
};

/// The body of a GET of `url` (http or https), redirects followed. Blocks; from any thread.
///
/// Every hop is parsed, checked against allowed_hosts, resolved once, and connected only if the
/// very address of the connection is public, so that no second look-up can answer otherwise; the
/// first address that is not ends the fetch. No proxy, credentials, cookies or content decoding;
/// the body is cut off at max_bytes. Errors, fixed strings: kInvalidArgument (malformed or
/// forbidden URL, host or address, refusing HTTP status, too many redirects), kExhausted (too
/// large), kDeadline, kUnavailable (not reachable, HTTP 408, 429 and 5xx).
Result<std::vector<std::byte>> fetch_http(const std::string& url, const FetchPolicy& policy);

}  // namespace gem8
