// Ranks of one machine that wait for each other: each counts its exchanges in memory that the others can see.
#include <sched.h>
#include <signal.h>

#include <atomic>
#include <cerrno>
#include <chrono>

#include "export.h"

namespace kernel {

// Says that this rank's part of exchange `number` can be read.
void publish(int64_t* counter, int64_t number) {
  reinterpret_cast<std::atomic<int64_t>*>(counter)->store(number, std::memory_order_release);
}

// Waits until all counters have come to `number`. Returns -1, or the first rank that is no more or is too late.
int64_t wait_for_all(const int64_t* counters, const int64_t* process, int64_t ranks, int64_t number, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto limit = Clock::now() + std::chrono::duration<double>(seconds);
  for (int64_t rank = 0; rank < ranks; ++rank) {
    const auto* const counter = reinterpret_cast<const std::atomic<int64_t>*>(counters[rank]);
    for (int64_t turn = 1; counter->load(std::memory_order_acquire) < number; ++turn) {
      if (turn % 64 == 0) sched_yield();
      if (turn % (1 << 16) == 0 && ((kill((pid_t)process[rank], 0) && errno == ESRCH) || Clock::now() > limit)) return rank;
    }
  }
  return -1;
}

}  // namespace kernel

EXPORT(publish, publish)
EXPORT(wait_for_all, wait_for_all)
