// Functions of vectors of numbers, and the walk over a row of them.
#pragma once
#include <algorithm>
#include <cmath>

#include "vector.h"

// Calls body(vector, column, lanes) over a row; lanes is 0 for a whole vector, the others of a part are 0.
template <class T, class Body>
INLINE void over_row(const T* row, int64_t width, Body body) {
  over_vectors<T>(width, [&](int64_t at, int lanes) __attribute__((always_inline)) {
    body(load_some(row + at, lanes), at, lanes);
  });
}

// Calls body(vector, which lanes count, column, lanes) over a row's scores; those of known facts do not count.
template <class T, class Body>
INLINE void over_counted(const T* scores, const bool* known, int64_t count, Body body) {
  over_row(scores, count, [&](Vec<T> x, int64_t at, int lanes) __attribute__((always_inline)) {
    Bits<T> counts = ~Bits<T>{};
    for (int i = lanes ? lanes : Lanes<T>::count; i < Lanes<T>::count; ++i) counts[i] = 0;
    if (known)
      for (int i = 0; i < (lanes ? lanes : Lanes<T>::count); ++i) counts[i] &= known[at + i] - 1;
    body(x, counts, at, lanes);
  });
}

template <class T>
INLINE Vec<T> square_root(Vec<T> v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return (Vec<T>)_mm512_sqrt_ps((__m512)v);
#elif defined(__AVX__)
  if constexpr (sizeof(T) == 4) return (Vec<T>)_mm256_sqrt_ps((__m256)v);
#endif
  for (int i = 0; i < Lanes<T>::count; ++i) v[i] = std::sqrt(v[i]);
  return v;
}

// 1 / v for v that is far from overflow; in float to a unit or two in the last place.
template <class T>
INLINE Vec<T> reciprocal(Vec<T> v) {
#ifdef __AVX512F__
  if constexpr (sizeof(T) == 4) {
    const Vec<T> guess = (Vec<T>)_mm512_maskz_rcp14_ps(0xffff, (__m512)v);
    return guess * ((T)2 - v * guess);  // 14 bits from a table, doubled by one step of Newton's
  }
#endif
  return 1 / v;
}

// exp, to a unit or two in the last place; 0 below the least normal number, nan of nan whatever else its bits hold.
INLINE Vec<float> exponential(Vec<float> x) {
  const Vec<float> least = Vec<float>{} - 87.0f, most = Vec<float>{} + 88.0f;
  const Bits<float> tiny = x < least;
  x = x < least ? least : x;
  x = x > most ? most : x;
  const Vec<float> magic = Vec<float>{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  const Vec<float> shifted = x * 1.44269504f + magic, whole = shifted - magic;
  const Vec<float> r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  Vec<float> p = Vec<float>{} + 1.9875691500e-4f;
  for (const float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    p = p * r + c;
  p = p * r * r + r + 1.0f;
  const Bits<float> power = (((Bits<float>)shifted - (Bits<float>)magic) << 23) & (x == x);
  return keep<float>((Vec<float>)((Bits<float>)p + power), ~tiny);
}

INLINE Vec<double> exponential(Vec<double> x) {
  for (int i = 0; i < Lanes<double>::count; ++i) x[i] = std::exp(x[i]);
  return x;
}

// log(1 + y) for y in [0, 1]: 2 artanh(y / (2 + y)).
INLINE Vec<float> log_of_one_plus(Vec<float> y) {
  const Vec<float> s = y * reciprocal<float>(y + 2.0f), square = s * s;
  Vec<float> p = Vec<float>{} + 1.0f / 15;
  for (const float c : {1.0f / 13, 1.0f / 11, 1.0f / 9, 1.0f / 7, 1.0f / 5, 1.0f / 3, 1.0f}) p = p * square + c;
  return 2.0f * s * p;
}

INLINE Vec<double> log_of_one_plus(Vec<double> y) {
  for (int i = 0; i < Lanes<double>::count; ++i) y[i] = std::log1p(y[i]);
  return y;
}

template <class T>
INLINE Vec<T> softplus(Vec<T> x) {
  return (x > 0 ? x : Vec<T>{}) + log_of_one_plus(exponential(-absolute<T>(x)));
}

template <class T>
INLINE Vec<T> sigmoid(Vec<T> x) {
  return reciprocal<T>(1 + exponential(-x));
}

template <class T>
INLINE T softplus(T x) {
  return std::max(x, T(0)) + std::log1p(std::exp(-std::abs(x)));
}

template <class T>
INLINE T sigmoid(T x) {
  return 1 / (1 + std::exp(-x));
}
