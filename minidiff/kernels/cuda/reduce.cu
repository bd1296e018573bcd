// Sums, products and extremes over some axes:  y[o,i] = x[o,0,i] ∘ x[o,1,i] ∘ …            (outer, R, inner) -> (outer, inner)
//
// Two ways to cut it up. With enough results, each has a thread, which walks down its R numbers; 32 neighbours read
// neighbouring columns:
//
//   by_threads   0 1 2 3 … inner − 1 │ inner …
//                ↓ ↓ ↓ ↓             │ ↓
//
// With few results or long sums a block has `width` columns (a power of two; 1 where inner is 1) of one o, and
// rows = threads / width walk down them side by side, so that neighbours read neighbours here too. Their results are joined
// two by two. Where that leaves most of the GPU idle, R is cut into `splits` parts, whose results are reduced like any
// other array:
//
//   by_blocks    ┌──┬──┬──┐
//   row 0        │0 │1 │  │   partial[split,o,i]: numbers first + row, first + row + rows, …
//   row 1        │w │  │  │
//                └──┴──┴──┘
//
// Everything is joined in an order that depends on sizes alone: the same bits each time.
//
//   bytes   4 outer R inner, read once; the parts are nothing beside them
//
//   -DF=a + b   how two numbers are joined        -DSTART=0.f   what joins with any number to that number
#include "device.h"

DEVICE float join(float a, float b) { return F; }

KERNEL(by_threads)(const float* x, float* y, int results, int R, int inner) {
  const int j = blockIdx.x * blockDim.x + threadIdx.x;
  if (j >= results) return;
  x += (int64_t)(j / inner) * R * inner + j % inner;
  float total = START;
  for (int r = 0; r < R; r++) total = join(total, x[(int64_t)r * inner]);
  y[j] = total;
}

KERNEL(by_blocks)(const float* x, float* y, int R, int inner, int width, int tiles, int per_split) {
  SHARED(float, work);
  const int o = blockIdx.x / tiles, i = blockIdx.x % tiles * width + threadIdx.x % width;
  const int row = threadIdx.x / width, rows = blockDim.x / width;
  const int first = blockIdx.y * per_split, last = min(first + per_split, R);
  float total = START;
  if (i < inner)
    for (int r = first + row; r < last; r += rows) total = join(total, x[((int64_t)o * R + r) * inner + i]);
  work[threadIdx.x] = total;
  for (int half = rows / 2; half; half /= 2) {
    __syncthreads();
    if (row < half) work[threadIdx.x] = total = join(total, work[threadIdx.x + half * width]);
  }
  if (row == 0 && i < inner) y[((int64_t)blockIdx.y * (gridDim.x / tiles) + o) * inner + i] = total;
}
