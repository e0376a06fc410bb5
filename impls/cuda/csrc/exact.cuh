// Values of the step kernels: stored in any dtype, computed in float32 or float64 with exact nonlinearities.
#pragma once
#include "lstm_pointwise.cuh"
#include "storage.cuh"

template <class A> struct alignas(16) Quad {
    A i, f, g, o;
};
struct alignas(8) ShortQuad {
    unsigned short i, f, g, o;
};

struct Float32 {
    using Value = float;
    using Wide = float;
    using Gates = Quad<float>;
    DEVICE static float wide(float v) { return v; }
    DEVICE static float narrow(float v) { return v; }
    DEVICE static void unpack(uint4 v, float (&to)[4]) {
        to[0] = bits_to_float(v.x), to[1] = bits_to_float(v.y), to[2] = bits_to_float(v.z), to[3] = bits_to_float(v.w);
    }
};
struct Float64 {
    using Value = double;
    using Wide = double;
    using Gates = Quad<double>;
    DEVICE static double wide(double v) { return v; }
    DEVICE static double narrow(double v) { return v; }
};
template <class S> struct Short {
    using Value = unsigned short;
    using Wide = float;
    using Gates = ShortQuad;
    DEVICE static float wide(Value v) { return S::wide(v); }
    DEVICE static Value narrow(float v) { return Stored<S>::narrow(v); }
    DEVICE static void unpack(uint4 v, float (&to)[8]) {
        const Word words[4] = {v.x, v.y, v.z, v.w};
        UNROLL for (int i = 0; i < 4; ++i) to[2 * i] = S::low(words[i]), to[2 * i + 1] = S::high(words[i]);
    }
};

template <class S> struct Exact : S {
    using typename S::Gates;
    using typename S::Value;
    using typename S::Wide;
    // i, f, g and o of a unit lie `apart` values from one another.
    template <class Count> DEVICE static Gates read_gates(const Value* of_unit, Count apart) {
        return {global_read(of_unit), global_read(of_unit + apart), global_read(of_unit + 2 * apart), global_read(of_unit + 3 * apart)};
    }
    DEVICE static void write_gates(Value* of_unit, int hidden, Gates v) {
        global_write(of_unit, v.i), global_write(of_unit + hidden, v.f);
        global_write(of_unit + 2 * hidden, v.g), global_write(of_unit + 3 * hidden, v.o);
    }
    DEVICE static Quad<Wide> wide_gates(Gates v) { return {S::wide(v.i), S::wide(v.f), S::wide(v.g), S::wide(v.o)}; }
    DEVICE static Gates gates(Quad<Wide> v) { return {S::narrow(v.i), S::narrow(v.f), S::narrow(v.g), S::narrow(v.o)}; }
    DEVICE static float tanh(float x) { return tanhf(x); }
    DEVICE static double tanh(double x) { return ::tanh(x); }
    DEVICE static float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
    DEVICE static double sigmoid(double x) { return 1.0 / (1.0 + ::exp(-x)); }
    DEVICE static Wide forget_sigmoid(Wide x) { return sigmoid(x); }
};
