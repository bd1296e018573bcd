// GroupNorm, and the activation that follows it, in one pass (Wu & He 2018).
//
//   forward    μ, σ² = mean, variance of x over a group,   r = 1/√(σ² + ε),   x̂ = (x − μ) r,   y = act(γ x̂ + β)
//   backward   h = γ gu with gu = gy act′(γ x̂ + β):        gx = (h − ⟨h⟩ − x̂ ⟨h x̂⟩) r,   gγ = Σ gu x̂,   gβ = Σ gu
//
// One block has one sample (H W pixels of C channels, channels last). A thread stays with V neighbouring channels, 16 bytes
// where C allows it, and walks down the pixels:
//
//              V channels of thread 0, 1, …
//            ┌───┬───┬───┬───┐
//   pixel 0  │ 0 │ 1 │ 2 │ 3 │        C / V threads in each row, ROWS rows of threads at a time
//   pixel 1  │ 4 │ 5 │ 6 │ 7 │
//            └───┴───┴───┴───┘
//
// so sums over pixels are a thread's own, then added over rows in a fixed order, channel by channel, and then over the
// channels of a group. x is read twice, the second time from L2, which holds a sample many times over.
//
// The variance is taken from deviations from the group's first number: Σ(x−k)²/m − (Σ(x−k)/m)² is exact whatever the
// mean, as k lies within a few σ of it.
//
//   bytes       forward: x in, y out;   backward: x and gy in, gx out   (each once from memory, x and gy again from L2)
//   operations  about 30 a number for GELU, 60 for its slope: as long as the bytes take
//
//   T (type of x, y), GY (of gy), C, G (groups), ACT (NONE, GELU, SILU), THREADS
#include "gelu.h"

constexpr int V = C % (16 / sizeof(T)) == 0 ? 16 / sizeof(T) : 1;
constexpr int VECTORS = C / V;                                         // threads for one pixel
constexpr int PER_TURN = VECTORS < THREADS ? VECTORS : THREADS;        // of which so many at a time
constexpr int ROWS = THREADS / PER_TURN, TURNS = divide_up(VECTORS, PER_TURN);
constexpr bool FOLDS = PER_TURN <= 32 && (PER_TURN & (PER_TURN - 1)) == 0;   // a warp holds whole rows: add those up first
constexpr int PARTS = FOLDS ? THREADS / 32 : ROWS;                     // sums for each channel that are left after that

// Two sums for each channel over all pixels, into sums[0][c] and sums[1][c]. f(pixel, channel, a, b) adds V numbers each.
template <class F> DEVICE void channel_sums(int pixels, float* work, float* sums, F f) {
  const int thread = threadIdx.x, row = thread / PER_TURN, lane = thread % PER_TURN;
  for (int turn = 0; turn < TURNS; turn++) {
    const int vector = turn * PER_TURN + lane;
    const bool busy = row < ROWS && vector < VECTORS;
    float a[V] = {}, b[V] = {};
    if (busy)
      for (int p = row; p < pixels; p += ROWS) f(p, vector * V, a, b);
    if constexpr (FOLDS)
      for (int d = 16; d >= PER_TURN; d /= 2)
        for (int k = 0; k < V; k++) {
          a[k] += __shfl_xor_sync(0xffffffffu, a[k], d);
          b[k] += __shfl_xor_sync(0xffffffffu, b[k], d);
        }
    const int part = FOLDS ? thread / 32 : row;
    if (busy && (!FOLDS || thread % 32 < PER_TURN))
      for (int k = 0; k < V; k++) {
        work[(part * 2 + 0) * PER_TURN * V + lane * V + k] = a[k];
        work[(part * 2 + 1) * PER_TURN * V + lane * V + k] = b[k];
      }
    __syncthreads();
    for (int i = thread; i < 2 * PER_TURN * V; i += THREADS) {
      const int which = i / (PER_TURN * V), c = turn * PER_TURN * V + i % (PER_TURN * V);
      float sum = 0.f;
      for (int q = 0; q < PARTS; q++) sum += work[(q * 2 + which) * PER_TURN * V + i % (PER_TURN * V)];
      if (c < C) sums[which * C + c] = sum;
    }
    __syncthreads();
  }
}

template <class F> DEVICE void each_vector(int pixels, F f) {
  for (int i = threadIdx.x; i < pixels * VECTORS; i += THREADS) f(i / VECTORS, i % VECTORS * V);
}

KERNEL(group_norm)(const T* x, const float* gamma, const float* beta, T* y, float* mean, float* rstd, int pixels, int pitch, int gamma_step, int beta_step, float eps) {
  SHARED(float, sums);                                                 // [2][C], then scale and offset of each channel
  float* centre = sums + 2 * C;                                        // [C] μ of each channel's group
  float* work = centre + C;
  const int n = blockIdx.x;
  x += (int64_t)n * pixels * pitch;
  y += (int64_t)n * pixels * C;
  gamma += n * gamma_step, beta += n * beta_step;
  channel_sums(pixels, work, sums, [&](int p, int c, float (&a)[V], float (&b)[V]) {
    float v[V];
    load(v, x + (int64_t)p * pitch + c);
    for (int k = 0; k < V; k++) {
      const float d = v[k] - to_float(x[(c + k) / (C / G) * (C / G)]);
      a[k] += d, b[k] += d * d;
    }
  });
  const float m = (float)pixels * (C / G);
  for (int g = threadIdx.x; g < G; g += THREADS) {
    float a = 0.f, b = 0.f;
    for (int c = g * (C / G); c < (g + 1) * (C / G); c++) a += sums[c], b += sums[C + c];
    a /= m;
    const float variance = fmaxf(b / m - a * a, 0.f);
    mean[n * G + g] = work[g] = to_float(x[g * (C / G)]) + a;
    rstd[n * G + g] = work[G + g] = 1.f / sqrtf(variance + eps);
  }
  __syncthreads();
  for (int c = threadIdx.x; c < C; c += THREADS) {
    centre[c] = work[c / (C / G)];
    sums[c] = gamma[c] * work[G + c / (C / G)];
    sums[C + c] = beta[c];
  }
  __syncthreads();
  each_vector(pixels, [&](int p, int c) {
    float v[V];
    load(v, x + (int64_t)p * pitch + c);
    for (int k = 0; k < V; k++) v[k] = activation<ACT>((v[k] - centre[c + k]) * sums[c + k] + sums[C + c + k]);
    store(y + (int64_t)p * C + c, v);
  });
}

// g_gamma and g_beta of each sample (N,C); they are added over samples afterwards where γ and β are shared.
KERNEL(group_norm_backward)(const T* x, const GY* gy, const float* gamma, const float* beta, const float* mean, const float* rstd,
                            T* gx, float* g_gamma, float* g_beta, int pixels, int pitch, int pitch_y, int gamma_step, int beta_step) {
  SHARED(float, sums);                                                 // [2][C]: Σ gu, Σ gu x̂
  float *centre = sums + 2 * C, *scale = centre + C, *weight = scale + C, *offset = weight + C;    // μ, r, γ, β of each channel
  float* work = offset + C;
  const int n = blockIdx.x;
  x += (int64_t)n * pixels * pitch;
  gy += (int64_t)n * pixels * pitch_y;
  gx += (int64_t)n * pixels * C;
  for (int c = threadIdx.x; c < C; c += THREADS) {
    centre[c] = mean[n * G + c / (C / G)];
    scale[c] = rstd[n * G + c / (C / G)];
    weight[c] = gamma[n * gamma_step + c];
    offset[c] = beta[n * beta_step + c];
  }
  __syncthreads();
  auto both = [&](int p, int c, float (&x_hat)[V], float (&gu)[V]) {    // x̂ and gu of V channels of a pixel
    load(x_hat, x + (int64_t)p * pitch + c);
    load(gu, gy + (int64_t)p * pitch_y + c);
    for (int k = 0; k < V; k++) {
      x_hat[k] = (x_hat[k] - centre[c + k]) * scale[c + k];
      gu[k] *= slope<ACT>(weight[c + k] * x_hat[k] + offset[c + k]);
    }
  };
  channel_sums(pixels, work, sums, [&](int p, int c, float (&a)[V], float (&b)[V]) {
    float x_hat[V], gu[V];
    both(p, c, x_hat, gu);
    for (int k = 0; k < V; k++) a[k] += gu[k], b[k] += gu[k] * x_hat[k];
  });
  for (int c = threadIdx.x; c < C; c += THREADS) {
    g_beta[n * C + c] = sums[c];
    g_gamma[n * C + c] = sums[C + c];
  }
  const float m = (float)pixels * (C / G);
  for (int g = threadIdx.x; g < G; g += THREADS) {
    float h = 0.f, hx = 0.f;
    for (int c = g * (C / G); c < (g + 1) * (C / G); c++) h += weight[c] * sums[c], hx += weight[c] * sums[C + c];
    work[g] = h / m, work[G + g] = hx / m;
  }
  __syncthreads();
  each_vector(pixels, [&](int p, int c) {
    float x_hat[V], gu[V];
    both(p, c, x_hat, gu);
    for (int k = 0; k < V; k++) {
      const int g = (c + k) / (C / G);
      gu[k] = (weight[c + k] * gu[k] - work[g] - x_hat[k] * work[G + g]) * scale[c + k];
    }
    store(gx + (int64_t)p * C + c, gu);
  });
}
