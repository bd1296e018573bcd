// What the kernels are written with: types, copies into shared memory, matrix instructions.
// Every function here that hides an instruction has a twin in emulate.h, which runs the same kernels on a CPU.
#pragma once

#ifdef EMULATE
#include "emulate.h"
#else

typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
typedef long long int64_t;

// Memory shared by a block, its size given at launch.
#define SHARED(T, name) extern __shared__ __align__(128) unsigned char shared_memory_[]; T* name = reinterpret_cast<T*>(shared_memory_)
#define BOUNDS(...) __launch_bounds__(__VA_ARGS__)
#define DEVICE __device__ __forceinline__

// A bfloat16 is the upper half of a float32: 1 sign, 8 exponent and 7 mantissa bits.
struct bf16 { unsigned short bits; };

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return __uint_as_float((uint32_t)x.bits << 16); }
DEVICE void store(float* p, float x) { *p = x; }
DEVICE void store(bf16* p, float x) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(p->bits) : "f"(x)); }

// Two numbers as one 32-bit word, rounded to the nearest even; the first in the lower half.
DEVICE uint32_t pack_bf16(float first, float second) {
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
  return word;
}

// A float32 rounded to the 10 mantissa bits that the tensor cores' TF32 mode reads.
DEVICE uint32_t to_tf32(float x) {
  uint32_t word;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(x));
  return word;
}

// Copy 16 bytes from global to shared memory in the background; zeros where `inside` is false (src is not read).
// Both addresses are multiples of 16. The copies issued since the last commit form a group.
DEVICE void copy16(void* shared, const void* global, bool inside = true) {
  int bytes = inside ? 16 : 0;
  uint32_t to = (uint32_t)__cvta_generic_to_shared(shared);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(global), "r"(bytes) : "memory");
}
DEVICE void copy4(void* shared, const void* global, bool inside = true) {   // the same for 4 bytes
  int bytes = inside ? 4 : 0;
  uint32_t to = (uint32_t)__cvta_generic_to_shared(shared);
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(to), "l"(global), "r"(bytes) : "memory");
}
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// Wait until at most `left` of this thread's groups are still under way. Other threads' copies need a __syncthreads too.
template <int left> DEVICE void copy_wait() { asm volatile("cp.async.wait_group %0;\n" ::"n"(left) : "memory"); }

// Four 8x8 matrices of 16-bit numbers. Lane l gives the address of row l % 8 of matrix l / 8 (16 bytes, aligned), and
// receives, of each matrix, the two neighbours at row l / 4, columns 2 (l % 4) and + 1.
// A row of four 32-bit numbers is such a row too: lane l then receives the number at row l / 4, column l % 4.
DEVICE void load_matrices(uint32_t (&r)[4], const void* row) {
  uint32_t from = (uint32_t)__cvta_generic_to_shared(row);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
}
// The same, each matrix transposed: lane l receives the two neighbours at rows 2 (l % 4) and + 1, column l / 4.
DEVICE void load_matrices_turned(uint32_t (&r)[4], const void* row) {
  uint32_t from = (uint32_t)__cvta_generic_to_shared(row);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
}

// d += a b on the tensor cores, by a whole warp. With g = lane / 4 and t = lane % 4 a lane holds (PTX ISA, "mma"):
//   d, 16x8:  (g, 2t) (g, 2t+1) (g+8, 2t) (g+8, 2t+1)
// bfloat16:   a, 16x16: pairs (g, 2t..) (g+8, 2t..) (g, 2t+8..) (g+8, 2t+8..)      b, 16x8: pairs (2t.., g) (2t+8.., g)
DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// TF32:       a, 16x8: (g, t) (g+8, t) (g, t+4) (g+8, t+4)                         b, 8x8: (t, g) (t+4, g)
DEVICE void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// An address as that of 16 bytes, of which it must be a multiple.
template <class F, class P> DEVICE F* aligned(P* p) { return reinterpret_cast<F*>(p); }

// A kernel that Python can launch.
#define KERNEL(name) extern "C" __global__ void name
#endif

// ------------------------------------------------------------------------------- for both kinds of machine

struct alignas(16) Four { uint32_t word[4]; };        // 16 bytes: what a thread best reads or writes at once

constexpr DEVICE int divide_up(int a, int b) { return (a + b - 1) / b; }

// The sum over the 32 lanes of a warp, in every lane.
DEVICE float warp_sum(float x) {
  for (int d = 16; d; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
  return x;
}
DEVICE float warp_max(float x) {
  for (int d = 16; d; d /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, d));
  return x;
}

// What `over_warp` makes of a warp's numbers, made of a block's, in every thread, in a fixed order; `nothing` changes no
// result. `work` is shared memory for 33 floats.
template <class F> DEVICE float over_block(float x, float* work, float nothing, F over_warp) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  x = over_warp(x);
  __syncthreads();                                     // work may still be read from before
  if (lane == 0) work[warp] = x;
  __syncthreads();
  if (warp == 0) {
    x = over_warp(lane < warps ? work[lane] : nothing);
    if (lane == 0) work[32] = x;
  }
  __syncthreads();
  return work[32];
}
DEVICE float block_sum(float x, float* work) {
  return over_block(x, work, 0.f, [](float x) { return warp_sum(x); });
}
DEVICE float block_max(float x, float* work) {
  return over_block(x, work, __uint_as_float(0xff800000u), [](float x) { return warp_max(x); });
}

// N neighbours in memory as floats and back: 16 bytes at a time, or 4 or 2 where N numbers are fewer bytes.
template <int N> DEVICE void load(float (&x)[N], const float* p) {
  if constexpr (N % 4 == 0) {
    for (int i = 0; i < N; i += 4) {
      Four f = *aligned<const Four>(p + i);
      for (int k = 0; k < 4; k++) x[i + k] = __uint_as_float(f.word[k]);
    }
  } else {
    for (int i = 0; i < N; i++) x[i] = p[i];
  }
}
template <int N> DEVICE void load(float (&x)[N], const bf16* p) {
  if constexpr (N % 8 == 0) {
    for (int i = 0; i < N; i += 8) {
      Four f = *aligned<const Four>(p + i);
      for (int k = 0; k < 4; k++) {
        x[i + 2 * k] = __uint_as_float(f.word[k] << 16);
        x[i + 2 * k + 1] = __uint_as_float(f.word[k] & 0xffff0000u);
      }
    }
  } else {
    for (int i = 0; i < N; i++) x[i] = to_float(p[i]);
  }
}
template <int N> DEVICE void store(float* p, const float (&x)[N]) {
  if constexpr (N % 4 == 0) {
    for (int i = 0; i < N; i += 4) {
      Four f;
      for (int k = 0; k < 4; k++) f.word[k] = __float_as_uint(x[i + k]);
      *aligned<Four>(p + i) = f;
    }
  } else {
    for (int i = 0; i < N; i++) p[i] = x[i];
  }
}
template <int N> DEVICE void store(bf16* p, const float (&x)[N]) {
  if constexpr (N % 8 == 0) {
    for (int i = 0; i < N; i += 8) {
      Four f;
      for (int k = 0; k < 4; k++) f.word[k] = pack_bf16(x[i + 2 * k], x[i + 2 * k + 1]);
      *aligned<Four>(p + i) = f;
    }
  } else {
    for (int i = 0; i < N; i++) store(p + i, x[i]);
  }
}
