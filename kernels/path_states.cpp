// The states of nodes after a layer of NBFNet, the scores of states, and the gradients of both. Numbers between input and
// output are kept for 32 rows only, and are made again for the gradients. One thread does all: as for the sums of messages,
// ranks share the queries. A number that is nan stays nan, so that a model that has diverged is noticed.
#include <algorithm>
#include <cmath>
#include <vector>

#include "export.h"
#include "vector.h"

namespace kernel {
namespace {

// Rows that are worked on at a time, a multiple of TOGETHER.
constexpr int64_t ROWS = 32;
// Rows whose sums are in registers at a time.
constexpr int TOGETHER = 4;
// What the variance of a row is made larger by, as in torch's layer_norm.
constexpr double EPSILON = 1e-5;

// Adds to rows of out, of `columns` numbers, the sums over b < count of left[a * by_row + b * by_sum] * right[b, ...].
template <class T, int VECTORS>
INLINE void add_tile(const T* left, int64_t by_row, int64_t by_sum, const T* right, T* out, int64_t columns,
                     int64_t count) {
  constexpr int lanes = Lanes<T>::count;
  Vec<T> total[TOGETHER][VECTORS];
  for (int a = 0; a < TOGETHER; ++a)
    for (int v = 0; v < VECTORS; ++v) total[a][v] = load(out + a * columns + v * lanes);
  for (int64_t b = 0; b < count; ++b) {
    Vec<T> row[VECTORS];
    for (int v = 0; v < VECTORS; ++v) row[v] = load(right + b * columns + v * lanes);
    for (int a = 0; a < TOGETHER; ++a) {
      const Vec<T> x = Vec<T>{} + left[a * by_row + b * by_sum];
      for (int v = 0; v < VECTORS; ++v) total[a][v] = multiply_add<T>(x, row[v], total[a][v]);
    }
  }
  for (int a = 0; a < TOGETHER; ++a)
    for (int v = 0; v < VECTORS; ++v) store(out + a * columns + v * lanes, total[a][v]);
}

// Adds the product of two matrices to out [rows, columns]; rows is a multiple of TOGETHER, columns one of the lanes.
template <class T>
void add_product(const T* left, int64_t by_row, int64_t by_sum, const T* right, T* out, int64_t rows, int64_t columns,
                 int64_t count) {
  constexpr int lanes = Lanes<T>::count;
  for (int64_t a = 0; a < rows; a += TOGETHER) {
    int64_t k = 0;
    for (; k + 2 * lanes <= columns; k += 2 * lanes)
      add_tile<T, 2>(left + a * by_row, by_row, by_sum, right + k, out + a * columns + k, columns, count);
    if (k < columns)
      add_tile<T, 1>(left + a * by_row, by_row, by_sum, right + k, out + a * columns + k, columns, count);
  }
}

// A matrix whose rows are filled with zeros to whole vectors of either type.
template <class T>
struct Padded {
  int64_t width;
  std::vector<T> numbers;

  static int64_t padded(int64_t width) {
    constexpr int64_t lanes = Lanes<float>::count;
    return (width + lanes - 1) / lanes * lanes;
  }
  Padded(int64_t rows, int64_t columns) : width(padded(columns)), numbers(rows * width) {}
  // A square matrix, or its transpose; both ways are filled up with zeros.
  static Padded square(const T* from, int64_t size, bool transposed) {
    Padded made(padded(size), size);
    for (int64_t j = 0; j < size; ++j)
      for (int64_t k = 0; k < size; ++k) made.row(transposed ? k : j)[transposed ? j : k] = from[j * size + k];
    return made;
  }
  T* row(int64_t number) { return numbers.data() + number * width; }
  const T* row(int64_t number) const { return numbers.data() + number * width; }
  void clear() { std::fill(numbers.begin(), numbers.end(), T(0)); }
  // Gives each row the same numbers.
  void fill(const T* from, int64_t columns) {
    for (int64_t i = 0; i < ROWS; ++i) std::copy_n(from, columns, row(i));
  }
  // Takes the rows `first` to `last` - 1 of an array; the others are 0.
  template <class From>
  void take(const From* from, int64_t columns, int64_t first, int64_t last) {
    clear();
    for (int64_t i = first; i < last; ++i)
      for (int64_t k = 0; k < columns; ++k) row(i - first)[k] = (T)from[i * columns + k];
  }
  // Adds the product of rows and a square matrix.
  void add(const Padded& left, const Padded& right) {
    add_product(left.row(0), left.width, (int64_t)1, right.row(0), row(0), ROWS, width, width);
  }
};

// The sum over rows of outer products, in float64, and the float64 copies of the rows that it is made from.
template <class T>
struct Outer {
  Padded<double> total, left, right;

  explicit Outer(int64_t width) : total(Padded<T>::padded(width), width), left(ROWS, width), right(ROWS, width) {}
  void add(const Padded<T>& from, const Padded<T>& given) {
    for (size_t i = 0; i < from.numbers.size(); ++i) left.numbers[i] = from.numbers[i];
    for (size_t i = 0; i < given.numbers.size(); ++i) right.numbers[i] = given.numbers[i];
    add_product(left.row(0), (int64_t)1, left.width, right.row(0), total.row(0), total.width, total.width, ROWS);
  }
  void write(double* to, int64_t size) const {
    for (int64_t j = 0; j < size; ++j)
      for (int64_t k = 0; k < size; ++k) to[j * size + k] = total.row(j)[k];
  }
};

template <class T>
INLINE T mean(const T* x, int64_t width) {
  T total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t k = 0; k < width; ++k) total += x[k];
  return total / width;
}

template <class T>
INLINE T mean_product(const T* x, const T* y, int64_t width) {
  T total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t k = 0; k < width; ++k) total += x[k] * y[k];
  return total / width;
}

// Gives the numbers of a row mean 0 and variance 1, and returns what they were multiplied by.
template <class T>
INLINE T normalise(T* x, int64_t width) {
  const T middle = mean(x, width);
#pragma omp simd
  for (int64_t k = 0; k < width; ++k) x[k] -= middle;
  const T by = 1 / std::sqrt(mean_product(x, x, width) + (T)EPSILON);
#pragma omp simd
  for (int64_t k = 0; k < width; ++k) x[k] *= by;
  return by;
}

}  // namespace

// after[i] = state[i] + relu(norm(state[i] A + message[i] B + bias)) with A above B in `update`; a state from `before` on
// is 0.
template <class T>
void grow(const T* state, const T* message, const T* update, const T* bias, T* after, int64_t before, int64_t nodes,
          int64_t width) {
  const auto of_state = Padded<T>::square(update, width, false);
  const auto of_message = Padded<T>::square(update + width * width, width, false);
  Padded<T> old(ROWS, width), sent(ROWS, width), made(ROWS, width);
  for (int64_t first = 0; first < nodes; first += ROWS) {
    const int64_t last = std::min(first + ROWS, nodes);
    made.fill(bias, width);
    sent.take(message, width, first, last);
    made.add(sent, of_message);
    if (first < before) {
      old.take(state, width, first, std::min(last, before));
      made.add(old, of_state);
    }
    for (int64_t i = first; i < last; ++i) {
      T* const x = made.row(i - first);
      normalise(x, width);
      for (int64_t k = 0; k < width; ++k)
        after[i * width + k] = (i < before ? state[i * width + k] : 0) + (x[k] < 0 ? 0 : x[k]);
    }
  }
}

// The gradients of `grow`; those by `update` and `bias` in float64. by_bias, 0 at first, is added to.
template <class T>
void grow_gradient(const T* state, const T* message, const T* update, const T* bias, const T* by_after, T* by_state,
                   T* by_message, double* by_update, double* by_bias, int64_t before, int64_t nodes, int64_t width) {
  const T* const second = update + width * width;
  const auto of_state = Padded<T>::square(update, width, false), back_state = Padded<T>::square(update, width, true);
  const auto of_message = Padded<T>::square(second, width, false), back_message = Padded<T>::square(second, width, true);
  Padded<T> old(ROWS, width), sent(ROWS, width), made(ROWS, width), given(ROWS, width), back(ROWS, width);
  Outer<T> of_old(width), of_sent(width);
  for (int64_t first = 0; first < nodes; first += ROWS) {
    const int64_t last = std::min(first + ROWS, nodes), known = std::min(last, before);
    made.fill(bias, width);
    sent.take(message, width, first, last);
    made.add(sent, of_message);
    if (first < known) {
      old.take(state, width, first, known);
      made.add(old, of_state);
    }
    given.clear();
    for (int64_t i = first; i < last; ++i) {
      T *const x = made.row(i - first), *const g = given.row(i - first);
      const T by = normalise(x, width);
      for (int64_t k = 0; k < width; ++k) g[k] = x[k] <= 0 ? 0 : by_after[i * width + k];
      const T middle = mean(g, width), along = mean_product(g, x, width);
      for (int64_t k = 0; k < width; ++k) g[k] = by * (g[k] - middle - x[k] * along);
      for (int64_t k = 0; k < width; ++k) by_bias[k] += g[k];
    }
    back.clear();
    back.add(given, back_message);
    for (int64_t i = first; i < last; ++i) std::copy_n(back.row(i - first), width, by_message + i * width);
    of_sent.add(sent, given);
    if (first >= known) continue;
    back.clear();
    back.add(given, back_state);
    for (int64_t i = first; i < known; ++i)
      for (int64_t k = 0; k < width; ++k)
        by_state[i * width + k] = by_after[i * width + k] + back.row(i - first)[k];
    of_old.add(old, given);
  }
  of_old.write(by_update, width);
  of_sent.write(by_update + width * width, width);
}

// score[i] = the sum over k of to_score[k] relu(state[i] of_state + of_query[query[i]])[k].
template <class T>
void state_scores(const T* state, const int32_t* query, const T* of_query, const T* of_state, const T* to_score,
                  T* score, int64_t nodes, int64_t width) {
  const auto matrix = Padded<T>::square(of_state, width, false);
  Padded<T> rows(ROWS, width), hidden(ROWS, width);
  for (int64_t first = 0; first < nodes; first += ROWS) {
    const int64_t last = std::min(first + ROWS, nodes);
    rows.take(state, width, first, last);
    hidden.clear();
    hidden.add(rows, matrix);
    for (int64_t i = first; i < last; ++i) {
      T* const x = hidden.row(i - first);
      const T* const asked = of_query + query[i] * width;
      T total = 0;
#pragma omp simd reduction(+ : total)
      for (int64_t k = 0; k < width; ++k) total += (x[k] + asked[k] < 0 ? 0 : x[k] + asked[k]) * to_score[k];
      score[i] = total;
    }
  }
}

// The gradients of `state_scores`: by_state and by_of_state are overwritten, by_query and by_to_score, 0 at first, are
// added to. All but by_state are in float64.
template <class T>
void state_scores_gradient(const T* state, const int32_t* query, const T* of_query, const T* of_state,
                           const T* to_score, const T* by_score, T* by_state, double* by_query, double* by_of_state,
                           double* by_to_score, int64_t nodes, int64_t width) {
  const auto matrix = Padded<T>::square(of_state, width, false), back_matrix = Padded<T>::square(of_state, width, true);
  Padded<T> rows(ROWS, width), hidden(ROWS, width), given(ROWS, width), back(ROWS, width);
  Outer<T> outer(width);
  for (int64_t first = 0; first < nodes; first += ROWS) {
    const int64_t last = std::min(first + ROWS, nodes);
    rows.take(state, width, first, last);
    hidden.clear();
    hidden.add(rows, matrix);
    given.clear();
    for (int64_t i = first; i < last; ++i) {
      const T* const x = hidden.row(i - first);
      T* const g = given.row(i - first);
      const T* const asked = of_query + query[i] * width;
      double* const total = by_query + query[i] * width;
      for (int64_t k = 0; k < width; ++k) {
        const T h = x[k] + asked[k] < 0 ? 0 : x[k] + asked[k];
        g[k] = h <= 0 ? 0 : by_score[i] * to_score[k];
        total[k] += g[k];
        by_to_score[k] += (double)by_score[i] * h;
      }
    }
    back.clear();
    back.add(given, back_matrix);
    for (int64_t i = first; i < last; ++i) std::copy_n(back.row(i - first), width, by_state + i * width);
    outer.add(rows, given);
  }
  outer.write(by_of_state, width);
}

}  // namespace kernel

EXPORT_TYPES(grow, grow)
EXPORT_TYPES(grow_gradient, grow_gradient)
EXPORT_TYPES(state_scores, state_scores)
EXPORT_TYPES(state_scores_gradient, state_scores_gradient)
