// Products with matrices that dropout has taken numbers from. Each vector has its own mask of a matrix that it may share
// with others, so these are read where they lie: copies of the matrices would be the largest tensors of a step.
#include <algorithm>

#include "export.h"
#include "vector.h"

namespace kernel {

// All ones in the lanes that a mask keeps.
template <class T>
INLINE Bits<T> kept_lanes(const bool* kept, int lanes) {
  typename Wide<int8_t, Lanes<T>::count>::Vec bytes = {};
  if (lanes)
    for (int i = 0; i < lanes; ++i) bytes[i] = kept[i];
  else
    std::memcpy(&bytes, kept, sizeof bytes);
  return -__builtin_convertvector(bytes, Bits<T>);
}

// out[v] = vector[v] times what is left of its matrix, of rows x columns numbers.
template <class T>
void dropped_product(const T* vector, const T* matrices, const int64_t* number, const bool* kept, T* out, int64_t vectors,
                     int64_t rows, int64_t columns, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t v = 0; v < vectors; ++v) {
    T* const to = out + v * columns;
    std::fill(to, to + columns, T(0));
    for (int64_t i = 0; i < rows; ++i) {
      const Vec<T> factor = Vec<T>{} + vector[v * rows + i];
      const T* const row = matrices + (number[v] * rows + i) * columns;
      const bool* const mask = kept + (v * rows + i) * columns;
      over_vectors<T>(columns, [&](int64_t at, int lanes) __attribute__((always_inline)) {
        const Vec<T> left = keep<T>(load_some(row + at, lanes), kept_lanes<T>(mask + at, lanes));
        store_some(to + at, multiply_add<T>(factor, left, load_some(to + at, lanes)), lanes);
      });
    }
  }
}

// The same with the matrix transposed: vector[v] has a number for each column.
template <class T>
void dropped_product_transposed(const T* vector, const T* matrices, const int64_t* number, const bool* kept, T* out,
                                int64_t vectors, int64_t rows, int64_t columns, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t v = 0; v < vectors; ++v) {
    for (int64_t i = 0; i < rows; ++i) {
      const T* const row = matrices + (number[v] * rows + i) * columns;
      const bool* const mask = kept + (v * rows + i) * columns;
      Vec<T> total = {};
      over_vectors<T>(columns, [&](int64_t at, int lanes) __attribute__((always_inline)) {
        const Vec<T> left = keep<T>(load_some(row + at, lanes), kept_lanes<T>(mask + at, lanes));
        total = multiply_add<T>(load_some(vector + v * columns + at, lanes), left, total);
      });
      out[v * rows + i] = sum<T>(total);
    }
  }
}

// The sum, for each distinct matrix, of what masks leave of the outer products left x right; in double, in the order of
// the occurrences, which are grouped by matrix.
template <class T>
void dropped_outer_sums(const T* left, const T* right, const bool* kept, const int32_t* order, const int64_t* begin,
                        const int64_t* number, double* out, int64_t distinct, int64_t rows, int64_t columns, int threads) {
#pragma omp parallel for num_threads(threads) schedule(dynamic)
  for (int64_t d = 0; d < distinct; ++d)
    for (int64_t each = begin[d]; each < begin[d + 1]; ++each) {
      const int64_t v = order[each];
      for (int64_t i = 0; i < rows; ++i) {
        const Vec<T> factor = Vec<T>{} + left[v * rows + i];
        double* const to = out + (number[d] * rows + i) * columns;
        const bool* const mask = kept + (v * rows + i) * columns;
        over_vectors<T>(columns, [&](int64_t at, int lanes) __attribute__((always_inline)) {
          const Vec<T> product = factor * load_some(right + v * columns + at, lanes);
          add_to(to + at, keep<T>(product, kept_lanes<T>(mask + at, lanes)), lanes);
        });
      }
    }
}

}  // namespace kernel

EXPORT_TYPES(dropped_product, dropped_product)
EXPORT_TYPES(dropped_product_transposed, dropped_product_transposed)
EXPORT_TYPES(dropped_outer_sums, dropped_outer_sums)
