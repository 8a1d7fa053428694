// The gem8 half of tools/tokenizer_speed.py: prints the seconds that loading takes and the ids of a
// file, each once, then the seconds one encoding takes for each line of input.
#include <chrono>
#include <cstdio>

#include "foundation/mapped_file.h"
#include "text/tokenizer/tokenizer.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s TOKENIZER_FOLDER TEXT_FILE\n", argv[0]);
    return 2;
  }
  using Clock = std::chrono::steady_clock;
  using Seconds = std::chrono::duration<double>;
  const auto begin = Clock::now();
  const auto tokenizer = gem8::Tokenizer::load(argv[1]);
  const Seconds loading = Clock::now() - begin;
  const auto text = gem8::read_text_file(argv[2]);
  if (!tokenizer || !text) {
    std::fprintf(stderr, "%s\n", (tokenizer ? text.error() : tokenizer.error()).text().c_str());
    return 2;
  }
  std::printf("%.9f\n", loading.count());
  for (const gem8::TokenId id : tokenizer->encode(*text)) std::printf("%d ", gem8::value_of(id));
  std::printf("\n");
  std::fflush(stdout);
  for (int c = std::getchar(); c != EOF; c = std::getchar()) {
    const auto start = Clock::now();
    const auto ids = tokenizer->encode(*text);
    const Seconds seconds = Clock::now() - start;
    std::printf("%.9f\n", seconds.count() + (ids.empty() ? 1e-9 : 0.0));
    std::fflush(stdout);
  }
  return 0;
}
