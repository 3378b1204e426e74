// Marks the negatives that are known facts. For each pool of negatives it makes a hash map, and looks up the known
// answers of each positive in it.
#include <algorithm>
#include <vector>

#include "export.h"

namespace kernel {

// The positions of each entity in a pool: a hash map has the first, and `next_` has, for each position, the next one of
// the same entity.
class PoolMap {
 public:
  explicit PoolMap(int64_t size) : next_(size) {
    while ((int64_t)1 << bits_ < 4 * size) ++bits_;
    first_.resize((size_t)1 << bits_);
  }

  void fill(const int64_t* pool) {
    pool_ = pool;
    std::fill(first_.begin(), first_.end(), -1);
    for (int64_t j = (int64_t)next_.size() - 1; j >= 0; --j) {
      int32_t& first = find(pool[j]);
      next_[j] = first, first = (int32_t)j;
    }
  }

  void mark(int64_t entity, bool* mask) {
    for (int32_t j = find(entity); j >= 0; j = next_[j]) mask[j] = true;
  }

 private:
  int32_t& find(int64_t entity) {
    size_t slot = (uint64_t)entity * 0x9E3779B97F4A7C15u >> (64 - bits_);
    while (first_[slot] >= 0 && pool_[first_[slot]] != entity) slot = (slot + 1) & (first_.size() - 1);
    return first_[slot];
  }

  int bits_ = 1;
  const int64_t* pool_ = nullptr;
  std::vector<int32_t> first_, next_;  // -1: none
};

// `query` has, for each positive, the row of its known answers, or -1 if it has none. `entity` has the negatives of
// each chunk; a chunk has `positives` positives. Offsets are int32 where they fit.
template <class Offset>
void mask_known(const int64_t* query, const Offset* offset, const int32_t* answer, const int64_t* entity, bool* known,
                int64_t chunks, int64_t positives, int64_t negatives, int threads) {
#pragma omp parallel num_threads(threads)
  {
    PoolMap map(negatives);
#pragma omp for schedule(dynamic, positives > 1 ? 1 : 64)
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t* const pool = entity + chunk * negatives;
      if (positives > 1) map.fill(pool);
      for (int64_t row = chunk * positives; row < (chunk + 1) * positives; ++row) {
        bool* const mask = known + row * negatives;
        std::fill(mask, mask + negatives, false);
        if (query[row] < 0) continue;
        const int32_t *const first = answer + offset[query[row]], *const last = answer + offset[query[row] + 1];
        if (positives > 1)
          for (const int32_t* a = first; a < last; ++a) map.mark(*a, mask);
        else
          for (int64_t j = 0; j < negatives; ++j) mask[j] = std::binary_search(first, last, pool[j]);
      }
    }
  }
}

}  // namespace kernel

EXPORT(mask_known_int32, mask_known<int32_t>)
EXPORT(mask_known_int64, mask_known<int64_t>)
