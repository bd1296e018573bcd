// Rows of a table by their numbers, and the gradient of that.            (K,D), (P,) -> (P,D)  and back
//
//   rows        y[p]  = w[index[p]]                                 a thread for each number of y
//   add_rows    gw[k] = Σ gy[p] over the p with index[p] = k        a thread for each number of gw
//
// A warp of add_rows has 32 columns of one row k. It looks at 32 indices at a time, one a lane; all lanes learn which of
// them are k (a ballot), and walk through these, lowest first:
//
//   index   7 2 7 1 0 7 …      k = 7:  1 0 1 0 0 1 …      sum = gy[0] + gy[2] + gy[5] + …
//
// So each sum is added in the order of p, as a loop on a CPU does it: the same bits each time, and no two threads write to
// one number.
//
//   bytes        rows: 2 · 4 P D;   add_rows: 4 P D + 4 K D, and the indices, mostly from L2, K D / 32 times
//   operations   add_rows: P D sums, and K D P / 32 comparisons
//
//   T (float or bf16, of rows' w and y; add_rows has float)
#include "device.h"

// A number that is no row's gives a row that is not a number, and is not read at.
KERNEL(rows)(const T* w, const int64_t* index, T* y, int K, int D, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const int64_t k = index[i / D];
  if (k >= 0 && k < K) y[i] = w[k * D + i % D];
  else store(y + i, __uint_as_float(0x7fc00000u));
}

KERNEL(add_rows)(const float* gy, const int64_t* index, float* gw, int P, int D) {
  const int k = blockIdx.x, lane = threadIdx.x % 32, d = blockIdx.y * blockDim.x + threadIdx.x;
  float sum = 0.f;
  for (int first = 0; first < P; first += 32) {
    unsigned hits = __ballot_sync(0xffffffffu, first + lane < P && index[first + lane] == k);
    for (; hits; hits &= hits - 1) {
      const int p = first + __ffs(hits) - 1;
      if (d < D) sum += gy[(int64_t)p * D + d];
    }
  }
  if (d < D) gw[(int64_t)k * D + d] = sum;
}
