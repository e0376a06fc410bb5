// How values are stored and multiplied: bfloat16, float16, or float32 rounded to tf32 for the product.
//
// All fragment arithmetic is in 32-bit words, in which the three are alike: a k-tile is 8 words deep, whether a word
// holds two 16-bit values (m16n8k16) or one tf32 value (m16n8k8).
#pragma once
#include "device.cuh"
#include "lstm_pointwise.cuh"

struct Gates4 {
    float i, f, g, o;
};

struct Bfloat16 {
    using Value = unsigned short;
    using Gates = uint2;
    static constexpr int PER_WORD = 2;
    DEVICE static Word pack(float low, float high) { return pack_bfloat16(low, high); }
    DEVICE static float low(Word word) { return bits_to_float(word << 16); }
    DEVICE static float high(Word word) { return bits_to_float(word & 0xffff0000u); }
    DEVICE static float wide(Value value) { return bits_to_float(Word(value) << 16); }
    DEVICE static void multiply(float (&d)[4], const Word (&a)[4], Word b0, Word b1) { multiply_bfloat16(d, a, b0, b1); }
};

struct Float16 {
    using Value = unsigned short;
    using Gates = uint2;
    static constexpr int PER_WORD = 2;
    DEVICE static Word pack(float low, float high) { return pack_float16(low, high); }
    DEVICE static float low(Word word) { return float16_to_float(word & 0xffffu); }
    DEVICE static float high(Word word) { return float16_to_float(word >> 16); }
    DEVICE static float wide(Value value) { return float16_to_float(value); }
    DEVICE static void multiply(float (&d)[4], const Word (&a)[4], Word b0, Word b1) { multiply_float16(d, a, b0, b1); }
};

struct Tensorfloat32 {
    using Value = float;
    using Gates = uint4;
    static constexpr int PER_WORD = 1;
    DEVICE static float wide(Value value) { return value; }
    DEVICE static void multiply(float (&d)[4], const Word (&a)[4], Word b0, Word b1) { multiply_tensorfloat32(d, a, b0, b1); }
};

template <class S> struct Stored : S {
    using typename S::Gates;
    using typename S::Value;
    DEVICE static Value narrow(float value) {
        if constexpr (S::PER_WORD == 2) return static_cast<Value>(S::pack(value, 0.0f) & 0xffffu);
        else return value;
    }
    // One word of a fragment: two 16-bit values, or the first alone.
    DEVICE static Word operand(float first, float second) {
        if constexpr (S::PER_WORD == 2) return S::pack(first, second);
        else return round_tensorfloat32(first);
    }
    // The second of a word's two values, or the first; the only one of a word that holds one.
    DEVICE static float element(Word word, bool second) {
        if constexpr (S::PER_WORD == 2) return second ? S::high(word) : S::low(word);
        else return bits_to_float(word);
    }
    DEVICE static Gates gates(Gates4 v) {
        if constexpr (S::PER_WORD == 2) return Gates{S::pack(v.i, v.f), S::pack(v.g, v.o)};
        else return Gates{float_to_bits(v.i), float_to_bits(v.f), float_to_bits(v.g), float_to_bits(v.o)};
    }
    // i, f, g and o of a unit lie `hidden` values apart.
    DEVICE static Gates read_gates(const Value* of_unit, int hidden) {
        const Value i = global_read(of_unit), f = global_read(of_unit + hidden);
        const Value g = global_read(of_unit + 2 * hidden), o = global_read(of_unit + 3 * hidden);
        if constexpr (S::PER_WORD == 2) return Gates{Word(i) | Word(f) << 16, Word(g) | Word(o) << 16};
        else return Gates{float_to_bits(i), float_to_bits(f), float_to_bits(g), float_to_bits(o)};
    }
    DEVICE static void write_gates(Value* of_unit, int hidden, Gates v) {
        Value values[4];
        if constexpr (S::PER_WORD == 2) {
            values[0] = static_cast<Value>(v.x & 0xffffu), values[1] = static_cast<Value>(v.x >> 16);
            values[2] = static_cast<Value>(v.y & 0xffffu), values[3] = static_cast<Value>(v.y >> 16);
        } else {
            values[0] = bits_to_float(v.x), values[1] = bits_to_float(v.y);
            values[2] = bits_to_float(v.z), values[3] = bits_to_float(v.w);
        }
        UNROLL for (int gate = 0; gate < 4; ++gate) global_write(of_unit + gate * hidden, values[gate]);
    }
    // 16 bytes as operands of a product.
    DEVICE static uint4 operand_words(uint4 v) {
        if constexpr (S::PER_WORD == 2) return v;
        else return {round_tensorfloat32(bits_to_float(v.x)), round_tensorfloat32(bits_to_float(v.y)),
                     round_tensorfloat32(bits_to_float(v.z)), round_tensorfloat32(bits_to_float(v.w))};
    }
    // The same four values as operands of a product; 16-bit values already are.
    DEVICE static Gates operands(Gates v) {
        if constexpr (S::PER_WORD == 2) return v;
        else return operand_words(v);
    }
    DEVICE static Gates4 wide_gates(Gates v) {
        if constexpr (S::PER_WORD == 2) return {S::low(v.x), S::high(v.x), S::low(v.y), S::high(v.y)};
        else return {bits_to_float(v.x), bits_to_float(v.y), bits_to_float(v.z), bits_to_float(v.w)};
    }
    // 16-bit storage hides the error of tanh.approx. The forget gate is the exception: its error compounds over the
    // sequence (f^T), so it never uses it.
    DEVICE static float tanh(float x) {
        if constexpr (S::PER_WORD == 2) return tanh_approximate(x);
        else return tanhf(x);
    }
    DEVICE static float sigmoid(float x) {
        if constexpr (S::PER_WORD == 2) return 0.5f + 0.5f * tanh_approximate(0.5f * x);
        else return 1.0f / (1.0f + expf(-x));
    }
    DEVICE static float forget_sigmoid(float x) {
        if constexpr (S::PER_WORD == 2) return sigmoid_approximate(x);
        else return 1.0f / (1.0f + expf(-x));
    }
};

// N values side by side of one row, computed in float32: one, or the 16 bytes that a thread reads and writes at once.
template <class S, int N> struct Row {
    using Value = typename S::Value;
    using Wide = float[N];
    static_assert(N == 1 || N == 4 * S::PER_WORD);
    DEVICE static void read(const Value* from, Wide& to) {  // null: zeros
        if (!from) {
            UNROLL for (int u = 0; u < N; ++u) to[u] = 0.0f;
        } else if constexpr (N == 1) {
            to[0] = S::wide(global_read(from));
        } else {
            const uint4 v = global_read(reinterpret_cast<const uint4*>(from));
            const Word words[4] = {v.x, v.y, v.z, v.w};
            UNROLL for (int u = 0; u < N; ++u) to[u] = S::element(words[u / S::PER_WORD], u % S::PER_WORD);
        }
    }
    DEVICE static void write(Value* to, const Wide& from) {
        if constexpr (N == 1) {
            global_write(to, S::narrow(from[0]));
        } else {
            Word words[4];
            UNROLL for (int w = 0; w < 4; ++w) {
                if constexpr (S::PER_WORD == 2) words[w] = S::pack(from[2 * w], from[2 * w + 1]);
                else words[w] = float_to_bits(from[w]);
            }
            global_write(reinterpret_cast<uint4*>(to), uint4{words[0], words[1], words[2], words[3]});
        }
    }
    DEVICE static void read_float(const float* from, Wide& to) {  // null: zeros
        if (!from) {
            UNROLL for (int u = 0; u < N; ++u) to[u] = 0.0f;
        } else if constexpr (N == 1) {
            to[0] = global_read(from);
        } else {
            UNROLL for (int u = 0; u < N; u += 4) {
                const float4 v = global_read(reinterpret_cast<const float4*>(from + u));
                to[u] = v.x, to[u + 1] = v.y, to[u + 2] = v.z, to[u + 3] = v.w;
            }
        }
    }
    DEVICE static void write_float(float* to, const Wide& from) {
        if constexpr (N == 1) {
            global_write(to, from[0]);
        } else {
            UNROLL for (int u = 0; u < N; u += 4)
                global_write(reinterpret_cast<float4*>(to + u), float4{from[u], from[u + 1], from[u + 2], from[u + 3]});
        }
    }
};
