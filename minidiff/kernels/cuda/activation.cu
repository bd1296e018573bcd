// GELU and SiLU by themselves: one number after the other, 8 neighbours a thread.
//
//   bytes   forward: x in, y out;   backward: x and gy in, gx out
//
//   T (type of x, y, gx), GY (of gy), ACT (GELU, GELU_TANH or SILU)
#include "gelu.h"

constexpr int V = 8;

KERNEL(activate)(const T* x, T* y, int n) {
  int i = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (i + V <= n) {
    float v[V];
    load(v, x + i);
    for (int k = 0; k < V; k++) v[k] = activation<ACT>(v[k]);
    store(y + i, v);
  } else
    for (; i < n; i++) store(y + i, activation<ACT>(to_float(x[i])));
}

KERNEL(activate_backward)(const T* x, const GY* gy, T* gx, int n) {
  int i = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (i + V <= n) {
    float v[V], g[V];
    load(v, x + i);
    load(g, gy + i);
    for (int k = 0; k < V; k++) g[k] *= slope<ACT>(v[k]);
    store(gx + i, g);
  } else
    for (; i < n; i++) store(gx + i, to_float(gy[i]) * slope<ACT>(to_float(x[i])));
}
