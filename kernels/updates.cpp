// Updates table rows in place, in one pass over each row: the optimisers of embedding/optimizer.py, and the scaling of
// rows to a largest norm.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "export.h"
#include "functions.h"
#include "rows.h"

namespace kernel {

// The parts of a row. After an update, each part that is longer than `most` is scaled back to this norm. Without parts
// nothing is scaled.
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

// Adagrad with one number of state for each row: the sum of the mean squares of its gradients.
template <class T>
struct RowwiseAdagrad {
  T *weight, *square_sum;
  int64_t width;
  T rate, eps;
  Ball ball;

  // Asks for the memory of a row that will be updated soon.
  void expect(int64_t row) const {
    prefetch(weight + row * width, width);
    __builtin_prefetch(square_sum + row);
  }

  void operator()(int64_t row, const T* gradient) const {
    T* const w = weight + row * width;
    Vec<T> squares = {};
    over_row(gradient, width, [&](Vec<T> x, int64_t, int) __attribute__((always_inline)) { squares += x * x; });
    T& total = square_sum[row];
    total += sum<T>(squares) / (T)width;
    const T step = rate / (std::sqrt(total) + eps);
    over_row(gradient, width, [&](Vec<T> x, int64_t at, int lanes) __attribute__((always_inline)) {
      store_some(w + at, load_some(w + at, lanes) - step * x, lanes);
    });
    ball.clip(w);
  }
};

// Adam. The caller computes the bias corrections.
template <class T>
struct Adam {
  T *weight, *mean, *square;
  int64_t width;
  T b1, b2, c2, size, root, eps, decay;
  Ball ball;

  // As for RowwiseAdagrad.
  void expect(int64_t row) const {
    for (const T* each : {weight, mean, square}) prefetch(each + row * width, width);
  }

  // A row without a gradient has gradient 0.
  void operator()(int64_t row, const T* gradient) const {
    T *const w = weight + row * width, *const m = mean + row * width, *const v = square + row * width;
    over_row(w, width, [&](Vec<T> x, int64_t at, int lanes) __attribute__((always_inline)) {
      const Vec<T> grad = (gradient ? load_some(gradient + at, lanes) : Vec<T>{}) + decay * x;
      Vec<T> m1 = load_some(m + at, lanes), v1 = load_some(v + at, lanes);
      m1 += b1 * (grad - m1);
      v1 = b2 * v1 + c2 * grad * grad;
      store_some(m + at, m1, lanes);
      store_some(v + at, v1, lanes);
      store_some(w + at, x - size * m1 / (square_root<T>(v1) * root + eps), lanes);
    });
    ball.clip(w);
  }
};

// The gradient of rows: either already summed, or as sources from which it is summed (see rows.h).
template <class T>
struct Gradient {
  const int64_t* row;  // ascending
  int64_t rows;
  const T* value;
  const Source* sources;
  const T* table;
  const int32_t* order;
  const int64_t* begin;
};

// Updates the rows that have a gradient. Each sum is rounded to the rows' type and used at once; it is never stored.
template <class T, class Update>
void update_rows(const Gradient<T>& of, int64_t width, int threads, const Update& update) {
  if (of.sources)
    return sum_each_row(
        of.sources, of.table, of.row, of.order, of.begin, of.rows, width, threads,
        [&](int64_t r) { update.expect(of.row[r]); },
        [&](int64_t r, double* total) {
          // This works in place: each number is read before a narrower one overwrites it.
          T* const gradient = reinterpret_cast<T*>(total);
          for (int64_t i = 0; i < width; ++i) {
            const T rounded = (T)total[i];
            std::memcpy(gradient + i, &rounded, sizeof rounded);
          }
          update(of.row[r], gradient);
        });
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < of.rows; ++r) {
    if (r + ROWS_AHEAD < of.rows) update.expect(of.row[r + ROWS_AHEAD]);
    update(of.row[r], of.value + r * width);
  }
}

template <class T>
void rowwise_adagrad(T* weight, T* square_sum, const int64_t* row, int64_t rows, OrNone<const T> value,
                     OrNone<const Source> sources, OrNone<const T> table, OrNone<const int32_t> order,
                     OrNone<const int64_t> begin, int64_t width, double rate, double eps, OrNone<const int64_t> part,
                     int64_t parts, double most, int threads) {
  const RowwiseAdagrad<T> update = {weight, square_sum, width, (T)rate, (T)eps, {part, parts, most}};
  update_rows<T>({row, rows, value, sources, table, order, begin}, width, threads, update);
}

// Adam for the rows that have a gradient, or, with `all`, for all rows of the table.
template <class T>
void adam(T* weight, T* mean, T* square, const int64_t* row, int64_t rows, OrNone<const T> value,
          OrNone<const Source> sources, OrNone<const T> table, OrNone<const int32_t> order, OrNone<const int64_t> begin,
          int64_t width, int64_t all, double beta1, double beta2, double rate, double root, double eps, double decay,
          OrNone<const int64_t> part, int64_t parts, double most, int threads) {
  const Adam<T> update = {weight,  mean,           square,   width,   (T)(1 - beta1), (T)beta2, (T)(1 - beta2),
                          (T)rate, (T)(1 / root), (T)eps, (T)decay, {part, parts, most}};
  update_rows<T>({row, rows, value, sources, table, order, begin}, width, threads, update);
  constexpr int64_t BLOCK = 64;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t first = 0; first < all; first += BLOCK) {
    const int64_t* has = std::lower_bound(row, row + rows, first);
    for (int64_t r = first; r < std::min(first + BLOCK, all); ++r)
      if (has < row + rows && *has == r)
        ++has;
      else
        update(r, nullptr);
  }
}

// Adagrad with a state for each number.
template <class T>
void adagrad(T* weight, T* square_sum, const T* gradient, int64_t count, double rate, double eps, int threads) {
#pragma omp parallel for simd num_threads(threads) schedule(static)
  for (int64_t i = 0; i < count; ++i) {
    square_sum[i] += gradient[i] * gradient[i];
    weight[i] -= (T)rate * gradient[i] / (std::sqrt(square_sum[i]) + (T)eps);
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
EXPORT_TYPES(adagrad, adagrad)
EXPORT_TYPES(clip_rows, clip_rows)
