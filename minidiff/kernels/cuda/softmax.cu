// softmax and its logarithm along rows, and their gradients.            (rows, n) -> (rows, n)
//
//   z = x − max x,   y = eᶻ / Σ eᶻ            gx = y (gy − Σ gy y)
//                    y = z − ln Σ eᶻ          gx = gy − eʸ Σ gy
//
// One block has one row: a single warp where the row is short, 8 where it is long. The row is read once for its maximum,
// once for its sum, once to write the result; after the first time it comes from the cache.
//
//   bytes   forward: x in, y out;   backward: y and gy in, gx out
//
//   LOG (1: of the logarithm)
#include "device.h"

KERNEL(softmax)(const float* x, float* y, int n) {
  SHARED(float, work);
  x += (int64_t)blockIdx.x * n, y += (int64_t)blockIdx.x * n;
  float top = __uint_as_float(0xff800000u), sum = 0.f;           // −∞
  for (int i = threadIdx.x; i < n; i += blockDim.x) top = fmaxf(top, x[i]);
  top = block_max(top, work);
  for (int i = threadIdx.x; i < n; i += blockDim.x) sum += expf(x[i] - top);
  sum = block_sum(sum, work);
  for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] = LOG ? x[i] - top - logf(sum) : expf(x[i] - top) / sum;
}

KERNEL(softmax_backward)(const float* y, const float* gy, float* gx, int n) {
  SHARED(float, work);
  const int64_t row = (int64_t)blockIdx.x * n;
  y += row, gy += row, gx += row;
  float sum = 0.f;
  for (int i = threadIdx.x; i < n; i += blockDim.x) sum += LOG ? gy[i] : gy[i] * y[i];
  sum = block_sum(sum, work);
  for (int i = threadIdx.x; i < n; i += blockDim.x) gx[i] = LOG ? gy[i] - expf(y[i]) * sum : y[i] * (gy[i] - sum);
}
