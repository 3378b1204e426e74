// Sums of messages along the edges of a graph, and their gradients. The message of an edge is made from the row of its
// source and the row of its relation, and multiplied by the edge's weight. Edges are grouped by what a sum is for, so
// each sum has one thread and one order: that of the edges.
#include <vector>

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

// How many edges ahead of the one in use the numbers of an edge are asked for: grouped by source or relation, edges lie
// all over the arrays.
constexpr int64_t EDGES_AHEAD = 16;

// What `use` of over_groups gets: a sum, and the edges first to last - 1 of an order.
struct Run {
  int64_t first, last;
};

// Most edges of a run, so that a float's rounding of its sum stays small.
constexpr int64_t LONGEST_RUN = 16;

// Calls use(where the sum begins, run, D numbers of room) for the runs of edges of each group: of one edge, or, if
// `one_by_one` is false, of edges that follow each other for which same(one edge, next edge) holds. Calls
// expect(edge) some edges before, and expect_edge(edge) still earlier.
template <class T, bool one_by_one, class Start, class Ahead, class Expect, class Same, class Use>
void over_groups(const Groups& groups, int64_t D, int threads, Start start, Ahead expect_edge, Expect expect, Same same,
                 Use use) {
#pragma omp parallel num_threads(threads)
  {
    std::vector<T> room(one_by_one ? 0 : D);
#pragma omp for schedule(dynamic, 16)
    for (int64_t g = 0; g < groups.count; ++g) {
      const auto sum = start(groups.row[g]);
      const int64_t end = groups.begin[g + 1], all = groups.begin[groups.count];
      const int32_t* const order = groups.order;
      for (int64_t i = groups.begin[g]; i < end;) {
        Run run{i, i + 1};
        if constexpr (!one_by_one)
          while (run.last < end && run.last - i < LONGEST_RUN && same(order[i], order[run.last])) ++run.last;
        for (; i < run.last; ++i) {
          if (i + EDGES_AHEAD < all) expect_edge(order[i + EDGES_AHEAD]);
          if (i + ROWS_AHEAD < all) expect(order[i + ROWS_AHEAD]);
        }
        use(sum, run, room.data());
      }
    }
  }
}

// The sum of the weighted rows of a run's sources, one after the other in `to`.
template <class T>
INLINE void sum_sources(T* to, const Run& run, const int32_t* order, const T* sources, const int64_t* source,
                        const T* weight, int64_t D, int64_t parts) {
  const int64_t part = D / parts;
  for (int64_t i = run.first; i < run.last; ++i) {
    const T *const x = sources + source[order[i]] * D, *const w = weight + order[i] * parts;
    for (int64_t h = 0; h < parts; ++h)
#pragma omp simd
      for (int64_t k = h * part; k < (h + 1) * part; ++k) to[k] = (i == run.first ? 0 : to[k]) + x[k] * w[h];
  }
}

// sums[into] += the weighted messages. D is the width of sources, W that of relations; weight has `parts` numbers for
// each edge, one for each equal part of a message.
template <class T, Message M>
void sum_messages(const T* sources, const T* relations, const T* weight, const int64_t* source, const int64_t* relation,
                  const int64_t* row, const int32_t* order, const int64_t* begin, int64_t groups, int64_t D, int64_t W,
                  int64_t parts, T* sums, int threads) {
  const int64_t width = M == BASES ? W * D : D, part = width / parts;
  // Edges of one relation share the multiplications by its numbers.
  over_groups<T, M != BASES>(
              {row, order, begin, groups}, D, threads, [&](int64_t into) { return sums + into * width; },
              [&](int64_t e) { __builtin_prefetch(source + e); },
              [&](int64_t e) { prefetch(sources + source[e] * D, D); },
              [&](int64_t one, int64_t next) { return relation[one] == relation[next]; },
              [&](T* to, const Run& run, [[maybe_unused]] T* room) {
                const int64_t e = order[run.first];
                const T* const r = relations + relation[e] * W;
                [[maybe_unused]] const T *const x = sources + source[e] * D, *const w = weight + e * parts;
                if constexpr (M == BASES) {
                  sum_sources(room, run, order, sources, source, weight, D, 1);
                  for (int64_t p = 0; p < W; ++p)
#pragma omp simd
                    for (int64_t k = 0; k < D; ++k) to[p * D + k] += r[p] * room[k];
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
  over_groups<T, true>(
              {row, order, begin, groups}, D, threads, [&](int64_t source) { return by_source + source * D; },
              [&](int64_t e) {
                __builtin_prefetch(into + e);
                __builtin_prefetch(relation + e);
                __builtin_prefetch(weight + e * parts);
              },
              [&](int64_t e) { prefetch(given + into[e] * width, width); }, [](int64_t, int64_t) { return false; },
              [&](T* to, const Run& run, T*) {
                const int64_t e = order[run.first];
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
  // Edges into one sum share its gradient.
  over_groups<T, false>(
              {row, order, begin, groups}, D, threads, [&](int64_t relation) { return by_relation + relation * W; },
              [&](int64_t e) {
                __builtin_prefetch(into + e);
                __builtin_prefetch(source + e);
                __builtin_prefetch(weight + e * parts);
              },
              [&](int64_t e) {
                prefetch(given + into[e] * width, width);
                prefetch(sources + source[e] * D, D);
              },
              [&](int64_t one, int64_t next) { return into[one] == into[next]; },
              [&](double* to, const Run& run, T* x) {
                const T* const g = given + into[order[run.first]] * width;
                if constexpr (M == ADD || M == SUB) {
                  for (int64_t h = 0; h < parts; ++h) {
                    T total = 0;
                    for (int64_t i = run.first; i < run.last; ++i) total += weight[order[i] * parts + h];
                    if (M == SUB) total = -total;
#pragma omp simd
                    for (int64_t k = h * part; k < (h + 1) * part; ++k) to[k] += g[k] * total;
                  }
                  return;
                }
                sum_sources(x, run, order, sources, source, weight, D, parts);
                if constexpr (M == BASES) {
                  for (int64_t p = 0; p < W; ++p) {
                    T total = 0;
#pragma omp simd reduction(+ : total)
                    for (int64_t k = 0; k < D; ++k) total += g[p * D + k] * x[k];
                    to[p] += total;
                  }
                } else if constexpr (M == CORR) {  // g x
#pragma omp simd
                  for (int64_t k = 0; k < D; k += 2) {
                    to[k] += g[k] * x[k] - g[k + 1] * x[k + 1];
                    to[k + 1] += g[k] * x[k + 1] + g[k + 1] * x[k];
                  }
                } else {
#pragma omp simd
                  for (int64_t k = 0; k < D; ++k) to[k] += g[k] * x[k];
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
