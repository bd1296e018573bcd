// The mean squared error and its gradient.
//
//   L = 1/n Σ (a − b)²            ga = 2/n (a − b) gL
//
// Blocks add up parts of the sum, a single block adds those: always in the same order. gL is read from memory, so that
// nobody has to wait for its value.
//
//   bytes   forward: a and b in;   backward: a and b in, ga out
//
//   A B (types of a and b; ga has a's)
#include "device.h"

constexpr int V = 8;

KERNEL(squares)(const A* a, const B* b, float* partial, int n) {
  SHARED(float, work);
  float sum = 0.f;
  for (int i = (blockIdx.x * blockDim.x + threadIdx.x) * V; i < n; i += gridDim.x * blockDim.x * V)
    if (i + V <= n) {
      float p[V], q[V];
      load(p, a + i);
      load(q, b + i);
      for (int k = 0; k < V; k++) sum += (p[k] - q[k]) * (p[k] - q[k]);
    } else
      for (int j = i; j < n; j++) sum += (to_float(a[j]) - to_float(b[j])) * (to_float(a[j]) - to_float(b[j]));
  sum = block_sum(sum, work);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

KERNEL(total)(const float* partial, float* loss, int blocks, float factor) {
  SHARED(float, work);
  float sum = 0.f;
  for (int i = threadIdx.x; i < blocks; i += blockDim.x) sum += partial[i];
  sum = block_sum(sum, work);
  if (threadIdx.x == 0) *loss = sum * factor;
}

KERNEL(gradient)(const A* a, const B* b, const float* gl, A* ga, int n, float factor) {
  factor *= *gl;
  int i = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (i + V <= n) {
    float p[V], q[V];
    load(p, a + i);
    load(q, b + i);
    for (int k = 0; k < V; k++) p[k] = (p[k] - q[k]) * factor;
    store(ga + i, p);
  } else
    for (; i < n; i++) store(ga + i, (to_float(a[i]) - to_float(b[i])) * factor);
}

// Row *slot of a table gets the loss and the norm of the gradients.
KERNEL(keep)(float* history, const int* slot, const float* loss, const float* norm) {
  if (threadIdx.x == 0) history[2 * *slot] = *loss, history[2 * *slot + 1] = *norm;
}
