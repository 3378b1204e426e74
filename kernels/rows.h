// The gradient of table rows: its sources, and the loop that sums it at each row in double.
#pragma once
#include <algorithm>
#include <vector>

#include "export.h"
#include "pairs.h"

namespace kernel {

// The gradient of a look-up: rows of numbers, or the data to compute them from, so that they are never stored.
struct Source {
  int64_t count;       // of occurrences
  int64_t kind;        // of a pair's score, or -1: `value` has a row for each occurrence
  const void* value;        // [count, width]
  const void* coefficient;  // [chunks, queries, candidates], the gradient by each score
  const void* score;        // likewise
  const void* query;        // [chunks, queries, width]
  int64_t queries, candidates;

  // The chunk of an occurrence. A product instead of a division, which would take as long as the rest: exact, for the
  // half keeps it further from the next whole number than rounding reaches.
  int64_t chunk(int64_t occurrence) const { return (int64_t)(((double)occurrence + 0.5) * inverse); }
  double inverse;  // 1 / candidates
};

// Python gives them as rows of nine words (row_sources.py).
static_assert(sizeof(Source) == 9 * sizeof(int64_t));

template <class T, Kind K>
void add_pairs(const Source& source, const T* row, int64_t occurrence, int64_t width, T* into, double* total) {
  const T* const query = static_cast<const T*>(source.query);
  const T* const coefficient = static_cast<const T*>(source.coefficient);
  const T* const score = static_cast<const T*>(source.score);
  const int64_t chunk = source.chunk(occurrence), candidate = occurrence - chunk * source.candidates;
  if (source.queries == 1) {
    const T* const q = query + chunk * width;
    const T weight = gradient_weight<T, K>(coefficient[occurrence], score[occurrence]);
    return add_gradient<T, K, 1>(row, &q, &weight, width, total);
  }
  // A chunk is never divided over ranks, so that its part may be summed in the rows' own type.
  std::fill(into, into + width, T(0));
  for (int64_t i = 0; i < source.queries;) {
    const bool four = i + 4 <= source.queries;
    const T* q[4];
    T weight[4];
    for (int k = 0; k < (four ? 4 : 1); ++k) {
      const int64_t line = chunk * source.queries + i + k, pair = line * source.candidates + candidate;
      q[k] = query + line * width;
      weight[k] = gradient_weight<T, K>(coefficient[pair], score[pair]);
    }
    if (four)
      add_gradient<T, K, 4>(row, q, weight, width, into);
    else
      add_gradient<T, K, 1>(row, q, weight, width, into);
    i += four ? 4 : 1;
  }
  for (int64_t i = 0; i < width; ++i) total[i] += into[i];
}

template <class T>
void add_occurrence(const Source& source, const T* row, int64_t occurrence, int64_t width, T* into, double* total) {
  switch (source.kind) {
    case DOT: return add_pairs<T, DOT>(source, row, occurrence, width, into, total);
    case L1: return add_pairs<T, L1>(source, row, occurrence, width, into, total);
    case L2: return add_pairs<T, L2>(source, row, occurrence, width, into, total);
    case MODULUS: return add_pairs<T, MODULUS>(source, row, occurrence, width, into, total);
  }
  const T* const value = static_cast<const T*>(source.value) + occurrence * width;
  for (int64_t i = 0; i < width; ++i) total[i] += value[i];
}

// Prefetches the data of an occurrence.
template <class T>
void prefetch_occurrence(const Source& source, int64_t occurrence, int64_t width) {
  if (source.kind < 0) return prefetch(static_cast<const T*>(source.value) + occurrence * width, width);
  if (source.queries > 1) return;
  prefetch(static_cast<const T*>(source.query) + source.chunk(occurrence) * width, width);
  __builtin_prefetch(static_cast<const T*>(source.coefficient) + occurrence);
}

// Which look-up an occurrence is of, and its number there.
inline const Source& source_of(const Source* source, int64_t& occurrence) {
  while (occurrence >= source->count) occurrence -= (source++)->count;
  return *source;
}

// Calls finish(r, sum) for each distinct row, the occurrences of which `order` has from begin[r] on, and expect(r) some
// rows before. rows[row[r]] is the row itself, which distances need.
template <class T, class Expect, class Finish>
void sum_each_row(const Source* sources, const T* rows, const int64_t* row, const int32_t* order, const int64_t* begin,
                  int64_t distinct, int64_t width, int threads, Expect expect, Finish finish) {
#pragma omp parallel num_threads(threads)
  {
    std::vector<T> into(width);
    std::vector<double> total(width);
#pragma omp for schedule(dynamic, 64)
    for (int64_t r = 0; r < distinct; ++r) {
      std::fill(total.begin(), total.end(), 0.0);
      if (r + ROWS_AHEAD < distinct) expect(r + ROWS_AHEAD);
      for (int64_t i = begin[r]; i < begin[r + 1]; ++i) {
        if (i + ROWS_AHEAD < begin[distinct]) {
          int64_t ahead = order[i + ROWS_AHEAD];
          const Source& source = source_of(sources, ahead);
          prefetch_occurrence<T>(source, ahead, width);
        }
        int64_t occurrence = order[i];
        const Source& source = source_of(sources, occurrence);
        add_occurrence<T>(source, rows ? rows + row[r] * width : nullptr, occurrence, width, into.data(),
                          total.data());
      }
      finish(r, total.data());
    }
  }
}

}  // namespace kernel

ARRAY_TEXT(kernel::Source, "int64")
