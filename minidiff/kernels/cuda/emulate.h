// A CUDA device on a CPU, to run the kernels' own sources where there is no GPU. For tests: it is slow and strict.
//
// The threads of a block are fibers of one thread of the CPU: each runs until it waits, for its warp or for its block,
// and the next one goes on. So a run is repeatable, and a second run with the fibers in the opposite order shows a
// missing barrier as a different result. Also strict:
//   * shared memory starts as NaN in every block;
//   * background copies (copy16) arrive when they are waited for, and not before: until then their place holds NaN;
//   * lanes of a warp that meet at different instructions, barriers that some threads never reach, and addresses that
//     are not aligned stop the run with a message.
#pragma once
#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>
#include <ucontext.h>

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline
#define __restrict__
#define __align__(n) alignas(n)
#define BOUNDS(...)
#define DEVICE inline
#define KERNEL(name) void name
#define SHARED(T, name) T* name = reinterpret_cast<T*>(emulated::shared)

namespace emulated {

struct Size { unsigned x = 1, y = 1, z = 1; };
struct Copy { void* to; const void* from; int bytes; bool inside; };

struct Fiber {
  ucontext_t start;
  jmp_buf here;
  std::vector<char> stack;
  Size index;
  int warp = 0, lane = 0;
  bool started = false, done = true;
  const char* waiting = nullptr;                     // what for
  std::vector<std::vector<Copy>> groups;             // background copies, in the order of their commits
  std::vector<Copy> open;                            // those not committed yet
};

struct Warp {
  const char* meeting = nullptr;                     // the instruction at which its lanes meet
  int here = 0;
  uint32_t in[32][8], out[32][8];                    // what each lane brings and takes away
  const void* address[32];
};

constexpr size_t SHARED_SIZE = 232448;               // of a block on sm_90
alignas(128) inline unsigned char shared[SHARED_SIZE];
inline std::vector<Fiber> fibers;
inline std::vector<Warp> warps;
inline Fiber* me = nullptr;
inline jmp_buf scheduler;
inline int in_block = 0;                             // threads that wait for the block
inline const char* trouble = nullptr;
inline char text[400];
inline std::function<void()> body;
inline Size block_index, block_size, grid_size;

[[noreturn]] inline void stop(const char* what) {
  snprintf(text, sizeof text, "%s (block %u,%u,%u thread %u)", what, block_index.x, block_index.y, block_index.z, me->index.x);
  trouble = text;
  _longjmp(scheduler, 1);
}

inline void pause(const char* what) {
  me->waiting = what;
  if (!_setjmp(me->here)) _longjmp(scheduler, 1);
}

inline void meet_block() {
  in_block++;
  pause("block");
}

// All lanes bring in[lane]; the last to come does `work` for all of them.
template <class F> void meet_warp(const char* what, F work) {
  Warp& w = warps[me->warp];
  if (w.here && strcmp(w.meeting, what)) {
    snprintf(text, sizeof text, "lanes of one warp meet at different instructions: %s and %s", w.meeting, what);
    std::string both = text;
    stop(both.c_str());
  }
  w.meeting = what;
  if (++w.here < 32) {
    pause("warp");
  } else {
    work(w);
    w.here = 0;
    for (Fiber& f : fibers)
      if (f.warp == me->warp) f.waiting = nullptr;
  }
}

inline void finish(std::vector<Copy>& group) {
  for (Copy& c : group) c.inside ? (void)memcpy(c.to, c.from, c.bytes) : (void)memset(c.to, 0, c.bytes);
  group.clear();
}

inline void trampoline() {
  for (;;) {
    body();
    for (auto& group : me->groups) finish(group);
    me->groups.clear();
    finish(me->open);
    me->done = true;
    pause("done");
  }
}

inline void resume(Fiber& f) {
  me = &f;
  f.waiting = nullptr;
  if (_setjmp(scheduler)) return;
  if (f.started) _longjmp(f.here, 1);
  f.started = true;
  getcontext(&f.start);
  f.start.uc_stack.ss_sp = f.stack.data();
  f.start.uc_stack.ss_size = f.stack.size();
  f.start.uc_link = nullptr;
  makecontext(&f.start, trampoline, 0);
  setcontext(&f.start);
}

inline void run_block(bool backwards) {
  memset(shared, 0xff, SHARED_SIZE);
  const int n = (int)fibers.size();
  in_block = 0;
  for (Fiber& f : fibers) f.done = false, f.waiting = nullptr, f.open.clear(), f.groups.clear();
  for (Warp& w : warps) w.here = 0;
  for (;;) {
    bool moved = false;
    int done = 0;
    for (int i = 0; i < n; i++) {
      Fiber& f = fibers[backwards ? n - 1 - i : i];
      if (!f.done && !f.waiting) {
        resume(f);
        moved = true;
        if (trouble) return;
      }
      done += f.done;
    }
    if (done == n) return;
    if (in_block && in_block == n - done && done) {
      me = &fibers[0];
      trouble = "some threads of the block ended while others wait at __syncthreads";
      return;
    }
    if (in_block == n) {
      in_block = 0;
      for (Fiber& f : fibers) f.waiting = nullptr;
      moved = true;
    }
    if (!moved) {
      snprintf(text, sizeof text, "no thread of block %u,%u,%u can go on: %d wait at __syncthreads, %d have ended, the rest wait for their warp",
               block_index.x, block_index.y, block_index.z, in_block, done);
      trouble = text;
      return;
    }
  }
}

inline const char* run(Size grid, int threads, bool backwards) {
  trouble = nullptr;
  if (threads % 32 || threads < 32 || threads > 1024) return "a block must have a multiple of 32 threads, at most 1024";
  fibers = std::vector<Fiber>(threads);
  warps = std::vector<Warp>(threads / 32);
  for (int i = 0; i < threads; i++) {
    fibers[i].stack.resize(1 << 16);
    fibers[i].index = {(unsigned)i, 0, 0};
    fibers[i].warp = i / 32, fibers[i].lane = i % 32;
  }
  grid_size = grid, block_size = {(unsigned)threads, 1, 1};
  const long blocks = (long)grid.x * grid.y * grid.z;
  for (long k = 0; k < blocks && !trouble; k++) {
    long b = backwards ? blocks - 1 - k : k;
    block_index = {(unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / grid.x / grid.y)};
    run_block(backwards);
  }
  return trouble;
}

// Call a kernel with arguments given by address, as cuLaunchKernel does.
template <class... A, size_t... I> const char* launch(void (*f)(A...), Size grid, int threads, bool backwards, void** args, std::index_sequence<I...>) {
  std::tuple<std::remove_const_t<A>...> values{*static_cast<std::remove_const_t<A>*>(args[I])...};
  body = [&] { f(std::get<I>(values)...); };
  return run(grid, threads, backwards);
}
template <class... A> const char* launch(void (*f)(A...), Size grid, int threads, bool backwards, void** args) {
  return launch(f, grid, threads, backwards, args, std::index_sequence_for<A...>{});
}

template <class T> uint32_t* words(T* p) { return reinterpret_cast<uint32_t*>(p); }

template <class T> T shuffle(const char* what, T x, int from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
  Warp& w = warps[me->warp];
  memcpy(w.in[me->lane], &x, sizeof x);
  w.in[me->lane][7] = (uint32_t)from;
  meet_warp(what, [](Warp& w) { for (int l = 0; l < 32; l++) memcpy(w.out[l], w.in[w.in[l][7] & 31], 8); });
  memcpy(&x, w.out[me->lane], sizeof x);
  return x;
}

inline void copy(void* to, const void* from, int bytes, bool inside) {
  if ((uintptr_t)to % bytes || (inside && (uintptr_t)from % bytes)) stop("a background copy is not aligned");
  if ((unsigned char*)to < shared || (unsigned char*)to + bytes > shared + SHARED_SIZE) stop("a background copy does not go to shared memory");
  memset(to, 0xff, bytes);
  me->open.push_back({to, from, bytes, inside});
}

inline float from_bf16(uint32_t bits) { uint32_t u = bits << 16; float f; memcpy(&f, &u, 4); return f; }
inline float from_bits(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }

}  // namespace emulated

#define threadIdx (emulated::me->index)
#define blockIdx emulated::block_index
#define blockDim emulated::block_size
#define gridDim emulated::grid_size

inline void __syncthreads() { emulated::meet_block(); }
inline void __syncwarp(unsigned = ~0u) { emulated::meet_warp("__syncwarp", [](emulated::Warp&) {}); }
inline void __threadfence() {}
template <class T> T __shfl_sync(unsigned, T x, int from) { return emulated::shuffle("__shfl_sync", x, from); }
template <class T> T __shfl_xor_sync(unsigned, T x, int d) { return emulated::shuffle("__shfl_xor_sync", x, emulated::me->lane ^ d); }
template <class T> T __shfl_up_sync(unsigned, T x, int d) { int l = emulated::me->lane; return emulated::shuffle("__shfl_up_sync", x, l >= d ? l - d : l); }
template <class T> T __shfl_down_sync(unsigned, T x, int d) { int l = emulated::me->lane; return emulated::shuffle("__shfl_down_sync", x, l + d < 32 ? l + d : l); }
inline bool __any_sync(unsigned, bool p) {
  int any = p;
  for (int d = 16; d; d /= 2) any |= __shfl_xor_sync(~0u, any, d);
  return any;
}
inline unsigned __ballot_sync(unsigned, bool p) {
  unsigned votes = p ? 1u << emulated::me->lane : 0u;
  for (int d = 16; d; d /= 2) votes |= __shfl_xor_sync(~0u, votes, d);
  return votes;
}
inline int __ffs(unsigned x) { return __builtin_ffs((int)x); }
template <class T> T atomicAdd(T* p, T x) { T old = *p; *p = old + x; return old; }     // fibers never run at once
template <class T> T __ldg(const T* p) { return *p; }
inline float __uint_as_float(uint32_t u) { return emulated::from_bits(u); }
inline uint32_t __float_as_uint(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }
inline int __float_as_int(float f) { return (int)__float_as_uint(f); }
inline uint32_t __umulhi(uint32_t a, uint32_t b) { return (uint32_t)(((uint64_t)a * b) >> 32); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.f / x; }
inline float cospif(float x) { return (float)cos(M_PI * (double)x); }
inline float sinpif(float x) { return (float)sin(M_PI * (double)x); }
struct alignas(8) float2 { float x, y; };
using std::max;
using std::min;

struct bf16 { unsigned short bits; };
inline uint32_t bf16_bits(float f) {
  uint32_t u = __float_as_uint(f);
  return f != f ? 0x7fffu : (u + 0x7fffu + ((u >> 16) & 1)) >> 16;
}
inline float to_float(float x) { return x; }
inline float to_float(bf16 x) { return emulated::from_bf16(x.bits); }
inline void store(float* p, float x) { *p = x; }
inline void store(bf16* p, float x) { p->bits = (unsigned short)bf16_bits(x); }
inline uint32_t pack_bf16(float first, float second) { return bf16_bits(first) | bf16_bits(second) << 16; }
inline uint32_t to_tf32(float x) { return (__float_as_uint(x) + 0x1000u) & 0xffffe000u; }

template <class F, class P> F* aligned(P* p) {
  if ((uintptr_t)p % 16) emulated::stop("16 bytes are read or written at an address that is not a multiple of 16");
  return reinterpret_cast<F*>(p);
}
inline void copy16(void* shared, const void* global, bool inside = true) { emulated::copy(shared, global, 16, inside); }
inline void copy4(void* shared, const void* global, bool inside = true) { emulated::copy(shared, global, 4, inside); }
inline void copy_commit() { emulated::me->groups.push_back(std::move(emulated::me->open)); emulated::me->open.clear(); }
template <int left> void copy_wait() {
  auto& groups = emulated::me->groups;
  while ((int)groups.size() > left) {
    emulated::finish(groups.front());
    groups.erase(groups.begin());
  }
}

namespace emulated {
inline void matrices(const char* what, uint32_t (&r)[4], const void* row, bool turned) {
  if ((uintptr_t)row % 16) stop("a row of load_matrices is not aligned to 16 bytes");
  Warp& w = warps[me->warp];
  w.address[me->lane] = row;
  meet_warp(what, [turned](Warp& w) {
    for (int l = 0; l < 32; l++)
      for (int m = 0; m < 4; m++) {
        auto at = [&](int i, int j) { return (uint32_t) static_cast<const uint16_t*>(w.address[m * 8 + i])[j]; };
        const int g = l / 4, t = 2 * (l % 4);
        w.out[l][m] = turned ? at(t, g) | at(t + 1, g) << 16 : at(g, t) | at(g, t + 1) << 16;
      }
  });
  memcpy(r, w.out[me->lane], 16);
}

// D (16x8) += A (16xK) B (Kx8), with a and b unpacked by the two functions below.
template <int K> void product(float (&d)[4], const char* what, const uint32_t (&a)[4], const uint32_t (&b)[2], void (*unpack)(Warp&, float (&)[16][K], float (&)[K][8])) {
  Warp& w = warps[me->warp];
  for (int i = 0; i < 4; i++) w.in[me->lane][i] = a[i];
  w.in[me->lane][4] = b[0], w.in[me->lane][5] = b[1];
  meet_warp(what, [unpack](Warp& w) {
    static float A[16][K], B[K][8], C[16][8];
    unpack(w, A, B);
    for (int i = 0; i < 16; i++)
      for (int j = 0; j < 8; j++) C[i][j] = 0.f;
    for (int i = 0; i < 16; i++)
      for (int k = 0; k < K; k++)
        for (int j = 0; j < 8; j++) C[i][j] += A[i][k] * B[k][j];
    for (int l = 0; l < 32; l++)
      for (int e = 0; e < 4; e++) memcpy(&w.out[l][e], &C[l / 4 + 8 * (e / 2)][2 * (l % 4) + e % 2], 4);
  });
  for (int e = 0; e < 4; e++) d[e] += from_bits(w.out[me->lane][e]);
}
}  // namespace emulated

inline void load_matrices(uint32_t (&r)[4], const void* row) { emulated::matrices("load_matrices", r, row, false); }
inline void load_matrices_turned(uint32_t (&r)[4], const void* row) { emulated::matrices("load_matrices_turned", r, row, true); }

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  using namespace emulated;
  product<16>(d, "mma_bf16", a, b, [](Warp& w, float (&A)[16][16], float (&B)[16][8]) {
    for (int l = 0; l < 32; l++)
      for (int half = 0; half < 2; half++) {
        const int g = l / 4, t = 2 * (l % 4) + half;
        for (int i = 0; i < 4; i++) A[g + 8 * (i % 2)][t + 8 * (i / 2)] = from_bf16(w.in[l][i] >> (16 * half) & 0xffffu);
        for (int i = 0; i < 2; i++) B[t + 8 * i][g] = from_bf16(w.in[l][4 + i] >> (16 * half) & 0xffffu);
      }
  });
}
inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  using namespace emulated;
  product<8>(d, "mma_tf32", a, b, [](Warp& w, float (&A)[16][8], float (&B)[8][8]) {
    for (int l = 0; l < 32; l++) {                     // the tensor cores read the upper 19 bits only
      const int g = l / 4, t = l % 4;
      for (int i = 0; i < 4; i++) A[g + 8 * (i % 2)][t + 4 * (i / 2)] = from_bits(w.in[l][i] & 0xffffe000u);
      for (int i = 0; i < 2; i++) B[t + 4 * i][g] = from_bits(w.in[l][4 + i] & 0xffffe000u);
    }
  });
}
