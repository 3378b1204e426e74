// Lets ranks of one machine wait for each other: each counts its exchanges in shared memory.
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <thread>

#include "export.h"

namespace kernel {

// Within a step, a rank usually arrives in less than a millisecond, and a sleep would take longer than that. If it is
// busy with something else, it is looked at less and less often: each sleep takes a sixteenth of the wait so far.
constexpr int64_t SPINS = 64;
constexpr std::chrono::milliseconds SPINNING{1}, LONGEST_SLEEP{10};

// Marks this rank's part of exchange `number` as ready to be read.
void publish(int64_t* counter, int64_t number) {
  reinterpret_cast<std::atomic<int64_t>*>(counter)->store(number, std::memory_order_release);
}

// Waits until all counters have reached `number`, then returns -1. If the process of a rank has ended, returns that
// rank. If a rank is too late, returns that rank plus `ranks`.
int64_t wait_for_all(const int64_t* counters, const int64_t* process, int64_t ranks, int64_t number, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto started = Clock::now();
  for (int64_t rank = 0; rank < ranks; ++rank) {
    const auto* const counter = reinterpret_cast<const std::atomic<int64_t>*>(counters[rank]);
    for (int64_t turn = 1; counter->load(std::memory_order_acquire) < number; ++turn) {
      if (turn % SPINS) continue;
      sched_yield();
      const std::chrono::duration<double> waited = Clock::now() - started;
      if (waited < SPINNING) continue;
      if (kill((pid_t)process[rank], 0) && errno == ESRCH) return rank;
      if (waited.count() > seconds) return ranks + rank;
      std::this_thread::sleep_for(std::min<std::chrono::duration<double>>(waited / 16, LONGEST_SLEEP));
    }
  }
  return -1;
}

}  // namespace kernel

EXPORT(publish, publish)
EXPORT(wait_for_all, wait_for_all)
