// Counts, for each query, the candidates of a block that score above the true answer, and those that score equal to it.
// Known answers do not count.
#include <algorithm>

#include "export.h"
#include "functions.h"

namespace kernel {

// The first `rows` columns of `scores` [queries, stride] belong to the rows of the table from `first` on. The target
// does not count, nor do the known answers of the query (`known_query` says where they are, -1: there are none); these
// are rows of the table, ascending. Adds to `greater`, `equal` and `bad`, the number of scores that are not finite.
template <class T>
void count_ranks(const T* scores, const T* truth, const int64_t* target, const int64_t* known_query,
                 const int64_t* offset, const int64_t* answer, int64_t* greater,
                 int64_t* equal, int64_t* bad, int64_t queries, int64_t rows, int64_t stride, int64_t first,
                 int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t q = 0; q < queries; ++q) {
    const T* const score = scores + q * stride;
    const T true_score = truth[q];
    Bits<T> above = {}, same = {}, odd = {};
    over_vectors<T>(rows, [&](int64_t at, int lanes) __attribute__((always_inline)) {
      if (lanes) return;
      const Vec<T> x = load(score + at);
      above -= x > true_score, same -= x == true_score, odd -= (x - x) != 0;
    });
    int64_t more = 0, ties = 0, not_finite = 0;
    for (int i = 0; i < Lanes<T>::count; ++i) more += above[i], ties += same[i], not_finite += odd[i];
    for (int64_t at = rows / Lanes<T>::count * Lanes<T>::count; at < rows; ++at)
      more += score[at] > true_score, ties += score[at] == true_score, not_finite += score[at] - score[at] != 0;
    const auto leave_out = [&](int64_t row) {
      more -= score[row - first] > true_score, ties -= score[row - first] == true_score;
    };
    bool target_left_out = target[q] < first || target[q] >= first + rows;
    if (known_query[q] >= 0) {
      const int64_t *k = answer + offset[known_query[q]], *const end = answer + offset[known_query[q] + 1];
      for (k = std::lower_bound(k, end, first); k < end && *k < first + rows; ++k) {
        leave_out(*k);
        target_left_out |= *k == target[q];
      }
    }
    if (!target_left_out) leave_out(target[q]);
    greater[q] += more, equal[q] += ties, bad[q] += not_finite;
  }
}

}  // namespace kernel

EXPORT_TYPES(count_ranks, count_ranks)
