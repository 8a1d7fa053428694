#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "foundation/json/json.h"
#include "tests/support/http_client.h"
#include "tests/support/temporary_folder.h"

namespace gem8::testing {

/// A process with what it says on stderr.
class Process {
 public:
  explicit Process(const std::vector<std::string>& words);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  std::string errors();
  /// Waits until stderr holds the text; false after a minute or at the end of the process.
  bool says(std::string_view text);
  void signal(int number) const;
  /// The exit status; -1 when a signal ended it, -2 when it has not ended after a minute.
  int wait();
  /// The most memory it has had resident so far, in bytes; 0 when it is gone.
  std::int64_t peak_memory() const;

 private:
  int pid_ = -1;
  int stderr_ = -1;
  int status_ = -3;
  std::mutex mutex_;
  std::string errors_;
  bool at_end_ = false;
  std::thread reader_;
};

/// The folder of a tiny model with image tower, random weights, small tokenizer and the published
/// chat template's form; made once.
const std::filesystem::path& tiny_model();

/// The model that ships with gem8.
std::filesystem::path demo_model();

/// `gem8 serve` on a free port.
class Served {
 public:
  explicit Served(std::vector<std::string> flags = {},
                  const std::filesystem::path& model = tiny_model());

  std::uint16_t port() const { return port_; }
  Process& process() { return *process_; }

  HttpClient::Reply ask(std::string_view method, std::string_view path, std::string_view body = {},
                        std::string_view headers = {}) const {
    return HttpClient(port_).ask(method, path, body, headers);
  }
  /// POST of a body that must succeed.
  Json post(std::string_view path, std::string_view body) const;
  /// A sample of /metrics; -1 when there is none.
  double metric(std::string_view series) const;

 private:
  std::unique_ptr<Process> process_;
  std::uint16_t port_ = 0;
};

/// A body of /v1/chat/completions: one user message, and more members ("\"max_tokens\":5").
std::string chat(std::string_view members, std::string_view text = "The cat sat on the mat.");

/// The JSON documents of a stream's events; fails the test unless every event is "data: {...}\n\n"
/// and the last "data: [DONE]\n\n".
std::vector<Json> events_of(const HttpClient::Reply& reply);
/// What a chat stream's deltas of choice `index` say, joined.
std::string content_of(const std::vector<Json>& events, int index = 0);

/// value.a.b.0.c; null when a step leads nowhere.
Json at(const Json& value, std::string_view path);

}  // namespace gem8::testing
