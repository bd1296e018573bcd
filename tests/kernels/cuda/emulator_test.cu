// Kernels with one mistake each, which the emulator must notice.
#include "device.h"

KERNEL(fine)(const float* x, float* y) {                 // y = x in the opposite order, through shared memory
  SHARED(float, s);
  s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = s[blockDim.x - 1 - threadIdx.x];
}

KERNEL(no_barrier)(const float* x, float* y) {
  SHARED(float, s);
  s[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = s[blockDim.x - 1 - threadIdx.x];
}

KERNEL(no_wait)(const float* x, float* y) {
  SHARED(float, s);
  copy4(s + threadIdx.x, x + threadIdx.x);
  copy_commit();
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x];
}

KERNEL(some_leave)(const float* x, float* y) {
  if (threadIdx.x < 7) return;
  __syncthreads();
  y[threadIdx.x] = x[threadIdx.x];
}

KERNEL(lanes_part)(const float* x, float* y) {
  y[threadIdx.x] = threadIdx.x % 2 ? __shfl_xor_sync(~0u, x[threadIdx.x], 1) : __shfl_down_sync(~0u, x[threadIdx.x], 1);
}

KERNEL(writes_beyond)(const float* x, float* y) { y[threadIdx.x + 1] = x[threadIdx.x]; }

KERNEL(not_aligned)(const float* x, float* y) {
  SHARED(float, s);
  copy16(s + threadIdx.x, x);
  copy_commit();
  copy_wait<0>();
  y[threadIdx.x] = s[threadIdx.x];
}

KERNEL(sums)(const float* x, float* y) {
  SHARED(float, work);
  y[threadIdx.x] = block_sum(x[threadIdx.x], work);
}

KERNEL(vector_not_aligned)(const float* x, float* y) {
  float v[4];
  load(v, x + 1);
  y[threadIdx.x] = v[0];
}
