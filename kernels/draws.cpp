// Draws from the softmax of a pool's scores, and the gradient of the expected reward by those scores.
#include <algorithm>
#include <cmath>
#include <vector>

#include "export.h"
#include "functions.h"

namespace kernel {

constexpr int64_t BLOCK = 16;

// Returns how many of the ascending numbers are less than `at`. For a few numbers, counting is faster than a binary
// search, whose branches the processor can't predict.
inline int64_t below(const double* ascending, int64_t count, double at) {
  int64_t less = 0;
#pragma omp simd reduction(+ : less)
  for (int64_t i = 0; i < count; ++i) less += ascending[i] < at;
  return less;
}

// Writes to `log_prob` the log-softmax of each row of logits, and to `pick` the draws: for each uniform number, the
// place where the row's cumulative probability exceeds it.
template <class T>
void draw(const T* logits, const double* uniform, T* log_prob, int64_t* pick, int64_t rows, int64_t pool, int64_t draws,
          int threads) {
  constexpr int N = Lanes<T>::count;
#pragma omp parallel num_threads(threads)
  {
    std::vector<T> share((pool + N - 1) / N * N);
    // The cumulative sums up to each candidate, padded with infinity to whole blocks, and up to the end of each block.
    std::vector<double> cumulative((pool + BLOCK - 1) / BLOCK * BLOCK, INFINITY), ends(cumulative.size() / BLOCK);
#pragma omp for schedule(static)
    for (int64_t r = 0; r < rows; ++r) {
      const T* const x = logits + r * pool;
      const T top = *std::max_element(x, x + pool);
      for (int64_t at = 0; at < pool; at += N) {
        const int lanes = at + N <= pool ? 0 : (int)(pool - at);
        store(share.data() + at, exponential((lanes ? load_part(x + at, lanes) : load(x + at)) - top));
      }
      double total = 0;
      for (int64_t j = 0; j < pool; ++j) cumulative[j] = total += share[j];
      for (size_t b = 0; b < ends.size(); ++b) ends[b] = cumulative[b * BLOCK + BLOCK - 1];
      const T log_total = (T)std::log(total);
      for (int64_t j = 0; j < pool; ++j) log_prob[r * pool + j] = (x[j] - top) - log_total;
      for (int64_t k = 0; k < draws; ++k) {
        // The place is below pool in spite of rounding, because total is the last sum. With nan scores it is not, but
        // then the trainer stops.
        const double at = uniform[r * draws + k] * total;
        const int64_t block = std::min(below(ends.data(), (int64_t)ends.size(), at), (int64_t)ends.size() - 1);
        const int64_t place = block * BLOCK + below(cumulative.data() + block * BLOCK, BLOCK, at);
        pick[r * draws + k] = std::min(place, pool - 1);
      }
    }
  }
}

// The gradient with respect to the logits of weight * (sum over draws of advantage * log_prob[pick]).
template <class T>
void sampled_policy_gradient(const T* log_prob, const int64_t* pick, const T* advantage, const T* weight, T* out,
                             int64_t rows, int64_t pool, int64_t draws, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    const T *const log_p = log_prob + r * pool, *const a = advantage + r * draws;
    T* const to = out + r * pool;
    T total = 0;
    for (int64_t k = 0; k < draws; ++k) total += a[k];
    over_row(log_p, pool, [&](Vec<T> x, int64_t at, int lanes) __attribute__((always_inline)) {
      store_some(to + at, -weight[r] * total * exponential(x), lanes);
    });
    for (int64_t k = 0; k < draws; ++k) to[pick[r * draws + k]] += weight[r] * a[k];
  }
}

// The gradient with respect to the logits of weight * (sum over the pool of exp(log_prob) * reward).
template <class T>
void exact_policy_gradient(const T* log_prob, const T* reward, const T* weight, T* out, int64_t rows, int64_t pool,
                           int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    const T *const log_p = log_prob + r * pool, *const given = reward + r * pool;
    T* const to = out + r * pool;
    Vec<T> expected = {};
    over_row(log_p, pool, [&](Vec<T> x, int64_t at, int lanes) __attribute__((always_inline)) {
      expected += exponential(x) * load_some(given + at, lanes);
    });
    const T mean = sum<T>(expected);
    over_row(log_p, pool, [&](Vec<T> x, int64_t at, int lanes) __attribute__((always_inline)) {
      store_some(to + at, weight[r] * exponential(x) * (load_some(given + at, lanes) - mean), lanes);
    });
  }
}

}  // namespace kernel

EXPORT_TYPES(draw, draw)
EXPORT_TYPES(sampled_policy_gradient, sampled_policy_gradient)
EXPORT_TYPES(exact_policy_gradient, exact_policy_gradient)
