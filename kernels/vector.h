// Vectors of 64 bytes in GCC's and clang's vector extension: one AVX-512 register, two of AVX2, four of SSE or NEON.
// A sum over a row always has the same order, wherever the row stands, so that equal rows have equal scores.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

template <class T>
struct Lanes;
template <>
struct Lanes<float> {
  typedef float Vec __attribute__((vector_size(64)));
  typedef int32_t Bits __attribute__((vector_size(64)));
  static constexpr int count = 16;
  static constexpr int32_t sign = INT32_MIN;
};
template <>
struct Lanes<double> {
  typedef double Vec __attribute__((vector_size(64)));
  typedef int64_t Bits __attribute__((vector_size(64)));
  static constexpr int count = 8;
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

// The first n < count lanes; the others are 0.
template <class T>
INLINE Vec<T> load_part(const T* from, int n) {
#ifdef __AVX512F__
  if constexpr (sizeof(T) == 4) return (Vec<T>)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), from);
  if constexpr (sizeof(T) == 8) return (Vec<T>)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), from);
#endif
  Vec<T> v = {};
  for (int i = 0; i < n; ++i) v[i] = from[i];
  return v;
}

template <class T>
INLINE void store_part(T* to, Vec<T> v, int n) {
#ifdef __AVX512F__
  if constexpr (sizeof(T) == 4) return _mm512_mask_storeu_ps(to, (__mmask16)((1u << n) - 1), (__m512)v);
  if constexpr (sizeof(T) == 8) return _mm512_mask_storeu_pd(to, (__mmask8)((1u << n) - 1), (__m512d)v);
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
#ifdef __AVX512F__
  return (Vec<double>)_mm512_cvtps_pd(half ? _mm256_castpd_ps(_mm512_extractf64x4_pd((__m512d)v, 1))
                                           : _mm512_castps512_ps256((__m512)v));
#endif
  Vec<double> wide;
  for (int i = 0; i < 8; ++i) wide[i] = v[8 * half + i];
  return wide;
}

INLINE void add_to(double* to, Vec<float> v, int lanes) {
  if (lanes == 0 || lanes > 8)
    store(to, load(to) + widen(v, 0)), add_to<double>(to + 8, widen(v, 1), lanes ? lanes - 8 : 0);
  else
    add_to<double>(to, widen(v, 0), lanes);
}

// Sums of all lanes, by halves: the order of a shuffle tree.
INLINE float sum_lanes(Vec<float> v) {
  typedef float Half __attribute__((vector_size(32)));
  typedef float Quarter __attribute__((vector_size(16)));
  Half half[2];
  Quarter quarter[2];
  std::memcpy(half, &v, sizeof v);
  half[0] += half[1];
  std::memcpy(quarter, half, sizeof quarter);
  quarter[0] += quarter[1];
  return (quarter[0][0] + quarter[0][2]) + (quarter[0][1] + quarter[0][3]);
}

INLINE double sum_lanes(Vec<double> v) {
  typedef double Half __attribute__((vector_size(32)));
  Half half[2];
  std::memcpy(half, &v, sizeof v);
  half[0] += half[1];
  return (half[0][0] + half[0][2]) + (half[0][1] + half[0][3]);
}

template <class T>
INLINE T sum(Vec<T> v) {
  return sum_lanes(v);
}

template <class T>
INLINE Vec<T> absolute(Vec<T> v) {
  return (Vec<T>)((Bits<T>)v & ~Lanes<T>::sign);
}

// v where the bits of `where` are all ones, 0 where they are 0.
template <class T>
INLINE Vec<T> keep(Vec<T> v, Bits<T> where) {
  return (Vec<T>)((Bits<T>)v & where);
}

// 1 / sqrt(v), and 0 where v is 0.
template <class T>
INLINE Vec<T> inverse_root(Vec<T> v) {
#ifdef __AVX512F__
  if constexpr (sizeof(T) == 4) {
    // 14 bits from a table, doubled by one step of Newton's: a third of the time of a root and a division.
    const Vec<T> guess = (Vec<T>)_mm512_maskz_rsqrt14_ps(0xffff, (__m512)v);
    return keep<T>(guess * ((T)1.5 - (T)0.5 * v * guess * guess), v > 0);
  }
#endif
  for (int i = 0; i < Lanes<T>::count; ++i) v[i] = v[i] > 0 ? 1 / std::sqrt(v[i]) : 0;
  return v;
}

// Asks for a row before it is needed: its first lines, the processor sees the others coming.
template <class T>
INLINE void prefetch(const T* row, int64_t width) {
  for (int64_t i = 0; i < width && i < 256 / (int64_t)sizeof(T); i += 64 / sizeof(T)) __builtin_prefetch(row + i);
}
