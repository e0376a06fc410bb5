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
// The bit of a word of h: |h| < 2 has no use for it; a tf32 value ends with 13 zeros.
template <class S> constexpr Word TAG_OF_H = S::PER_WORD == 2 ? 0x40000000u : 1u;

// Whether what step `step` reads (1, 2, …) has the bit set.
DEVICE bool is_odd_use(int step) { return ((step - 1) >> 1 & 1) == 0; }

// Whether any of four words of h has not come.
template <class S> DEVICE bool is_late(uint4 word, Word tag) {
    return ((word.x ^ tag) | (word.y ^ tag) | (word.z ^ tag) | (word.w ^ tag)) & TAG_OF_H<S>;
}
template <class S> DEVICE uint4 without_tags(uint4 word) {
    constexpr Word TAG = TAG_OF_H<S>;
    return {word.x & ~TAG, word.y & ~TAG, word.z & ~TAG, word.w & ~TAG};
}
// Writes h of a lane's unit, or of it and the next one, which the lane 8 above holds. All lanes of a warp take part.
// ends: whether zeros are to follow, where what is computed ends within what a lane reads at once.
template <class S> DEVICE void publish_h(Word* at, int unit, float h, Word tag, bool is_there, bool ends = false) {
    constexpr Word TAG = TAG_OF_H<S>;
    if constexpr (S::PER_WORD == 2) {
        // A NaN of the odd unit would lose its exponent to the tag: the even one says it for both.
        const float odd = shuffle_xor(h, 8), even = odd != odd ? odd : h;
        if (is_there && !(unit & 1)) {
            relaxed_write(at, (S::operand(even, odd) & ~TAG) | tag);
            if (ends) relaxed_write(at + 2, tag);
        }
    } else if (is_there) relaxed_write(at, (S::operand(h, 0.0f) & ~TAG) | tag);
}

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
