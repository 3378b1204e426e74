// Euclidean distances from a matrix product: |q - c|^2 = |q|^2 + |c|^2 - 2 q.c. For near pairs the terms cancel, and
// mostly rounding errors would be left. So the distance of a near pair is computed again, from q - c.
#include <cmath>
#include <vector>

#include "export.h"
#include "pairs.h"

namespace kernel {

// Replaces the inner products in `scores` by minus the distances.
template <class T>
void euclidean_scores(T* scores, const T* query, const T* candidate, const T* query_square, const T* candidate_square,
                      int64_t chunks, int64_t queries, int64_t candidates, int64_t width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t row = 0; row < chunks * queries; ++row) {
    const int64_t first = row / queries * candidates;
    distances(scores + row * candidates, query + row * width, candidate + first * width, query_square[row],
              candidate_square + first, candidates, width);
  }
}

// The first part of the gradient, before the matrix products: the weight g / score of each far pair, and the sum of the
// weights of each query. g is the gradient with respect to the score.
template <class T>
void euclidean_weights(const T* coefficient, const T* score, const T* query_square, const T* candidate_square,
                       T* weight, T* query_sum, int64_t chunks, int64_t queries, int64_t candidates, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t row = 0; row < chunks * queries; ++row) {
    const T* const c2 = candidate_square + row / queries * candidates;
    const T *const g = coefficient + row * candidates, *const s = score + row * candidates;
    T* const w = weight + row * candidates;
    T total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t j = 0; j < candidates; ++j) {
      w[j] = is_near(s[j], query_square[row], c2[j]) ? 0 : g[j] / s[j];
      total += w[j];
    }
    query_sum[row] = total;
  }
}

// The second part, after the matrix products. `query_out` holds the product of weights and candidates, `candidate_out`
// that of weights and queries. They are replaced by the gradients, sum(w) q - w c, to which near pairs are added.
template <class T>
void euclidean_gradients(const T* coefficient, const T* score, const T* weight, const T* query, const T* candidate,
                         const T* query_square, const T* candidate_square, const T* query_sum, T* query_out,
                         T* candidate_out, int64_t chunks, int64_t queries, int64_t candidates, int64_t width,
                         int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    std::vector<T> candidate_sum(candidates);
    for (int64_t row = chunk * queries; row < (chunk + 1) * queries; ++row) {
      const T* const q = query + row * width;
      T* const to = query_out + row * width;
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) to[i] = query_sum[row] * q[i] - to[i];
#pragma omp simd
      for (int64_t j = 0; j < candidates; ++j) candidate_sum[j] += weight[row * candidates + j];
    }
    for (int64_t j = 0; j < candidates; ++j) {
      const T* const c = candidate + (chunk * candidates + j) * width;
      T* const to = candidate_out + (chunk * candidates + j) * width;
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) to[i] = candidate_sum[j] * c[i] - to[i];
    }
    for (int64_t row = chunk * queries; row < (chunk + 1) * queries; ++row)
      for (int64_t j = 0; j < candidates; ++j) {
        const T s = score[row * candidates + j];
        if (!is_near(s, query_square[row], candidate_square[chunk * candidates + j]) || !(s < 0)) continue;
        const T w = coefficient[row * candidates + j] / s;
        const T *const q = query + row * width, *const c = candidate + (chunk * candidates + j) * width;
        T *const dq = query_out + row * width, *const dc = candidate_out + (chunk * candidates + j) * width;
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) {
          const T part = w * (q[i] - c[i]);
          dq[i] += part;
          dc[i] -= part;
        }
      }
  }
}

}  // namespace kernel

EXPORT_TYPES(euclidean_scores, euclidean_scores)
EXPORT_TYPES(euclidean_weights, euclidean_weights)
EXPORT_TYPES(euclidean_gradients, euclidean_gradients)
