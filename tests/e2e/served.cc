#include "tests/e2e/served.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <iterator>

namespace gem8::testing {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

template <class Condition>
bool within_a_minute(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + 60s;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(2ms);  // a poll with a deadline
  }
  return true;
}

}  // namespace

Process::Process(const std::vector<std::string>& words) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return;
  pid_ = ::fork();
  if (pid_ == 0) {
    ::dup2(ends[1], 2);
    std::vector<char*> arguments;
    for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  ::close(ends[1]);
  stderr_ = ends[0];
  reader_ = std::thread([this] {
    char bytes[4096];
    for (;;) {
      const ssize_t n = ::read(stderr_, bytes, sizeof bytes);
      const std::lock_guard lock(mutex_);
      if (n <= 0) {
        at_end_ = true;
        return;
      }
      errors_.append(bytes, static_cast<std::size_t>(n));
    }
  });
}

Process::~Process() {
  if (status_ == -3) {
    signal(SIGKILL);
    wait();
  }
  reader_.join();
  ::close(stderr_);
}

std::string Process::errors() {
  const std::lock_guard lock(mutex_);
  return errors_;
}

bool Process::says(std::string_view text) {
  bool found = false;
  within_a_minute([&] {
    const std::lock_guard lock(mutex_);
    found = errors_.find(text) != std::string::npos;
    return found || at_end_;
  });
  return found;
}

void Process::signal(int number) const {
  ::kill(pid_, number);
}

std::int64_t Process::peak_memory() const {
  std::ifstream file("/proc/" + std::to_string(pid_) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6)) * 1024;
  }
  return 0;
}

int Process::wait() {
  if (status_ != -3) return status_;
  int status = 0;
  if (!within_a_minute([&] { return ::waitpid(pid_, &status, WNOHANG) == pid_; })) return -2;
  status_ = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return status_;
}

const fs::path& tiny_model() {
  static const TemporaryFolder folder;
  static const fs::path path = [] {
    const fs::path data = GEM8_TEST_DATA;
    const auto copy = [&](const fs::path& from, const char* name) {
      fs::copy_file(from, folder.path() / name);
    };
    copy(data / "golden/models/tiny-vision/model.safetensors", "model.safetensors");
    copy(data / "golden/tokenizer/small/tokenizer.json", "tokenizer.json");
    copy(data / "golden/tokenizer/small/tokenizer_config.json", "tokenizer_config.json");
    copy(data / "golden/tokenizer/small/generation_config.json", "generation_config.json");
    copy(fs::path(GEM8_SOURCE_DIR) / "models/demo/chat_template.jinja", "chat_template.jinja");
    // Rotary positions have no table: a longer context is only a number.
    std::ifstream in(data / "golden/models/tiny-vision/config.json");
    std::string config((std::istreambuf_iterator<char>(in)), {});
    const std::string from = "\"max_position_embeddings\": 512";
    for (std::size_t i = config.find(from); i != std::string::npos; i = config.find(from, i)) {
      config.replace(i, from.size(), "\"max_position_embeddings\": 16384");
    }
    folder.write("config.json", config);
    return folder.path();
  }();
  return path;
}

fs::path demo_model() {
  return fs::path(GEM8_SOURCE_DIR) / "models/demo";
}

Served::Served(std::vector<std::string> flags, const fs::path& model) {
  std::vector<std::string> words = {GEM8_BINARY, "serve",     model.string(),   "--port", "0",
                                    "--host",    "127.0.0.1", "--max-num-seqs", "64"};
  if (std::find(flags.begin(), flags.end(), "--served-model-name") == flags.end()) {
    flags.insert(flags.end(), {"--served-model-name", "tiny"});
  }
  words.insert(words.end(), flags.begin(), flags.end());
  process_ = std::make_unique<Process>(words);
  const std::string line = "Uvicorn running on http://127.0.0.1:";
  if (!process_->says(line)) {
    ADD_FAILURE() << "the server did not start:\n" << process_->errors();
    return;
  }
  process_->says("(Press CTRL+C to quit)");
  const std::string errors = process_->errors();
  port_ = static_cast<std::uint16_t>(std::stoi(errors.substr(errors.find(line) + line.size())));
}

Json Served::post(std::string_view path, std::string_view body) const {
  const HttpClient::Reply reply = ask("POST", path, body);
  EXPECT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.header("content-type"), "application/json");
  return parse_json(reply.body).value_or(Json());
}

double Served::metric(std::string_view series) const {
  const std::string text = ask("GET", "/metrics").body;
  const std::size_t line = text.find(fmt::format("\n{} ", series));
  return line == std::string::npos ? -1.0 : std::stod(text.substr(line + series.size() + 2));
}

std::string chat(std::string_view members, std::string_view text) {
  return fmt::format(R"({{"messages":[{{"role":"user","content":{}}}]{}{}}})", to_text(Json(text)),
                     members.empty() ? "" : ",", members);
}

std::vector<Json> events_of(const HttpClient::Reply& reply) {
  EXPECT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.header("content-type"), "text/event-stream; charset=utf-8");
  EXPECT_EQ(reply.header("cache-control"), "no-cache");
  EXPECT_EQ(reply.header("transfer-encoding"), "chunked");
  std::vector<Json> events;
  std::string_view rest = reply.body;
  bool done = false;
  while (!rest.empty()) {
    const std::size_t end = rest.find("\n\n");
    if (end == std::string_view::npos || !rest.starts_with("data: ") || done) {
      ADD_FAILURE() << "not an event: " << rest;
      return events;
    }
    const std::string_view text = rest.substr(6, end - 6);
    rest.remove_prefix(end + 2);
    if (text == "[DONE]") {
      done = true;
      continue;
    }
    Result<Json> event = parse_json(text);
    if (!event || to_text(*event) != text) {
      ADD_FAILURE() << "not compact JSON: " << text;
      return events;
    }
    events.push_back(*std::move(event));
  }
  EXPECT_TRUE(done) << reply.body;
  return events;
}

std::string content_of(const std::vector<Json>& events, int index) {
  std::string content;
  for (const Json& event : events) {
    if (at(event, "choices.0.index") != Json(index)) continue;
    const Json piece = at(event, "choices.0.delta.content");
    if (piece.is_string()) content += piece.as_string();
  }
  return content;
}

Json at(const Json& value, std::string_view path) {
  const Json* here = &value;
  while (here != nullptr && !path.empty()) {
    const std::size_t dot = path.find('.');
    const std::string step(path.substr(0, dot));
    path = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
    if (here->is_array()) {
      const std::size_t index = std::stoul(step);
      here = index < here->as_array().size() ? &here->as_array()[index] : nullptr;
    } else {
      here = here->find(step);
    }
  }
  return here != nullptr ? *here : Json();
}

}  // namespace gem8::testing
