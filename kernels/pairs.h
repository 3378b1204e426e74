// What a pair of rows gives: its score, and what the score's gradient adds to one of the two.
#pragma once
#include "vector.h"

enum Kind { DOT, L1, L2, MODULUS };

// By |q - c|^2 = |q|^2 + |c|^2 - 2 q.c a pair is near if its squared distance is at most this share of |q|^2 + |c|^2: what is
// left of terms that cancel would be rounding, so that it is done again from its difference. Two rows of zeros are near.
constexpr double NEAR = 0.125;

// Columns that are walked: the modulus takes a real and an imaginary part together.
template <Kind K>
INLINE int64_t walked(int64_t width) {
  return K == MODULUS ? width / 2 : width;
}

// The largest tile of scores that registers hold, beside the rows that it is made from.
constexpr int TILE_QUERIES = 4, TILE_CANDIDATES = REGISTERS == 32 ? 4 : 2;

// Scores of Q queries with N candidates, all sums in registers.
template <class T, Kind K, int Q, int N>
INLINE void score_tile(const T* const* query, const T* const* candidate, int64_t width, T* out, int64_t stride) {
  Vec<T> total[Q][N] = {};
  const int64_t half = walked<K>(width);
  over_vectors<T>(half, [&](int64_t at, int lanes) __attribute__((always_inline)) {
    Vec<T> c[N], c2[N];
    for (int j = 0; j < N; ++j) {
      c[j] = load_some(candidate[j] + at, lanes);
      if constexpr (K == MODULUS) c2[j] = load_some(candidate[j] + half + at, lanes);
    }
    for (int i = 0; i < Q; ++i) {
      const Vec<T> q = load_some(query[i] + at, lanes);
      Vec<T> q2;
      if constexpr (K == MODULUS) q2 = load_some(query[i] + half + at, lanes);
      for (int j = 0; j < N; ++j) {
        if constexpr (K == DOT) total[i][j] = multiply_add<T>(q, c[j], total[i][j]);
        if constexpr (K == L1) total[i][j] += absolute<T>(q - c[j]);
        if constexpr (K == L2) total[i][j] = multiply_add<T>(q - c[j], q - c[j], total[i][j]);
        if constexpr (K == MODULUS) {
          const Vec<T> real = q - c[j], imaginary = q2 - c2[j];
          const Vec<T> square = multiply_add<T>(real, real, imaginary * imaginary);
          total[i][j] = multiply_add<T>(square, inverse_root<T>(square), total[i][j]);
        }
      }
    }
  });
  for (int i = 0; i < Q; ++i)
    for (int j = 0; j < N; ++j) {
      const T value = sum<T>(total[i][j]);
      out[i * stride + j] = K == DOT ? value : K == L2 ? -std::sqrt(value) : -value;
    }
}

template <class T>
INLINE bool is_near(T score, T query_square, T candidate_square) {
  return score * score <= (T)NEAR * (query_square + candidate_square);
}

// Inner products of a query with candidates that lie one after the other, to minus its distances from them; says whether
// a pair is near.
template <class T>
INLINE bool distances(T* score, const T* query, const T* candidate, T query_square, const T* candidate_square,
                      int64_t count, int64_t width) {
  int64_t near = 0;
#pragma omp simd reduction(+ : near)
  for (int64_t j = 0; j < count; ++j) {
    const T both = query_square + candidate_square[j], square = both - 2 * score[j];
    const bool again = square <= (T)NEAR * both;
    near += again;
    score[j] = again ? 1 : -std::sqrt(square);  // no distance: a mark
  }
  for (int64_t j = 0; near && j < count; ++j) {
    if (!(score[j] > 0)) continue;
    const T* const c = candidate + j * width;
    score_tile<T, L2, 1, 1>(&query, &c, width, &score[j], 1);
  }
  return near != 0;
}

// Adds to `into` the gradient by `row` of weight[j] times the score of the pair (row, other[j]): scores are symmetric.
// For L2 the weight has been divided by the score, for then it needs no root.
template <class T, Kind K, int N, class Into>
INLINE void add_gradient(const T* row, const T* const* other, const T* weight, int64_t width, Into* into) {
  const int64_t half = walked<K>(width);
  Vec<T> w[N];
  for (int j = 0; j < N; ++j) w[j] = weight[j] - Vec<T>{};
  over_vectors<T>(half, [&](int64_t at, int lanes) __attribute__((always_inline)) {
    Vec<T> total = {}, total2 = {}, r, r2;
    if constexpr (K != DOT) r = load_some(row + at, lanes);
    if constexpr (K == MODULUS) r2 = load_some(row + half + at, lanes);
    for (int j = 0; j < N; ++j) {
      const Vec<T> o = load_some(other[j] + at, lanes);
      if constexpr (K == DOT) total += w[j] * o;
      if constexpr (K == L2) total += w[j] * (r - o);
      if constexpr (K == L1) {
        const Vec<T> apart = r - o;
        total -= keep<T>((Vec<T>)((Bits<T>)w[j] ^ ((Bits<T>)apart & Lanes<T>::sign)), apart != 0);
      }
      if constexpr (K == MODULUS) {
        const Vec<T> real = r - o, imaginary = r2 - load_some(other[j] + half + at, lanes);
        const Vec<T> by = w[j] * inverse_root<T>(real * real + imaginary * imaginary);
        total -= by * real;
        total2 -= by * imaginary;
      }
    }
    add_to(into + at, total, lanes);
    if constexpr (K == MODULUS) add_to(into + half + at, total2, lanes);
  });
}

template <class T, Kind K>
INLINE T gradient_weight(T coefficient, T score) {
  if constexpr (K == L2) return score < 0 ? coefficient / score : 0;
  return coefficient;
}
