#include "foundation/sha256.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include "foundation/check.h"

namespace gem8 {

Sha256 sha256(std::span<const std::byte> bytes) {
  Sha256 hash;
  unsigned int n_written = 0;
  const int done =
      EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(hash.data()),
                 &n_written, EVP_sha256(), nullptr);
  GEM8_CHECK(done == 1 && n_written == hash.size());
  return hash;
}

std::string to_hex(const Sha256& hash) {
  std::string text;
  for (const std::byte byte : hash) text += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return text;
}

}  // namespace gem8
