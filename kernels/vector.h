// Vectors as wide as the processor's registers, in GCC's and clang's vector extension. Wider ones compile too, but GCC keeps
// them in memory: TransE was five times slower with 64 bytes on a processor with AVX2.
// A sum over a row always has the same order, wherever the row stands, so that equal rows have equal scores.
#pragma once
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#ifdef __AVX__
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
#endif
// How many vectors the processor can hold at a time.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int REGISTERS = 32;
#else
constexpr int REGISTERS = 16;
#endif

template <class T>
struct Lanes;
template <>
struct Lanes<float> {
  typedef float Vec __attribute__((vector_size(VECTOR_BYTES)));
  typedef int32_t Bits __attribute__((vector_size(VECTOR_BYTES)));
  static constexpr int count = VECTOR_BYTES / sizeof(float);
  static constexpr int32_t sign = INT32_MIN;
};
template <>
struct Lanes<double> {
  typedef double Vec __attribute__((vector_size(VECTOR_BYTES)));
  typedef int64_t Bits __attribute__((vector_size(VECTOR_BYTES)));
  static constexpr int count = VECTOR_BYTES / sizeof(double);
  static constexpr int64_t sign = INT64_MIN;
};
template <class T>
using Vec = typename Lanes<T>::Vec;
template <class T>
using Bits = typename Lanes<T>::Bits;

#define INLINE inline __attribute__((always_inline))

template <class T>
INLINE Vec<T> load(const T* from) {
  Vec<T> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <class T>
INLINE void store(T* to, Vec<T> v) {
  std::memcpy(to, &v, sizeof v);
}

#if defined(__AVX__) && !defined(__AVX512F__)
// All ones in the first n lanes, for loads and stores that touch no others.
INLINE __m256i first_lanes(int n, float) {
  return _mm256_castps_si256(
      _mm256_cmp_ps(_mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_ps((float)n), _CMP_LT_OQ));
}
INLINE __m256i first_lanes(int n, double) {
  return _mm256_castpd_si256(_mm256_cmp_pd(_mm256_setr_pd(0, 1, 2, 3), _mm256_set1_pd((double)n), _CMP_LT_OQ));
}
#endif

// The first n < count lanes; the others are 0.
template <class T>
INLINE Vec<T> load_part(const T* from, int n) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return (Vec<T>)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), from);
  if constexpr (sizeof(T) == 8) return (Vec<T>)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), from);
#elif defined(__AVX__)
  if constexpr (sizeof(T) == 4) return (Vec<T>)_mm256_maskload_ps(from, first_lanes(n, T()));
  if constexpr (sizeof(T) == 8) return (Vec<T>)_mm256_maskload_pd(from, first_lanes(n, T()));
#endif
  Vec<T> v = {};
  for (int i = 0; i < n; ++i) v[i] = from[i];
  return v;
}

template <class T>
INLINE void store_part(T* to, Vec<T> v, int n) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return _mm512_mask_storeu_ps(to, (__mmask16)((1u << n) - 1), (__m512)v);
  if constexpr (sizeof(T) == 8) return _mm512_mask_storeu_pd(to, (__mmask8)((1u << n) - 1), (__m512d)v);
#elif defined(__AVX__)
  if constexpr (sizeof(T) == 4) return _mm256_maskstore_ps(to, first_lanes(n, T()), (__m256)v);
  if constexpr (sizeof(T) == 8) return _mm256_maskstore_pd(to, first_lanes(n, T()), (__m256d)v);
#endif
  for (int i = 0; i < n; ++i) to[i] = v[i];
}

// Calls body(column, lanes) for each vector of a row; lanes is 0 for a whole one.
template <class T, class Body>
INLINE void over_vectors(int64_t width, Body body) {
  int64_t column = 0;
  for (; column + Lanes<T>::count <= width; column += Lanes<T>::count) body(column, 0);
  if (column < width) body(column, (int)(width - column));
}

template <class T>
INLINE Vec<T> load_some(const T* from, int lanes) {
  return lanes ? load_part(from, lanes) : load(from);
}

template <class T>
INLINE void store_some(T* to, Vec<T> v, int lanes) {
  lanes ? store_part(to, v, lanes) : store(to, v);
}

// Adds the lanes to numbers of the same type, or of a wider one; lanes is the number of them, 0 for all.
template <class T>
INLINE void add_to(T* to, Vec<T> v, int lanes) {
  store_some(to, load_some(to, lanes) + v, lanes);
}

// A half of the lanes, in double. GCC 12 would go by quarters.
INLINE Vec<double> widen(Vec<float> v, int half) {
#if defined(__AVX512F__)
  return (Vec<double>)_mm512_cvtps_pd(half ? _mm256_castpd_ps(_mm512_extractf64x4_pd((__m512d)v, 1))
                                           : _mm512_castps512_ps256((__m512)v));
#elif defined(__AVX__)
  return (Vec<double>)_mm256_cvtps_pd(half ? _mm256_extractf128_ps((__m256)v, 1) : _mm256_castps256_ps128((__m256)v));
#endif
  constexpr int count = Lanes<double>::count;
  Vec<double> wide;
  for (int i = 0; i < count; ++i) wide[i] = v[count * half + i];
  return wide;
}

INLINE void add_to(double* to, Vec<float> v, int lanes) {
  constexpr int count = Lanes<double>::count;
  if (lanes == 0 || lanes > count)
    store(to, load(to) + widen(v, 0)), add_to<double>(to + count, widen(v, 1), lanes ? lanes - count : 0);
  else
    add_to<double>(to, widen(v, 0), lanes % count);
}

template <class T, int bytes>
struct Wide {
  typedef T Vec __attribute__((vector_size(bytes)));
};

// The sum of all lanes, by halves: the order of a shuffle tree.
template <class T, int bytes = VECTOR_BYTES>
INLINE T sum(typename Wide<T, bytes>::Vec v) {
  if constexpr (bytes > 16) {
    typename Wide<T, bytes / 2>::Vec half[2];
    std::memcpy(half, &v, sizeof v);
    return sum<T, bytes / 2>(half[0] + half[1]);
  } else if constexpr (sizeof(T) == 4) {
    return (v[0] + v[2]) + (v[1] + v[3]);
  } else {
    return v[0] + v[1];
  }
}

template <class T>
INLINE Vec<T> absolute(Vec<T> v) {
  return (Vec<T>)((Bits<T>)v & ~Lanes<T>::sign);
}

// a * b + c with one rounding, where the processor can. Left to the compiler, a * b + c * d might be rounded one way in one
// function and another way in the next.
template <class T>
INLINE Vec<T> multiply_add(Vec<T> a, Vec<T> b, Vec<T> c) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return (Vec<T>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
  if constexpr (sizeof(T) == 8) return (Vec<T>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(__AVX__) && defined(__FMA__)
  if constexpr (sizeof(T) == 4) return (Vec<T>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
  if constexpr (sizeof(T) == 8) return (Vec<T>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#endif
  return a * b + c;
}

// v where the bits of `where` are all ones, 0 where they are 0.
template <class T>
INLINE Vec<T> keep(Vec<T> v, Bits<T> where) {
  return (Vec<T>)((Bits<T>)v & where);
}

// 1 / sqrt(v), and 0 where v is 0 (in AVX2's float also where v is below the least normal number, 1e-38).
template <class T>
INLINE Vec<T> inverse_root(Vec<T> v) {
  // A guess from a table, the bits of which one step of Newton's doubles: a third of the time of a root and a division.
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    const Vec<T> guess = (Vec<T>)_mm512_maskz_rsqrt14_ps(0xffff, (__m512)v);
    return keep<T>(guess * ((T)1.5 - (T)0.5 * v * guess * guess), v > 0);
  }
#elif defined(__AVX__)
  if constexpr (sizeof(T) == 4) {
    const Vec<T> guess = (Vec<T>)_mm256_rsqrt_ps((__m256)v);
    return keep<T>(guess * ((T)1.5 - (T)0.5 * v * guess * guess), v >= (T)FLT_MIN);
  }
#endif
  for (int i = 0; i < Lanes<T>::count; ++i) v[i] = v[i] > 0 ? 1 / std::sqrt(v[i]) : 0;
  return v;
}

// Asks for a row before it is needed: its first lines, the processor sees the others coming. Rows lie all over a table
// that is larger than any cache, and waiting for each of them would take more time than computing with it.
template <class T>
INLINE void prefetch(const T* row, int64_t width) {
  for (int64_t i = 0; i < width && i < 512 / (int64_t)sizeof(T); i += 64 / sizeof(T)) __builtin_prefetch(row + i);
}

// How many rows ahead of the one in use are asked for.
constexpr int64_t ROWS_AHEAD = 4;
