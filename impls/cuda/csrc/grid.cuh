// What the persistent-grid kernels share: operands from row-major arrays, and the bit by which an exchanged word says that it has come.
//
// A group of blocks holds all of W_hh. What a step has computed goes through L2 to every block of the group, in one of two
// buffers, that of the step's parity. Each exchanged word has one bit that its value does not need: whatever is written for the
// first, third, … time into a word has that bit set, whatever for the second, fourth, … has it cleared (and the buffers begin
// as zeros), so a reader knows from the word alone whether it is what it waits for. Derivation: docs/cuda.md.
#pragma once
#include "storage.cuh"

constexpr int GROUP_WORDS = 16;            // of k: a lane multiplies four of them at once
constexpr Word NOT_A_NUMBER = 0x7fffffffu;  // in every storage, also as two 16-bit values

// Whether what step `step` reads (1, 2, …) has the bit set.
DEVICE bool is_odd_use(int step) { return ((step - 1) >> 1 & 1) == 0; }

// Elements first … of a row of `count` as four words of operands, zero beyond; 16 bytes at once where they lie so.
template <class S> DEVICE uint4 read_operands(const typename S::Value* row, int first, int count) {
    const typename S::Value* const from = row + first;
    if (first + 4 * S::PER_WORD <= count && (reinterpret_cast<unsigned long long>(from) & 15) == 0)
        return S::operand_words(global_read(reinterpret_cast<const uint4*>(from)));
    Word words[4];
    UNROLL for (int w = 0; w < 4; ++w) {
        float values[2] = {0.0f, 0.0f};
        UNROLL for (int e = 0; e < S::PER_WORD; ++e) {
            const int element = first + w * S::PER_WORD + e;
            if (element < count) values[e] = S::wide(global_read(row + element));
        }
        words[w] = S::operand(values[0], values[1]);
    }
    return {words[0], words[1], words[2], words[3]};
}

// Two k-tiles on one 16 × 8 tile: `upper` and `lower` hold a lane's four words of k of rows `row` and `row + 8`.
template <class S> DEVICE void multiply_group_of_words(float (&even)[4], float (&odd)[4], uint4 upper, uint4 lower, uint4 b) {
    S::multiply(even, {upper.x, lower.x, upper.y, lower.y}, b.x, b.y);
    S::multiply(odd, {upper.z, lower.z, upper.w, lower.w}, b.z, b.w);
}
