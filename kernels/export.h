// How Python calls a kernel: extern "C" functions that take their arguments as one array of 64-bit words.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

template <class A>
inline A argument(int64_t word) {
  if constexpr (std::is_pointer_v<A>) return reinterpret_cast<A>(word);
  if constexpr (std::is_integral_v<A>) return static_cast<A>(word);
  if constexpr (std::is_floating_point_v<A>) {
    double value;
    std::memcpy(&value, &word, sizeof value);
    return static_cast<A>(value);
  }
}

template <class R, class... A, size_t... I>
inline R apply(R (*kernel)(A...), const int64_t* words, std::index_sequence<I...>) {
  return kernel(argument<A>(words[I])...);
}

template <class R, class... A>
inline R apply(R (*kernel)(A...), const int64_t* words) {
  return apply(kernel, words, std::index_sequence_for<A...>());
}

// EXPORT(name, function) makes kernel::function callable from Python as `name`; it returns nothing or one int64.
#define EXPORT(name, ...) \
  extern "C" auto name(const int64_t* words) { return apply(kernel::__VA_ARGS__, words); }
// One for each type of number, the last template parameter.
#define EXPORT_TYPES(name, function)       \
  EXPORT(name##_float32, function<float>)    \
  EXPORT(name##_float64, function<double>)
// One for each way to compare rows, see pairs.h.
#define EXPORT_KINDS(name, function)                      \
  EXPORT(name##_dot_float32, function<float, DOT>)          \
  EXPORT(name##_dot_float64, function<double, DOT>)         \
  EXPORT(name##_l1_float32, function<float, L1>)            \
  EXPORT(name##_l1_float64, function<double, L1>)           \
  EXPORT(name##_l2_float32, function<float, L2>)            \
  EXPORT(name##_l2_float64, function<double, L2>)           \
  EXPORT(name##_modulus_float32, function<float, MODULUS>)  \
  EXPORT(name##_modulus_float64, function<double, MODULUS>)
