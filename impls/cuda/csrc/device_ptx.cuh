// The PTX body of device.cuh. Clusters and `send` need sm_90; the rest sm_80.
#pragma once

// Blocks of a multiprocessor that the registers must leave room for; a source that wants several says so before it includes this.
#ifndef BLOCKS_OF_SM
#define BLOCKS_OF_SM 1
#endif

#define DEVICE __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")
#define KERNEL(name, Arguments) \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_OF_SM) name(const __grid_constant__ Arguments launch)

extern __shared__ __align__(128) unsigned char shared_memory[];

DEVICE int thread_index() { return threadIdx.x; }
DEVICE int grid_column() { return blockIdx.x; }
DEVICE int grid_row() { return blockIdx.y; }
DEVICE int grid_layer() { return blockIdx.z; }

template <class V> DEVICE V shared_read(unsigned offset) { return *reinterpret_cast<const V*>(shared_memory + offset); }
template <class V> DEVICE void shared_write(unsigned offset, V value) { *reinterpret_cast<V*>(shared_memory + offset) = value; }
template <class V> DEVICE V global_read(const V* from) { return *from; }
template <class V> DEVICE void global_write(V* to, V value) { *to = value; }

DEVICE float shuffle(float value, int source) { return __shfl_sync(0xffffffffu, value, source); }
DEVICE Word shuffle(Word value, int source) { return __shfl_sync(0xffffffffu, value, source); }
DEVICE float shuffle_xor(float value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }
DEVICE bool warp_any(bool value) { return __any_sync(0xffffffffu, value); }
DEVICE void warp_barrier() { __syncwarp(); }
DEVICE void block_barrier() { __syncthreads(); }
DEVICE void named_barrier(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }

DEVICE unsigned shared_address(unsigned offset) {
    return static_cast<unsigned>(__cvta_generic_to_shared(shared_memory)) + offset;
}
DEVICE void shared_read_where(bool on, unsigned offset, uint4& value) {
    asm volatile("{\n\t.reg .pred on;\n\tsetp.ne.u32 on, %5, 0;\n\t@on ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];\n\t}"
                 : "+r"(value.x), "+r"(value.y), "+r"(value.z), "+r"(value.w) : "r"(shared_address(offset)), "r"(unsigned(on)));
}
// 16 bytes pass by L1; smaller pieces cannot.
template <class V> DEVICE void copy_async(unsigned to, const V* from) {
    static_assert(sizeof(V) == 4 || sizeof(V) == 8 || sizeof(V) == 16);
    const auto global = __cvta_generic_to_global(from);
    if constexpr (sizeof(V) == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(global) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(shared_address(to)), "l"(global), "n"(sizeof(V)) : "memory");
}
DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> DEVICE void copy_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

DEVICE int opaque(int value) {
    asm volatile("" : "+r"(value));
    return value;
}
DEVICE float bits_to_float(Word bits) { return __uint_as_float(bits); }
DEVICE Word float_to_bits(float value) { return __float_as_uint(value); }

// ---- conversions, all to nearest even (tf32: to nearest, ties away, the only rounding PTX offers on sm_80) ----
DEVICE Word pack_bfloat16(float low, float high) {
    Word packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}
DEVICE Word pack_float16(float low, float high) {
    Word packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}
DEVICE float float16_to_float(unsigned short value) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value));
    return wide;
}
DEVICE Word round_tensorfloat32(float value) {
    Word rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
    return rounded;
}

// ---- approximations: one MUFU operation for tanh (relative error 2^-11, PTX manual), two for the sigmoid (2^-22) ----
DEVICE float tanh_approximate(float x) {
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
DEVICE float sigmoid_approximate(float x) {
    float power, y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * -1.4426950408889634f));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(1.0f + power));
    return y;
}

// ---- d += a · b on one 16 × 8 tile; a lane's words are drawn in docs/cuda.md ----
#define MULTIPLY(name, shape)                                                                                          \
    DEVICE void name(float (&d)[4], const Word (&a)[4], Word b0, Word b1) {                                            \
        asm volatile("mma.sync.aligned." shape " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                \
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                  \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                                  \
    }
MULTIPLY(multiply_bfloat16, "m16n8k16.row.col.f32.bf16.bf16.f32")
MULTIPLY(multiply_float16, "m16n8k16.row.col.f32.f16.f16.f32")
MULTIPLY(multiply_tensorfloat32, "m16n8k8.row.col.f32.tf32.tf32.f32")
#undef MULTIPLY

DEVICE long long cycles() {
    long long now;
    asm volatile("mov.u64 %0, %%clock64;" : "=l"(now)::"memory");
    return now;
}

// ---- through global memory, among the blocks of a grid ----
DEVICE void grid_fence() { asm volatile("fence.sc.gpu;" ::: "memory"); }
DEVICE void counter_add(unsigned* counter, unsigned n) {
    asm volatile("red.relaxed.gpu.global.add.u32 [%0], %1;" ::"l"(counter), "r"(n) : "memory");
}
DEVICE void counter_release(unsigned* counter, unsigned n) {
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(counter), "r"(n) : "memory");
}
DEVICE unsigned counter_read(const unsigned* counter) {
    unsigned value;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(counter) : "memory");
    return value;
}
DEVICE unsigned counter_acquire(const unsigned* counter) {
    unsigned value;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(counter) : "memory");
    return value;
}
DEVICE void exchange_write(uint4* to, uint4 value) {
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w)
                 : "memory");
}
DEVICE uint4 exchange_read(const uint4* from) {
    uint4 v;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from) : "memory");
    return v;
}
// One scalar of 128 bits is a single access (PTX manual, memory consistency model); a vector of four is not.
DEVICE void letter_write(uint4* to, uint4 value) {
    const unsigned long long low = value.x | (unsigned long long)value.y << 32, high = value.z | (unsigned long long)value.w << 32;
    asm volatile("{\n\t.reg .b128 letter;\n\tmov.b128 letter, {%1, %2};\n\tst.relaxed.gpu.global.b128 [%0], letter;\n\t}" ::"l"(to),
                 "l"(low), "l"(high)
                 : "memory");
}
DEVICE uint4 letter_read(const uint4* from) {
    unsigned long long low, high;
    asm volatile("{\n\t.reg .b128 letter;\n\tld.relaxed.gpu.global.b128 letter, [%2];\n\tmov.b128 {%0, %1}, letter;\n\t}"
                 : "=l"(low), "=l"(high) : "l"(from) : "memory");
    return {(unsigned)low, (unsigned)(low >> 32), (unsigned)high, (unsigned)(high >> 32)};
}
// Words that say by a bit of their own whether they have come. A vector is so many accesses of its elements, in no order (PTX
// manual, memory consistency model), and an element is read in the size in which it is written.
constexpr int SPIN_LIMIT = 1 << 20;  // about 700 cycles each while nothing comes, so half a second
using Pair = unsigned long long;
struct alignas(16) Pairs {
    Pair first, second;
};
DEVICE uint4 relaxed_read(const uint4* from) {
    uint4 v;
    asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from) : "memory");
    return v;
}
DEVICE Pairs relaxed_read(const Pairs* from) {
    Pairs v;
    asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];" : "=l"(v.first), "=l"(v.second) : "l"(from) : "memory");
    return v;
}
DEVICE void relaxed_write(Word* to, Word value) {
    asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}
DEVICE void relaxed_write(uint4* to, uint4 value) {
    asm volatile("st.relaxed.gpu.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w)
                 : "memory");
}
DEVICE void relaxed_write(Pair* to, Pair value) {
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(to), "l"(value) : "memory");
}
// The status may lie in memory of the host.
DEVICE void report(int* status, int code) { asm volatile("st.relaxed.sys.global.u32 [%0], %1;" ::"l"(status), "r"(code) : "memory"); }

#if __CUDA_ARCH__ >= 900
DEVICE int cluster_rank() {
    int rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
DEVICE int cluster_index() {
    int index;
    asm("mov.u32 %0, %%clusterid.x;" : "=r"(index));
    return index;
}
DEVICE void cluster_barrier() {
    asm volatile("barrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;" ::: "memory");
}
// The address of an offset in the shared memory of block `rank` of this cluster.
DEVICE unsigned peer_address(unsigned offset, unsigned rank) {
    unsigned address;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared_address(offset)), "r"(rank));
    return address;
}
DEVICE void transfer_init(unsigned barrier) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(barrier)) : "memory");
}
DEVICE void transfer_expect(unsigned barrier, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
}
DEVICE void transfer_wait(unsigned barrier, unsigned parity) {
    unsigned done;
    do {
        asm volatile(
            "{\n\t.reg .pred done;\n\t"
            "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%1], %2;\n\t"
            "selp.u32 %0, 1, 0, done;\n\t}"
            : "=r"(done) : "r"(shared_address(barrier)), "r"(parity) : "memory");
    } while (!done);
}
DEVICE void send(unsigned to, unsigned barrier, uint4 value) {
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%2, %3, %4, %5}, [%1];" ::"r"(to),
                 "r"(barrier), "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w)
                 : "memory");
}
DEVICE void send(unsigned to, unsigned barrier, uint2 value) {
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%2, %3}, [%1];" ::"r"(to),
                 "r"(barrier), "r"(value.x), "r"(value.y)
                 : "memory");
}
#endif

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
DEVICE void group_begin() {
    // What ordinary writes put into shared memory is to be read by the tensor cores' own path.
    asm volatile("fence.proxy.async.shared::cta;\n\twgmma.fence.sync.aligned;" ::: "memory");
}
DEVICE void group_end() {
    asm volatile("wgmma.commit_group.sync.aligned;\n\twgmma.wait_group.sync.aligned 0;" ::: "memory");
}
// Operand B, k-major without swizzle: 128-byte matrices of 8 columns × 16 bytes, the two halves of k side by side, then the
// next 8 columns (PTX manual, "Matrix descriptor"; addresses and strides in units of 16 bytes).
DEVICE unsigned long long group_operand(unsigned offset) {
    return (unsigned long long)(shared_address(offset) >> 4 & 0x3fff) | 8ull << 16 | 16ull << 32;
}
#define REGISTERS_8 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, %8"
#define REGISTERS_16 "{%0,%1,%2,%3,%4,%5,%6,%7}, {%8,%9,%10,%11}, %12"
#define REGISTERS_32 "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, {%16,%17,%18,%19}, %20"
#define TILE(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define TILES_8 TILE(0)
#define TILES_16 TILE(0), TILE(1)
#define TILES_32 TILE(0), TILE(1), TILE(2), TILE(3)
#define GROUP(kind, columns, depth, types, flags)                                                                         \
    template <> DEVICE void multiply_group<kind, columns>(float (&d)[columns / 8][4], const Word (&a)[4], unsigned offset) { \
        asm volatile("wgmma.mma_async.sync.aligned.m64n" #columns depth types " " REGISTERS_##columns ", 1, " flags ";"       \
                     : TILES_##columns                                                                                   \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(group_operand(offset)));                          \
    }
#define GROUPS(kind, depth, types, flags) \
    GROUP(kind, 8, depth, types, flags) GROUP(kind, 16, depth, types, flags) GROUP(kind, 32, depth, types, flags)
enum { GROUP_BFLOAT16, GROUP_FLOAT16, GROUP_TENSORFLOAT32 };
template <int KIND, int N> DEVICE void multiply_group(float (&d)[N / 8][4], const Word (&a)[4], unsigned offset);
GROUPS(GROUP_BFLOAT16, "k16.f32.bf16.bf16", "", "1, 1, 0")
GROUPS(GROUP_FLOAT16, "k16.f32.f16.f16", "", "1, 1, 0")
GROUPS(GROUP_TENSORFLOAT32, "k8.f32.tf32.tf32", "", "1, 1")
#undef GROUPS
#undef GROUP
#endif
