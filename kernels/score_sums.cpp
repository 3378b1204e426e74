// Sums over functions of a row's scores, and what the gradient by each score is. Losses over all entities use them.
#include <algorithm>
#include <cmath>

#include "export.h"
#include "functions.h"

namespace kernel {

// So many scores are added in their own type, then to a sum in double.
constexpr int64_t PART = 256;

// Calls of(vector) for a row's scores, and adds what it gives.
template <class T, class Of>
INLINE double sum_of(const T* score, int64_t count, Of of) {
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += PART) {
    Vec<T> part = {};
    over_counted(score + begin, nullptr, std::min(PART, count - begin),
                 [&](Vec<T> x, Bits<T> counts, int64_t, int)
                     __attribute__((always_inline)) { part += keep<T>(of(x), counts); });
    total += sum<T>(part);
  }
  return total;
}

// log sum exp. Scores of minus infinity add nothing; a row without others gives minus infinity, and one with nan gives nan.
template <class T>
void log_sum_exp(const T* score, double* out, int64_t rows, int64_t count, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    const T* const scores = score + r * count;
    const Vec<T> lowest = Vec<T>{} - INFINITY;
    Vec<T> each = lowest;
    over_counted(scores, nullptr, count,
                 [&](Vec<T> x, Bits<T> counts, int64_t, int) __attribute__((always_inline)) {
                   x = counts ? x : lowest;
                   each = x > each ? x : each;
                 });
    T top = each[0];
    for (int i = 1; i < Lanes<T>::count; ++i) top = std::max(top, each[i]);
    out[r] = top == -INFINITY
                 ? -INFINITY + sum_of(scores, count, [](Vec<T> x) __attribute__((always_inline)) { return x; })
                 : top + std::log(sum_of(scores, count, [&](Vec<T> x)
                                                            __attribute__((always_inline)) { return exponential(x - top); }));
  }
}

template <class T>
void sum_softplus(const T* score, double* out, int64_t rows, int64_t count, double margin, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < rows; ++r)
    out[r] = sum_of(score + r * count, count,
                    [&](Vec<T> x) __attribute__((always_inline)) { return softplus<T>((T)margin + x); });
}

template <class T, class Of>
INLINE void map_row(const T* score, T* out, int64_t count, Of of) {
  over_row(score, count, [&](Vec<T> x, int64_t at, int lanes)
                             __attribute__((always_inline)) { store_some(out + at, of(x), lanes); });
}

// weight * exp(score - log_sum): weight times the derivative of log_sum_exp by each score.
template <class T>
void log_sum_exp_slope(const T* score, const double* log_sum, const double* weight, T* out, int64_t rows, int64_t count,
                       int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    const T of_row = (T)log_sum[r], times = (T)weight[r];
    map_row(score + r * count, out + r * count, count,
            [&](Vec<T> x) __attribute__((always_inline)) { return times * exponential(x - of_row); });
  }
}

// weight * sigmoid(margin + score).
template <class T>
void sum_softplus_slope(const T* score, const double* weight, T* out, int64_t rows, int64_t count, double margin,
                        int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    const T times = (T)weight[r];
    map_row(score + r * count, out + r * count, count,
            [&](Vec<T> x) __attribute__((always_inline)) { return times * sigmoid<T>((T)margin + x); });
  }
}

}  // namespace kernel

EXPORT_TYPES(log_sum_exp, log_sum_exp)
EXPORT_TYPES(sum_softplus, sum_softplus)
EXPORT_TYPES(log_sum_exp_slope, log_sum_exp_slope)
EXPORT_TYPES(sum_softplus_slope, sum_softplus_slope)
