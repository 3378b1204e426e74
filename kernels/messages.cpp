// Sums of messages along the edges of a graph, and their gradients. The message of an edge is made from the row of its
// source and the row of its relation, and multiplied by the edge's weight. Edges are grouped by what a sum is for, so
// each sum has one thread and one order: that of the edges.
#include "export.h"
#include "vector.h"

namespace kernel {

// How source x and relation r become a message: x + r, x - r, x r number by number, conj(x) r of complex numbers, which
// are pairs, or x once for each number of r, times this number.
enum Message { ADD, SUB, MULT, CORR, BASES };

// The edges of each group: order[begin[g]] to order[begin[g + 1] - 1] for the sum of number row[g].
struct Groups {
  const int64_t* row;
  const int32_t* order;
  const int64_t* begin;
  int64_t count;
};

// Calls use(where the sum begins, edge) for the edges of each group, and expect(edge) some edges before.
template <class Start, class Expect, class Use>
void over_groups(const Groups& groups, int threads, Start start, Expect expect, Use use) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16)
  for (int64_t g = 0; g < groups.count; ++g) {
    const auto sum = start(groups.row[g]);
    for (int64_t i = groups.begin[g]; i < groups.begin[g + 1]; ++i) {
      if (i + ROWS_AHEAD < groups.begin[groups.count]) expect(groups.order[i + ROWS_AHEAD]);
      use(sum, groups.order[i]);
    }
  }
}

// sums[into] += the weighted messages. D is the width of sources, W that of relations; weight has `parts` numbers for
// each edge, one for each equal part of a message.
template <class T, Message M>
void sum_messages(const T* sources, const T* relations, const T* weight, const int64_t* source, const int64_t* relation,
                  const int64_t* row, const int32_t* order, const int64_t* begin, int64_t groups, int64_t D, int64_t W,
                  int64_t parts, T* sums, int threads) {
  const int64_t width = M == BASES ? W * D : D, part = width / parts;
  over_groups({row, order, begin, groups}, threads, [&](int64_t into) { return sums + into * width; },
              [&](int64_t e) { prefetch(sources + source[e] * D, D); },
              [&](T* to, int64_t e) {
                const T *const x = sources + source[e] * D, *const r = relations + relation[e] * W;
                const T* const w = weight + e * parts;
                if constexpr (M == BASES) {
                  for (int64_t p = 0; p < W; ++p)
#pragma omp simd
                    for (int64_t k = 0; k < D; ++k) to[p * D + k] += r[p] * x[k] * *w;
                } else if constexpr (M == CORR) {
#pragma omp simd
                  for (int64_t k = 0; k < D; k += 2) {
                    to[k] += (x[k] * r[k] + x[k + 1] * r[k + 1]) * *w;
                    to[k + 1] += (x[k] * r[k + 1] - x[k + 1] * r[k]) * *w;
                  }
                } else {
                  for (int64_t h = 0; h < parts; ++h)
#pragma omp simd
                    for (int64_t k = h * part; k < (h + 1) * part; ++k)
                      to[k] += (M == ADD ? x[k] + r[k] : M == SUB ? x[k] - r[k] : x[k] * r[k]) * w[h];
                }
              });
}

// The gradient by sources, from `given`, that by the sums. Edges are grouped by source.
template <class T, Message M>
void messages_by_source(const T* given, const T* relations, const T* weight, const int64_t* into,
                        const int64_t* relation, const int64_t* row, const int32_t* order, const int64_t* begin,
                        int64_t groups, int64_t D, int64_t W, int64_t parts, T* by_source, int threads) {
  const int64_t width = M == BASES ? W * D : D, part = width / parts;
  over_groups({row, order, begin, groups}, threads, [&](int64_t source) { return by_source + source * D; },
              [&](int64_t e) { prefetch(given + into[e] * width, width); },
              [&](T* to, int64_t e) {
                const T *const g = given + into[e] * width, *const r = relations + relation[e] * W;
                const T* const w = weight + e * parts;
                if constexpr (M == BASES) {
                  for (int64_t p = 0; p < W; ++p)
#pragma omp simd
                    for (int64_t k = 0; k < D; ++k) to[k] += r[p] * g[p * D + k] * *w;
                } else if constexpr (M == CORR) {  // conj(g) r
#pragma omp simd
                  for (int64_t k = 0; k < D; k += 2) {
                    to[k] += (g[k] * r[k] + g[k + 1] * r[k + 1]) * *w;
                    to[k + 1] += (g[k] * r[k + 1] - g[k + 1] * r[k]) * *w;
                  }
                } else {
                  for (int64_t h = 0; h < parts; ++h)
#pragma omp simd
                    for (int64_t k = h * part; k < (h + 1) * part; ++k) to[k] += (M == MULT ? g[k] * r[k] : g[k]) * w[h];
                }
              });
}

// The gradient by relations, summed in double. Edges are grouped by relation.
template <class T, Message M>
void messages_by_relation(const T* given, const T* sources, const T* weight, const int64_t* into, const int64_t* source,
                          const int64_t* row, const int32_t* order, const int64_t* begin, int64_t groups, int64_t D,
                          int64_t W, int64_t parts, double* by_relation, int threads) {
  const int64_t width = M == BASES ? W * D : D, part = width / parts;
  over_groups({row, order, begin, groups}, threads, [&](int64_t relation) { return by_relation + relation * W; },
              [&](int64_t e) {
                prefetch(given + into[e] * width, width);
                prefetch(sources + source[e] * D, D);
              },
              [&](double* to, int64_t e) {
                const T *const g = given + into[e] * width, *const x = sources + source[e] * D;
                const T* const w = weight + e * parts;
                if constexpr (M == BASES) {
                  for (int64_t p = 0; p < W; ++p) {
                    T total = 0;
#pragma omp simd reduction(+ : total)
                    for (int64_t k = 0; k < D; ++k) total += g[p * D + k] * x[k];
                    to[p] += total * *w;
                  }
                } else if constexpr (M == CORR) {  // g x
#pragma omp simd
                  for (int64_t k = 0; k < D; k += 2) {
                    to[k] += (g[k] * x[k] - g[k + 1] * x[k + 1]) * *w;
                    to[k + 1] += (g[k] * x[k + 1] + g[k + 1] * x[k]) * *w;
                  }
                } else {
                  for (int64_t h = 0; h < parts; ++h)
#pragma omp simd
                    for (int64_t k = h * part; k < (h + 1) * part; ++k)
                      to[k] += (M == MULT ? g[k] * x[k] : M == SUB ? -g[k] : g[k]) * w[h];
                }
              });
}

// The gradient by the weights, one for each part of a message.
template <class T, Message M>
void messages_by_weight(const T* given, const T* sources, const T* relations, const int64_t* into,
                        const int64_t* source, const int64_t* relation, int64_t edges, int64_t D, int64_t parts,
                        T* by_weight, int threads) {
  const int64_t part = D / parts;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t e = 0; e < edges; ++e) {
    if (e + ROWS_AHEAD < edges) prefetch(sources + source[e + ROWS_AHEAD] * D, D);
    const T *const g = given + into[e] * D, *const x = sources + source[e] * D, *const r = relations + relation[e] * D;
    for (int64_t h = 0; h < parts; ++h) {
      T total = 0;
#pragma omp simd reduction(+ : total)
      for (int64_t k = h * part; k < (h + 1) * part; ++k)
        total += g[k] * (M == ADD ? x[k] + r[k] : M == SUB ? x[k] - r[k] : x[k] * r[k]);
      by_weight[e * parts + h] = total;
    }
  }
}

}  // namespace kernel

#define EXPORT_MESSAGES(name, message, kind)                       \
  EXPORT(name##_##message##_float32, name<float, kernel::kind>)    \
  EXPORT(name##_##message##_float64, name<double, kernel::kind>)
#define EXPORT_ALL_MESSAGES(name)    \
  EXPORT_MESSAGES(name, add, ADD)    \
  EXPORT_MESSAGES(name, sub, SUB)    \
  EXPORT_MESSAGES(name, mult, MULT)  \
  EXPORT_MESSAGES(name, corr, CORR)  \
  EXPORT_MESSAGES(name, bases, BASES)

EXPORT_ALL_MESSAGES(sum_messages)
EXPORT_ALL_MESSAGES(messages_by_source)
EXPORT_ALL_MESSAGES(messages_by_relation)
EXPORT_MESSAGES(messages_by_weight, add, ADD)
EXPORT_MESSAGES(messages_by_weight, sub, SUB)
EXPORT_MESSAGES(messages_by_weight, mult, MULT)
