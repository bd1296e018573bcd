// Convolution, and the convolution read backwards, as one gather and one product of matrices.
//
//   forward     y[n,i,j,o]  = b[o] + Σ_{u,v,c} x[n, s i + d u − p, s j + d v − p, c] w[u,v,o,c]
//   transposed  y[n,i,j,c]  = b[c] + Σ_{u,v,o} x[n, (i + p − d u)/s, (j + p − d v)/s, o] w[u,v,o,c]    where s divides both
//
// Transposed is the gradient of forward with respect to its image, and the transposed convolution. Pixels outside are 0.
//
// As matrices ("implicit GEMM"): rows are the M output pixels, columns the output channels, and the sum runs over taps
// (u,v) and input channels. The matrix of patches is never written down: a block fetches, for one tap at a time, the BK
// channels of the BM pixels that its rows meet there, and multiplies them by the weights of that tap.
//
//        BK channels            BN output channels
//      ┌───────────┐          ┌────────────┐
//   BM │ x, tap uv │    BK    │  w, tap uv │      summed over taps and channels in registers:
//  pix │           │          │            │      each warp 32 pixels x BN channels
//      └───────────┘          └────────────┘
//
// STAGES tiles of both are in shared memory: while one is multiplied, the next are on their way.
//
// Transposed with stride s: output pixels (i,j) fall into s² classes by (i mod s, j mod s), and in each class the same
// taps hit. A block works on one class (blockIdx.z), so no product with a pixel between the grid points is ever made:
// a 2x2 kernel with stride 2 has one tap in each class.
//
//   operations      2 · pixels · taps · C · O  (divided by s² where transposed)
//   bytes, at least pixels · (C s² + O) · size + weights; each block reads its pixels once for each tap, mostly from L2
//
//   MATH, C (channels of x), O (of y), KH KW SH SW PH PW DH DW, TRANSPOSED (0 or 1), BM BN BK STAGES
#include "tile.h"
#include "gather.h"

using S = Number<MATH>::type;
constexpr Order W_ORDER = TRANSPOSED ? ACROSS_K : ALONG_K;          // memory rows of w are o: a column forward, a k backward
constexpr int WM = 32, THREADS = BM;                                // a warp of 32 threads for every 32 pixels
using Tile = WarpTile<MATH, WM, BN, BK, ALONG_K, BK, W_ORDER, TRANSPOSED ? BN : BK>;
constexpr int W_ROW = divide_up(TRANSPOSED ? O : C, Tile::A::PER) * Tile::A::PER;    // numbers from one row of w to the next
constexpr int CHUNKS = divide_up(C, BK);                            // steps of the sum for each tap

// The pixel of x that output row `row` meets at tap u; rows of a class count up by the stride where transposed.
DEVICE int source_row(int i, int u) { return TRANSPOSED ? (i + PH - DH * u) / SH : SH * i + DH * u - PH; }
DEVICE int source_column(int j, int v) { return TRANSPOSED ? (j + PW - DW * v) / SW : SW * j + DW * v - PW; }

// The taps that a class of output pixels meets, in order: the k-th, or −1.
DEVICE int tap(int k, int row, int column) {
  for (int t = 0; t < KH * KW; t++) {
    bool hits = !TRANSPOSED || ((row + PH - DH * (t / KW)) % SH == 0 && (column + PW - DW * (t % KW)) % SW == 0);
    if (hits && k-- == 0) return t;
  }
  return -1;
}

KERNEL(gather)(const S* x, const S* w, const float* bias, S* y, int N, int H, int W, int pitch, int HY, int WY) {
  SHARED(S, memory);
  S* weights = memory + STAGES * BM * BK;
  Pixel* pixels = reinterpret_cast<Pixel*>(weights + STAGES * BN * BK);
  int* taps = reinterpret_cast<int*>(pixels + BM);
  const int thread = threadIdx.x, warp = thread / 32, n0 = blockIdx.y * BN;

  // this block's class of output pixels, and the pixel of each of its rows
  const int step_h = TRANSPOSED ? SH : 1, step_w = TRANSPOSED ? SW : 1;
  const int across = min(step_w, WY);                               // classes of columns: an image narrower than the stride has fewer
  const int first_row = blockIdx.z / across, first_column = blockIdx.z % across;
  const int rows = divide_up(HY - first_row, step_h), columns = divide_up(WY - first_column, step_w);
  for (int r = thread; r < BM; r += THREADS) {
    int m = blockIdx.x * BM + r, i = m / columns;
    pixels[r] = Pixel{i / rows, first_row + i % rows * step_h, first_column + m % columns * step_w, i / rows < N};
  }
  for (int k = thread; k < KH * KW + 1; k += THREADS) taps[k] = tap(k, first_row, first_column);
  __syncthreads();
  int steps = 0;
  while (taps[steps] >= 0) steps++;
  steps *= CHUNKS;

  auto fetch = [&](int step) {
    const int t = taps[step / CHUNKS], k0 = step % CHUNKS * BK;
    S* a = memory + step % STAGES * BM * BK;
    for (int i = thread; i < BM * Tile::A::CHUNKS; i += THREADS) {
      const int r = i / Tile::A::CHUNKS, c = i % Tile::A::CHUNKS;
      const Pixel p = pixels[r];
      const int h = source_row(p.row, t / KW), v = source_column(p.column, t % KW);
      const bool inside = p.there && h >= 0 && h < H && v >= 0 && v < W;
      fetch16<C>(a + Tile::A::chunk(r, c), x + (((int64_t)p.image * H + h) * W + v) * pitch, k0 + c * Tile::A::PER, inside);
    }
    S* b = weights + step % STAGES * BN * BK;
    for (int i = thread; i < BN * BK / Tile::B::PER; i += THREADS) {
      const int r = i / Tile::B::CHUNKS, c = i % Tile::B::CHUNKS * Tile::B::PER;
      const int row = TRANSPOSED ? k0 + r : n0 + r, column = TRANSPOSED ? n0 + c : k0 + c;
      const bool inside = row < (TRANSPOSED ? C : O) && column < W_ROW;
      copy16(b + Tile::B::chunk(r, i % Tile::B::CHUNKS), w + ((int64_t)t * (TRANSPOSED ? C : O) + row) * W_ROW + column, inside);
    }
  };

  Tile tile;
  tile.clear();
  const int m = warp * WM;
  pipeline<STAGES>(steps, fetch, [&](int s) { tile.multiply(memory + s % STAGES * BM * BK, m, weights + s % STAGES * BN * BK, 0); });
  tile.each([&](int r, int c, float& first, float& second) {
    const Pixel p = pixels[m + r];
    const int o = n0 + c;
    if (!p.there || o >= O) return;
    if (bias) first += bias[o], second += o + 1 < O ? bias[o + 1] : 0.f;
    S* to = y + (((int64_t)p.image * HY + p.row) * WY + p.column) * O + o;
    if (O % 2 == 0) store2(to, first, second);
    else {
      store(to, first);
      if (o + 1 < O) store(to + 1, second);
    }
  });
}
