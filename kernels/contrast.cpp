// Scores queries against pools of candidates, and computes the loss and all gradients in the same pass. One matrix
// product scores a piece of a chunk. Then the loss is computed, and two more products give the gradients while the
// scores are still in the cache. The matrix products are those of the library that torch was built with: the caller
// passes their address. Each thread runs products of its own.
#include <algorithm>
#include <vector>

#include "export.h"
#include "functions.h"
#include "pairs.h"

namespace kernel {

enum Loss { SOFTMAX, SELF_ADVERSARIAL };

// The number of queries in a piece. It is a constant, so that sums do not depend on the number of threads.
constexpr int64_t PIECE = 256;
// The number of scores that are handled at a time. They take a quarter of a level 2 cache.
constexpr int64_t SCORES = 1 << 16;

// Fortran's matrix product (gemm). Some libraries read sizes of 32 bits, others of 64 bits. A small number that is
// stored in 64 bits can be read as either.
template <class T>
using Product = void (*)(const char*, const char*, const int64_t*, const int64_t*, const int64_t*, const T*, const T*,
                         const int64_t*, const T*, const int64_t*, const T*, T*, const int64_t*);
using SetThreads = int (*)(int);

// out [m, n] = left [m, k] right [k, n] + keep * out. All arrays are stored row by row; left and right may be
// transposed. The library expects arrays that are stored column by column, so it gets the factors in swapped order.
template <class T>
INLINE void multiply(Product<T> product, bool left_transposed, bool right_transposed, int64_t m, int64_t n, int64_t k,
                     const T* left, const T* right, T keep, T* out) {
  const int64_t left_step = left_transposed ? m : k, right_step = right_transposed ? k : n;
  const T one = 1;
  product(right_transposed ? "T" : "N", left_transposed ? "T" : "N", &n, &m, &k, &one, right, &right_step, left,
          &left_step, &keep, out, &n);
}

// One such product alone. products.py uses it to test the library.
template <class T>
void matrix_product(const T* left, const T* right, T* out, int64_t m, int64_t n, int64_t k, int64_t left_transposed,
                    int64_t right_transposed, double keep, int64_t product, int64_t set_threads) {
  const int before = reinterpret_cast<SetThreads>(set_threads)(1);
  multiply<T>(reinterpret_cast<Product<T>>(product), left_transposed, right_transposed, m, n, k, left, right, (T)keep,
              out);
  reinterpret_cast<SetThreads>(set_threads)(before);
}

// The loss of a positive against its negatives, as in losses.cpp. `gradient` gets the loss's derivative with respect to
// each negative's score, times weight, and `by_positive` the derivative with respect to the positive's score.
template <class T, Loss L>
INLINE T judge(T positive, const T* scores, const bool* known, int64_t count, T weight, T margin, T temperature,
               T* gradient, T* by_positive) {
  const Vec<T> lowest = Vec<T>{} - INFINITY;
  Vec<T> tops = lowest, total = {}, weighted = {};
  over_counted(scores, known, count, [&](Vec<T> x, Bits<T> counts, int64_t, int) __attribute__((always_inline)) {
    x = counts ? x : lowest;
    tops = x > tops ? x : tops;
  });
  T top = L == SOFTMAX ? positive : tops[0];
  for (int i = 0; i < Lanes<T>::count; ++i) top = std::max(top, tops[i]);
  over_counted(scores, known, count,
               [&](Vec<T> x, Bits<T> counts, int64_t at, int lanes) __attribute__((always_inline)) {
                 if constexpr (L == SOFTMAX) {
                   x = keep<T>(exponential(x - top), counts);
                   total += x;
                 } else {
                   const Vec<T> share = keep<T>(exponential(temperature * (x - top)), counts);
                   x += margin;
                   const Vec<T> small = exponential(-absolute<T>(x)), inverse = reciprocal<T>(1 + small);
                   total += share;
                   weighted += share * keep<T>((x > 0 ? x : Vec<T>{}) + log_of_one_plus(small), counts);
                   x = keep<T>(share * (x > 0 ? inverse : small * inverse), counts);
                 }
                 store_some(gradient + at, x, lanes);
               });
  T sum_of_shares = sum<T>(total), loss;
  if constexpr (L == SOFTMAX) {
    sum_of_shares += std::exp(positive - top);
    loss = top + std::log(sum_of_shares) - positive;
    *by_positive = weight * std::expm1(-loss);
  } else {
    loss = softplus(-margin - positive) + (sum_of_shares != 0 ? sum<T>(weighted) / sum_of_shares : 0);
    *by_positive = -weight * sigmoid(-margin - positive);
  }
  const T scale = sum_of_shares != 0 ? weight / sum_of_shares : 0;
  over_row(gradient, count, [&](Vec<T> x, int64_t at, int lanes) __attribute__((always_inline)) {
    store_some(gradient + at, x * scale, lanes);
  });
  return loss;
}

template <class T>
INLINE T square_of(const T* row, int64_t width) {
  Vec<T> total = {};
  over_row(row, width, [&](Vec<T> x, int64_t, int) __attribute__((always_inline)) { total += x * x; });
  return sum<T>(total);
}

// Replaces the loss's derivatives g with respect to a query's distances by g / score for far pairs, and by 0 for near
// pairs; returns the sum. The gradients of near pairs are added here, to `near_query` and to `near_candidate`. The sign
// of the latter is changed at the end.
template <class T>
INLINE T pair_weights(T* slope, const T* score, const T* query, const T* candidate, T query_square,
                      const T* candidate_square, bool has_near, int64_t count, int64_t width, T* near_query,
                      T* near_candidate) {
  T total = 0;
  for (int64_t j = 0; has_near && j < count; ++j) {
    const T s = score[j];
    if (!is_near(s, query_square, candidate_square[j])) continue;
    const T w = s < 0 ? slope[j] / s : 0;
    slope[j] = 0;
    const T* const c = candidate + j * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      const T part = w * (query[i] - c[i]);
      near_query[i] += part;
      near_candidate[j * width + i] += part;
    }
  }
#pragma omp simd reduction(+ : total)
  for (int64_t j = 0; j < count; ++j) {
    slope[j] = slope[j] != 0 ? slope[j] / score[j] : 0;
    total += slope[j];
  }
  return total;
}

// Keeps the buffers of a thread from one call to the next. New memory would cost a page fault for each 4 kB, because
// the operating system first fills it with zeros.
template <class T>
class Scratch {
 public:
  T* take(int64_t count) {
    static thread_local std::vector<std::vector<T>> kept;
    if (taken == kept.size()) kept.emplace_back();
    std::vector<T>& buffer = kept[taken++];
    if ((int64_t)buffer.size() < count) buffer.resize(count);
    return buffer.data();
  }

 private:
  size_t taken = 0;
};

// Compares the queries of each chunk with the candidates of that chunk. `queries` and `candidates` are their numbers.
// `target` has the place of each query's positive, and `weight` the weight of each query's loss. `by_candidate` has an
// array [candidates, width] for each piece of a chunk.
template <class T, Kind K, Loss L>
void contrast(const T* query, const T* rows, const int64_t* place, const int64_t* target, OrNone<const bool> known,
              const T* weight, T* positive, T* negative, T* loss, T* by_positive, T* by_query, T* by_candidate,
              int64_t chunks, int64_t queries, int64_t candidates, int64_t width, double margin, double temperature,
              int64_t product, int64_t set_threads, int threads) {
  const auto multiply_by = reinterpret_cast<Product<T>>(product);
  const int64_t pieces = (queries + PIECE - 1) / PIECE, block = std::clamp(SCORES / candidates, (int64_t)32, PIECE);
#pragma omp parallel num_threads(threads)
  {
    const int before = reinterpret_cast<SetThreads>(set_threads)(1);
    const int64_t at_once = std::min(block, queries), if_far = K == L2;
    Scratch<T> scratch;
    T *const pool = scratch.take(candidates * width), *const gradient = scratch.take(at_once * candidates);
    T *const pool_square = scratch.take(if_far * candidates), *const pool_sum = scratch.take(if_far * candidates);
    T *const near_query = scratch.take(if_far * at_once * width), *const weight_sum = scratch.take(if_far * at_once);
#pragma omp for schedule(dynamic)
    for (int64_t piece = 0; piece < chunks * pieces; ++piece) {
      const int64_t chunk = piece / pieces, first = chunk * queries + piece % pieces * PIECE;
      const int64_t last = std::min(first + PIECE, (chunk + 1) * queries);
      for (int64_t j = 0; j < candidates; ++j) {
        const T* const row = rows + place[chunk * candidates + j] * width;
        if (j + ROWS_AHEAD < candidates) prefetch(rows + place[chunk * candidates + j + ROWS_AHEAD] * width, width);
        std::copy(row, row + width, pool + j * width);
        if constexpr (K == L2) pool_square[j] = square_of(row, width);
      }
      T* const out = by_candidate + piece * candidates * width;
      if constexpr (K == L2) std::fill(out, out + candidates * width, T(0));
      if constexpr (K == L2) std::fill(pool_sum, pool_sum + candidates, T(0));
      for (int64_t start = first; start < last; start += block) {
        const int64_t count = std::min(block, last - start);
        const T* const q = query + start * width;
        T *const scores = negative + start * candidates, *const dq = by_query + start * width;
        multiply<T>(multiply_by, false, true, count, candidates, width, q, pool, 0, scores);
        if constexpr (K == L2) std::fill(near_query, near_query + count * width, T(0));
        for (int64_t i = 0; i < count; ++i) {
          const int64_t row = start + i;
          if (row + 1 < last) prefetch(rows + target[row + 1] * width, width);
          T *const score = scores + i * candidates, *const slope = gradient + i * candidates;
          const T *const own = q + i * width, *const t = rows + target[row] * width;
          T square = 0;
          bool has_near = false;
          if constexpr (K == L2) {
            square = square_of(own, width);
            has_near = distances(score, own, pool, square, pool_square, candidates, width);
          }
          score_tile<T, K, 1, 1>(&own, &t, width, &positive[row], 1);
          loss[row] = judge<T, L>(positive[row], score, known ? known + row * candidates : nullptr, candidates,
                                  weight[row], (T)margin, (T)temperature, slope, &by_positive[row]);
          if constexpr (K == L2) {
            weight_sum[i] = pair_weights(slope, score, own, pool, square, pool_square, has_near, candidates, width,
                                         near_query + i * width, out);
#pragma omp simd
            for (int64_t j = 0; j < candidates; ++j) pool_sum[j] += slope[j];
          }
        }
        multiply<T>(multiply_by, false, false, count, width, candidates, gradient, pool, 0, dq);
        multiply<T>(multiply_by, true, false, candidates, width, count, gradient, q, start > first || K == L2,
                    out);
        for (int64_t i = 0; i < count; ++i) {
          const T *const own = q + i * width, *const t = rows + target[start + i] * width;
          if constexpr (K == L2) {
#pragma omp simd
            for (int64_t x = 0; x < width; ++x)
              dq[i * width + x] = weight_sum[i] * own[x] - dq[i * width + x] + near_query[i * width + x];
          }
          const T w = gradient_weight<T, K>(by_positive[start + i], positive[start + i]);
          add_gradient<T, K, 1>(own, &t, &w, width, dq + i * width);
        }
      }
      if constexpr (K == L2) {
        for (int64_t j = 0; j < candidates; ++j)
#pragma omp simd
          for (int64_t i = 0; i < width; ++i)
            out[j * width + i] = pool_sum[j] * pool[j * width + i] - out[j * width + i];
      }
    }
    reinterpret_cast<SetThreads>(set_threads)(before);
  }
}

}  // namespace kernel

#define EXPORT_LOSSES(name, loss)                                             \
  EXPORT(contrast_dot_##name##_float32, contrast<float, DOT, kernel::loss>)   \
  EXPORT(contrast_dot_##name##_float64, contrast<double, DOT, kernel::loss>)  \
  EXPORT(contrast_l2_##name##_float32, contrast<float, L2, kernel::loss>)     \
  EXPORT(contrast_l2_##name##_float64, contrast<double, L2, kernel::loss>)

EXPORT_TYPES(matrix_product, matrix_product)
EXPORT_LOSSES(softmax, SOFTMAX)
EXPORT_LOSSES(self_adversarial, SELF_ADVERSARIAL)
