// y = F, a formula of the numbers a, b and the condition c at one place: every function that looks at no neighbours.
//
//   bytes moved   n (4 for each operand that is not repeated + size of y); operations are few beside them: 1 for a sum, 20 for exp
//
// Two ways through the arrays. Where all operands lie as the result does, a thread handles V neighbours and the next thread
// the next V; an operand of one number is repeated (its step is 0), and one without an array (its address is 0) is the
// number that comes with the launch:
//
//   dense      thread   │ 0 0 0 0 0 0 0 0 │ 1 1 1 1 1 1 1 1 │ …        y[i] = F(a[i step_a], b[i step_b], c[i step_c])
//
// Else the result's place i is taken apart, last axis first, and each axis brings every operand forward by a step of its
// own, which is 0 where the operand is repeated along that axis. A thread handles one number:
//
//   strided    i = (… i₁) n₂ + i₂,      at_a = … i₁ a₁ + i₂ a₂          one division for each axis; neighbours are merged before
//
//   -DF=expf(a)   the formula        -DY=float   or bool, for a comparison
#include "turns.h"

constexpr int V = 8, MOST = 6;                                   // neighbours of a thread; axes of a walk

struct Walk {
  int axes, size[MOST];
  int64_t a[MOST], b[MOST], c[MOST];                             // steps of the operands along each axis, in numbers
};

// Eight neighbours of an operand: one after the other, or one number eight times.
DEVICE void fetch(float (&x)[V], const float* p, int step, float number, int i) {
  if (p && step) load(x, p + i);
  else {
    number = p ? *p : number;
    for (int k = 0; k < V; k++) x[k] = number;
  }
}
DEVICE void fetch(bool (&x)[V], const bool* p, int step, int i) {
  if (!p) return;
  const uint64_t eight = step ? *reinterpret_cast<const uint64_t*>(p + i) : *p ? ~0ull : 0;
  for (int k = 0; k < V; k++) x[k] = eight >> 8 * k & 1;
}
DEVICE void store(bool* p, const bool (&x)[V]) {
  uint64_t eight = 0;
  for (int k = 0; k < V; k++) eight |= (uint64_t)x[k] << 8 * k;
  *reinterpret_cast<uint64_t*>(p) = eight;
}

DEVICE Y formula(float a, float b, bool c) { return F; }

KERNEL(dense)(const float* a, const float* b, const bool* c, Y* y, int n, int step_a, int step_b, int step_c, float number_a, float number_b) {
  int i = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (i + V <= n) {
    float as[V], bs[V];
    bool cs[V] = {};
    Y ys[V];
    fetch(as, a, step_a, number_a, i);
    fetch(bs, b, step_b, number_b, i);
    fetch(cs, c, step_c, i);
    for (int k = 0; k < V; k++) ys[k] = formula(as[k], bs[k], cs[k]);
    store(y + i, ys);
  } else
    for (; i < n; i++) y[i] = formula(a ? a[i * step_a] : number_a, b ? b[i * step_b] : number_b, c && c[i * step_c]);
}

KERNEL(strided)(const float* a, const float* b, const bool* c, Y* y, int n, Walk walk, float number_a, float number_b) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int64_t at_a = 0, at_b = 0, at_c = 0;
  for (int axis = walk.axes - 1, rest = i; axis >= 0; rest /= walk.size[axis], axis--) {
    const int place = rest % walk.size[axis];
    at_a += place * walk.a[axis];
    at_b += place * walk.b[axis];
    at_c += place * walk.c[axis];
  }
  y[i] = formula(a ? a[at_a] : number_a, b ? b[at_b] : number_b, c && c[at_c]);
}
