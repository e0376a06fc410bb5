// The host body of device.cuh: every function hands over to the emulation (emulation.cpp), where each CUDA thread is a
// fiber and each collective a rendezvous.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#define DEVICE inline
#define UNROLL
#define ROLLED
#define KERNEL(name, Arguments)                                                                        \
    static void name(const Arguments& launch);                                                         \
    extern "C" void emulated_kernel(const void* arguments) { name(*static_cast<const Arguments*>(arguments)); } \
    static void name(const Arguments& launch)

struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };

namespace emulation {
enum class Kind { bfloat16, float16, tensorfloat32 };
int thread_index();
int grid_position(int axis);
int cluster_rank();
int cluster_index();
void shared_read(unsigned offset, void* to, unsigned bytes);
void shared_write(unsigned offset, const void* from, unsigned bytes);
bool in_output(const void* address, unsigned bytes, bool write);
void global_access(const void* address, unsigned bytes, bool write);
void copy_async(unsigned to, const void* from, unsigned bytes);
void copy_commit();
void copy_wait(unsigned groups);
Word shuffle(Word value, int source);
bool warp_any(bool value);
void multiply(Kind kind, float (&d)[4], const Word (&a)[4], Word b0, Word b1);
void group_begin();
void group_end();
Word group_read(unsigned offset);
void warp_barrier();
void block_barrier();
void named_barrier(int id, int threads);
void cluster_barrier();
void transfer_init(unsigned barrier);
void transfer_expect(unsigned barrier, unsigned bytes);
void transfer_wait(unsigned barrier, unsigned parity);
void send(unsigned to, unsigned barrier, const void* from, unsigned bytes);
long long cycles();
void grid_fence();
void counter_add(unsigned* counter, unsigned n, bool release);
unsigned counter_read(const unsigned* counter, bool acquire);
void exchange(const void* address, bool write);
void give_way();
uint64_t relaxed_read(const void* address, unsigned bytes);
void relaxed_write(void* address, uint64_t value, unsigned bytes);
void report(int* status, int code);
Word float_to_half(float value);
float half_to_float(Word value);
}  // namespace emulation

inline int thread_index() { return emulation::thread_index(); }
inline int grid_column() { return emulation::grid_position(0); }
inline int grid_row() { return emulation::grid_position(1); }
inline int grid_layer() { return emulation::grid_position(2); }
inline int cluster_rank() { return emulation::cluster_rank(); }
inline int cluster_index() { return emulation::cluster_index(); }

template <class V> V shared_read(unsigned offset) {
    V value;
    emulation::shared_read(offset, &value, sizeof(V));
    return value;
}
inline void shared_read_where(bool on, unsigned offset, uint4& value) {
    if (on) value = shared_read<uint4>(offset);
}
template <class V> void shared_write(unsigned offset, V value) { emulation::shared_write(offset, &value, sizeof(V)); }
template <class V> V global_read(const V* from) {
    emulation::global_access(from, sizeof(V), false);
    return *from;
}
template <class V> void global_write(V* to, V value) {
    emulation::global_access(to, sizeof(V), true);
    *to = value;
}

template <class V> void copy_async(unsigned to, const V* from) {
    static_assert(sizeof(V) == 4 || sizeof(V) == 8 || sizeof(V) == 16);
    emulation::copy_async(to, from, sizeof(V));
}
using emulation::copy_commit;
template <int N> void copy_wait() { emulation::copy_wait(N); }

inline int opaque(int value) { return value; }
inline float bits_to_float(Word bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
inline Word float_to_bits(float value) {
    Word bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

inline Word shuffle(Word value, int source) { return emulation::shuffle(value, source); }
inline float shuffle(float value, int source) { return bits_to_float(shuffle(float_to_bits(value), source)); }
inline float shuffle_xor(float value, int mask) { return shuffle(value, (thread_index() & 31) ^ mask); }
using emulation::block_barrier;
using emulation::cluster_barrier;
using emulation::named_barrier;
using emulation::transfer_expect;
using emulation::transfer_init;
using emulation::transfer_wait;
using emulation::warp_any;
using emulation::warp_barrier;

// An address in the cluster: the block in the upper bits, the offset in the lower 24.
inline unsigned peer_address(unsigned offset, unsigned rank) { return rank << 24 | offset; }
inline void send(unsigned to, unsigned barrier, uint4 value) { emulation::send(to, barrier, &value, 16); }
inline void send(unsigned to, unsigned barrier, uint2 value) { emulation::send(to, barrier, &value, 8); }

inline Word round_bfloat16(float value) {
    const Word bits = float_to_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return bits >> 16 | 0x40u;
    return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}
inline Word pack_bfloat16(float low, float high) { return round_bfloat16(low) | round_bfloat16(high) << 16; }
inline Word pack_float16(float low, float high) {
    return emulation::float_to_half(low) | emulation::float_to_half(high) << 16;
}
inline float float16_to_float(unsigned short value) { return emulation::half_to_float(value); }
inline Word round_tensorfloat32(float value) { return (float_to_bits(value) + 0x1000u) & 0xffffe000u; }

// tanh.approx.f32 may be off by 2^-11 of its value; here it always is, to a side that the bits of x decide.
inline float tanh_approximate(float x) {
    const Word mixed = float_to_bits(x) * 2654435761u;
    return std::tanh(x) * (1.0f + (mixed >> 31 ? 0x1p-11f : -0x1p-11f));
}
inline float sigmoid_approximate(float x) { return 1.0f / (1.0f + std::exp2(x * -1.4426950408889634f)); }

inline void multiply_bfloat16(float (&d)[4], const Word (&a)[4], Word b0, Word b1) {
    emulation::multiply(emulation::Kind::bfloat16, d, a, b0, b1);
}
inline void multiply_float16(float (&d)[4], const Word (&a)[4], Word b0, Word b1) {
    emulation::multiply(emulation::Kind::float16, d, a, b0, b1);
}
inline void multiply_tensorfloat32(float (&d)[4], const Word (&a)[4], Word b0, Word b1) {
    emulation::multiply(emulation::Kind::tensorfloat32, d, a, b0, b1);
}

using emulation::cycles;
using emulation::grid_fence;
inline void counter_add(unsigned* counter, unsigned n) { emulation::counter_add(counter, n, false); }
inline void counter_release(unsigned* counter, unsigned n) { emulation::counter_add(counter, n, true); }
inline unsigned counter_read(const unsigned* counter) { return emulation::counter_read(counter, false); }
inline unsigned counter_acquire(const unsigned* counter) { return emulation::counter_read(counter, true); }
inline void exchange_write(uint4* to, uint4 value) {
    emulation::exchange(to, true);
    global_write(to, value);
}
inline uint4 exchange_read(const uint4* from) {
    emulation::exchange(from, false);
    return global_read(from);
}
// Letters race by design: each carries the number of its step, and nothing else says that it has come.
inline void letter_write(uint4* to, uint4 value) {
    emulation::in_output(to, sizeof value, true);
    *to = value;
}
inline uint4 letter_read(const uint4* from) {
    emulation::give_way();
    emulation::in_output(from, sizeof(uint4), false);
    return *from;
}

constexpr int SPIN_LIMIT = 1 << 12;  // what is to come does so within some hundred looks of a fiber
using Pair = uint64_t;
struct alignas(16) Pairs {
    Pair first, second;
};
inline uint4 relaxed_read(const uint4* from) {
    const auto word = [&](const unsigned* at) { return static_cast<unsigned>(emulation::relaxed_read(at, 4)); };
    return {word(&from->x), word(&from->y), word(&from->z), word(&from->w)};
}
inline Pairs relaxed_read(const Pairs* from) {
    return {emulation::relaxed_read(&from->first, 8), emulation::relaxed_read(&from->second, 8)};
}
inline void relaxed_write(Word* to, Word value) { emulation::relaxed_write(to, value, 4); }
inline void relaxed_write(Pair* to, Pair value) { emulation::relaxed_write(to, value, 8); }
inline void relaxed_write(uint4* to, uint4 value) {
    relaxed_write(&to->x, value.x), relaxed_write(&to->y, value.y), relaxed_write(&to->z, value.z), relaxed_write(&to->w, value.w);
}
using emulation::report;

// The fragments of B are the matrices of a descriptor, so four warps together are four warps apart.
enum { GROUP_BFLOAT16, GROUP_FLOAT16, GROUP_TENSORFLOAT32 };
using emulation::group_begin;
using emulation::group_end;
template <int KIND, int N> void multiply_group(float (&d)[N / 8][4], const Word (&a)[4], unsigned offset) {
    for (int tile = 0; tile < N / 8; ++tile) {
        const unsigned at = offset + tile * 256 + (thread_index() & 31) * 4;
        emulation::multiply(static_cast<emulation::Kind>(KIND), d[tile], a, emulation::group_read(at),
                            emulation::group_read(at + 128));
    }
}
