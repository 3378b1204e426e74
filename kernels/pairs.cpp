// Scores of queries with the candidate rows of their chunk, and their gradient by the query. Rows are read directly
// from the table: no [queries, candidates, width] array is written.
#include "pairs.h"

#include "export.h"
#include <algorithm>
#include <vector>

namespace kernel {

// How many queries a thread takes at a time, and how many candidates stay in its cache meanwhile.
constexpr int64_t QUERIES = 32, CANDIDATES = 128;

template <class T, Kind K>
void scores_of_block(const T* query, int64_t queries, const T* rows, const int64_t* place, int64_t candidates,
                     int64_t width, T* out) {
  for (int64_t first = 0; first < candidates; first += CANDIDATES) {
    const int64_t last = std::min(first + CANDIDATES, candidates);
    for (int64_t i = 0; i < queries;) {
      const int of_queries = i + TILE_QUERIES <= queries ? TILE_QUERIES : 1;
      const T* q[TILE_QUERIES];
      for (int k = 0; k < of_queries; ++k) q[k] = query + (i + k) * width;
      for (int64_t j = first; j < last;) {
        const int of_candidates = j + TILE_CANDIDATES <= last ? TILE_CANDIDATES : 1;
        const T* c[TILE_CANDIDATES];
        for (int k = 0; k < of_candidates; ++k) {
          c[k] = rows + place[j + k] * width;
          // Later queries find the rows in the cache.
          const int64_t ahead = j + k + TILE_CANDIDATES;
          if (i == 0 && ahead < candidates) prefetch(rows + place[ahead] * width, width);
        }
        T* const to = out + i * candidates + j;
        if (of_queries > 1 && of_candidates > 1)
          score_tile<T, K, TILE_QUERIES, TILE_CANDIDATES>(q, c, width, to, candidates);
        else if (of_queries > 1)
          score_tile<T, K, TILE_QUERIES, 1>(q, c, width, to, candidates);
        else if (of_candidates > 1)
          score_tile<T, K, 1, TILE_CANDIDATES>(q, c, width, to, candidates);
        else
          score_tile<T, K, 1, 1>(q, c, width, to, candidates);
        j += of_candidates;
      }
      i += of_queries;
    }
  }
}

template <class T, Kind K>
void pair_scores(const T* query, const T* rows, const int64_t* place, T* out, int64_t chunks, int64_t queries,
                 int64_t candidates, int64_t width, int threads) {
  const int64_t blocks = (queries + QUERIES - 1) / QUERIES;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t task = 0; task < chunks * blocks; ++task) {
    const int64_t chunk = task / blocks, first = task % blocks * QUERIES, row = chunk * queries + first;
    scores_of_block<T, K>(query + row * width, std::min(QUERIES, queries - first), rows, place + chunk * candidates,
                          candidates, width, out + row * candidates);
  }
}

template <class T, Kind K>
void query_gradient(const T* query, const T* rows, const int64_t* place, const T* coefficient, const T* score, T* out,
                    int64_t chunks, int64_t queries, int64_t candidates, int64_t width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t row = 0; row < chunks * queries; ++row) {
    const int64_t* const of_chunk = place + row / queries * candidates;
    const T* const q = query + row * width;
    T* const into = out + row * width;
    std::fill(into, into + width, T(0));
    for (int64_t j = 0; j < candidates;) {
      const bool four = j + 4 <= candidates;
      const T* c[4];
      T weight[4];
      for (int k = 0; k < (four ? 4 : 1); ++k) {
        const int64_t pair = row * candidates + j + k;
        c[k] = rows + of_chunk[j + k] * width;
        // Rows that queries share are in the cache since the first of them.
        if (queries == 1 && j + k + 4 < candidates) prefetch(rows + of_chunk[j + k + 4] * width, width);
        weight[k] = gradient_weight<T, K>(coefficient[pair], score[pair]);
      }
      if (four)
        add_gradient<T, K, 4>(q, c, weight, width, into);
      else
        add_gradient<T, K, 1>(q, c, weight, width, into);
      j += four ? 4 : 1;
    }
  }
}

}  // namespace kernel

EXPORT_KINDS(pair_scores, pair_scores)
EXPORT_KINDS(query_gradient, query_gradient)
