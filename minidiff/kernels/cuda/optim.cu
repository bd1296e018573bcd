// Adam, the average of the weights, and the norm of the gradients: all parameters of a model in one launch each.
//
//   m ← β₁ m + (1 − β₁) g                  θ ← (1 − α λ) θ            (AdamW; λ = 0 for Adam)
//   v ← β₂ v + (1 − β₂) g²                 θ ← θ − α_t m / (√v + ε_t)
//   a ← a + (1 − d) (θ − a)
//
// α_t and ε_t hold the corrections for the first steps: see optim/adam.py. A model has dozens of small arrays, and a launch
// for each would cost more than the work. So a launch is given a table of up to COUNT arrays; block b finds its array by
// the number of blocks that those before it take, and handles PER numbers of it.
//
//   bytes   Adam: θ, m, v, g in and θ, m, v out: 28 a parameter;   average: 12;   norm: 4
#include "device.h"

constexpr int COUNT = 48, PER = 4096, ROLES = 4;

struct Table {                                          // passed by value: 48 arrays in each of four roles are 1.9 KB
  float* array[ROLES][COUNT];
  int size[COUNT], end[COUNT];                          // numbers of the array; blocks of it and of those before it
};

// f(i, k) for every number k of array i that is this block's.
template <class F> DEVICE void each(const Table& t, F f) {
  int i = 0;
  while ((int)blockIdx.x >= t.end[i]) i++;
  const int block = blockIdx.x - (i ? t.end[i - 1] : 0), last = min((block + 1) * PER, t.size[i]);
  for (int k = block * PER + threadIdx.x; k < last; k += blockDim.x) f(i, k);
}

// array: θ, g, m, v.   scale, if there, multiplies the gradients (clipping).   decay = 1 − α λ
// What changes from step to step (α_t, ε_t, decay) is read from `numbers` where that is there: see train/graph.py.
KERNEL(adam)(Table t, const float* scale, const float* numbers, float beta1, float beta2, float step, float eps, float decay) {
  const float s = scale ? *scale : 1.f;
  if (numbers) step = numbers[0], eps = numbers[1], decay = numbers[2];
  each(t, [&](int i, int k) {
    const float g = t.array[1][i][k] * s;
    const float m = t.array[2][i][k] = beta1 * t.array[2][i][k] + (1.f - beta1) * g;
    const float v = t.array[3][i][k] = beta2 * t.array[3][i][k] + (1.f - beta2) * g * g;
    t.array[0][i][k] = decay * t.array[0][i][k] - step * m / (sqrtf(v) + eps);
  });
}

// array: a, θ.   rate = 1 − d, or *rate_at
KERNEL(average)(Table t, const float* rate_at, float rate) {
  if (rate_at) rate = *rate_at;
  each(t, [&](int i, int k) { t.array[0][i][k] += rate * (t.array[1][i][k] - t.array[0][i][k]); });
}

// array: g.   partial[first + block] = Σ g² over the block's numbers
KERNEL(squares)(Table t, double* partial, int first) {
  SHARED(float, work);
  float sum = 0.f;
  each(t, [&](int i, int k) { sum += t.array[0][i][k] * t.array[0][i][k]; });
  sum = block_sum(sum, work);
  if (threadIdx.x == 0) partial[first + blockIdx.x] = sum;
}

// norm = √Σ partial, added up in float64;   scale = min(1, most / (norm + 1e-6)), and 1 where the norm is not finite
KERNEL(gradient_norm)(const double* partial, float* result, int blocks, float most) {
  if (threadIdx.x) return;
  double sum = 0.;
  for (int b = 0; b < blocks; b++) sum += partial[b];
  const float norm = (float)sqrt(sum);
  result[0] = norm;
  result[1] = norm < 3.4e38f ? fminf(1.f, most / (norm + 1e-6f)) : 1.f;
}
