// How Python calls a kernel: extern "C" functions that take their arguments as one array of 64-bit words, each with
// a signature that says which arguments these are. library.py reads it and refuses others.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

// An array that may be left out: None in Python, a null address here.
template <class T>
struct OrNone {
  T* array;
  operator T*() const { return array; }
};

// What a signature says of a parameter: the type of a number; for an array "*", "?" if it may be None, "!" if it is
// written to, and the type of its numbers.
template <class A>
struct Text;
template <>
struct Text<void> {
  static constexpr const char* word = "none";
};

#define NUMBER_TEXT(type, name)                       \
  template <>                                         \
  struct Text<type> {                                 \
    static constexpr const char* word = name;         \
  };                                                  \
  template <>                                         \
  struct Text<type*> {                                \
    static constexpr const char* word = "*!" name;    \
  };                                                  \
  ARRAY_TEXT(type, name)
// Of arrays that are read.
#define ARRAY_TEXT(type, name)                        \
  template <>                                         \
  struct Text<const type*> {                          \
    static constexpr const char* word = "*" name;     \
  };                                                  \
  template <>                                         \
  struct Text<OrNone<const type>> {                   \
    static constexpr const char* word = "*?" name;    \
  };

NUMBER_TEXT(float, "float32")
NUMBER_TEXT(double, "float64")
NUMBER_TEXT(int16_t, "int16")
NUMBER_TEXT(int32_t, "int32")
NUMBER_TEXT(int64_t, "int64")
NUMBER_TEXT(bool, "bool")

// What a kernel returns, then what it takes; ends with a null address.
template <class R, class... A>
inline const char* const* signature(R (*)(A...)) {
  static const char* const words[] = {Text<R>::word, Text<A>::word..., nullptr};
  return words;
}

template <class A>
struct Argument {
  static A of(int64_t word) {
    if constexpr (std::is_pointer_v<A>) {
      return reinterpret_cast<A>(word);
    } else if constexpr (std::is_integral_v<A>) {
      return static_cast<A>(word);
    } else {
      static_assert(std::is_same_v<A, double>);
      double value;
      std::memcpy(&value, &word, sizeof value);
      return value;
    }
  }
};
template <class T>
struct Argument<OrNone<T>> {
  static OrNone<T> of(int64_t word) { return {reinterpret_cast<T*>(word)}; }
};

template <class R, class... A, size_t... I>
inline R apply(R (*kernel)(A...), const int64_t* words, std::index_sequence<I...>) {
  return kernel(Argument<A>::of(words[I])...);
}

template <class R, class... A>
inline R apply(R (*kernel)(A...), const int64_t* words) {
  return apply(kernel, words, std::index_sequence_for<A...>());
}

// EXPORT(name, function) makes kernel::function callable from Python as `name`; it returns nothing or one int64.
#define EXPORT(name, ...)                                                                 \
  extern "C" auto name(const int64_t* words) { return apply(kernel::__VA_ARGS__, words); } \
  extern "C" const char* const* name##_signature() { return signature(kernel::__VA_ARGS__); }
// One for each type of number, the last template parameter.
#define EXPORT_TYPES(name, function)      \
  EXPORT(name##_float32, function<float>) \
  EXPORT(name##_float64, function<double>)
// One for each way to compare rows, see pairs.h.
#define EXPORT_KINDS(name, function)                       \
  EXPORT(name##_dot_float32, function<float, DOT>)         \
  EXPORT(name##_dot_float64, function<double, DOT>)        \
  EXPORT(name##_l1_float32, function<float, L1>)           \
  EXPORT(name##_l1_float64, function<double, L1>)          \
  EXPORT(name##_l2_float32, function<float, L2>)           \
  EXPORT(name##_l2_float64, function<double, L2>)          \
  EXPORT(name##_modulus_float32, function<float, MODULUS>) \
  EXPORT(name##_modulus_float64, function<double, MODULUS>)
