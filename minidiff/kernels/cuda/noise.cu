// Random numbers without a state: Philox4x32-10 (Salmon et al. 2011). minidiff/philox.py, its twin, says how words are numbered.
//
//   counter (block j, row i, step, stream), key = seed        ->  four words  ->  four numbers of row i, from column 4 j
//
// One thread makes the four numbers of one block. `step` is read from memory where a pointer is given, so that a CUDA
// graph, whose arguments are fixed, draws new numbers each time it is replayed.
//
//   bytes        the numbers, written once
//   operations   about 100 for the words, 60 for two pairs of normals
//
//   KIND (UNIFORM, NORMAL or INTEGERS)
#include "philox.h"

enum Kind { UNIFORM, NORMAL, INTEGERS };

KERNEL(draw)(float* y, long long* integers, int rows, int size, unsigned key0, unsigned key1, unsigned first_row, unsigned step,
             const int* step_at, unsigned stream, int low, unsigned range) {
  const int blocks = divide_up(size, 4), k = blockIdx.x * blockDim.x + threadIdx.x, row = k / blocks, j = k % blocks;
  if (row >= rows) return;
  const Words w = philox(Words{{(uint32_t)j, first_row + row, step_at ? (uint32_t)*step_at : step, stream}}, key0, key1);
  float four[4];
  if (KIND == NORMAL) normals(w, four);
  for (int e = 0; e < 4 && j * 4 + e < size; e++) {
    const int64_t at = (int64_t)row * size + j * 4 + e;
    if (KIND == INTEGERS) integers[at] = low + (long long)__umulhi(w.word[e], range);
    else y[at] = KIND == NORMAL ? four[e] : unit(w.word[e]);
  }
}
