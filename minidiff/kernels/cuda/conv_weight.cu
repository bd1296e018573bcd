// The gradient of a convolution with respect to its weights.
//
//   gw[o,c,u,v] = Σ_{n,i,j} gy[n,i,j,o] x[n, s i + d u − p, s j + d v − p, c]
//
// As matrices, for each tap (u,v): gyᵀ (O x pixels) times the pixels of x that the tap meets (pixels x C). The sum over
// all pixels of the batch is long and the result small, so the pixels are split among many blocks; each writes its partial
// sum, and a second kernel adds these up, always in the same order.
//
//        BK pixels              BN channels of x
//      ┌───────────┐          ┌────────────┐
//   BM │  gyᵀ      │  BK      │ x at the   │        one tap, one split of the pixels: blockIdx.z, blockIdx.x
//    o │           │  pixels  │ tap uv     │
//      └───────────┘          └────────────┘
//
// Both lie in memory with the channels of a pixel as neighbours, so both tiles have a pixel in each row (ACROSS_K), and
// the tensor cores' fragments are read turned.
//
//   operations      2 · pixels · taps · C · O
//   bytes, at least pixels · (C s² + O) · size; gy and x are read once for each tap, mostly from L2
//
//   MATH, C (channels of x), O (of gy), KH KW SH SW PH PW DH DW, BM BN BK, WM WN (a warp's part), STAGES
#include "tile.h"
#include "gather.h"

using S = Number<MATH>::type;
constexpr int WARPS_M = BM / WM, THREADS = WARPS_M * (BN / WN) * 32;
using Tile = WarpTile<MATH, WM, WN, BK, ACROSS_K, BM, ACROSS_K, BN>;

KERNEL(weight_gradient)(const S* x, const S* gy, float* partial, int N, int H, int W, int pitch, int HY, int WY, int pitch_y, int per_split) {
  SHARED(S, memory);
  S* others = memory + STAGES * BK * BM;
  const int thread = threadIdx.x, warp = thread / 32;
  const int o0 = blockIdx.y % divide_up(O, BM) * BM, c0 = blockIdx.y / divide_up(O, BM) * BN;
  const int u = blockIdx.z / KW, v = blockIdx.z % KW;
  const int pixels = N * HY * WY, first = blockIdx.x * per_split, last = min(first + per_split, pixels);
  const int steps = divide_up(max(last - first, 0), BK);

  auto fetch = [&](int step) {
    S* a = memory + step % STAGES * BK * BM;
    for (int i = thread; i < BK * Tile::A::CHUNKS; i += THREADS) {
      const int r = i / Tile::A::CHUNKS, c = i % Tile::A::CHUNKS, k = first + step * BK + r;
      fetch16<O>(a + Tile::A::chunk(r, c), gy + (int64_t)(k < last ? k : 0) * pitch_y, o0 + c * Tile::A::PER, k < last);
    }
    S* b = others + step % STAGES * BK * BN;
    for (int i = thread; i < BK * Tile::B::CHUNKS; i += THREADS) {
      const int r = i / Tile::B::CHUNKS, c = i % Tile::B::CHUNKS, k = first + step * BK + r;
      const int j = k % WY, h = SH * (k / WY % HY) + DH * u - PH, w = SW * j + DW * v - PW;
      const bool inside = k < last && h >= 0 && h < H && w >= 0 && w < W;
      const int64_t pixel = inside ? ((int64_t)(k / WY / HY) * H + h) * W + w : 0;
      fetch16<C>(b + Tile::B::chunk(r, c), x + pixel * pitch, c0 + c * Tile::B::PER, inside);
    }
  };

  Tile tile;
  tile.clear();
  const int m = warp % WARPS_M * WM, n = warp / WARPS_M * WN;
  pipeline<STAGES>(steps, fetch, [&](int s) { tile.multiply(memory + s % STAGES * BK * BM, m, others + s % STAGES * BK * BN, n); });
  partial += ((int64_t)blockIdx.x * KH * KW + blockIdx.z) * O * C;                    // [split][tap][o][c]
  tile.each([&](int r, int c, float& p, float& q) {
    const int o = o0 + m + r, at = c0 + n + c;
    if (o < O && at < C) partial[o * C + at] = p;
    if (o < O && at + 1 < C) partial[o * C + at + 1] = q;
  });
}

// gw[o,c,tap] = Σ over splits of partial[split,tap,o,c]: a warp for 32 neighbours would read in order and write far apart,
// but all of gw is small.
KERNEL(add_splits)(const float* partial, float* gw, int splits) {
  constexpr int COUNT = KH * KW * O * C;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < COUNT; i += gridDim.x * blockDim.x) {
    float sum = 0.f;
    for (int s = 0; s < splits; s++) sum += partial[(int64_t)s * COUNT + i];
    gw[i % (O * C) * (KH * KW) + i / (O * C)] = sum;
  }
}
