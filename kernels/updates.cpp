// Updates of table rows in place, one pass over each row: the optimisers of embedding/optimizer.py, and the unit ball.
#include <algorithm>
#include <cmath>

#include "export.h"

namespace kernel {

// Adagrad with one number of state a row: the running sum of the gradient's mean square.
template <class T>
void rowwise_adagrad(T* weight, T* square_sum, const int64_t* row, const T* gradient, int64_t rows, int64_t width,
                     double rate, double eps, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    T* const w = weight + row[r] * width;
    const T* const g = gradient + r * width;
    double square = 0;
#pragma omp simd reduction(+ : square)
    for (int64_t i = 0; i < width; ++i) square += (double)g[i] * (double)g[i];
    T& sum = square_sum[row[r]];
    sum += (T)(square / (double)width);
    const T step = (T)(rate / (std::sqrt((double)sum) + eps));
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) w[i] -= step * g[i];
  }
}

// Adam on the rows that have a gradient, or on all of `rows`: then a row without one has gradient 0. Bias corrections
// come ready made.
template <class T>
void adam(T* weight, T* mean, T* square, const int64_t* row, const T* gradient, int64_t gradients, int64_t rows,
          int64_t all, int64_t width, double beta1, double beta2, double rate, double root_correction, double eps,
          double decay, int threads) {
  const T b1 = (T)(1 - beta1), b2 = (T)beta2, c2 = (T)(1 - beta2), size = (T)rate, root = (T)(1 / root_correction);
  const T epsilon = (T)eps, lambda = (T)decay;
  const int64_t updated = all ? rows : gradients, block = 64;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t first = 0; first < updated; first += block) {
    int64_t g = all ? std::lower_bound(row, row + gradients, first) - row : first;
    for (int64_t u = first; u < std::min(first + block, updated); ++u) {
      const int64_t r = all ? u : row[u];
      const bool touched = g < gradients && row[g] == r;
      const T* const from = gradient + (touched ? g++ : 0) * width;
      const T scale = touched ? 1 : 0;
      T *const w = weight + r * width, *const m = mean + r * width, *const v = square + r * width;
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) {
        const T grad = (touched ? scale * from[i] : 0) + lambda * w[i];
        m[i] += b1 * (grad - m[i]);
        v[i] = b2 * v[i] + c2 * grad * grad;
        w[i] -= size * m[i] / (std::sqrt(v[i]) * root + epsilon);
      }
    }
  }
}

// Scales columns [first, last) of rows back to a norm of at most `most`; of all rows where `row` is null.
template <class T>
void clip_rows(T* weight, const int64_t* row, int64_t rows, int64_t width, int64_t first, int64_t last, double most,
               int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    T* const w = weight + (row ? row[r] : r) * width;
    T square = 0;
#pragma omp simd reduction(+ : square)
    for (int64_t i = first; i < last; ++i) square += w[i] * w[i];
    if (square <= (T)(most * most)) continue;
    const T by = (T)(most / std::sqrt(square));
#pragma omp simd
    for (int64_t i = first; i < last; ++i) w[i] *= by;
  }
}

}  // namespace kernel

EXPORT_TYPES(rowwise_adagrad, rowwise_adagrad)
EXPORT_TYPES(adam, adam)
EXPORT_TYPES(clip_rows, clip_rows)
