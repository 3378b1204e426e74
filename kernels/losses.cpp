// Losses of one positive against its negatives, a row at a time: the value in one pass, the gradient in another.
#include <algorithm>
#include <cmath>

#include "export.h"
#include "vector.h"

namespace kernel {

// exp, to a unit or two in the last place; 0 below the least normal number.
INLINE Vec<float> exponential(Vec<float> x) {
  const Vec<float> least = Vec<float>{} - 87.0f, most = Vec<float>{} + 88.0f;
  const Bits<float> tiny = x < least;
  x = x < least ? least : x;
  x = x > most ? most : x;
  const Vec<float> magic = Vec<float>{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  const Vec<float> shifted = x * 1.44269504f + magic, whole = shifted - magic;
  const Vec<float> r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  Vec<float> p = Vec<float>{} + 1.9875691500e-4f;
  for (const float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    p = p * r + c;
  p = p * r * r + r + 1.0f;
  const Bits<float> power = ((Bits<float>)shifted - (Bits<float>)magic) << 23;
  return keep<float>((Vec<float>)((Bits<float>)p + power), ~tiny);
}

INLINE Vec<double> exponential(Vec<double> x) {
  for (int i = 0; i < Lanes<double>::count; ++i) x[i] = std::exp(x[i]);
  return x;
}

// log(1 + y) for y in [0, 1]: 2 artanh(y / (2 + y)).
INLINE Vec<float> log_of_one_plus(Vec<float> y) {
  const Vec<float> s = y / (y + 2.0f), square = s * s;
  Vec<float> p = Vec<float>{} + 1.0f / 15;
  for (const float c : {1.0f / 13, 1.0f / 11, 1.0f / 9, 1.0f / 7, 1.0f / 5, 1.0f / 3, 1.0f}) p = p * square + c;
  return 2.0f * s * p;
}

INLINE Vec<double> log_of_one_plus(Vec<double> y) {
  for (int i = 0; i < Lanes<double>::count; ++i) y[i] = std::log1p(y[i]);
  return y;
}

template <class T>
INLINE Vec<T> softplus(Vec<T> x) {
  return (x > 0 ? x : Vec<T>{}) + log_of_one_plus(exponential(-absolute<T>(x)));
}

template <class T>
INLINE Vec<T> sigmoid(Vec<T> x) {
  return 1 / (1 + exponential(-x));
}

template <class T>
INLINE T softplus(T x) {
  return std::max(x, T(0)) + std::log1p(std::exp(-std::abs(x)));
}

template <class T>
INLINE T sigmoid(T x) {
  return 1 / (1 + std::exp(-x));
}

// Calls body(vector, which lanes count, at, lanes) over a row's negatives; those that are known facts do not count.
template <class T, class Body>
INLINE void over_negatives(const T* negative, const bool* known, int64_t count, Body body) {
  constexpr int N = Lanes<T>::count;
  for (int64_t at = 0; at < count; at += N) {
    const int lanes = (int)std::min<int64_t>(N, count - at);
    Bits<T> counts = ~Bits<T>{};
    if (lanes < N)
      for (int i = lanes; i < N; ++i) counts[i] = 0;
    if (known)
      for (int i = 0; i < lanes; ++i) counts[i] &= known[at + i] - 1;
    body(lanes < N ? load_part(negative + at, lanes) : load(negative + at), counts, at, lanes);
  }
}

template <class T>
INLINE T greatest(const T* negative, const bool* known, int64_t count) {
  const Vec<T> lowest = Vec<T>{} - INFINITY;
  Vec<T> top = lowest;
  over_negatives(negative, known, count, [&](Vec<T> x, Bits<T> counts, int64_t, int) __attribute__((always_inline)) {
    x = counts ? x : lowest;
    top = x > top ? x : top;
  });
  T result = top[0];
  for (int i = 1; i < Lanes<T>::count; ++i) result = std::max(result, top[i]);
  return result;
}

// -log of the positive's share among itself and its negatives; `state` keeps the log of the sum for the gradient.
template <class T>
void softmax_loss(const T* positive, const T* negative, const bool* known, T* loss, T* state, int64_t rows,
                  int64_t count, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    const T* const scores = negative + r * count;
    const bool* const mask = known ? known + r * count : nullptr;
    const T top = std::max(positive[r], greatest(scores, mask, count));
    Vec<T> total = {};
    over_negatives(scores, mask, count, [&](Vec<T> x, Bits<T> counts, int64_t, int) __attribute__((always_inline)) {
      total += keep<T>(exponential(x - top), counts);
    });
    state[r] = top + std::log(sum<T>(total) + std::exp(positive[r] - top));
    loss[r] = state[r] - positive[r];
  }
}

template <class T>
void softmax_gradient(const T* positive, const T* negative, const bool* known, const T* state, const T* gradient,
                      T* by_positive, T* by_negative, int64_t rows, int64_t count, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    by_positive[r] = gradient[r] * std::expm1(positive[r] - state[r]);
    T* const out = by_negative + r * count;
    over_negatives(negative + r * count, known ? known + r * count : nullptr, count,
                   [&](Vec<T> x, Bits<T> counts, int64_t at, int lanes) __attribute__((always_inline)) {
                     x = keep<T>(gradient[r] * exponential(x - state[r]), counts);
                     lanes < Lanes<T>::count ? store_part(out + at, x, lanes) : store(out + at, x);
                   });
  }
}

// softplus(-margin - positive) + sum of w softplus(margin + negative), w the softmax of temperature * negative, which
// has no gradient; `state` keeps the top score and the sum of the softmax.
template <class T>
void self_adversarial_loss(const T* positive, const T* negative, const bool* known, T* loss, T* state, int64_t rows,
                           int64_t count, double margin_, double temperature_, int threads) {
  const T margin = (T)margin_, temperature = (T)temperature_;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    const T* const scores = negative + r * count;
    const bool* const mask = known ? known + r * count : nullptr;
    const T top = greatest(scores, mask, count);
    Vec<T> total = {}, weighted = {};
    over_negatives(scores, mask, count, [&](Vec<T> x, Bits<T> counts, int64_t, int) __attribute__((always_inline)) {
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
void self_adversarial_gradient(const T* positive, const T* negative, const bool* known, const T* state,
                               const T* gradient, T* by_positive, T* by_negative, int64_t rows, int64_t count,
                               double margin_, double temperature_, int threads) {
  const T margin = (T)margin_, temperature = (T)temperature_;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    by_positive[r] = -gradient[r] * sigmoid(-margin - positive[r]);
    const T top = state[2 * r], scale = state[2 * r + 1] != 0 ? gradient[r] / state[2 * r + 1] : 0;
    T* const out = by_negative + r * count;
    over_negatives(negative + r * count, known ? known + r * count : nullptr, count,
                   [&](Vec<T> x, Bits<T> counts, int64_t at, int lanes) __attribute__((always_inline)) {
                     const Vec<T> weight = scale * exponential(temperature * (x - top));
                     x = keep<T>(weight * sigmoid<T>(margin + x), counts);
                     lanes < Lanes<T>::count ? store_part(out + at, x, lanes) : store(out + at, x);
                   });
  }
}

}  // namespace kernel

EXPORT_TYPES(softmax_loss, softmax_loss)
EXPORT_TYPES(softmax_gradient, softmax_gradient)
EXPORT_TYPES(self_adversarial_loss, self_adversarial_loss)
EXPORT_TYPES(self_adversarial_gradient, self_adversarial_gradient)
