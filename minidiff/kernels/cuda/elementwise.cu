// y = a + b, and a change of type: the simplest kernels, one number after the other.
//
//   bytes moved   n (size of a + size of b + size of y); operations are nothing beside them
//
// A thread handles V neighbours, 16 bytes of the smaller type, and the next thread the next V, so that a warp reads and
// writes stretches of memory as wide as they come. What is left at the end is done one by one.
//
//   -DA -DB -DY   the types of a, b and y: float or bf16
#include "device.h"

constexpr int V = 8;

template <class F> DEVICE void each(int n, F f) {
  int i = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (i + V <= n) f(i, true);
  else for (; i < n; i++) f(i, false);
}

KERNEL(add)(const A* a, const B* b, Y* y, int n) {
  each(n, [&](int i, bool whole) {
    if (!whole) { store(y + i, to_float(a[i]) + to_float(b[i])); return; }
    float p[V], q[V];
    load(p, a + i);
    load(q, b + i);
    for (int k = 0; k < V; k++) p[k] += q[k];
    store(y + i, p);
  });
}

KERNEL(cast)(const A* a, Y* y, int n) {
  each(n, [&](int i, bool whole) {
    if (!whole) { store(y + i, to_float(a[i])); return; }
    float p[V];
    load(p, a + i);
    store(y + i, p);
  });
}
