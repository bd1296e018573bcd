// Sums over pixels, channel by channel:  s[c] = Σ_p x[p,c]            (pixels, C) -> (C,)
//
// Each block adds up some of the pixels: a thread stays with one channel and walks down the pixels, 32 neighbours read
// neighbouring channels. The second kernel adds the blocks' sums, in order.
//
//   bytes   pixels · C · size, read once
//
//   X (type of x)
#include "device.h"

// partial[block,c]; blockDim.x threads are `rows` pixels of `C` channels at a time, the rest are idle
KERNEL(channel_sum)(const X* x, float* partial, int pixels, int C, int pitch, int per_block) {
  SHARED(float, sums);
  const int first = blockIdx.x * per_block, last = min(first + per_block, pixels);
  for (int c0 = 0; c0 < C; c0 += blockDim.x) {
    const int width = min(C - c0, (int)blockDim.x), rows = blockDim.x / width;
    const int row = threadIdx.x / width, c = threadIdx.x % width;
    float sum = 0.f;
    if (row < rows)
      for (int p = first + row; p < last; p += rows) sum += to_float(x[(int64_t)p * pitch + c0 + c]);
    __syncthreads();
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (row == 0) {
      for (int r = 1; r < rows; r++) sum += sums[r * width + c];
      partial[(int64_t)blockIdx.x * C + c0 + c] = sum;
    }
  }
}

KERNEL(add_blocks)(const float* partial, float* total, int blocks, int C) {
  const int c = blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= C) return;
  float sum = 0.f;
  for (int b = 0; b < blocks; b++) sum += partial[(int64_t)b * C + c];
  total[c] = sum;
}
