#pragma once

namespace gem8::testing {

/// Counts the calls of operator new, from any thread, since it was made. Link allocation_counter.cc
/// into the test: it replaces the operators of the whole program.
class AllocationCounter {
 public:
  AllocationCounter();
  long count() const;

 private:
  long before_ = 0;
};

}  // namespace gem8::testing
