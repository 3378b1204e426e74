// Updates of table rows in place, one pass over each row: the optimisers of embedding/optimizer.py, and the unit ball.
#include <algorithm>
#include <cmath>

#include "export.h"
#include "functions.h"

namespace kernel {

// The parts of a row, each of which is scaled back to a norm of at most `most` after an update; none if there are 0.
struct Ball {
  const int64_t* width;
  int64_t parts;
  double most;

  template <class T>
  INLINE void clip(T* row) const {
    for (int64_t p = 0; p < parts; row += width[p++]) {
      Vec<T> squares = {};
      over_row(row, width[p], [&](Vec<T> x, int64_t, int) __attribute__((always_inline)) { squares += x * x; });
      const T square = sum<T>(squares);
      if (square <= (T)(most * most)) continue;
      const T by = (T)most / std::sqrt(square);
      over_row(row, width[p], [&](Vec<T> x, int64_t at, int lanes) __attribute__((always_inline)) {
        store_some(row + at, x * by, lanes);
      });
    }
  }
};

// Adagrad with one number of state a row: the running sum of the gradient's mean square.
template <class T>
void rowwise_adagrad(T* weight, T* square_sum, const int64_t* row, const T* gradient, int64_t rows, int64_t width,
                     double rate, double eps, const int64_t* part, int64_t parts, double most, int threads) {
  const Ball ball = {part, parts, most};
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    T* const w = weight + row[r] * width;
    const T* const g = gradient + r * width;
    Vec<T> squares = {};
    over_row(g, width, [&](Vec<T> x, int64_t, int) __attribute__((always_inline)) { squares += x * x; });
    T& total = square_sum[row[r]];
    total += sum<T>(squares) / (T)width;
    const T step = (T)rate / (std::sqrt(total) + (T)eps);
    over_row(g, width, [&](Vec<T> x, int64_t at, int lanes) __attribute__((always_inline)) {
      store_some(w + at, load_some(w + at, lanes) - step * x, lanes);
    });
    ball.clip(w);
  }
}

// Adam on the rows that have a gradient, or on all of `rows`: then a row without one has gradient 0. Bias corrections
// come ready made.
template <class T>
void adam(T* weight, T* mean, T* square, const int64_t* row, const T* gradient, int64_t gradients, int64_t rows,
          int64_t all, int64_t width, double beta1, double beta2, double rate, double root_correction, double eps,
          double decay, const int64_t* part, int64_t parts, double most, int threads) {
  const Ball ball = {part, parts, most};
  const T b1 = (T)(1 - beta1), b2 = (T)beta2, c2 = (T)(1 - beta2), size = (T)rate, root = (T)(1 / root_correction);
  const T epsilon = (T)eps, lambda = (T)decay;
  const int64_t updated = all ? rows : gradients, block = 64;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t first = 0; first < updated; first += block) {
    int64_t g = all ? std::lower_bound(row, row + gradients, first) - row : first;
    for (int64_t u = first; u < std::min(first + block, updated); ++u) {
      const int64_t r = all ? u : row[u];
      const T* const from = g < gradients && row[g] == r ? gradient + g++ * width : nullptr;
      T *const w = weight + r * width, *const m = mean + r * width, *const v = square + r * width;
      over_row(w, width, [&](Vec<T> x, int64_t at, int lanes) __attribute__((always_inline)) {
        const Vec<T> grad = (from ? load_some(from + at, lanes) : Vec<T>{}) + lambda * x;
        Vec<T> m1 = load_some(m + at, lanes), v1 = load_some(v + at, lanes);
        m1 += b1 * (grad - m1);
        v1 = b2 * v1 + c2 * grad * grad;
        store_some(m + at, m1, lanes);
        store_some(v + at, v1, lanes);
        store_some(w + at, x - size * m1 / (square_root<T>(v1) * root + epsilon), lanes);
      });
      ball.clip(w);
    }
  }
}

template <class T>
void clip_rows(T* weight, int64_t rows, int64_t width, const int64_t* part, int64_t parts, double most, int threads) {
  const Ball ball = {part, parts, most};
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < rows; ++r) ball.clip(weight + r * width);
}

}  // namespace kernel

EXPORT_TYPES(rowwise_adagrad, rowwise_adagrad)
EXPORT_TYPES(adam, adam)
EXPORT_TYPES(clip_rows, clip_rows)
