// Losses of a positive against its negatives, one positive (a row of scores) at a time. One pass computes the value,
// another one the gradient.
#include <algorithm>

#include "export.h"
#include "functions.h"

namespace kernel {

template <class T>
INLINE T greatest(const T* negative, const bool* known, int64_t count) {
  const Vec<T> lowest = Vec<T>{} - INFINITY;
  Vec<T> top = lowest;
  over_counted(negative, known, count, [&](Vec<T> x, Bits<T> counts, int64_t, int) __attribute__((always_inline)) {
    x = counts ? x : lowest;
    top = x > top ? x : top;
  });
  T result = top[0];
  for (int i = 1; i < Lanes<T>::count; ++i) result = std::max(result, top[i]);
  return result;
}

// Softmax: minus the log of the positive's share among itself and its negatives. `state` keeps the log of the sum of
// exponentials for the gradient.
template <class T>
void softmax_loss(const T* positive, const T* negative, OrNone<const bool> known, T* loss, T* state, int64_t rows,
                  int64_t count, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    const T* const scores = negative + r * count;
    const bool* const mask = known ? known + r * count : nullptr;
    const T top = std::max(positive[r], greatest(scores, mask, count));
    Vec<T> total = {};
    over_counted(scores, mask, count, [&](Vec<T> x, Bits<T> counts, int64_t, int) __attribute__((always_inline)) {
      total += keep<T>(exponential(x - top), counts);
    });
    state[r] = top + std::log(sum<T>(total) + std::exp(positive[r] - top));
    loss[r] = state[r] - positive[r];
  }
}

template <class T>
void softmax_gradient(const T* positive, const T* negative, OrNone<const bool> known, const T* state, const T* gradient,
                      T* by_positive, T* by_negative, int64_t rows, int64_t count, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    by_positive[r] = gradient[r] * std::expm1(positive[r] - state[r]);
    T* const out = by_negative + r * count;
    over_counted(negative + r * count, known ? known + r * count : nullptr, count,
                   [&](Vec<T> x, Bits<T> counts, int64_t at, int lanes) __attribute__((always_inline)) {
                     x = keep<T>(gradient[r] * exponential(x - state[r]), counts);
                     store_some(out + at, x, lanes);
                   });
  }
}

// Self-adversarial: softplus(-margin - positive) + sum of w * softplus(margin + negative), where w is the softmax of
// temperature * negative and counts as a constant in the gradient. `state` keeps the highest score and the sum of w's
// exponentials.
template <class T>
void self_adversarial_loss(const T* positive, const T* negative, OrNone<const bool> known, T* loss, T* state, int64_t rows,
                           int64_t count, double margin_, double temperature_, int threads) {
  const T margin = (T)margin_, temperature = (T)temperature_;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    const T* const scores = negative + r * count;
    const bool* const mask = known ? known + r * count : nullptr;
    const T top = greatest(scores, mask, count);
    Vec<T> total = {}, weighted = {};
    over_counted(scores, mask, count, [&](Vec<T> x, Bits<T> counts, int64_t, int) __attribute__((always_inline)) {
      const Vec<T> weight = keep<T>(exponential(temperature * (x - top)), counts);
      total += weight;
      weighted += weight * keep<T>(softplus<T>(margin + x), counts);
    });
    state[2 * r] = top;
    state[2 * r + 1] = sum<T>(total);
    const T of_negatives = state[2 * r + 1] != 0 ? sum<T>(weighted) / state[2 * r + 1] : 0;
    loss[r] = softplus(-margin - positive[r]) + of_negatives;
  }
}

template <class T>
void self_adversarial_gradient(const T* positive, const T* negative, OrNone<const bool> known, const T* state,
                               const T* gradient, T* by_positive, T* by_negative, int64_t rows, int64_t count,
                               double margin_, double temperature_, int threads) {
  const T margin = (T)margin_, temperature = (T)temperature_;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    by_positive[r] = -gradient[r] * sigmoid(-margin - positive[r]);
    const T top = state[2 * r], scale = state[2 * r + 1] != 0 ? gradient[r] / state[2 * r + 1] : 0;
    T* const out = by_negative + r * count;
    over_counted(negative + r * count, known ? known + r * count : nullptr, count,
                   [&](Vec<T> x, Bits<T> counts, int64_t at, int lanes) __attribute__((always_inline)) {
                     const Vec<T> weight = scale * exponential(temperature * (x - top));
                     x = keep<T>(weight * sigmoid<T>(margin + x), counts);
                     store_some(out + at, x, lanes);
                   });
  }
}

}  // namespace kernel

EXPORT_TYPES(softmax_loss, softmax_loss)
EXPORT_TYPES(softmax_gradient, softmax_gradient)
EXPORT_TYPES(self_adversarial_loss, self_adversarial_loss)
EXPORT_TYPES(self_adversarial_gradient, self_adversarial_gradient)
