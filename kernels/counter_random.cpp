// Random numbers that are functions of a counter. graph/counter_random.py defines them.
#include <algorithm>
#include <cmath>

#include "export.h"

namespace kernel {

inline uint64_t mix(uint64_t word) {
  word += 0x9E3779B97F4A7C15u;
  word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9u;
  word = (word ^ (word >> 27)) * 0x94D049BB133111EBu;
  return word ^ (word >> 31);
}

inline uint64_t bits(uint64_t stream, uint64_t key, int64_t inner) { return mix(mix(key ^ (uint64_t)inner) ^ stream); }

// Remainders of one divisor, by a multiplication in place of a division. The quotient may be one too small, which is
// corrected.
struct Remainder {
  uint64_t divisor, reciprocal;
  explicit Remainder(int64_t by) : divisor((uint64_t)by), reciprocal(UINT64_MAX / divisor) {}

  uint64_t of(uint64_t word) const {
    const uint64_t rest = word - (uint64_t)(((unsigned __int128)word * reciprocal) >> 64) * divisor;
    return rest >= divisor ? rest - divisor : rest;
  }
};

// Random integers in [0, high): for each outer number, one for each inner number from 0 to count - 1.
void random_integers(int64_t stream, const int64_t* outer, int64_t* out, int64_t outers, int64_t count, int64_t high,
                     int threads) {
  const Remainder below(high);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t i = 0; i < outers; ++i) {
    const uint64_t key = mix((uint64_t)outer[i]);
    for (int64_t j = 0; j < count; ++j) out[i * count + j] = (int64_t)below.of(bits((uint64_t)stream, key, j) >> 1);
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

// Whether each of these numbers is at least this one, of [0, 1]. Compared as integers, (bits + 1/2) / 2^52 >= least, which
// takes a third of the time.
void random_at_least(int64_t stream, const int64_t* outer, bool* out, int64_t outers, int64_t count, double least,
                     int threads) {
  const uint64_t fewest = (uint64_t)std::ceil(std::max(least * 0x1p52 - 0.5, 0.0));
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t i = 0; i < outers; ++i) {
    const uint64_t key = mix((uint64_t)outer[i]);
    bool* const to = out + i * count;
    for (int64_t j = 0; j < count; ++j) to[j] = (bits((uint64_t)stream, key, j) >> 12) >= fewest;
  }
}

// Rows in bfloat16: 16 random bits are added to the 16 bits that are cut off. Three columns share a random word.
void round_to_bfloat16(int64_t stream, const int64_t* outer, const float* rows, int16_t* out, int64_t outers,
                       int64_t width, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t i = 0; i < outers; ++i) {
    const uint64_t key = mix((uint64_t)outer[i]);
    const float* row = rows + i * width;
    for (int64_t first = 0; first < width; first += 3) {
      uint64_t word = bits((uint64_t)stream, key, first / 3) >> 1;
      for (int64_t j = first; j < first + 3 && j < width; ++j, word >>= 16) {
        uint32_t number;
        std::memcpy(&number, row + j, sizeof number);
        const bool finite = (number & 0x7F800000u) != 0x7F800000u;
        // What is no finite number keeps its kind: a nan needs a bit of its fraction.
        const uint32_t kept = number | ((number & 0x007FFFFFu) ? 0x00400000u : 0u);
        out[i * width + j] = (int16_t)((finite ? number + (uint32_t)(word & 0xFFFFu) : kept) >> 16);
      }
    }
  }
}

// What a permutation of 0 .. size - 1 has at each place: a Feistel network over a table of rows x columns cells, with a
// stream of random numbers for each turn. A place that comes to a cell from `size` on is permuted again.
void permuted_places(const int64_t* place, int64_t* out, int64_t places, const int64_t* stream, int64_t turns,
                     int64_t rows, int64_t columns, int64_t size, int threads) {
  const Remainder below[2] = {Remainder(rows), Remainder(columns)};
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t i = 0; i < places; ++i) {
    uint64_t number = (uint64_t)place[i];
    do {
      uint64_t cell[2] = {number / (uint64_t)columns, below[1].of(number)};
      for (int64_t turn = 0; turn < turns; ++turn) {
        uint64_t& moved = cell[turn % 2];
        const Remainder& side = below[turn % 2];
        moved = side.of(moved + side.of(bits((uint64_t)stream[turn], mix(cell[1 - turn % 2]), 0) >> 1));
      }
      number = cell[0] * (uint64_t)columns + cell[1];
    } while (number >= (uint64_t)size);
    out[i] = (int64_t)number;
  }
}

}  // namespace kernel

EXPORT(random_integers, random_integers)
EXPORT(random_uniform, random_uniform)
EXPORT(random_at_least, random_at_least)
EXPORT(round_to_bfloat16, round_to_bfloat16)
EXPORT(permuted_places, permuted_places)
