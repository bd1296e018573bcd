// One warp: y (WM x WN) = A B, both brought to shared memory in the order asked for.
#include "tile.h"

using T = WarpTile<MATH, WM, WN, BK, A_ORDER, A_COLUMNS, B_ORDER, B_COLUMNS>;

template <class P> DEVICE void bring(T::S* to, const T::S* from, int count) {
  for (int i = threadIdx.x; i < count / P::PER; i += 32) copy16(to + P::chunk(i / P::CHUNKS, i % P::CHUNKS), from + i * P::PER);
}

KERNEL(tile)(const T::S* a, const T::S* b, float* y) {
  SHARED(T::S, shared_a);
  T::S* shared_b = shared_a + WM * BK;
  bring<T::A>(shared_a, a, WM * BK);
  bring<T::B>(shared_b, b, WN * BK);
  copy_commit();
  copy_wait<0>();
  __syncthreads();
  T tile;
  tile.clear();
  tile.multiply(shared_a, 0, shared_b, 0);
  tile.each([&](int row, int column, float& first, float& second) {
    y[row * WN + column] = first;
    y[row * WN + column + 1] = second;
  });
}
