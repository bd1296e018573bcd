// A product of two matrices that lie in shared memory, by one warp: the heart of convolution, matmul and attention.
//
//     C += A B            A is WM x BK, B is BK x WN, C stays in the warp's registers
//
// in one of three ways (MATH):
//   FP32   plain multiplications and additions of float32
//   TF32   tensor cores; inputs rounded to 10 bits of mantissa, sums in float32
//   BF16   tensor cores; inputs are bfloat16, sums in float32
//
// A matrix in shared memory is cut into chunks of 16 bytes. The tensor cores want 8 rows at a time, one chunk of each:
// rows that start a multiple of 128 bytes apart would all meet in the same 4 of the 32 memory banks and come one by one.
// So the chunks of row r are stored in another order, c ^ (r % 8), and 8 rows always meet 8 different groups of banks.
#pragma once
#include "device.h"

enum Math { FP32, TF32, BF16 };

template <Math MATH> struct Number { using type = float; };
template <> struct Number<BF16> { using type = bf16; };

// Which way the K numbers of a product lie: next to each other (a row of the memory is a row of A, or a column of B),
// or one below the other (a row of the memory is one k).
enum Order { ALONG_K, ACROSS_K };

// Where the numbers of a matrix with rows of COLUMNS numbers lie in shared memory.
template <class S, int COLUMNS, Order ORDER> struct Place {
  static constexpr int PER = 16 / sizeof(S), CHUNKS = COLUMNS / PER;
  static_assert(COLUMNS % PER == 0 && (CHUNKS & (CHUNKS - 1)) == 0, "rows must be a power of two of 16-byte chunks");

  // The index of the first number of a chunk.
  static DEVICE int chunk(int row, int c) {
    // float32 ACROSS_K is read number by number, from 4 rows of 8 neighbours: two chunks apart is far enough
    int turn = ORDER == ACROSS_K && sizeof(S) == 4 ? 2 * (row & 3) : CHUNKS >= 8 ? row & 7 : CHUNKS == 4 ? row / 2 & 3 : CHUNKS == 2 ? row / 4 & 1 : 0;
    return (row * CHUNKS + (c ^ (turn & (CHUNKS - 1)))) * PER;
  }
  static DEVICE int at(int row, int column) { return chunk(row, column / PER) + column % PER; }
};

// fetch(s) and multiply(s) for s = 0 … steps − 1: while one step is multiplied, the next STAGES − 1 are on their way.
// fetch(s) starts copies to part s % STAGES of the shared memory; multiply(s) reads that part.
template <int STAGES, class Fetch, class Multiply> DEVICE void pipeline(int steps, Fetch fetch, Multiply multiply) {
  #pragma unroll
  for (int s = 0; s < STAGES - 1; s++) {
    if (s < steps) fetch(s);
    copy_commit();
  }
  for (int s = 0; s < steps; s++) {
    copy_wait<STAGES - 2>();
    __syncthreads();                                     // step s is here for all, and all are done with step s − 1,
    if (s + STAGES - 1 < steps) fetch(s + STAGES - 1);   // whose part is the one that this writes to
    copy_commit();
    multiply(s);
  }
}

template <Math MATH, int WM, int WN, int BK, Order A_ORDER, int A_COLUMNS, Order B_ORDER, int B_COLUMNS> struct WarpTile {
  using S = typename Number<MATH>::type;
  using A = Place<S, A_COLUMNS, A_ORDER>;
  using B = Place<S, B_COLUMNS, B_ORDER>;
  static_assert(WM % 16 == 0 && WN % 16 == 0 && BK % (MATH == BF16 ? 16 : 8) == 0, "sizes of a warp's tile");

  float c[WM / 16][WN / 8][4];                        // as mma leaves it: see device.h

  DEVICE void clear() {
    #pragma unroll
    for (int i = 0; i < WM / 16; i++)
      #pragma unroll
      for (int j = 0; j < WN / 8; j++)
        #pragma unroll
        for (int e = 0; e < 4; e++) c[i][j][e] = 0.f;
  }

  // f(row, column, first, second) for all pairs of neighbours of C that this lane holds; they may be changed.
  template <class F> DEVICE void each(F f) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    #pragma unroll
    for (int i = 0; i < WM / 16; i++)
      #pragma unroll
      for (int j = 0; j < WN / 8; j++)
        #pragma unroll
        for (int h = 0; h < 2; h++) f(i * 16 + g + 8 * h, j * 8 + 2 * t, c[i][j][2 * h], c[i][j][2 * h + 1]);
  }

  // C += A B, for rows m0 … m0 + WM − 1 of the A at `a` and columns n0 … n0 + WN − 1 of the B at `b`.
  DEVICE void multiply(const S* a, int m0, const S* b, int n0) { multiply_rows(a, [m0](int m) { return m0 + m; }, b, n0); }

  // The same for rows row(0) … row(WM − 1) of A (ALONG_K only, where they need not be neighbours).
  template <class Row> DEVICE void multiply_rows(const S* a, Row row, const S* b, int n0) {
    if constexpr (MATH == FP32) by_numbers(a, b, row, n0);
    else by_tensor_cores(a, b, row, n0);
  }

 private:
  // The fragment of A that holds rows m … m + 15 and the k of one instruction (16 of bfloat16, 8 of float32).
  template <class Row> static DEVICE void load_a(uint32_t (&r)[4], const S* a, Row row, int m, int k) {
    const int lane = threadIdx.x % 32;
    if constexpr (A_ORDER == ALONG_K) {
      load_matrices(r, a + A::chunk(row(m + lane % 16), k / A::PER + lane / 16));
    } else if constexpr (MATH == BF16) {
      load_matrices_turned(r, a + A::chunk(k + lane / 16 * 8 + lane % 8, (row(m) + lane / 8 % 2 * 8) / 8));
    } else {
      const int g = lane / 4, t = lane % 4;
      #pragma unroll
      for (int e = 0; e < 4; e++) r[e] = __float_as_uint(a[A::at(k + t + e / 2 * 4, row(m) + g + e % 2 * 8)]);
    }
    round(r);
  }
  // Two fragments of B: columns n … n + 7 in r[0], r[1] and n + 8 … n + 15 in r[2], r[3].
  static DEVICE void load_b(uint32_t (&r)[4], const S* b, int n, int k) {
    const int lane = threadIdx.x % 32;
    if constexpr (B_ORDER == ALONG_K) {
      load_matrices(r, b + B::chunk(n + lane / 16 * 8 + lane % 8, k / B::PER + lane / 8 % 2));
    } else if constexpr (MATH == BF16) {
      load_matrices_turned(r, b + B::chunk(k + lane / 8 % 2 * 8 + lane % 8, (n + lane / 16 * 8) / 8));
    } else {
      const int g = lane / 4, t = lane % 4;
      #pragma unroll
      for (int e = 0; e < 4; e++) r[e] = __float_as_uint(b[B::at(k + t + e % 2 * 4, n + g + e / 2 * 8)]);
    }
    round(r);
  }
  static DEVICE void round(uint32_t (&r)[4]) {
    if constexpr (MATH == TF32)
      #pragma unroll
      for (int e = 0; e < 4; e++) r[e] = to_tf32(__uint_as_float(r[e]));
  }

  template <class Row> DEVICE void by_tensor_cores(const S* a, const S* b, Row row, int n0) {
    constexpr int STEP = MATH == BF16 ? 16 : 8;
    #pragma unroll
    for (int k = 0; k < BK; k += STEP) {
      uint32_t fa[WM / 16][4];
      #pragma unroll
      for (int i = 0; i < WM / 16; i++) load_a(fa[i], a, row, i * 16, k);
      #pragma unroll
      for (int j = 0; j < WN / 16; j++) {
        uint32_t fb[4];
        load_b(fb, b, n0 + j * 16, k);
        const uint32_t first[2] = {fb[0], fb[1]}, second[2] = {fb[2], fb[3]};
        #pragma unroll
        for (int i = 0; i < WM / 16; i++) {
          if constexpr (MATH == BF16) {
            mma_bf16(c[i][2 * j], fa[i], first);
            mma_bf16(c[i][2 * j + 1], fa[i], second);
          } else {
            mma_tf32(c[i][2 * j], fa[i], first);
            mma_tf32(c[i][2 * j + 1], fa[i], second);
          }
        }
      }
    }
  }

  // The same numbers of C by the same lanes, without tensor cores. A lane reads 4 k at a time where they are neighbours.
  template <class Row> DEVICE void by_numbers(const S* a, const S* b, Row row, int n0) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    #pragma unroll 1
    for (int k = 0; k < BK; k += 4) {
      float x[WM / 8][4];
      #pragma unroll
      for (int i = 0; i < WM / 8; i++) {
        if constexpr (A_ORDER == ALONG_K) load(x[i], a + A::chunk(row(i * 8 + g), k / 4));
        else
          #pragma unroll
          for (int e = 0; e < 4; e++) x[i][e] = a[A::at(k + e, row(i * 8) + g)];
      }
      #pragma unroll
      for (int j = 0; j < WN / 8; j++)
        #pragma unroll
        for (int h = 0; h < 2; h++) {
          float y[4];
          if constexpr (B_ORDER == ALONG_K) load(y, b + B::chunk(n0 + j * 8 + 2 * t + h, k / 4));
          else
            #pragma unroll
            for (int e = 0; e < 4; e++) y[e] = b[B::at(k + e, n0 + j * 8 + 2 * t + h)];
          #pragma unroll
          for (int i = 0; i < WM / 8; i++)
            #pragma unroll
            for (int e = 0; e < 4; e++) c[i / 2][j][i % 2 * 2 + h] = fmaf(x[i][e], y[e], c[i / 2][j][i % 2 * 2 + h]);
        }
    }
  }
};
