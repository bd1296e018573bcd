// y = a b for matrices as they lie: row by row, or turned.
//
//   y[z,m,n] = Σ_k a[z,m,k] b[z,k,n]
//
// A block makes BM x BN numbers of one y, from tiles of BK: see the drawing in conv.cu. Where an operand is turned (its k
// are not neighbours), its tiles lie in shared memory ACROSS_K and are read turned from there, so nothing is copied.
// Where there are few tiles and a long sum (the gradient of a Linear's weights), SPLITS blocks share the sum; a second
// kernel adds their parts in order.
//
//   operations      2 M N K
//   bytes, at least (M K + K N + M N) · size
//
//   MATH, A_ORDER, B_ORDER, A16, B16 (rows start at multiples of 16 bytes), BM BN BK WM WN STAGES
#include "tile.h"

using S = Number<MATH>::type;
constexpr int WARPS_M = BM / WM, THREADS = WARPS_M * (BN / WN) * 32;
using Tile = WarpTile<MATH, WM, WN, BK, A_ORDER, A_ORDER == ALONG_K ? BK : BM, B_ORDER, B_ORDER == ALONG_K ? BK : BN>;

// A tile of `rows` x COLUMNS numbers whose first is x[row0, column0], of a matrix with `height` rows of `width` numbers.
template <class P, int COLUMNS, bool ALIGNED> DEVICE void fetch(S* to, const S* x, int rows, int row0, int column0, int height, int width, int pitch) {
  for (int i = threadIdx.x; i < rows * P::CHUNKS; i += THREADS) {
    const int r = i / P::CHUNKS, c = i % P::CHUNKS, row = row0 + r, column = column0 + c * P::PER;
    S* at = to + P::chunk(r, c);
    const S* from = x + (int64_t)row * pitch + column;
    if constexpr (ALIGNED) {
      if (row >= height || column + P::PER <= width || column >= width) {
        copy16(at, from, row < height && column < width);
        continue;
      }
    }
    for (int e = 0; e < P::PER; e++) at[e] = row < height && column + e < width ? from[e] : S{};
  }
}

KERNEL(matmul)(const S* a, const S* b, float* partial, S* y, int M, int N, int K, int pitch_a, int pitch_b, int64_t batch_a, int64_t batch_b, int splits) {
  SHARED(S, memory);
  S* others = memory + STAGES * BM * BK;
  const int z = blockIdx.z / splits, split = blockIdx.z % splits;
  const int m0 = blockIdx.x * BM, n0 = blockIdx.y * BN, warp = threadIdx.x / 32;
  const int per_split = divide_up(divide_up(K, BK), splits) * BK, first = split * per_split, last = min(K, first + per_split);
  const int steps = divide_up(max(last - first, 0), BK);
  a += z * batch_a, b += z * batch_b;

  auto bring = [&](int step) {
    const int k0 = first + step * BK;
    S *to_a = memory + step % STAGES * BM * BK, *to_b = others + step % STAGES * BN * BK;
    if constexpr (A_ORDER == ALONG_K) fetch<typename Tile::A, BK, A16>(to_a, a, BM, m0, k0, M, last, pitch_a);
    else fetch<typename Tile::A, BM, A16>(to_a, a, BK, k0, m0, last, M, pitch_a);
    if constexpr (B_ORDER == ALONG_K) fetch<typename Tile::B, BK, B16>(to_b, b, BN, n0, k0, N, last, pitch_b);
    else fetch<typename Tile::B, BN, B16>(to_b, b, BK, k0, n0, last, N, pitch_b);
  };

  Tile tile;
  tile.clear();
  const int m = warp % WARPS_M * WM, n = warp / WARPS_M * WN;
  pipeline<STAGES>(steps, bring, [&](int s) { tile.multiply(memory + s % STAGES * BM * BK, m, others + s % STAGES * BN * BK, n); });
  tile.each([&](int r, int c, float& p, float& q) {
    const int row = m0 + m + r, column = n0 + n + c;
    const int64_t at = ((int64_t)blockIdx.z * M + row) * N + column;
    for (int e = 0; e < 2; e++)
      if (row < M && column + e < N) {
        if (splits > 1) partial[at + e] = e ? q : p;
        else store(y + at + e, e ? q : p);
      }
  });
}

// y[z,i] = Σ over splits of partial[z,split,i]
KERNEL(add_splits)(const float* partial, S* y, int batch, int size, int splits) {
  const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (int64_t)batch * size) return;
  float sum = 0.f;
  for (int s = 0; s < splits; s++) sum += partial[(i / size * splits + s) * size + i % size];
  store(y + i, sum);
}
