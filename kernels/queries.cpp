// Computes queries from entity rows and relation rows, which it reads directly from the tables, and the gradients with
// respect to these rows.
#include <algorithm>
#include <vector>

#include "export.h"
#include "functions.h"

namespace kernel {

// How the rows of an entity and of a relation make a query. A query for tails is made from the head (the first formula
// below), a query for heads from the tail (the second).
enum Combination {
  TRANSLATION,  // h + r, t - r
  PRODUCT,      // h * r, t * r
  ROTATION      // h * r, t * conj(r), of complex numbers; a row has all real parts first
};

// out = left * right of complex numbers, or left * conj(right).
template <class T>
INLINE void multiply(const T* left, const T* right, bool conjugate, int64_t width, T* out) {
  const int64_t half = width / 2;
  over_row(left, half, [&](Vec<T> real, int64_t at, int lanes) __attribute__((always_inline)) {
    const Vec<T> imaginary = load_some(left + half + at, lanes), by = load_some(right + at, lanes);
    const Vec<T> turn = load_some(right + half + at, lanes), by_turn = conjugate ? -turn : turn;
    store_some(out + at, real * by - imaginary * by_turn, lanes);
    store_some(out + half + at, real * by_turn + imaginary * by, lanes);
  });
}

template <class T, Combination C>
INLINE void combine(const T* entity, const T* relation, bool head_side, int64_t width, T* out) {
  if constexpr (C == ROTATION) return multiply(entity, relation, head_side, width, out);
  over_row(entity, width, [&](Vec<T> e, int64_t at, int lanes) __attribute__((always_inline)) {
    const Vec<T> r = load_some(relation + at, lanes);
    store_some(out + at, C == PRODUCT ? e * r : head_side ? e - r : e + r, lanes);
  });
}

// `place` and `relation` say which rows each query is made from. The first `head_rows` queries are for heads.
template <class T, Combination C>
void make_queries(const T* rows, const int64_t* place, const T* relations, const int64_t* relation, T* out,
                  int64_t queries, int64_t head_rows, int64_t width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t q = 0; q < queries; ++q) {
    if (q + ROWS_AHEAD < queries) prefetch(rows + place[q + ROWS_AHEAD] * width, width);
    combine<T, C>(rows + place[q] * width, relations + relation[q] * width, q < head_rows, width, out + q * width);
  }
}

// The gradient with respect to each entity row. For a translation it equals the gradient with respect to the query.
template <class T, Combination C>
void entity_gradient(const T* gradient, const T* relations, const int64_t* relation, T* out, int64_t queries,
                     int64_t head_rows, int64_t width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t q = 0; q < queries; ++q)
    combine<T, C>(gradient + q * width, relations + relation[q] * width, !(q < head_rows), width, out + q * width);
}

// The gradient with respect to relation rows, summed in double. `order` has the queries sorted by relation; those of
// relation row[i] start at begin[i].
template <class T, Combination C>
void relation_gradient(const T* gradient, const T* rows, const int64_t* place, const int64_t* row, const int32_t* order,
                       const int64_t* begin, int64_t distinct, int64_t head_rows, int64_t width, double* out,
                       int threads) {
#pragma omp parallel num_threads(threads)
  {
    std::vector<T> part(width);
#pragma omp for schedule(dynamic, 4)
    for (int64_t r = 0; r < distinct; ++r) {
      double* const total = out + row[r] * width;
      for (int64_t i = begin[r]; i < begin[r + 1]; ++i) {
        const int64_t q = order[i];
        if (i + ROWS_AHEAD < begin[distinct]) prefetch(rows + place[order[i + ROWS_AHEAD]] * width, width);
        const T *const g = gradient + q * width, *const entity = rows + place[q] * width;
        if constexpr (C == ROTATION) {
          // The gradient of <g, e r> with respect to r is g conj(e); that of <g, e conj(r)> is e conj(g).
          q < head_rows ? multiply(entity, g, true, width, part.data()) : multiply(g, entity, true, width, part.data());
        } else {
          over_row(g, width, [&](Vec<T> x, int64_t at, int lanes) __attribute__((always_inline)) {
            if constexpr (C == PRODUCT) x *= load_some(entity + at, lanes);
            if constexpr (C == TRANSLATION) x = q < head_rows ? -x : x;
            store_some(part.data() + at, x, lanes);
          });
        }
        over_row(part.data(), width, [&](Vec<T> x, int64_t at, int lanes) __attribute__((always_inline)) {
          add_to(total + at, x, lanes);
        });
      }
    }
  }
}

}  // namespace kernel

#define EXPORT_COMBINATIONS(name)                                      \
  EXPORT(name##_translation_float32, name<float, kernel::TRANSLATION>)         \
  EXPORT(name##_translation_float64, name<double, kernel::TRANSLATION>)        \
  EXPORT(name##_product_float32, name<float, kernel::PRODUCT>)                 \
  EXPORT(name##_product_float64, name<double, kernel::PRODUCT>)                \
  EXPORT(name##_rotation_float32, name<float, kernel::ROTATION>)               \
  EXPORT(name##_rotation_float64, name<double, kernel::ROTATION>)

EXPORT_COMBINATIONS(make_queries)
EXPORT_COMBINATIONS(entity_gradient)
EXPORT_COMBINATIONS(relation_gradient)
