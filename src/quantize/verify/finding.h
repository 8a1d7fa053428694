#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gem8::verify {

enum class Severity : std::uint8_t {
  kError,    ///< will not load, or computes nonsense
  kWarning,  ///< degraded or fragile
  kNote,
};
std::string_view severity_name(Severity severity);  ///< "error", "warning", "note"

/// One thing that is wrong with a checkpoint.
struct Finding {
  int rule = 0;  ///< 17 for V-17
  Severity severity = Severity::kError;
  std::string tensor;  ///< stored name; empty: not about one tensor
  std::string file;    ///< name within the folder; empty: not about one file
  std::string message;
};

/// Where rules put what they find. Not for use from several threads at a time.
class Findings {
 public:
  void error(int rule, std::string tensor, std::string file, std::string message) {
    list_.push_back(
        {rule, Severity::kError, std::move(tensor), std::move(file), std::move(message)});
  }
  void warning(int rule, std::string tensor, std::string file, std::string message) {
    list_.push_back(
        {rule, Severity::kWarning, std::move(tensor), std::move(file), std::move(message)});
  }
  void note(int rule, std::string tensor, std::string file, std::string message) {
    list_.push_back(
        {rule, Severity::kNote, std::move(tensor), std::move(file), std::move(message)});
  }
  std::vector<Finding>& list() { return list_; }

 private:
  std::vector<Finding> list_;
};

}  // namespace gem8::verify
