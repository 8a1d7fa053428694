#include "foundation/job_queue.h"

#include <gtest/gtest.h>

#include <future>
#include <optional>

namespace gem8 {
namespace {

TEST(JobQueue, OneLongJobHoldsUpNoOtherThread) {
  std::promise<void> gate, done;
  JobQueue queue(2);
  queue.submit([&](const Status&) { gate.get_future().wait(); });
  queue.submit([&](const Status& go) {
    EXPECT_TRUE(go);
    done.set_value();
  });
  done.get_future().wait();
  gate.set_value();
}

TEST(JobQueue, JobsComeInOrder) {
  std::vector<int> order;
  std::promise<void> done;
  {
    JobQueue queue(1);
    for (int i = 0; i < 100; ++i) queue.submit([&order, i](const Status&) { order.push_back(i); });
    queue.submit([&](const Status&) { done.set_value(); });
    done.get_future().wait();
  }
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST(JobQueue, EveryJobHearsOfTheEnd) {
  std::optional<Status> heard;
  {
    JobQueue queue(0);  // nobody takes it
    queue.submit([&](const Status& go) { heard = go; });
  }
  ASSERT_TRUE(heard && !*heard);
  EXPECT_EQ(heard->error().code, Code::kCancelled);
}

}  // namespace
}  // namespace gem8
