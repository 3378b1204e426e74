// Random numbers that are functions of a counter. graph/counter_random.py defines them.
#include "export.h"

namespace kernel {

inline uint64_t mix(uint64_t word) {
  word += 0x9E3779B97F4A7C15u;
  word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9u;
  word = (word ^ (word >> 27)) * 0x94D049BB133111EBu;
  return word ^ (word >> 31);
}

inline uint64_t bits(uint64_t stream, uint64_t key, int64_t inner) { return mix(mix(key ^ (uint64_t)inner) ^ stream); }

// Random integers in [0, high): for each outer number, one for each inner number from 0 to count - 1.
void random_integers(int64_t stream, const int64_t* outer, int64_t* out, int64_t outers, int64_t count, int64_t high,
                     int threads) {
  const uint64_t divisor = (uint64_t)high, reciprocal = UINT64_MAX / divisor;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t i = 0; i < outers; ++i) {
    const uint64_t key = mix((uint64_t)outer[i]);
    for (int64_t j = 0; j < count; ++j) {
      // Divides by a multiplication. The quotient may be one too small, which is corrected.
      const uint64_t word = bits((uint64_t)stream, key, j) >> 1;
      const uint64_t rest = word - (uint64_t)(((unsigned __int128)word * reciprocal) >> 64) * divisor;
      out[i * count + j] = (int64_t)(rest >= divisor ? rest - divisor : rest);
    }
  }
}

// Random numbers in (0, 1), in the same order.
void random_uniform(int64_t stream, const int64_t* outer, double* out, int64_t outers, int64_t count, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t i = 0; i < outers; ++i) {
    const uint64_t key = mix((uint64_t)outer[i]);
#pragma omp simd
    for (int64_t j = 0; j < count; ++j)
      out[i * count + j] = ((double)(int64_t)(bits((uint64_t)stream, key, j) >> 12) + 0.5) * 0x1p-52;
  }
}

}  // namespace kernel

EXPORT(random_integers, random_integers)
EXPORT(random_uniform, random_uniform)
