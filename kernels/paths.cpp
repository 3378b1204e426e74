// From the head of each query: the entities that few enough edges reach, and sums of messages along the edges.
//
// A node is an entity that a query has reached. The edges out of entity e are those from start[e] to start[e + 1] - 1.
// place[q * entities + e] is the number of query q's node at entity e, -1 if there is none.
#include "export.h"
#include "vector.h"

namespace kernel {

// Adds the nodes that one edge reaches from the nodes `first` to `count` - 1, and returns how many there are now.
int64_t reach(const int64_t* start, const int32_t* target, const bool* kept, int32_t* place, int32_t* query,
              int32_t* entity, int64_t first, int64_t count, int64_t entities) {
  int64_t total = count;
  for (int64_t i = first; i < count; ++i) {
    int32_t* const at = place + query[i] * entities;
    for (int64_t p = start[entity[i]]; p < start[entity[i] + 1]; ++p) {
      if (!kept[p] || at[target[p]] >= 0) continue;
      at[target[p]] = (int32_t)total;
      query[total] = query[i];
      entity[total++] = target[p];
    }
  }
  return total;
}

// How many edges ahead the row is asked for that an edge will read or write: it is seldom in the nearest cache.
constexpr int64_t AHEAD = 8;

INLINE void ask_for(const void* row, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch((const char*)row + at);
}

// Adds to out[the node at an edge's target] the product of state[the node at its source] and the edge's weight.
template <class T>
void send(const int64_t* start, const int32_t* target, const int32_t* relation, const bool* kept, const int32_t* place,
          const int32_t* query, const int32_t* entity, const int64_t* group, const T* state, const T* weight, T* out,
          int64_t nodes, int64_t entities, int64_t relations, int64_t width) {
  for (int64_t i = 0; i < nodes; ++i) {
    const int32_t* const at = place + query[i] * entities;
    const T *const by = weight + group[query[i]] * relations * width, *const from = state + i * width;
    const int64_t end = start[entity[i] + 1];
    for (int64_t p = start[entity[i]]; p < end; ++p) {
      if (p + AHEAD < end) ask_for(out + at[target[p + AHEAD]] * width, width * sizeof(T));
      if (!kept[p]) continue;
      T* const to = out + at[target[p]] * width;
      const T* const w = by + relation[p] * width;
#pragma omp simd
      for (int64_t k = 0; k < width; ++k) to[k] += from[k] * w[k];
    }
  }
}

// The gradients of `send`: by_state is overwritten, by_weight is added to, in float64.
template <class T>
void send_gradient(const int64_t* start, const int32_t* target, const int32_t* relation, const bool* kept,
                   const int32_t* place, const int32_t* query, const int32_t* entity, const int64_t* group,
                   const T* state, const T* weight, const T* by_out, T* by_state, double* by_weight, int64_t nodes,
                   int64_t entities, int64_t relations, int64_t width) {
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
      const T *const given = by_out + at[target[p]] * width, *const w = weight + (first + relation[p]) * width;
      double* const total = by_weight + (first + relation[p]) * width;
#pragma omp simd
      for (int64_t k = 0; k < width; ++k) {
        to[k] += given[k] * w[k];
        total[k] += (double)from[k] * given[k];
      }
    }
  }
}

}  // namespace kernel

EXPORT(reach, reach)
EXPORT_TYPES(send, send)
EXPORT_TYPES(send_gradient, send_gradient)
