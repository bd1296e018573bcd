// Attention without ever writing down the scores (Vaswani et al. 2017; Dao et al. 2022).
//
//   s = c q kᵀ,   p = softmax(s) along the keys,   y = p v
//
// Forward: a block has 64 queries of one head, 16 for each of its four warps, and walks over the keys, 64 at a time:
//
//            64 keys                   E (values)
//         ┌───────────┐             ┌────────────┐
//   16    │ s = c q kᵀ│  → p  ·  64 │ v          │   added to y, which stays in registers
//   rows  └───────────┘             └────────────┘
//
// Each row keeps its largest score m so far and the sum l of e^{s − m}. When m grows, what was added before is too large by
// e^{m − m'}, and is brought down by it. At the end y / l, and m and ln l, from which backward computes p again:
//
//   d = Σ gy y  (of each query),   p = e^{s − m − ln l},   gs = p (gy vᵀ − d),   gq = c gs k,   gk = c gsᵀ q,   gv = pᵀ gy
//
// m and ln l stay apart: m + ln l = ln Σ eˢ is rounded as a large score is, and p would be off by that factor. For the same
// reason c times a product is rounded before m is taken from it, in backward as in forward (`score`).
//
// gq is a sum over keys, gk and gv are sums over queries: one kernel has the queries of a block fixed, the other the keys.
// Scores are computed again in both, and nothing is added by two blocks to one place.
//
//   operations   forward 4 L S E, backward 14 L S E for each head
//   bytes        q, k, v, y once; k and v again for every 64 queries, from L2
//
//   MATH, E (width of q, k and v), WIDTH (E filled up to a power of two, from 32 to 128)
#include "tile.h"

using T = Number<MATH>::type;
constexpr int ROWS = 64, WARPS = 4, THREADS = 32 * WARPS, MINE = ROWS / WARPS;
constexpr int WIDE = WIDTH;                                            // E filled up to a power of two from 32
constexpr float NONE = -1e30f;                                         // in place of −∞, whose differences would be NaN

using Along = Place<T, WIDE, ALONG_K>;                                 // rows are queries or keys, k the width
using Across = Place<T, WIDE, ACROSS_K>;                               // the same rows are the k
using Scores = WarpTile<MATH, MINE, ROWS, WIDE, ALONG_K, WIDE, ALONG_K, WIDE>;            // q kᵀ
using Mixed = WarpTile<MATH, MINE, WIDE, ROWS, ALONG_K, ROWS, ACROSS_K, WIDE>;            // p v, rows of p are mine
using Turned = WarpTile<MATH, MINE, WIDE, ROWS, ALONG_K, ROWS, ACROSS_K, WIDE>;           // pᵀ gy, rows of pᵀ are my keys

// ROWS rows of x from `first` on, zeros beyond `count` rows and beyond column E, as PLACE puts them.
template <class PLACE> DEVICE void bring(T* to, const T* x, int first, int count) {
  for (int i = threadIdx.x; i < ROWS * PLACE::CHUNKS; i += THREADS) {
    const int r = i / PLACE::CHUNKS, c = i % PLACE::CHUNKS * PLACE::PER;
    T* at = to + PLACE::chunk(r, i % PLACE::CHUNKS);
    const T* from = x + (int64_t)(first + r) * E + c;
    if constexpr (E % PLACE::PER == 0) copy16(at, from, first + r < count && c < E);
    else
      for (int e = 0; e < PLACE::PER; e++) at[e] = first + r < count && c + e < E ? from[e] : T{};
  }
}
DEVICE void arrived() {
  copy_commit();
  copy_wait<0>();
  __syncthreads();
}

// The largest, or the sum, of a row of a warp's tile: its numbers are in four neighbouring lanes.
DEVICE float row_max(float x) { return fmaxf(fmaxf(x, __shfl_xor_sync(~0u, x, 1)), __shfl_xor_sync(~0u, fmaxf(x, __shfl_xor_sync(~0u, x, 1)), 2)); }
DEVICE float row_sum(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}

DEVICE float score(float product, float scale) { return __fmul_rn(product, scale); }

DEVICE void put(T* to, int row, int column, float x) { store(to + Place<T, ROWS, ALONG_K>::at(row, column), x); }

KERNEL(attention)(const T* q, const T* k, const T* v, T* y, float2* sums, int L, int S, float scale) {
  SHARED(T, qs);
  T *ks = qs + ROWS * WIDE, *vs = ks + ROWS * WIDE, *ps = vs + ROWS * WIDE;
  const int lane = threadIdx.x % 32, mine = threadIdx.x / 32 * MINE, l0 = blockIdx.x * ROWS, g = lane / 4;
  q += (int64_t)blockIdx.y * L * E, y += (int64_t)blockIdx.y * L * E, sums += (int64_t)blockIdx.y * L;
  k += (int64_t)blockIdx.y * S * E, v += (int64_t)blockIdx.y * S * E;
  bring<Along>(qs, q, l0, L);
  Mixed out;
  out.clear();
  float top[2] = {NONE, NONE}, sum[2] = {0.f, 0.f};                    // of rows g and g + 8
  for (int s0 = 0; s0 < S; s0 += ROWS) {
    __syncthreads();                                                   // the tile before is done with
    bring<Along>(ks, k, s0, S);
    bring<Across>(vs, v, s0, S);
    arrived();
    Scores s;
    s.clear();
    s.multiply(qs, mine, ks, 0);
    float highest[2] = {NONE, NONE};
    s.each([&](int r, int c, float& a, float& b) {
      a = s0 + c < S ? score(a, scale) : NONE, b = s0 + c + 1 < S ? score(b, scale) : NONE;
      highest[r / 8] = fmaxf(highest[r / 8], fmaxf(a, b));
    });
    float shrink[2], part[2] = {0.f, 0.f};
    for (int h = 0; h < 2; h++) {
      highest[h] = fmaxf(top[h], row_max(highest[h]));
      shrink[h] = expf(top[h] - highest[h]);
      top[h] = highest[h];
    }
    s.each([&](int r, int c, float& a, float& b) {
      a = s0 + c < S ? expf(a - top[r / 8]) : 0.f, b = s0 + c + 1 < S ? expf(b - top[r / 8]) : 0.f;
      part[r / 8] += a + b;
      put(ps, mine + r, c, a), put(ps, mine + r, c + 1, b);
    });
    for (int h = 0; h < 2; h++) sum[h] = sum[h] * shrink[h] + row_sum(part[h]);
    out.each([&](int r, int c, float& a, float& b) { a *= shrink[r / 8], b *= shrink[r / 8]; });
    __syncwarp();                                                      // p of this warp's rows is written
    out.multiply(ps, mine, vs, 0);
  }
  out.each([&](int r, int c, float& a, float& b) {
    const int row = l0 + mine + r;
    if (row < L && c < E) store(y + (int64_t)row * E + c, a / sum[r / 8]);
    if (row < L && c + 1 < E) store(y + (int64_t)row * E + c + 1, b / sum[r / 8]);
  });
  for (int h = 0; h < 2; h++)
    if (lane % 4 == 0 && l0 + mine + g + 8 * h < L) sums[l0 + mine + g + 8 * h] = float2{top[h], logf(sum[h])};
}

// d = Σ gy y of each query: a warp for each.
KERNEL(row_products)(const T* y, const T* gy, float* d, int rows) {
  const int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (row >= rows) return;
  float sum = 0.f;
  for (int e = threadIdx.x % 32; e < E; e += 32) sum += to_float(y[(int64_t)row * E + e]) * to_float(gy[(int64_t)row * E + e]);
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) d[row] = sum;
}

// gq: a block has 64 queries and walks over the keys.
KERNEL(attention_backward_q)(const T* q, const T* k, const T* v, const T* gy, const float2* sums, const float* d, T* gq, int L, int S, float scale) {
  SHARED(T, qs);
  T *gs = qs + ROWS * WIDE, *ks = gs + ROWS * WIDE, *vs = ks + ROWS * WIDE, *kt = vs + ROWS * WIDE, *ps = kt + ROWS * WIDE;
  const int mine = threadIdx.x / 32 * MINE, l0 = blockIdx.x * ROWS;
  q += (int64_t)blockIdx.y * L * E, gy += (int64_t)blockIdx.y * L * E, gq += (int64_t)blockIdx.y * L * E;
  k += (int64_t)blockIdx.y * S * E, v += (int64_t)blockIdx.y * S * E;
  sums += (int64_t)blockIdx.y * L, d += (int64_t)blockIdx.y * L;
  bring<Along>(qs, q, l0, L);
  bring<Along>(gs, gy, l0, L);
  Mixed out;
  out.clear();
  for (int s0 = 0; s0 < S; s0 += ROWS) {
    __syncthreads();
    bring<Along>(ks, k, s0, S);
    bring<Along>(vs, v, s0, S);
    bring<Across>(kt, k, s0, S);
    arrived();
    Scores s, gp;
    s.clear(), gp.clear();
    s.multiply(qs, mine, ks, 0);
    gp.multiply(gs, mine, vs, 0);
    for (int j = 0; j < ROWS / 8; j++)
      for (int e = 0; e < 4; e++) {
        const int r = mine + threadIdx.x % 32 / 4 + e / 2 * 8, c = j * 8 + threadIdx.x % 4 * 2 + e % 2, row = l0 + r;
        const bool there = row < L && s0 + c < S;
        const float p = there ? expf(score(s.c[0][j][e], scale) - sums[row].x - sums[row].y) : 0.f;
        put(ps, r, c, there ? p * (gp.c[0][j][e] - d[row]) * scale : 0.f);
      }
    __syncwarp();
    out.multiply(ps, mine, kt, 0);
  }
  out.each([&](int r, int c, float& a, float& b) {
    const int row = l0 + mine + r;
    if (row < L && c < E) store(gq + (int64_t)row * E + c, a);
    if (row < L && c + 1 < E) store(gq + (int64_t)row * E + c + 1, b);
  });
}

// gk and gv: a block has 64 keys and walks over the queries; rows of its tiles are keys, so p comes out turned.
KERNEL(attention_backward_kv)(const T* q, const T* k, const T* v, const T* gy, const float2* sums, const float* d, T* gk, T* gv, int L, int S, float scale) {
  SHARED(T, ks);
  T *vs = ks + ROWS * WIDE, *qs = vs + ROWS * WIDE, *gs = qs + ROWS * WIDE, *qt = gs + ROWS * WIDE, *gt = qt + ROWS * WIDE, *ps = gt + ROWS * WIDE;
  const int mine = threadIdx.x / 32 * MINE, s0 = blockIdx.x * ROWS;
  q += (int64_t)blockIdx.y * L * E, gy += (int64_t)blockIdx.y * L * E;
  k += (int64_t)blockIdx.y * S * E, v += (int64_t)blockIdx.y * S * E, gk += (int64_t)blockIdx.y * S * E, gv += (int64_t)blockIdx.y * S * E;
  sums += (int64_t)blockIdx.y * L, d += (int64_t)blockIdx.y * L;
  bring<Along>(ks, k, s0, S);
  bring<Along>(vs, v, s0, S);
  Turned out_k, out_v;
  out_k.clear(), out_v.clear();
  for (int l0 = 0; l0 < L; l0 += ROWS) {
    __syncthreads();
    bring<Along>(qs, q, l0, L);
    bring<Along>(gs, gy, l0, L);
    bring<Across>(qt, q, l0, L);
    bring<Across>(gt, gy, l0, L);
    arrived();
    Scores s, gp;                                                      // rows are my keys, columns queries
    s.clear(), gp.clear();
    s.multiply(ks, mine, qs, 0);
    gp.multiply(vs, mine, gs, 0);
    for (int j = 0; j < ROWS / 8; j++)
      for (int e = 0; e < 4; e++) {
        const int r = mine + threadIdx.x % 32 / 4 + e / 2 * 8, c = j * 8 + threadIdx.x % 4 * 2 + e % 2, row = l0 + c;
        const bool there = row < L && s0 + r < S;
        const float p = there ? expf(score(s.c[0][j][e], scale) - sums[row].x - sums[row].y) : 0.f;
        s.c[0][j][e] = there ? p * (gp.c[0][j][e] - d[row]) * scale : 0.f;
        put(ps, r, c, p);
      }
    __syncwarp();
    out_v.multiply(ps, mine, gt, 0);
    __syncwarp();                                                      // p has been read: gs takes its place
    for (int j = 0; j < ROWS / 8; j++)
      for (int e = 0; e < 4; e++)
        put(ps, mine + threadIdx.x % 32 / 4 + e / 2 * 8, j * 8 + threadIdx.x % 4 * 2 + e % 2, s.c[0][j][e]);
    __syncwarp();
    out_k.multiply(ps, mine, qt, 0);
  }
  auto write = [&](T* to, int r, int c, float a, float b) {
    const int row = s0 + mine + r;
    if (row < S && c < E) store(to + (int64_t)row * E + c, a);
    if (row < S && c + 1 < E) store(to + (int64_t)row * E + c + 1, b);
  };
  out_k.each([&](int r, int c, float& a, float& b) { write(gk, r, c, a, b); });
  out_v.each([&](int r, int c, float& a, float& b) { write(gv, r, c, a, b); });
}
