// Finds the entities that edges reach from the head of each query, chooses those to go on from, and sums messages.
//
// A node is an entity that a query has reached. The edges out of entity e are those from start[e] to start[e + 1] - 1.
// place[q * entities + e] is the number of query q's node at entity e, -1 if there is none.
#include <algorithm>
#include <cmath>
#include <vector>

#include "export.h"
#include "vector.h"

namespace kernel {

// Adds the nodes that one edge reaches from `sources` nodes, numbered from `nodes` on, and returns how many there are.
int64_t reach(const int64_t* start, const int32_t* target, const bool* kept, const int32_t* query,
              const int32_t* entity, int32_t* place, int32_t* new_query, int32_t* new_entity, int64_t sources,
              int64_t nodes, int64_t entities) {
  int64_t total = 0;
  for (int64_t i = 0; i < sources; ++i) {
    int32_t* const at = place + query[i] * entities;
    for (int64_t p = start[entity[i]]; p < start[entity[i] + 1]; ++p) {
      if (!kept[p] || at[target[p]] >= 0) continue;
      at[target[p]] = (int32_t)(nodes + total);
      new_query[total] = query[i];
      new_entity[total++] = target[p];
    }
  }
  return total;
}

// For each query, takes nodes by priority, the highest first, until at least `most_edges` edges lead out of them. Of equal
// priorities, the smaller entity comes first; nan comes last.
template <class T>
void choose(const int64_t* start, const int32_t* query, const int32_t* entity, const T* priority, bool* chosen,
            int64_t nodes, int64_t queries, int64_t most_edges) {
  struct Node {
    T priority;
    int32_t entity, number;
  };
  std::vector<int64_t> first(queries + 1);
  for (int64_t i = 0; i < nodes; ++i) ++first[query[i] + 1];
  for (int64_t q = 0; q < queries; ++q) first[q + 1] += first[q];
  std::vector<Node> all(nodes);
  std::vector<int64_t> end(first.begin(), first.end() - 1);
  for (int64_t i = 0; i < nodes; ++i) {
    const T value = std::isnan(priority[i]) ? -INFINITY : priority[i];
    all[end[query[i]]++] = {value, entity[i], (int32_t)i};
    chosen[i] = false;
  }
  const auto later = [](const Node& a, const Node& b) {
    return a.priority != b.priority ? a.priority < b.priority : a.entity > b.entity;
  };
  for (int64_t q = 0; q < queries; ++q) {
    const auto begin = all.begin() + first[q];
    auto last = all.begin() + first[q + 1];
    std::make_heap(begin, last, later);
    for (int64_t edges = 0; edges < most_edges && begin != last;) {
      std::pop_heap(begin, last--, later);
      chosen[last->number] = true;
      edges += start[last->entity + 1] - start[last->entity];
    }
  }
}

// How many edges ahead the row is asked for that an edge will read or write: it is seldom in the nearest cache.
constexpr int64_t AHEAD = 8;

INLINE void ask_for(const void* row, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch((const char*)row + at);
}

// Adds to out[the node at an edge's target] the product of state[the node at its source] and the edge's weight. Returns
// 0, and stops, if a target is none of the `wanted` nodes.
template <class T>
int64_t send(const int64_t* start, const int32_t* target, const int32_t* relation, const bool* kept,
             const int32_t* place, const int32_t* query, const int32_t* entity, const int64_t* group, const T* state,
             const T* weight, T* out, int64_t nodes, int64_t wanted, int64_t entities, int64_t relations,
             int64_t width) {
  for (int64_t i = 0; i < nodes; ++i) {
    const int32_t* const at = place + query[i] * entities;
    const T *const by = weight + group[query[i]] * relations * width, *const from = state + i * width;
    const int64_t end = start[entity[i] + 1];
    for (int64_t p = start[entity[i]]; p < end; ++p) {
      if (p + AHEAD < end) ask_for(out + at[target[p + AHEAD]] * width, width * sizeof(T));
      if (!kept[p]) continue;
      if (at[target[p]] < 0 || at[target[p]] >= wanted) return 0;
      T* const to = out + at[target[p]] * width;
      const T* const w = by + relation[p] * width;
#pragma omp simd
      for (int64_t k = 0; k < width; ++k) to[k] += from[k] * w[k];
    }
  }
  return 1;
}

// The gradients of `send`. Returns what `send` returns. by_state is overwritten, by_weight is added to, in float64.
template <class T>
int64_t send_gradient(const int64_t* start, const int32_t* target, const int32_t* relation, const bool* kept,
                      const int32_t* place, const int32_t* query, const int32_t* entity, const int64_t* group,
                      const T* state, const T* weight, const T* by_out, T* by_state, double* by_weight, int64_t nodes,
                      int64_t wanted, int64_t entities, int64_t relations, int64_t width) {
  for (int64_t i = 0; i < nodes; ++i) {
    const int32_t* const at = place + query[i] * entities;
    const int64_t first = group[query[i]] * relations;
    const T* const from = state + i * width;
    T* const to = by_state + i * width;
    for (int64_t k = 0; k < width; ++k) to[k] = 0;
    const int64_t end = start[entity[i] + 1];
    for (int64_t p = start[entity[i]]; p < end; ++p) {
      if (p + AHEAD < end) ask_for(by_out + at[target[p + AHEAD]] * width, width * sizeof(T));
      if (!kept[p]) continue;
      if (at[target[p]] < 0 || at[target[p]] >= wanted) return 0;
      const T *const given = by_out + at[target[p]] * width, *const w = weight + (first + relation[p]) * width;
      double* const total = by_weight + (first + relation[p]) * width;
#pragma omp simd
      for (int64_t k = 0; k < width; ++k) {
        to[k] += given[k] * w[k];
        total[k] += (double)from[k] * given[k];
      }
    }
  }
  return 1;
}

}  // namespace kernel

EXPORT(reach, reach)
EXPORT_TYPES(choose, choose)
EXPORT_TYPES(send, send)
EXPORT_TYPES(send_gradient, send_gradient)
