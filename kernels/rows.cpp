// Gradients of table rows. The occurrences of rows are grouped by row, and each row's gradients are summed in double,
// in the order of the occurrences.
#include <algorithm>
#include <vector>

#include "export.h"
#include "rows.h"

namespace kernel {

// Sorts the occurrences by row and keeps the order of those of one row (radix sort). Writes the distinct rows,
// ascending, and where the occurrences of each row begin and end. Returns the number of distinct rows, or -1 - i if the
// number at place i is no row of the table.
int64_t group_rows(const int64_t* place, int64_t count, int64_t num_rows, int32_t* order, int64_t* row, int64_t* begin) {
  for (int64_t i = 0; i < count; ++i)
    if (place[i] < 0 || place[i] >= num_rows) return -1 - i;
  constexpr int BITS = 11;
  std::vector<int32_t> other(count);
  int32_t *from = other.data(), *to = order;
  int passes = 1;
  while (passes * BITS < 63 && (num_rows - 1) >> (passes * BITS)) ++passes;
  if (passes % 2 == 0) std::swap(from, to);  // the last pass must write into `order`
  for (int64_t i = 0; i < count; ++i) from[i] = (int32_t)i;
  for (int pass = 0; pass < passes; ++pass) {
    int64_t start[(1 << BITS) + 1] = {};
    const int shift = pass * BITS;
    const auto digit = [&](int32_t i) { return (place[i] >> shift) & ((1 << BITS) - 1); };
    for (int64_t i = 0; i < count; ++i) ++start[digit((int32_t)i) + 1];
    for (int d = 0; d < 1 << BITS; ++d) start[d + 1] += start[d];
    for (int64_t i = 0; i < count; ++i) to[start[digit(from[i])]++] = from[i];
    std::swap(from, to);
  }
  int64_t distinct = 0;
  for (int64_t i = 0; i < count; ++i)
    if (i == 0 || place[order[i]] != place[order[i - 1]]) row[distinct] = place[order[i]], begin[distinct++] = i;
  begin[distinct] = count;
  return distinct;
}

// Writes, for each occurrence, the number of its row among the distinct rows.
void number_rows(const int32_t* order, const int64_t* begin, int64_t distinct, int64_t* number) {
  for (int64_t r = 0; r < distinct; ++r)
    for (int64_t i = begin[r]; i < begin[r + 1]; ++i) number[order[i]] = r;
}

// Writes to `out` the sum of each distinct row.
template <class T, class Out>
void sum_rows(const Source* sources, OrNone<const T> rows, const int64_t* row, const int32_t* order, const int64_t* begin,
              int64_t distinct, int64_t width, Out* out, int threads) {
  sum_each_row(
      sources, rows.array, row, order, begin, distinct, width, threads,
      [&](int64_t r) {
        if (rows.array) prefetch(rows.array + row[r] * width, width);
      },
      [&](int64_t r, const double* total) {
        for (int64_t i = 0; i < width; ++i) out[r * width + i] = (Out)total[i];
      });
}

}  // namespace kernel

EXPORT(group_rows, group_rows)
EXPORT(number_rows, number_rows)
EXPORT(sum_rows_float32_float32, sum_rows<float, float>)
EXPORT(sum_rows_float64_float32, sum_rows<double, float>)
EXPORT(sum_rows_float32_float64, sum_rows<float, double>)
EXPORT(sum_rows_float64_float64, sum_rows<double, double>)
