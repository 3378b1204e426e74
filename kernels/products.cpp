// Products of complex numbers, row by row: real parts first, then imaginary parts.
#include "export.h"

namespace kernel {

// left * right, or left * conj(right).
template <class T>
void complex_product(const T* left, const T* right, T* out, int64_t rows, int64_t half, int64_t conjugate,
                     int threads) {
  const T sign = conjugate ? -1 : 1;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    const T *const a = left + r * 2 * half, *const b = right + r * 2 * half;
    T* const to = out + r * 2 * half;
#pragma omp simd
    for (int64_t i = 0; i < half; ++i) {
      const T imaginary = sign * b[half + i];
      to[i] = a[i] * b[i] - a[half + i] * imaginary;
      to[half + i] = a[i] * imaginary + a[half + i] * b[i];
    }
  }
}

}  // namespace kernel

EXPORT_TYPES(complex_product, complex_product)
